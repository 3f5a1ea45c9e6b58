//! What files and command line make of the configuration.

use std::fs;

use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("minion"), text).unwrap();
    Config::load(folder.path(), &Overrides { id: Some("m1".into()), ..Overrides::default() })
}

fn refusal(text: &str, part: &str) {
    let error = load(text).expect_err(text).to_string();
    assert!(error.contains(part) && error.contains("minion:"), "{error}");
}

#[test]
fn defaults_are_salts_under_our_folders() {
    let config = load("").unwrap();
    assert_eq!((config.master.as_str(), config.request_port, config.publish_port), ("salt", 4506, 4505));
    assert_eq!(config.pki_dir, Path::new("/etc/halite/pki/minion"));
    assert_eq!(config.cachedir, Path::new("/var/cache/halite/minion"));
    assert_eq!((config.log_level.as_str(), config.loop_interval), ("info", Duration::from_secs(1)));
    assert_eq!(config.options.text("id"), Some("m1"));
}

#[test]
fn the_root_moves_every_folder() {
    let config = load("root_dir: /srv/m1\ncachedir: /var/c\npki_dir: /srv/m1/keys\n").unwrap();
    assert_eq!(config.cachedir, Path::new("/srv/m1/var/c"));
    assert_eq!(config.pki_dir, Path::new("/srv/m1/keys"));
    assert_eq!(config.sock_dir, Path::new("/srv/m1/var/run/halite/minion"));
    assert_eq!(config.options.text("cachedir"), Some("/srv/m1/var/c"));
}

#[test]
fn a_master_is_a_host_with_or_without_its_port() {
    let check = |text: &str, host: &str, port: u16| {
        let config = load(&format!("master: {text}\n")).unwrap();
        assert_eq!((config.master.as_str(), config.request_port), (host, port), "{text}");
    };
    check("10.0.0.1", "10.0.0.1", 4506);
    check("salt.example.com:5506", "salt.example.com", 5506);
    check("'fe80::1'", "fe80::1", 4506);
    check("'[fe80::1]:7'", "fe80::1", 7);
    let several = load("master: [a, b]\n").unwrap();
    assert_eq!(several.master, "a");
    assert!(several.warnings.iter().any(|warning| warning.contains("several masters")), "{:?}", several.warnings);
    refusal("master: 'a:b'\n", "master");
    refusal("master: {a: 1}\n", "master");
}

#[test]
fn what_is_not_used_is_said() {
    let warned = |text: &str, part: &str| {
        let warnings = load(text).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{warnings:?}");
    };
    warned("random_reauth_delay: 3\n", "minion:1:1: option random_reauth_delay is not supported by this version");
    warned("id: m1\nmster: a\n", "minion:2:1: unknown option mster; did you mean master?");
    warned("our_own: a\n", "unknown option our_own; only config.get sees it");
    assert!(load("slack:\n  hook: x\n").unwrap().warnings.is_empty());
    let empty = tempfile::tempdir().unwrap();
    let config = Config::load(empty.path(), &Overrides::default()).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.contains("no configuration in")));
}

#[test]
fn an_option_of_the_wrong_kind_names_its_place() {
    refusal(
        "id: m1\nmaster_port: 70000\n",
        "minion:2:1: master_port: expected a whole number from 1 to 65535, found 70000",
    );
    refusal("log_level: loud\n", "log_level: expected one of");
    refusal("beacons: 3\n", "beacons: expected a map, found 3");
    refusal("grains: [a]\n", "grains: expected a map, found list");
    refusal("a: 1\na: 2\n", "a");
    refusal("master_key: nonsense\n", "master_key");
}

#[test]
fn sizes_may_have_a_unit() {
    let bytes = |text: &str| load(&format!("spool_max_bytes: {text}\n")).unwrap().spool_max_bytes;
    assert_eq!((bytes("65536"), bytes("1MiB"), bytes("16 MiB")), (Some(65_536), Some(1 << 20), Some(16 << 20)));
    let wrong = |found: &str, shown: &str| {
        let expected = "a number of bytes from 65536 to 17179869184, or one with KiB, MiB, GiB or TiB";
        refusal(
            &format!("spool_max_bytes: {found}\n"),
            &format!("minion:1:1: spool_max_bytes: expected {expected}, found {shown}"),
        );
    };
    wrong("1 fortnight", "\"1 fortnight\"");
    wrong("1TiB", "\"1TiB\"");
    wrong("1KiB", "\"1KiB\"");
    wrong("64", "64");
    wrong("[1]", "list");
}

#[test]
fn a_bad_id_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let overrides = Overrides { id: Some("a/b".into()), ..Overrides::default() };
    assert!(matches!(Config::load(folder.path(), &overrides), Err(ConfigError::Id { .. })));
}

#[test]
fn a_master_key_is_pem_or_base64() {
    let key = [7; 32];
    let pem = proto::keys::public_pem(&key);
    let indented = pem.replace('\n', "\n  ");
    assert_eq!(load(&format!("master_key: |\n  {indented}\n")).unwrap().master_demands.key, Some(key));
    let config = load("master_key: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
    assert_eq!(config.master_demands.key, Some(key));
    assert_eq!(load("master_finger: ' AB:CD '\n").unwrap().master_demands.finger.as_deref(), Some("ab:cd"));
}

#[test]
fn beacons_are_a_map_or_a_list_of_maps() {
    let list = load("beacons:\n  - load: []\n  - sh: []\n").unwrap();
    assert_eq!(list.beacons, load("beacons:\n  load: []\n  sh: []\n").unwrap().beacons);
    let config = load("beacons:\n  load: []\n").unwrap();
    assert!(config.beacon_place("load").ends_with("minion:2:3"), "{}", config.beacon_place("load"));
}

#[test]
fn salts_wire_is_read_with_salts_defaults_and_its_mistakes_are_said() {
    let Wire::Salt(options) = load("wire: salt\n").unwrap().wire else { panic!("salt") };
    let seconds = Duration::from_secs;
    assert_eq!((options.patience.acceptance, options.patience.auth), (seconds(10), seconds(5)));
    assert_eq!((options.patience.request, options.patience.tries, options.key_bits), (seconds(60), 3, 2048));
    assert_eq!((options.publish_port, options.sign_key, options.ping), (None, None, None));
    let Wire::Salt(options) = load("wire: salt\nverify_master_pubkey_sign: True\npublish_port: 5\n").unwrap().wire
    else {
        panic!("salt")
    };
    assert_eq!((options.publish_port, options.sign_key.as_deref()), (Some(5), Some("master_sign")));
    assert_eq!(load("wire: native\n").unwrap().wire, Wire::Native);
    refusal("wire: both\n", "native or salt");
    refusal("wire: salt\nkeysize: 1024\n", "keysize");
    refusal("wire: salt\nencryption_algorithm: OAEP-MD5\n", "OAEP-SHA224");
    refusal("wire: salt\nmaster_finger: 'aa:bb'\n", "SHA-256 fingerprint");
    refusal("wire: salt\nmaster_sign_key_name: ../x\n", "master_sign_key_name");
}

#[test]
fn an_option_of_salts_wire_without_that_wire_is_said() {
    let warnings = load("zmq_filtering: True\n").unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("counts with `wire: salt` alone")), "{warnings:?}");
    assert!(load("wire: salt\nzmq_filtering: True\n").unwrap().warnings.is_empty());
}
