//! What files become, and what is said when they cannot.

use super::*;

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

#[test]
fn root_dir_moves_everything() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "root_dir: /tmp/h\npki_dir: /tmp/h/pki\ncachedir: /c\n");
    let config = load(dir.path()).unwrap();
    assert_eq!(config.keys.pki_dir, Path::new("/tmp/h/pki"));
    assert_eq!(config.cachedir, Path::new("/tmp/h/c"));
    assert_eq!(config.sock_dir, Path::new("/tmp/h/var/run/halite/master"));
}

#[test]
fn later_files_win_and_defaults_hold() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "publish_port: 1\nret_port: 2\n");
    write(dir.path(), "master.d/b.conf", "publish_port: 4\n");
    write(dir.path(), "master.d/a.conf", "publish_port: 3\n");
    write(dir.path(), "master.d/not.yaml", "ret_port: 9\n");
    let config = load(dir.path()).unwrap();
    assert_eq!((config.publish_port, config.ret_port), (4, 2));
    assert_eq!(config.jobs.ttl, Duration::from_secs(60));
    assert!(config.jobs.jid_events && !config.keys.auto_accept);
}

#[test]
fn the_log_is_synced_with_every_commit_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "event_sync: every_commit\n");
    assert!(load(dir.path()).unwrap().warnings.is_empty());
    write(dir.path(), "master", "event_sync: never\n");
    let wrong = load(dir.path()).unwrap_err().to_string();
    assert!(wrong.contains("event_sync") && wrong.contains("every_commit"), "{wrong}");
}

#[test]
fn files_from_elsewhere_are_told_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    for (text, missing) in [("[roots]", &[][..]), ("roots", &[]), ("[git, roots]", &["git"]), ("s3fs,file", &["s3fs"])]
    {
        write(dir.path(), "master", &format!("fileserver_backend: {text}\n"));
        let warnings = load(dir.path()).unwrap().warnings;
        assert_eq!(warnings.len(), missing.len(), "{text}: {warnings:?}");
        assert!(missing.iter().zip(&warnings).all(|(name, told)| told.contains(name)), "{text}: {warnings:?}");
    }
}

#[test]
fn syndics_speak_for_others_if_all_of_it_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str, ids: Option<&[&str]>, warning: &str| {
        write(dir.path(), "master", text);
        let config = load(dir.path()).unwrap();
        let named =
            config.jobs.syndics.map(|syndics| syndics.ids.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>());
        assert_eq!(
            named.as_deref(),
            ids.map(|ids| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>()).as_deref(),
            "{text}"
        );
        let warned = config.warnings.join("\n");
        assert!(if warning.is_empty() { warned.is_empty() } else { warned.contains(warning) }, "{text}: {warned}");
    };
    check("salt_listener: true\n", None, "");
    check("salt_listener: true\norder_masters: false\n", None, "");
    check("salt_listener: true\norder_masters: true\n", None, "`syndics: [syndic1");
    check("salt_listener: true\norder_masters: true\nsyndics: []\n", None, "`syndics: [syndic1");
    check("salt_listener: true\nsyndics: low\n", None, "`order_masters: true`");
    check("order_masters: true\nsyndics: low\n", None, "`salt_listener: true`");
    check("salt_listener: true\norder_masters: true\nsyndics: [low, 'dc*']\n", Some(&["low", "dc*"]), "");
    check("salt_listener: true\norder_masters: true\nsyndics: low\n", Some(&["low"]), "");
    write(dir.path(), "master", "syndics: {a: b}\n");
    assert!(load(dir.path()).unwrap_err().to_string().contains("syndics"));
}

#[test]
fn jobs_are_kept_for_seconds_or_hours_or_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let check = |text: &str, seconds: Option<u64>| {
        write(dir.path(), "master", text);
        assert_eq!(load(dir.path()).unwrap().jobs.keep, seconds.map(Duration::from_secs), "{text}");
    };
    check("id: m\n", Some(86_400));
    check("keep_jobs_seconds: 3600\n", Some(3_600));
    check("keep_jobs: 2\n", Some(7_200));
    check("keep_jobs: 2\nkeep_jobs_seconds: 5\n", Some(5));
    check("keep_jobs_seconds: 0\n", None);
    check("keep_jobs: 0\n", None);
    write(dir.path(), "master", "keep_jobs_seconds: -1\n");
    assert!(load(dir.path()).unwrap_err().to_string().contains("keep_jobs_seconds"));
}

#[test]
fn the_reactor_file_of_seed_004_works_as_printed() {
    let dir = tempfile::tempdir().unwrap();
    let printed =
        "# contents of the reactor.conf file\nreactor:\n  - 'salt/beacon/*/sh/*'\n  - '/srv/reactor/sh.sls'\n";
    write(dir.path(), "master.d/reactor.conf", printed);
    let config = load(dir.path()).unwrap();
    assert_eq!(config.reactor.rules.len(), 1);
    assert_eq!(config.reactor.rules[0].tag, "salt/beacon/*/sh/*");
    assert!(config.warnings.iter().any(|warning| warning.contains("reactor.conf")), "{:?}", config.warnings);
}

#[test]
fn errors_name_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "interface: 127.0.0.1\nret_port: [1\n");
    let error = format!("{:#}", anyhow::Error::from(load(dir.path()).unwrap_err()));
    assert!(error.contains("master") && error.contains(":2") || error.contains(":3"), "{error}");
    write(dir.path(), "master", "ret_port: high\n");
    let wrong = load(dir.path()).unwrap_err().to_string();
    assert!(wrong.contains("master:1:") && wrong.contains("ret_port"), "{wrong}");
    write(dir.path(), "master", "- a\n");
    assert!(load(dir.path()).unwrap_err().to_string().contains("map of options"));
    write(dir.path(), "master", "job_ttl: 0\n");
    assert!(load(dir.path()).unwrap_err().to_string().contains("above 0"));
}

#[test]
fn every_error_says_where_it_is_what_is_wrong_and_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("master");
    let told = || format!("{:#}", anyhow::Error::from(load(dir.path()).unwrap_err()));
    let check = |text: &str, expected: &str| {
        std::fs::write(&main, text).unwrap();
        assert_eq!(told(), format!("{}:{expected}", main.display()), "{text}");
    };
    check("id: m\nret_port: high\n", "2:1: ret_port: expected a whole number from 0 to 65535, found \"high\"");
    check("ret_port: 70000\n", "1:1: ret_port: expected a whole number from 0 to 65535, found 70000");
    check(
        "max_pending: -1\n",
        &format!("1:1: max_pending: expected a whole number from 0 to {}, found -1", usize::MAX),
    );
    check("interface: [1]\n", "1:1: interface: expected text, found list");
    check("auto_accept: 1\n", "1:1: auto_accept: expected true or false, found 1");
    // A passphrase that YAML takes for a number is not shown.
    check("salt_listener: true\nkey_pass: 1234.5678\n", "2:1: key_pass: expected text, found float");
    check("syndics: {a: 1}\n", "1:1: syndics: expected a list of texts, found map");
    let levels = "all, garbage, trace, debug, profile, info, warning, warn, error, critical, quiet";
    check("log_level: loud\n", &format!("1:1: log_level: expected one of {levels}, found \"loud\""));
    check("a: b\n  c: d\n", "2:4: mapping values are not allowed in this context");
    check("- a\n", "1:1: expected a map of options (`key: value` lines), found list");
    check("nodegroups: 5\n", "1:1: nodegroups must be a map of names to compound targets, not int");
    check("reactor: 5\n", "1:1: a reactor list was expected, not int");
    let cannot = ": cannot be read; check that it is UTF-8 text and that this user may read it: ";
    std::fs::write(&main, b"\xff\xfea: 1").unwrap();
    assert_eq!(told(), format!("{}{cannot}stream did not contain valid UTF-8", main.display()));
    // A link that leads nowhere is no missing file: a master with the defaults would be another one.
    std::fs::remove_file(&main).unwrap();
    std::os::unix::fs::symlink("nowhere", &main).unwrap();
    assert!(told().starts_with(&format!("{}{cannot}", main.display())), "{}", told());
}

#[test]
fn the_lists_of_keys_move_with_the_root_and_limits_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "root_dir: /tmp/h\nautosign_file: /etc/halite/autosign.conf\nautosign_timeout: 1\n");
    let config = load(dir.path()).unwrap();
    let lists = config.keys.autosign;
    assert_eq!(lists.autosign_file, Some("/tmp/h/etc/halite/autosign.conf".into()));
    assert_eq!((lists.autoreject_file, lists.autosign_grains_dir), (None, None));
    assert_eq!((lists.autosign_timeout, lists.permissive), (Duration::from_secs(60), false));
    assert_eq!(config.reactor.guards, crate::reactor::GuardsConfig::default());
    write(dir.path(), "master", "reactor_dedup_window: 0.5\nreactor_breaker_failures: 0\nreactor_rate_limit: 5\n");
    let guards = load(dir.path()).unwrap().reactor.guards;
    assert_eq!((guards.dedup_window, guards.breaker_failures), (Duration::from_millis(500), 0));
    assert_eq!((guards.rate_per_s, guards.burst), (5, 1_000));
    for wrong in ["reactor_rate_limit: 0", "reactor_breaker_open: 0", "reactor_dedup_window: -1", "autosign_timeout: x"]
    {
        write(dir.path(), "master", wrong);
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("master:1:") && error.contains(wrong.split(':').next().unwrap()), "{error}");
    }
}

#[test]
fn the_salt_listener_is_off_until_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "master", "keysize: 4096\n");
    assert!(load(dir.path()).unwrap().salt.is_none());
    write(dir.path(), "master", "id: m\nroot_dir: /tmp/h\nsalt_listener: true\nrequest_server_ttl: 30\n");
    let salt = load(dir.path()).unwrap().salt.unwrap();
    assert_eq!(
        (salt.keysize, salt.key_life, salt.request_ttl),
        (2048, Duration::from_secs(86_400), Duration::from_secs(30))
    );
    assert!(salt.signing.is_some() && salt.rotate && salt.auth_events && !salt.filtering && !salt.revoke);
    assert_eq!(salt.cachedir, std::path::Path::new("/tmp/h/var/cache/halite/master"));
    write(dir.path(), "master", "salt_listener: true\nsign_pub_messages: false\n");
    assert!(load(dir.path()).unwrap().salt.unwrap().signing.is_none());
    write(dir.path(), "master", "salt_listener: true\npublish_signing_algorithm: MD5\n");
    let error = load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("master:2:") && error.contains("publish_signing_algorithm"), "{error}");
}
