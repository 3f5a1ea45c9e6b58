//! The bytes of an event for Salt's tools: tag, two line feeds, a msgpack map with `_stamp` (salt-wire.md §7.3).

use bytes::Bytes;
use proto::msgpack;
use proto::salt::event;
use proto::value::{Map, Value};

use crate::bus;

/// What Salt puts in the place of a value that is too large.
const TRIMMED: &str = "VALUE_TRIMMED";

/// Returns the event as Salt's tools read it; nothing if its data cannot be read.
pub(super) fn event(event: &bus::Event, max_size: usize) -> Option<Bytes> {
    let mut data = event.map().ok()?;
    let encoded = event::Event::new(event.tag.as_str(), &data).encode();
    if encoded.len() <= max_size {
        return Some(encoded);
    }
    trim(&mut data, max_size);
    Some(event::Event::new(event.tag.as_str(), &data).encode())
}

/// Replaces the values that take more than their share of the size, so that the rest arrives.
fn trim(data: &mut Map, max_size: usize) {
    let share = max_size / data.len().max(1);
    for value in data.values_mut() {
        if msgpack::encode(value).len() > share {
            *value = Value::from(TRIMMED);
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::map;
    use proto::tag::Tag;
    use proto::value::MapExt;

    use super::*;

    fn encoded(data: &Map, max_size: usize) -> event::Event {
        let data = Bytes::from(msgpack::encode_map(data));
        let tag = Tag::parse("salt/job/20260101000000000000/ret/web1").unwrap();
        let of_bus = bus::Event { offset: 1, tag, stamp_us: 1_767_225_600_000_000, data, durable: true };
        event::Event::decode(&event(&of_bus, max_size).unwrap()).unwrap()
    }

    #[test]
    fn an_event_is_written_as_salt_writes_it() {
        let data = map! { "id" => "web1", "cmd" => "_return", "return" => true, "bin" => Value::Bytes(vec![1, 255]) };
        let event = encoded(&data, 1 << 20);
        // `ipc_event.json`: what 3008.5 fires for this data at this moment.
        let salts = "85a26964a477656231a3636d64a75f72657475726ea672657475726ec3a362696ec40201ffa65f7374616d70d920323032362d30312d30\
                     315430303a30303a30302e3030303030302b30303a3030";
        let hex: String = event.data.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, salts);
    }

    #[test]
    fn a_large_value_is_trimmed_and_the_others_stay() {
        let event = encoded(&map! { "id" => "web1", "return" => "x".repeat(2_000) }, 1_000);
        let data = event.map().unwrap();
        assert_eq!(data.text("return"), Some("VALUE_TRIMMED"));
        assert_eq!(data.text("id"), Some("web1"));
        assert!(data.text("_stamp").is_some());
    }
}
