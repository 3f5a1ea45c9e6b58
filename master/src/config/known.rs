//! The keys that the configuration knows, and what is said of all others: never silence.

use proto::value::{Map, Value};
use render::nearest::nearest;

/// Keys that do something in this version.
pub(super) const SUPPORTED: &[&str] = &[
    "allow_minion_key_revoke",
    "auth_events",
    "auto_accept",
    "autoreject_file",
    "autosign_file",
    "autosign_grains_dir",
    "autosign_timeout",
    "cachedir",
    "clear_commands_from",
    "env_order",
    "event_retention_age",
    "event_retention_bytes",
    "event_segment_size",
    "event_sync",
    "ext_pillar",
    "ext_pillar_first",
    "file_buffer_size",
    "file_ignore_glob",
    "file_ignore_regex",
    "file_recv",
    "file_recv_max_size",
    "file_roots",
    "fileserver_backend",
    "fileserver_followsymlinks",
    "fileserver_ignoresymlinks",
    "fileserver_list_cache_time",
    "hash_type",
    "id",
    "interface",
    "ipc_framing",
    "jid_events",
    "job_ttl",
    "keep_jobs",
    "keep_jobs_seconds",
    "key_pass",
    "keysize",
    "log_level",
    "loop_interval",
    "master_pubkey_signature",
    "master_sign_key_name",
    "master_sign_pubkey",
    "master_use_pubkey_signature",
    "max_event_size",
    "max_minions",
    "max_pending",
    "mine_get",
    "minion_data_cache",
    "nodegroups",
    "order_masters",
    "peer",
    "peer_run",
    "permissive_pki_access",
    "pillar_includes_override_sls",
    "pillar_merge_lists",
    "pillar_opts",
    "pillar_roots",
    "pillar_safe_render_error",
    "pillar_source_merging_strategy",
    "pillarenv_from_saltenv",
    "ping_interval_s",
    "pki_dir",
    "presence_events",
    "publish_port",
    "publish_session",
    "publish_signing_algorithm",
    "reactor",
    "reactor_breaker_failures",
    "reactor_breaker_open",
    "reactor_dedup_window",
    "reactor_max_age",
    "reactor_rate_burst",
    "reactor_rate_limit",
    "request_server_ttl",
    "ret_port",
    "root_dir",
    "rotate_aes_key",
    "salt_files",
    "salt_listener",
    "salt_sock_dir_prefixed",
    "sign_pub_messages",
    "signing_key_pass",
    "sock_dir",
    "state_top",
    "syndic_wait",
    "syndics",
    "timeout",
    "zmq_filtering",
];

/// Salt's own keys (Salt 3008), so that a known key is told from a misspelt one.
const SALT_KEYS: &str = include_str!("salt_keys.txt");

/// Returns a warning for every key that does nothing here.
pub(super) fn warnings(options: &Map) -> Vec<String> {
    options.keys().filter_map(Value::as_str).filter_map(warning).collect()
}

fn warning(key: &str) -> Option<String> {
    if SUPPORTED.contains(&key) {
        return None;
    }
    if SALT_KEYS.lines().any(|known| known == key) {
        return Some(format!("option {key} is one of Salt's that this version does not support; it has no effect"));
    }
    let nearest = nearest(key, SUPPORTED.iter().copied().chain(SALT_KEYS.lines()));
    Some(match nearest {
        Some(known) => format!("option {key} is unknown and has no effect; did you mean {known}?"),
        None => format!("option {key} is unknown and has no effect"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_does_nothing_is_named() {
        assert_eq!(warning("interface"), None);
        assert!(warning("gitfs_remotes").is_some_and(|text| text.contains("one of Salt's")));
        assert!(warning("auto_acept").is_some_and(|text| text.contains("did you mean auto_accept?")));
        assert!(warning("qqqqqqqqqqqqqq").is_some_and(|text| text.ends_with("no effect")));
    }
}
