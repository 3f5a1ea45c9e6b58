//! The file server as minions ask it.

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    server: FileServer,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    for dir in ["base/web", "dev"] {
        std::fs::create_dir_all(folder.path().join(dir)).unwrap();
    }
    std::fs::write(folder.path().join("base/web/index.html"), "0123456789").unwrap();
    std::fs::write(folder.path().join("base/empty"), "").unwrap();
    std::fs::write(folder.path().join("base/secret.key"), "x").unwrap();
    std::fs::write(folder.path().join("outside"), "x").unwrap();
    let dir = |name: &str| folder.path().join(name).display().to_string();
    let roots = map! { "dev" => vec![dir("dev")], "base" => vec![dir("base")] };
    let config = FileServerConfig {
        roots: Arc::new(Roots::read(&roots.into()).unwrap()),
        ignored: Ignored::new(&["*.key".into()], &[]).unwrap(),
        piece: 4,
        ..FileServerConfig::default()
    };
    Scene { server: FileServer::new(config), folder }
}

fn file(path: &str) -> FileRef {
    FileRef { path: path.to_owned(), saltenv: "base".to_owned() }
}

fn data(reply: &Value) -> Vec<u8> {
    match reply.get("data") {
        Some(Value::Bytes(data)) => data.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_comes_piece_by_piece_until_an_empty_one() {
    let scene = scene();
    let (mut got, mut loc) = (Vec::new(), 0);
    loop {
        let reply = scene.server.serve(&file("web/index.html"), loc, None);
        assert_eq!(reply.get("dest").and_then(Value::as_str), Some("web/index.html"));
        let part = data(&reply);
        assert!(part.len() <= 4);
        if part.is_empty() {
            break;
        }
        loc += part.len() as u64;
        got.extend(part);
    }
    assert_eq!(got, b"0123456789");
    let end = map! { "dest" => "web/index.html", "data" => Value::Bytes(Vec::new()) };
    assert_eq!(scene.server.serve(&file("web/index.html"), u64::MAX, None), end.into(), "no hash: see there");
    assert_eq!(scene.server.serve(&file("empty"), 0, Some(5)).get("gzip"), None, "nothing is not compressed");
}

#[test]
fn a_piece_is_compressed_where_that_is_asked_for() {
    let scene = scene();
    let reply = scene.server.serve(&file("web/index.html"), 4, Some(99));
    assert_eq!(reply.get("gzip"), Some(&99.into()));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&data(&reply)[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "4567");
}

#[test]
fn a_file_that_is_not_there_is_told_as_salt_does() {
    let scene = scene();
    let outside = scene.folder.path().join("outside").display().to_string();
    for path in ["none", "web", "../outside", &outside, "secret.key", "a\0b"] {
        let file = file(path);
        let reply = scene.server.serve(&file, 0, None);
        assert_eq!((data(&reply), reply.get("dest")), (vec![], Some(&"".into())), "{path:?}");
        assert_eq!(scene.server.query(FileQuery::Hash, &file), "".into(), "{path:?}");
        assert_eq!(
            scene.server.query(FileQuery::HashAndStat, &file),
            vec![Value::from(""), Value::Null].into(),
            "{path:?}"
        );
        assert_eq!(scene.server.query(FileQuery::Find, &file), map! { "path" => "", "rel" => "" }.into(), "{path:?}");
    }
    let elsewhere = FileRef { path: "web/index.html".into(), saltenv: "prod".into() };
    assert_eq!(scene.server.query(FileQuery::Hash, &elsewhere), "".into());
}

#[test]
fn a_file_is_told_with_hash_stat_and_place() {
    let scene = scene();
    let hash = scene.server.query(FileQuery::Hash, &file("web/index.html"));
    let digest = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    assert_eq!(hash, map! { "hash_type" => "sha256", "hsum" => digest }.into());
    let found = scene.server.query(FileQuery::Find, &file("./web//index.html"));
    assert_eq!(found.get("rel"), Some(&"web/index.html".into()));
    assert_eq!(found.get("back"), Some(&"roots".into()));
    let stat = found.get("stat").and_then(Value::as_list).unwrap();
    assert_eq!((stat.len(), &stat[6]), (10, &Value::from(10)));
    let both = scene.server.query(FileQuery::HashAndStat, &file("web/index.html"));
    assert_eq!(both.as_list().unwrap(), [hash, found.get("stat").cloned().unwrap()]);
}

#[test]
fn lists_are_by_environment_and_prefix() {
    let scene = scene();
    assert_eq!(scene.server.envs(), ["base", "dev"]);
    assert_eq!(scene.server.list(Listing::Files, "base", ""), vec!["empty", "web/index.html"].into());
    assert_eq!(scene.server.list(Listing::Files, "base", "/web/"), vec!["web/index.html"].into());
    assert_eq!(scene.server.list(Listing::Dirs, "base", ""), vec!["web"].into());
    assert_eq!(scene.server.list(Listing::Files, "none", ""), Value::List(vec![]));
    assert_eq!(scene.server.list(Listing::Symlinks, "base", ""), Map::new().into());
}

#[test]
fn a_new_configuration_forgets_the_old_lists() {
    let scene = scene();
    scene.server.list(Listing::Files, "base", "");
    let roots = Roots::base(vec![scene.folder.path().join("dev")]);
    scene.server.reload(FileServerConfig { roots: Arc::new(roots), ..FileServerConfig::default() });
    assert_eq!(scene.server.list(Listing::Files, "base", ""), Value::List(vec![]));
}

#[test]
fn the_masters_own_texts_have_a_limit() {
    let scene = scene();
    let roots = Roots::base(vec![scene.folder.path().join("base")]);
    let read = |path: &str, longest| FileServer::read_text(&roots, "base", path, longest);
    assert_eq!(read("web/index.html", 10), Ok(Some("0123456789".to_owned())));
    assert!(read("web/index.html", 9).unwrap_err().contains("larger than 9 bytes"));
    assert_eq!(read("../outside", 10), Ok(None));
}
