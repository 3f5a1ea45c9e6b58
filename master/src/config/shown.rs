//! What templates see of the configuration as `opts`: what is written there, and the defaults of what they usually ask
//! for. Passphrases are left out.

use std::path::Path;

use proto::map;
use proto::value::{Map, MapExt, Value};

use super::Paths;

/// What neither templates nor messages have.
pub(super) const SECRETS: [&str; 2] = ["key_pass", "signing_key_pass"];

/// Returns the options of a master with this id.
pub(super) fn options(written: &Map, paths: &Paths, id: &str) -> Map {
    let mut opts: Map = written.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    opts.retain(|key, _| !SECRETS.iter().any(|secret| key.as_str() == Some(secret)));
    for (name, value) in defaults() {
        if opts.at(&name.to_key()).is_none_or(Value::is_null) {
            opts.insert(name, value);
        }
    }
    // Whatever is written there, `root_dir` moves it; and Salt's `opts` always has the id.
    let text = |path: &Path| path.display().to_string();
    opts.set("cachedir", text(&paths.cachedir));
    opts.set("pki_dir", text(&paths.pki_dir));
    opts.set("root_dir", text(&paths.root));
    opts.set("sock_dir", text(&paths.sock_dir));
    opts.set("id", id);
    opts
}

fn defaults() -> Map {
    map! {
        "__role" => "master",
        "default_top" => "base",
        "failhard" => false,
        "file_client" => "local",
        "file_roots" => map! { "base" => vec!["/srv/salt"] },
        "fileserver_backend" => vec!["roots"],
        "hash_type" => "sha256",
        "interface" => "0.0.0.0",
        "nodegroups" => Map::new(),
        "pillar_merge_lists" => false,
        "pillar_roots" => map! { "base" => vec!["/srv/pillar"] },
        "pillar_source_merging_strategy" => "smart",
        "pillarenv" => Value::Null,
        "publish_port" => 4505,
        "renderer" => "jinja|yaml",
        "ret_port" => 4506,
        "saltenv" => Value::Null,
        "test" => false,
        "top_file_merging_strategy" => "merge",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_see_what_is_written_and_the_defaults_but_no_passphrase() {
        let paths = Paths {
            root: "/x".into(),
            pki_dir: "/x/pki".into(),
            cachedir: "/x/cache".into(),
            sock_dir: "/x/run".into(),
        };
        let written = map! { "hash_type" => "sha512", "key_pass" => "secret", "mine" => 1, "cachedir" => "/cache" };
        let opts = options(&written, &paths, "lab_master");
        for (name, expected) in [
            ("cachedir", "/x/cache".into()),
            ("file_roots", map! { "base" => vec!["/srv/salt"] }.into()),
            ("hash_type", "sha512".into()),
            ("id", "lab_master".into()),
            ("mine", 1.into()),
            ("saltenv", Value::Null),
        ] {
            assert_eq!(opts.at(name), Some(&expected), "{name}");
        }
        assert_eq!(opts.at("key_pass"), None);
    }
}
