//! Files, pillar and the mine: what minions ask of their master, over the native wire and with real daemons.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use halite_tests::{Fleet, wait_for};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// A master with files and pillar, and two minions.
struct Site {
    fleet: Fleet,
    folder: TempDir,
}

fn site(more: &str) -> Site {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for dir in ["salt/web/conf", "pillar", "outside"] {
        fs::create_dir_all(at(dir)).unwrap();
    }
    let binary: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(at("salt/web/image.bin"), &binary).unwrap();
    fs::write(at("salt/web/conf/site.conf"), "listen 80\n").unwrap();
    fs::write(at("outside/secret"), "secret").unwrap();
    symlink("../outside/secret", at("salt/leaves")).unwrap();
    fs::write(at("pillar/top.sls"), "base:\n  '*': [common]\n  'm1': [own]\n  'm2': [broken]\n").unwrap();
    fs::write(at("pillar/common.sls"), "site: {dc: x}\nid: {{ grains.id }}\n").unwrap();
    fs::write(at("pillar/own.sls"), "token: only-m1\nrole: web\nmine_functions: {test.echo: [hello]}\n").unwrap();
    fs::write(at("pillar/broken.sls"), "x: {{ nosuch.thing }}\n").unwrap();
    let dir = |name: &str| at(name).display().to_string();
    let config = format!("file_roots: {{base: [{}]}}\npillar_roots: {{base: [{}]}}\n", dir("salt"), dir("pillar"));
    let mut fleet = Fleet::new().master_config(&format!("{config}{more}")).start();
    fleet.start_minions(2);
    fleet.wait_up(&["m1", "m2"]);
    Site { fleet, folder }
}

impl Site {
    /// Runs a function and returns what each minion returned.
    fn run(&self, target: &str, args: &[&str]) -> Json {
        self.fleet.halite(&[&[target], args, &["--out", "json"]].concat()).json()
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn wait_pillar(&self) {
        wait_for("both minions have their pillar", || {
            let ids = self.run("*", &["pillar.get", "id"]);
            ids == json!({"m1": "m1", "m2": "m2"})
        });
    }
}

fn is_same(one: &str, other: &str) -> bool {
    fs::read(Path::new(one)).unwrap() == fs::read(Path::new(other)).unwrap()
}

#[test]
fn a_binary_file_comes_whole_and_what_is_outside_the_roots_never() {
    let site = site("");
    let dest = site.path("here.bin");
    assert_eq!(site.run("m1", &["cp.get_file", "salt://web/image.bin", &dest]), json!({ "m1": dest }));
    assert!(is_same(&dest, &site.path("salt/web/image.bin")));
    let listed = site.run("m1", &["cp.list_master"]);
    assert_eq!(listed["m1"], json!(["web/conf/site.conf", "web/image.bin"]), "the link that leads out is not listed");
    assert_eq!(site.run("m1", &["cp.get_file_str", "salt://web/conf/site.conf"])["m1"], "listen 80\n");
    let hash = site.run("m1", &["cp.hash_file", "salt://web/conf/site.conf"]);
    assert_eq!(hash["m1"]["hash_type"], "sha256");
    for path in ["salt://leaves", "salt://none", "salt://%2e%2e/outside/secret", "salt://..%2foutside%2fsecret"] {
        assert_eq!(site.run("m1", &["cp.get_file", path, &site.path("no")])["m1"], "", "{path}");
        assert_eq!(site.run("m1", &["cp.hash_file", path])["m1"], "", "{path}");
    }
    assert!(!Path::new(&site.path("no")).exists());
    let copied = site.run("m1", &["cp.get_dir", "salt://web/conf", &site.path("copy")]);
    assert_eq!(copied["m1"], json!([site.path("copy/conf/site.conf")]));
    let called = site.fleet.call("m2", &["cp.get_file_str", "salt://web/conf/site.conf", "--out", "json"]).json();
    assert_eq!(called, json!({"local": "listen 80\n"}));
}

#[test]
fn each_minion_has_its_own_pillar_and_errors_are_named() {
    let site = site("");
    site.wait_pillar();
    let items = site.run("*", &["pillar.items"]);
    assert_eq!(items["m1"]["token"], "only-m1");
    assert!(items["m1"].get("_errors").is_none(), "{items}");
    let text = items["m2"].to_string();
    assert!(!text.contains("only-m1") && !text.contains("nosuch"), "{text}");
    let error = "Rendering SLS 'broken' failed. Please see master log for details.";
    assert_eq!(items["m2"]["_errors"], json!([error]));
    assert_eq!(site.run("*", &["pillar.get", "site:dc"]), json!({"m1": "x", "m2": "x"}));
    assert_eq!(site.run("m1", &["config.get", "role"])["m1"], "web");
    let called = site.fleet.call("m1", &["pillar.get", "token", "--out", "json"]).json();
    assert_eq!(called, json!({"local": "only-m1"}));
}

#[test]
fn a_changed_pillar_counts_after_a_refresh_and_targets_see_it() {
    let site = site("");
    site.wait_pillar();
    assert_eq!(site.run("role:web", &["-I", "test.ping"]), json!({"m1": true}));
    assert_eq!(site.run("site:dc:(x|y)", &["-J", "test.ping"]), json!({"m1": true, "m2": true}));
    assert_eq!(site.run("I@role:w* and not m2", &["-C", "test.ping"]), json!({"m1": true}));
    fs::write(site.path("pillar/own.sls"), "role: db\n").unwrap();
    assert_eq!(site.run("m1", &["pillar.get", "role"])["m1"], "web", "in memory it is what it was");
    assert_eq!(site.run("m1", &["saltutil.refresh_pillar"])["m1"], true);
    assert_eq!(site.run("m1", &["pillar.get", "role"])["m1"], "db");
    assert_eq!(site.run("role:db", &["-I", "test.ping"]), json!({"m1": true}));
}

#[test]
fn what_a_minion_tells_the_mine_others_can_ask_even_after_a_restart() {
    let mut site = site("");
    site.wait_pillar();
    assert_eq!(site.run("m1", &["mine.update"])["m1"], true);
    assert_eq!(site.run("m2", &["mine.get", "*", "test.echo"])["m2"], json!({"m1": "hello"}));
    assert_eq!(site.run("m1", &["mine.send", "greeting", "mine_function=test.echo", "hi", "allow_tgt=m1"])["m1"], true);
    assert_eq!(site.run("*", &["mine.get", "*", "greeting"]), json!({"m1": {"m1": "hi"}, "m2": {}}));
    site.fleet.stop_master();
    site.fleet.restart_master();
    site.fleet.wait_up(&["m1", "m2"]);
    assert_eq!(site.run("m2", &["mine.get", "m*", "test.echo"])["m2"], json!({"m1": "hello"}));
    let guess = site.run("m2", &["mine.get", "token:only*", "test.echo", "pillar"]);
    assert_eq!(guess["m2"], json!({}), "a pattern over pillars would let one minion guess another one's");
    assert_eq!(site.run("m1", &["mine.flush"])["m1"], true);
    assert_eq!(site.run("m2", &["mine.get", "*", "test.echo"])["m2"], json!({}));
}

#[test]
fn a_pushed_file_is_taken_only_where_that_is_configured() {
    let site = site("");
    assert_eq!(site.run("m1", &["cp.push", &site.path("outside/secret")])["m1"], false);
    let taking = self::site("file_recv: true\n");
    let path = taking.path("salt/web/image.bin");
    assert_eq!(taking.run("m1", &["cp.push", &path, "upload_path=/a/b"])["m1"], true);
    let kept = taking.fleet.site.dir().join("master/var/cache/halite/master/minions/m1/files/a/b");
    assert!(is_same(&kept.display().to_string(), &path));
}
