//! What `keys/autosign` promises, tested.

use std::os::unix::fs::PermissionsExt;

use proto::map;

use super::*;

/// The lists of a test, in a folder of their own.
struct Rig {
    folder: tempfile::TempDir,
    autosign: Autosign,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Some(folder.path().join(name));
        let config = AutosignConfig {
            autosign_file: at("autosign"),
            autoreject_file: at("autoreject"),
            autosign_grains_dir: at("grains"),
            ..AutosignConfig::default()
        };
        let autosign = Autosign::new(config, folder.path());
        fs::create_dir(folder.path().join("grains")).unwrap();
        fs::create_dir(folder.path().join(STUBS)).unwrap();
        Rig { folder, autosign }
    }

    fn write(&self, name: &str, text: &str) {
        self.write_with(name, text, 0o644);
    }

    fn write_with(&self, name: &str, text: &str, mode: u32) {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn advise(&mut self, id: &str) -> Advice {
        self.autosign.advise(&MinionId::parse(id).unwrap(), None)
    }

    fn vouch(&mut self, grains: &Map) -> Advice {
        self.autosign.advise(&MinionId::parse("m1").unwrap(), Some(grains))
    }
}

#[test]
fn without_lists_a_person_is_asked() {
    let mut rig = Rig::new();
    assert_eq!(rig.advise("m1"), Advice::Ask);
    let mut none = Autosign::new(AutosignConfig::default(), rig.folder.path());
    assert_eq!(none.advise(&MinionId::parse("m1").unwrap(), Some(&map! { "a" => "b" })), Advice::Ask);
}

#[test]
fn what_rejects_wins_and_an_edit_counts_at_once() {
    let mut rig = Rig::new();
    rig.write("autosign", "web*\n");
    assert_eq!((rig.advise("web1"), rig.advise("db1")), (Advice::Accept, Advice::Ask));
    rig.write("autoreject", "web1\n");
    assert_eq!((rig.advise("web1"), rig.advise("web2")), (Advice::Reject, Advice::Accept));
    rig.write("autosign", "db*\n# more\n");
    assert_eq!((rig.advise("web2"), rig.advise("db1")), (Advice::Ask, Advice::Accept));
}

#[test]
fn a_list_that_others_may_write_to_accepts_nobody() {
    let mut rig = Rig::new();
    for mode in [0o666, 0o664, 0o602] {
        rig.write_with("autosign", "m1\n", mode);
        assert_eq!(rig.advise("m1"), Advice::Ask, "{mode:o}");
    }
    rig.autosign.config.permissive = true;
    rig.write_with("autosign", "m1\n", 0o660);
    assert_eq!(rig.advise("m1"), Advice::Accept);
    rig.write_with("autosign", "m1\n", 0o666);
    assert_eq!(rig.advise("m1"), Advice::Ask, "everybody is too many");
}

#[test]
fn while_the_list_that_rejects_is_bad_nobody_is_accepted() {
    let mut rig = Rig::new();
    rig.write("autosign", "*\n");
    rig.write_with("autoreject", "evil\n", 0o666);
    assert_eq!(rig.advise("m1"), Advice::Hold);
    rig.write_with("autoreject", "evil\n", 0o600);
    assert_eq!((rig.advise("m1"), rig.advise("evil")), (Advice::Accept, Advice::Reject));
}

#[test]
fn a_list_that_is_too_large_or_no_file_does_not_count() {
    let mut rig = Rig::new();
    rig.write("autosign", &"m1\n".repeat(400_000));
    assert_eq!(rig.advise("m1"), Advice::Ask);
    fs::remove_file(rig.folder.path().join("autosign")).unwrap();
    nix::unistd::mkfifo(&rig.folder.path().join("autosign"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert_eq!(rig.advise("m1"), Advice::Ask, "a pipe holds nothing up");
}

#[test]
fn a_stub_is_good_for_one_key_and_not_for_ever() {
    let mut rig = Rig::new();
    rig.write("minions_autosign/m1", "");
    assert_eq!((rig.advise("m1"), rig.advise("m2")), (Advice::Accept, Advice::Ask));
    rig.autosign.use_stub(&MinionId::parse("m1").unwrap());
    assert_eq!(rig.advise("m1"), Advice::Ask);
    rig.write("minions_autosign/m1", "");
    let old = SystemTime::now() - rig.autosign.config.autosign_timeout - Duration::from_secs(1);
    File::options().write(true).open(rig.folder.path().join("minions_autosign/m1")).unwrap().set_modified(old).unwrap();
    assert_eq!(rig.advise("m1"), Advice::Ask);
    assert!(!rig.folder.path().join("minions_autosign/m1").exists());
}

#[test]
fn grains_vouch_by_their_exact_value() {
    let mut rig = Rig::new();
    rig.write("grains/uuid", "# the first batch\n\n  8c3e-77  \n42\n");
    let check = |rig: &mut Rig, grains: Map, expected: Advice| assert_eq!(rig.vouch(&grains), expected, "{grains:?}");
    check(&mut rig, map! { "uuid" => "8c3e-77" }, Advice::Accept);
    check(&mut rig, map! { "uuid" => "8c3e-7" }, Advice::Ask);
    check(&mut rig, map! { "uuid" => "8c3e*" }, Advice::Ask);
    check(&mut rig, map! { "uuid" => "# the first batch" }, Advice::Ask);
    check(&mut rig, map! { "uuid" => "" }, Advice::Ask);
    check(&mut rig, map! { "uuid" => 42 }, Advice::Accept);
    check(&mut rig, map! { "other" => "8c3e-77", "uuid" => vec!["8c3e-77"] }, Advice::Ask);
    // A name from a stranger leads nowhere else.
    rig.write("autosign", "secret\n");
    check(&mut rig, map! { "../autosign" => "secret", ".." => "x", "" => "x" }, Advice::Ask);
    rig.write_with("grains/uuid", "8c3e-77\n", 0o666);
    check(&mut rig, map! { "uuid" => "8c3e-77" }, Advice::Ask);
}
