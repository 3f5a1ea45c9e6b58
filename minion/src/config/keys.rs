//! The names of options: those this version reads, those modules read, and those of Salt that it does not support.

/// Options that the minion reads itself. Each is described at its field in [`Config`](super::Config).
pub(super) const READ: &[&str] = &[
    "acceptance_wait_time", "acceptance_wait_time_max", "autosign_grains", "beacons", "beacons_before_connect",
    "cachedir", "default_include", "disable_modules", "enable_legacy_startup_events", "event_send_timeout", "grains",
    "id", "include", "job_deadline", "log_format", "log_level", "loop_interval", "master", "master_finger",
    "master_key", "master_port", "max_jobs", "max_return_size", "minion_id_caching", "minion_id_lowercase",
    "minion_id_remove_domain", "pki_dir", "publish_port", "random_startup_delay", "recon_default", "recon_max",
    "root_dir", "sock_dir", "start_event_grains", "user", "waiting_jobs",
];

/// Options that modules read through `config.get`.
pub(super) const MODULES: &[&str] = &["hipchat", "slack", "slack_notify", "slack_webhook"];

/// Options of Salt 3008 that this version takes no notice of.
pub(super) const UNSUPPORTED: &[&str] = &[
    "always_verify_signature", "append_domain", "append_minionid_config_dirs", "auth_retries", "auth_safemode",
    "auth_timeout", "auth_tries", "auto_accept", "autoload_dynamic_modules", "autosign_timeout", "backup_mode",
    "beacons_dirs", "cache", "cache_jobs", "cache_sreqs", "clean_dynamic_modules", "cluster_mode", "cmd_safe",
    "conf_file", "cython_enable", "decrypt_pillar", "decrypt_pillar_default", "decrypt_pillar_delimiter",
    "decrypt_pillar_renderers", "default_top", "disable_aes_with_tls", "disable_returners", "disabled_requisites",
    "discovery", "enable_fqdns_grains", "enable_gpu_grains", "enable_zip_modules", "encryption_algorithm", "engines",
    "env_order", "event_match_type", "ext_job_cache", "extension_modules", "extmod_blacklist", "extmod_whitelist",
    "failhard", "features", "file_buffer_size", "file_client", "file_ignore_glob", "file_ignore_regex", "file_recv",
    "file_recv_max_size", "file_roots", "fileserver_backend", "fileserver_followsymlinks",
    "fileserver_ignoresymlinks", "fips_mode", "git_pillar_base", "git_pillar_branch", "git_pillar_depth",
    "git_pillar_disable_saltenv_mapping", "git_pillar_env", "git_pillar_fallback", "git_pillar_global_lock",
    "git_pillar_includes", "git_pillar_insecure_auth", "git_pillar_passphrase", "git_pillar_password",
    "git_pillar_privkey", "git_pillar_proxy", "git_pillar_pubkey", "git_pillar_ref_types", "git_pillar_refspecs",
    "git_pillar_root", "git_pillar_ssl_verify", "git_pillar_update_interval", "git_pillar_user", "gitfs_base",
    "gitfs_depth", "gitfs_disable_saltenv_mapping", "gitfs_fallback", "gitfs_global_lock", "gitfs_insecure_auth",
    "gitfs_mountpoint", "gitfs_passphrase", "gitfs_password", "gitfs_privkey", "gitfs_proxy", "gitfs_pubkey",
    "gitfs_ref_types", "gitfs_refspecs", "gitfs_remotes", "gitfs_root", "gitfs_saltenv", "gitfs_saltenv_blacklist",
    "gitfs_saltenv_whitelist", "gitfs_ssl_verify", "gitfs_update_interval", "gitfs_user", "global_state_conditions",
    "gpg_cache", "gpg_cache_backend", "gpg_cache_ttl", "gpg_decrypt_must_succeed", "grains_blacklist", "grains_cache",
    "grains_cache_expiration", "grains_deep_merge", "grains_dirs", "grains_refresh_every", "hash_type",
    "hgfs_update_interval", "http_connect_timeout", "http_max_body", "http_request_timeout", "id_function",
    "interface", "ipc_mode", "ipc_write_buffer", "ipv6", "key_logfile", "keys.cache_driver", "keysize", "local",
    "lock_saltenv", "log_datefmt", "log_datefmt_logfile", "log_file", "log_fmt_console", "log_fmt_jid",
    "log_fmt_logfile", "log_fmt_minion_id", "log_granular_levels", "log_level_logfile", "log_rotate_backup_count",
    "log_rotate_max_bytes", "master_alive_interval", "master_failback", "master_failback_interval", "master_list",
    "master_shuffle", "master_sign_key_name", "master_tops_first", "master_tries", "master_type", "master_uri",
    "master_uri_format", "max_event_size", "metadata_server_grains", "metrics", "mine_enabled", "mine_functions",
    "mine_interval", "mine_return_job", "minion_jid_queue_hwm", "minion_restart_command", "minion_sign_messages",
    "minionfs_update_interval", "module_dirs", "modules_max_memory", "multi_master", "multifunc_ordered",
    "multiprocessing", "nodegroups", "on_demand_ext_pillar", "open_mode", "optimization_order", "outputter_dirs",
    "password", "permissive_pki_access", "pidfile", "pillar.cache_driver", "pillar_cache", "pillar_cache_backend",
    "pillar_cache_ttl", "pillar_includes_override_sls", "pillar_mask_output", "pillar_merge_lists", "pillar_opts",
    "pillar_raise_on_missing", "pillar_roots", "pillar_source_merging_strategy", "pillarenv",
    "pillarenv_from_saltenv", "ping_interval", "process_count_max", "providers", "proxy", "proxy_host",
    "proxy_password", "proxy_port", "proxy_username", "pub_ret", "publisher_acl", "publisher_acl_blacklist",
    "random_master", "random_reauth_delay", "range_server", "reactor", "reactor_niceness", "reactor_refresh_interval",
    "reactor_worker_hwm", "reactor_worker_threads", "recon_randomize", "rejected_retry", "render_dirs", "renderer",
    "renderer_blacklist", "renderer_whitelist", "request_channel_timeout", "request_channel_tries",
    "resolve_dns_fallback", "resource_pillar_key", "restart_on_error", "retry_dns", "retry_dns_count", "return",
    "return_retry_timer", "return_retry_timer_max", "return_retry_tries", "returner", "returner_dirs",
    "roots_update_interval", "s3fs_update_interval", "salt_cp_chunk_size", "saltenv", "saltpip_allow_find_links",
    "saltpip_disable_pip_version_check", "saltpip_no_deps", "saltpip_no_index", "saltpip_use_pythonpath", "schedule",
    "scheduler_before_connect", "sign_pub_messages", "signing_algorithm", "sls_list", "snapper_states",
    "snapper_states_config", "sock_pool_size", "source_address", "source_interface_name", "source_publish_port",
    "source_ret_port", "ssh_merge_pillar", "ssl", "startup_states", "state_aggregate", "state_auto_order",
    "state_events", "state_max_parallel", "state_output", "state_output_diff", "state_output_profile", "state_queue",
    "state_top", "state_top_saltenv", "state_verbose", "states_dirs", "sudo_user", "svnfs_update_interval",
    "syndic_finger", "syndic_retries", "syndic_user", "tcp_authentication_retries", "tcp_keepalive",
    "tcp_keepalive_cnt", "tcp_keepalive_idle", "tcp_keepalive_intvl", "tcp_pub_port", "tcp_pull_port",
    "tcp_reconnect_backoff", "test", "thorium_interval", "thorium_roots", "thorium_top", "thoriumenv", "top_file",
    "top_file_merging_strategy", "tracing", "transport", "unique_jid", "update_restart_services", "update_url",
    "use_master_when_local", "use_os_truststore", "username", "utils_dirs", "verify_env", "verify_master_pubkey_sign",
    "whitelist_modules", "whitelist_state_modules", "winrepo_branch", "winrepo_cache_expire_max",
    "winrepo_cache_expire_min", "winrepo_cachefile", "winrepo_depth", "winrepo_dir", "winrepo_dir_ng",
    "winrepo_fallback", "winrepo_insecure_auth", "winrepo_installer_cache_expire", "winrepo_passphrase",
    "winrepo_password", "winrepo_privkey", "winrepo_proxy", "winrepo_pubkey", "winrepo_refspecs", "winrepo_remotes",
    "winrepo_remotes_ng", "winrepo_source_dir", "winrepo_ssl_verify", "winrepo_user", "zmq_filtering", "zmq_monitor",
];

/// How far a mistyped name may be from the one that was meant, in edits.
const MAX_EDITS: usize = 3;

/// What the name of an option means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Read by the minion or by a module.
    Read,
    /// Known to Salt only.
    Unsupported,
    /// Unknown; perhaps this one was meant.
    Unknown(Option<&'static str>),
}

/// Says what a name means. Names with a dot or a colon belong to modules (`mysql.host`) and are not judged.
pub(super) fn meaning(name: &str) -> Meaning {
    if READ.contains(&name) || MODULES.contains(&name) || name.contains(['.', ':']) || name.starts_with('_') {
        return Meaning::Read;
    }
    if UNSUPPORTED.contains(&name) {
        return Meaning::Unsupported;
    }
    let nearest = READ.iter().chain(MODULES).chain(UNSUPPORTED).map(|known| (edits(name, known), *known)).min();
    let limit = MAX_EDITS.min(name.chars().count() / 2);
    Meaning::Unknown(nearest.filter(|(edits, _)| *edits <= limit).map(|(_, known)| known))
}

/// Counts the single-letter edits between two words (Levenshtein).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, known) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *known);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(meaning("master"), Meaning::Read);
        assert_eq!(meaning("slack"), Meaning::Read);
        assert_eq!(meaning("mysql.host"), Meaning::Read);
        assert_eq!(meaning("random_reauth_delay"), Meaning::Unsupported);
        assert_eq!(meaning("mater"), Meaning::Unknown(Some("master")));
        assert_eq!(meaning("beacon"), Meaning::Unknown(Some("beacons")));
        assert_eq!(meaning("publish_prot"), Meaning::Unknown(Some("publish_port")));
        assert_eq!(meaning("our_own_thing"), Meaning::Unknown(None));
        assert_eq!((edits("kitten", "sitting"), edits("", "abc"), edits("abc", "abc")), (3, 3, 0));
    }

    #[test]
    fn no_name_is_listed_twice() {
        for (list, others) in [(READ, UNSUPPORTED), (MODULES, READ), (UNSUPPORTED, MODULES)] {
            assert!(list.is_sorted());
            assert!(list.iter().all(|name| !others.contains(name)), "{list:?}");
        }
    }
}
