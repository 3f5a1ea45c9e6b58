//! A master with a few files, and what the module makes of its answers.

use super::*;
use crate::modules::{AskError, MasterRequests, find};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::value::MapExt;

/// A master with some files, which it serves in pieces of four bytes.
#[derive(Default)]
struct Master {
    files: Map,
    asked: Mutex<Vec<String>>,
    pushed: Mutex<Vec<u8>>,
    lies: bool,
}

impl Master {
    fn file(&self, fields: &Map) -> Option<&str> {
        (fields.text("saltenv") == Some("base")).then(|| self.files.text(fields.text("path")?)).flatten()
    }
}

impl MasterRequests for Master {
    fn ask(&self, cmd: &str, fields: Map, _: Duration) -> Result<Value, AskError> {
        self.asked.lock().expect("not poisoned").push(cmd.to_owned());
        Ok(match cmd {
            "_file_hash" => match self.file(&fields) {
                Some(text) => {
                    let text = if self.lies { "other" } else { text };
                    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
                    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                    map! { "hsum" => hash, "hash_type" => "sha256" }.into()
                }
                None => "".into(),
            },
            "_file_list" => self.files.keys().cloned().collect::<Vec<_>>().into(),
            "_file_recv" => {
                let Some(Value::Bytes(data)) = fields.at("data") else { panic!("{fields:?}") };
                self.pushed.lock().expect("not poisoned").extend(data);
                (fields.at("path") == Some(&vec!["etc", "x"].into())).into()
            }
            "_serve_file" => match self.file(&fields) {
                Some(text) => {
                    let loc =
                        usize::try_from(fields.at("loc").and_then(Value::as_u64).expect("a number")).expect("small");
                    let piece = &text.as_bytes()[loc.min(text.len())..(loc + 4).min(text.len())];
                    map! { "data" => Value::Bytes(piece.to_vec()), "dest" => fields.text("path") }.into()
                }
                None => map! { "data" => Value::Bytes(vec![]), "dest" => "" }.into(),
            },
            other => panic!("{other}"),
        })
    }
}

struct Rig {
    folder: tempfile::TempDir,
    master: Arc<Master>,
}

fn rig() -> Rig {
    let files = map! { "web/index.html" => "0123456789", "web/css/a.css" => "a", "webs" => "x" };
    Rig { folder: tempfile::tempdir().expect("a folder"), master: Arc::new(Master { files, ..Master::default() }) }
}

impl Rig {
    fn call(&self, fun: &str, args: &[&str], kwargs: Map) -> Result<Value, CallError> {
        let root = self.folder.path().display().to_string();
        let config = map! { "root_dir" => root.clone(), "cachedir" => format!("{root}/cache") };
        let mut cx = ModuleContext::offline("m1", Arc::new(config), Arc::new(Map::new()));
        cx.master = Arc::clone(&self.master) as Arc<dyn MasterRequests>;
        let args = args.iter().map(|arg| Value::from(*arg)).collect();
        find(fun).expect("a function").call(&cx, args, kwargs).map(|outcome| outcome.ret)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

#[test]
fn a_file_is_fetched_whole_and_only_when_it_differs() {
    let rig = rig();
    let dest = rig.path("here");
    let get = || rig.call("cp.get_file", &["salt://web/index.html", &dest], Map::new());
    assert_eq!(get(), Ok(dest.clone().into()));
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "0123456789");
    let before = rig.master.asked.lock().unwrap().len();
    assert_eq!(get(), Ok(dest.clone().into()));
    assert_eq!(rig.master.asked.lock().unwrap().len(), before + 1, "its hash is asked for, and nothing else");
    let folder = rig.path("");
    assert_eq!(rig.call("cp.get_file", &["salt://webs", &folder], Map::new()), Ok(rig.path("webs").into()));
    let deep = rig.path("a/b/c");
    assert!(rig.call("cp.get_file", &["salt://webs", &deep], Map::new()).is_err());
    assert_eq!(rig.call("cp.get_file", &["salt://webs", &deep], map! { "makedirs" => true }), Ok(deep.into()));
}

#[test]
fn a_file_that_is_not_there_is_an_empty_text() {
    let rig = rig();
    let dest = rig.path("here");
    for path in ["salt://none", "salt://webs?saltenv=dev"] {
        assert_eq!(rig.call("cp.get_file", &[path, &dest], Map::new()), Ok("".into()), "{path}");
        assert_eq!(rig.call("cp.cache_file", &[path], Map::new()), Ok("".into()), "{path}");
        assert_eq!(rig.call("cp.get_file_str", &[path], Map::new()), Ok("".into()), "{path}");
        assert_eq!(rig.call("cp.hash_file", &[path], Map::new()), Ok("".into()), "{path}");
    }
    assert!(!std::path::Path::new(&dest).exists());
}

#[test]
fn a_damaged_file_never_takes_the_place_of_a_whole_one() {
    let mut rig = rig();
    let files = rig.master.files.clone();
    rig.master = Arc::new(Master { files, lies: true, ..Master::default() });
    let dest = rig.path("here");
    std::fs::write(&dest, "whole").unwrap();
    let error = rig.call("cp.get_file", &["salt://webs", &dest], Map::new()).unwrap_err();
    assert!(error.to_string().contains("changed 3 times"), "{error}");
    assert_eq!(std::fs::read_to_string(&dest).unwrap(), "whole");
    assert_eq!(std::fs::read_dir(rig.folder.path()).unwrap().count(), 1, "nothing half done is left");
}

#[test]
fn the_cache_keeps_files_by_environment() {
    let rig = rig();
    assert_eq!(rig.call("cp.is_cached", &["salt://web/index.html"], Map::new()), Ok("".into()));
    let kept = rig.path("cache/files/base/web/index.html");
    assert_eq!(rig.call("cp.cache_file", &["salt://web/index.html"], Map::new()), Ok(kept.clone().into()));
    assert_eq!(rig.call("cp.is_cached", &["salt://web/index.html"], Map::new()), Ok(kept.into()));
    assert_eq!(rig.call("cp.get_file_str", &["web/css/a.css"], Map::new()), Ok("a".into()));
}

#[test]
fn no_path_leads_out_of_the_cache() {
    let rig = rig();
    for path in ["salt://../x", "salt://a/../../x", "salt://", "http://x/y", "salt://a\0", "salt://x?saltenv=../y"] {
        assert!(matches!(rig.call("cp.cache_file", &[path], Map::new()), Err(CallError::Invocation(_))), "{path:?}");
    }
    assert!(rig.call("cp.cache_file", &["salt://x"], map! { "saltenv" => ".." }).is_err());
    assert!(rig.call("cp.get_file", &["salt://webs", "relative"], Map::new()).is_err());
}

#[test]
fn a_directory_comes_with_what_is_in_it() {
    let rig = rig();
    let dest = rig.path("out");
    let written = rig.call("cp.get_dir", &["salt://web/", &dest], Map::new()).unwrap();
    assert_eq!(written, vec![rig.path("out/web/index.html"), rig.path("out/web/css/a.css")].into());
    assert_eq!(std::fs::read_to_string(rig.path("out/web/css/a.css")).unwrap(), "a");
}

#[test]
fn keywords_of_templates_are_taken_as_salt_takes_them() {
    let rig = rig();
    let (out, here) = (rig.path("new/out"), rig.path("here"));
    let kwargs = || map! { "makedirs" => true, "role" => "web" };
    let written = rig.call("cp.get_dir", &["salt://web/css", &out], kwargs());
    assert_eq!(written, Ok(vec![rig.path("new/out/css/a.css")].into()));
    assert_eq!(rig.call("cp.get_file", &["salt://webs", &here], kwargs()), Ok(here.into()));
}

#[test]
fn a_file_is_pushed_where_the_master_takes_it() {
    let rig = rig();
    let path = rig.path("x");
    std::fs::write(&path, "pushed").unwrap();
    assert_eq!(rig.call("cp.push", &[&path], map! { "upload_path" => "/etc/x" }), Ok(true.into()));
    assert_eq!(*rig.master.pushed.lock().unwrap(), b"pushed");
    assert_eq!(rig.call("cp.push", &[&path], Map::new()), Ok(false.into()));
    assert!(rig.call("cp.push", &["/etc/../x"], Map::new()).is_err());
}
