//! What `modules/file` promises, tested in folders of its own.

use crate::modules::{CallError, ModuleContext, find};
use proto::map;
use proto::value::{Map, Value};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

fn call(fun: &str, args: &[&str], options: Map) -> Result<Value, CallError> {
    let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
    let args = args.iter().map(|arg| Value::from(*arg)).collect();
    find(fun).expect("a function").call(&cx, args, options).map(|outcome| outcome.ret)
}

fn plain(fun: &str, args: &[&str]) -> Value {
    call(fun, args, Map::new()).expect("an outcome")
}

fn refused(fun: &str, args: &[&str]) -> String {
    call(fun, args, Map::new()).expect_err("is refused").to_string()
}

/// A folder, and the path of a file in it with this content.
fn with(content: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("one");
    fs::write(&path, content).expect("written");
    let text = path.to_str().expect("text").to_owned();
    (dir, text)
}

fn text(path: &str) -> String {
    fs::read_to_string(path).expect("readable")
}

#[test]
fn lines_are_written_and_read() {
    let (_dir, path) = with("old");
    assert_eq!(plain("file.append", &[&path, "a", "b"]), format!("Wrote 2 lines to \"{path}\"").into());
    assert_eq!(plain("file.read", &[&path]), "old\na\nb\n".into());
    assert_eq!(plain("file.prepend", &[&path, "x"]), format!("Prepended 1 lines to \"{path}\"").into());
    assert_eq!(text(&path), "x\nold\na\nb\n");
    assert_eq!(plain("file.write", &[&path, "new"]), format!("Wrote 1 lines to \"{path}\"").into());
    assert_eq!(plain("file.contains", &[&path, "ne"]), true.into());
    call("file.append", &[&path], map! { "args" => vec!["k"] }).expect("an outcome");
    assert_eq!(text(&path), "new\nk\n");
    plain("file.truncate", &[&path, "3"]);
    assert_eq!(call("file.read", &[&path], map! { "binary" => true }), Ok(Value::Bytes(b"new".to_vec())));
}

#[test]
fn what_cannot_be_read_is_told() {
    let (dir, path) = with("");
    fs::write(&path, vec![b'x'; (super::MAX_CONTENT + 1) as usize]).expect("written");
    assert!(refused("file.read", &[&path]).contains("larger than"));
    fs::write(&path, [0xff]).expect("written");
    assert!(refused("file.read", &[&path]).contains("no text"));
    assert!(refused("file.read", &["/dev/zero"]).contains("no regular file"));
    assert!(refused("file.write", &["/dev/null", "x"]).contains("no regular file"));
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("made");
    assert!(refused("file.read", &[pipe.to_str().expect("text")]).contains("no regular file"));
    assert!(refused("file.read", &["/no/such/file"]).contains("File not found"));
}

#[test]
fn hashes_are_those_of_the_standard() {
    let (_dir, path) = with("abc");
    let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(plain("file.get_hash", &[&path]), sha256.into());
    assert_eq!(plain("file.get_hash", &[&path, "sha1"]), "a9993e364706816aba3e25717850c26c9cd0d89d".into());
    assert_eq!(plain("file.check_hash", &[&path, &format!("sha256={sha256}")]), true.into());
    assert_eq!(plain("file.check_hash", &[&path, &sha256.replace('b', "c")]), false.into());
    assert!(refused("file.get_hash", &[&path, "md4"]).contains("not supported"));
}

#[test]
fn stats_have_salts_keys() {
    let (_dir, path) = with("abc");
    assert_eq!(plain("file.set_mode", &[&path, "0640"]), "0640".into());
    let stats = call("file.stats", &[&path, "sha1"], Map::new()).expect("an outcome");
    let keys: Vec<String> = stats.as_map().expect("a map").keys().map(Value::to_key).collect();
    let expected = "inode uid gid group user atime mtime ctime size mode sum type target";
    assert_eq!(keys.join(" "), expected);
    assert_eq!(
        (stats.get("mode"), stats.get("size"), stats.get("type")),
        (Some(&"0640".into()), Some(&3.into()), Some(&"file".into()))
    );
    assert_eq!(plain("file.get_mode", &[&path]), "0640".into());
    assert_eq!(Some(&plain("file.get_user", &[&path])), stats.get("user"));
    assert!(refused("file.stats", &["/no/such/file"]).contains("Path not found"));
    assert!(refused("file.set_mode", &[&path, "9"]).contains("no mode"));
    let missing = plain("file.chown", &["/no/such/file", "nosuchuser", "nosuchgroup"]);
    assert_eq!(missing, "User does not exist\nGroup does not exist\nFile not found".into());
    assert_eq!(plain("file.chown", &[&path, "", ""]), Value::Null);
}

#[test]
fn paths_are_made_moved_and_removed() {
    let (dir, path) = with("abc");
    let place = |name: &str| dir.path().join(name).to_str().expect("text").to_owned();
    assert_eq!(call("file.mkdir", &[&place("a/b")], map! { "mode" => "0750" }), Ok(true.into()));
    assert_eq!(plain("file.get_mode", &[&place("a/b")]), "0750".into());
    assert_eq!(plain("file.copy", &[&path, &place("a/b/two")]), true.into());
    assert!(refused("file.copy", &[&place("a"), &place("c")]).contains("recurse"));
    let recurse = || map! { "recurse" => true };
    assert_eq!(call("file.copy", &[&place("a"), &place("c")], recurse()), Ok(true.into()));
    assert_eq!(text(&place("c/b/two")), "abc");
    assert!(call("file.copy", &[&place("a"), &place("a/b/c")], recurse()).is_err());
    assert!(refused("file.copy", &[&path, &path]).contains("within"));
    assert_eq!(text(&path), "abc");
    assert_eq!(plain("file.symlink", &[&path, &place("link")]), true.into());
    assert_eq!(plain("file.readlink", &[&place("link")]), path.as_str().into());
    assert!(refused("file.symlink", &["/elsewhere", &place("link")]).contains("existing symlink"));
    assert_eq!(plain("file.is_link", &[&place("link")]), true.into());
    assert_eq!(plain("file.rename", &[&path, &place("three")]), true.into());
    assert_eq!(plain("file.remove", &[&place("link")]), true.into());
    assert_eq!(text(&place("three")), "abc");
    assert!(plain("file.rmdir", &[&place("a")]).as_str().is_some());
    assert_eq!(plain("file.remove", &[&place("a")]), true.into());
    assert_eq!(plain("file.remove", &[&place("a")]), false.into());
    assert_eq!(plain("file.directory_exists", &[&place("a")]), false.into());
    assert!(refused("file.remove", &["/"]).contains("root") && refused("file.remove", &["x"]).contains("absolute"));
    assert!(refused("file.remove", &["/usr/.."]).contains("root"));
    assert_eq!(plain("file.touch", &[&place("new"), "5", "6"]), true.into());
    let times = fs::metadata(place("new")).expect("there");
    assert_eq!(std::os::unix::fs::MetadataExt::mtime(&times), 6);
    assert_eq!((plain("file.basename", &["/a/b"]), plain("file.dirname", &["/a/b"])), ("b".into(), "/a".into()));
}

#[test]
fn what_is_found_is_replaced_and_shown() {
    let (_dir, path) = with("level warn\nother\nlevel debug\n");
    let diff = plain("file.replace", &[&path, r"^(?P<key>level) \w+$", r"\g<key>=\1"]);
    let expected = "--- \n+++ \n@@ -1,3 +1,3 @@\n-level warn\n+level=level\n other\n-level debug\n+level=level\n";
    assert_eq!(diff, expected.into());
    assert_eq!(text(&format!("{path}.bak")), "level warn\nother\nlevel debug\n");
    assert_eq!(plain("file.search", &[&path, "^other"]), true.into());
    let options = map! { "count" => 1, "show_changes" => false, "backup" => false };
    assert_eq!(call("file.replace", &[&path, "level", "x"], options), Ok(true.into()));
    assert_eq!(text(&path), "x=level\nother\nlevel=level\n");
    assert_eq!(plain("file.replace", &[&path, "nothing", "x"]), "".into());
    call("file.replace", &[&path, "^new=", "new=1"], map! { "append_if_not_found" => true }).expect("an outcome");
    call("file.replace", &[&path, "^none$", "new=1"], map! { "append_if_not_found" => true }).expect("an outcome");
    assert!(text(&path).ends_with("level\nnew=1\n"));
    let before = text(&path);
    assert_ne!(call("file.replace", &[&path, "new", "old"], map! { "dry_run" => true }), Ok("".into()));
    assert_eq!(text(&path), before);
}

#[test]
fn bad_replacements_leave_the_file_alone() {
    let (_dir, path) = with("abc\n");
    for (pattern, repl) in [("(", "x"), ("a", r"\1"), ("a", r"\g<none>"), ("a", r"\g"), ("a", r"\q"), ("a", "\\")] {
        assert!(call("file.replace", &[&path, pattern, repl], Map::new()).is_err(), "{pattern} {repl}");
    }
    assert!(refused("file.replace", &["/no/such/file", "a", "b"]).contains("File not found"));
    let missing = map! { "ignore_if_missing" => true };
    assert_eq!(call("file.replace", &["/no/such/file", "a", "b"], missing), Ok(false.into()));
    assert!(call("file.replace", &[&path, "a", "b"], map! { "backup" => "/../x" }).is_err());
    assert_eq!(text(&path), "abc\n");
}

#[test]
fn files_are_found_by_what_they_are() {
    let (dir, path) = with("needle");
    fs::create_dir(dir.path().join("sub")).expect("made");
    fs::write(dir.path().join("sub/Two.bak"), vec![0; 3000]).expect("written");
    let root = dir.path().to_str().expect("text");
    let names = |options: Map| {
        let mut options = options;
        proto::value::MapExt::set(&mut options, "print", "name");
        call("file.find", &[root], options).map(|found| format!("{found:?}"))
    };
    let check = |options: Map, expected: Vec<&str>| {
        assert_eq!(names(options), Ok(format!("{:?}", Value::from(expected))));
    };
    check(map! { "type" => "f" }, vec!["one", "Two.bak"]);
    check(map! { "iname" => "two*" }, vec!["Two.bak"]);
    check(map! { "regex" => "o" }, vec!["one"]);
    check(map! { "type" => "f", "size" => "+2k" }, vec!["Two.bak"]);
    check(map! { "grep" => "needle" }, vec!["one"]);
    check(map! { "type" => "f", "mtime" => "+1d" }, vec![]);
    check(map! { "type" => "f", "mtime" => "-1h", "maxdepth" => 1 }, vec!["one"]);
    for bad in [map! { "type" => "q" }, map! { "size" => "x" }, map! { "mtime" => "3y" }, map! { "exec" => "rm" }] {
        assert!(call("file.find", &[root], bad).is_err());
    }
    assert_eq!(plain("file.find", &[&format!("{root}/o*")]), vec![path.as_str()].into());
    let gone = call("file.find", &[root, "delete"], map! { "name" => "*.bak" }).expect("an outcome");
    assert_eq!(gone, vec![format!("{root}/sub/Two.bak")].into());
    assert!(!dir.path().join("sub/Two.bak").exists() && Path::new(&path).exists());
}
