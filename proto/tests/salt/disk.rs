//! `disk.json`: the files that Salt's master and minion leave, as far as they are msgpack.

use halite_proto::salt::msgpack;
use halite_proto::value::{MapExt, Value};

use crate::vectors::{every_cut, file, hex, items, text, value};

#[test]
fn job_cache_files_are_read_and_written_byte_for_byte() {
    let mut seen = 0;
    for job in items(&file("disk")["job_cache"]) {
        for (path, content) in job["files"].as_object().unwrap() {
            // The others are plain text.
            if path.ends_with(".p") {
                let bytes = hex(content, "hex");
                let decoded = msgpack::decode_modern(&bytes).unwrap();
                assert_eq!(decoded, value(&content["decoded"]), "{path}");
                assert_eq!(msgpack::encode_modern(&decoded), bytes, "{path}");
                every_cut(&bytes, |bad| msgpack::decode_modern(bad).is_err());
                seen += 1;
            }
        }
    }
    assert!(seen >= 12, "{seen}");
}

#[test]
fn a_proc_file_is_a_load_of_the_wire() {
    for proc_file in items(&file("disk")["minion_proc_files"]) {
        let bytes = hex(proc_file, "hex");
        let decoded = msgpack::decode_map(&bytes).unwrap();
        assert_eq!(Value::Map(decoded.clone()), value(&proc_file["decoded"]));
        assert_eq!(msgpack::encode_map(&decoded), bytes);
        assert!(text(proc_file, "path").ends_with(decoded.text("jid").unwrap()));
        assert_eq!(msgpack::decode_modern_map(&bytes).unwrap(), decoded);
    }
}
