//! What an event is compared by, to tell whether it comes again.

use proto::msgpack;
use proto::value::{Map, MapExt};
use ring::digest::{Context, SHA256};

use super::state::Print;

/// Digests tag and data, without what only says when: `_stamp`, and the `ts` of what a minion sent by `event.send`.
pub(super) fn print(tag: &str, data: &Map) -> Print {
    let mut compared = data.clone();
    compared.take("_stamp");
    if data.text("cmd") == Some("_minion_event") {
        compared.take("ts");
    }
    let mut context = Context::new(&SHA256);
    // The length keeps a tag from running into the data.
    context.update(&(tag.len() as u64).to_be_bytes());
    context.update(tag.as_bytes());
    context.update(&msgpack::encode_map(&compared));
    let mut print = Print::default();
    print.copy_from_slice(context.finish().as_ref());
    print
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    #[test]
    fn time_is_no_difference_and_all_else_is() {
        let one = print("a", &map! { "id" => "m1", "_stamp" => "2026-11-21T00:00:00.000000" });
        assert_eq!(one, print("a", &map! { "id" => "m1", "_stamp" => "2026-11-21T00:00:01.000000" }));
        assert_ne!(one, print("b", &map! { "id" => "m1" }));
        assert_ne!(one, print("a", &map! { "id" => "m2" }));
        assert_ne!(one, print("a", &map! { "id" => "m1", "ts" => 1 }));
        let sent = |ts: i64| map! { "cmd" => "_minion_event", "data" => map! { "a" => 1 }, "ts" => ts };
        assert_eq!(print("a", &sent(1)), print("a", &sent(2)));
    }
}
