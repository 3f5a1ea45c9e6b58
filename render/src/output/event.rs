//! The event stream as text: what `state.event` prints, and one JSON document per line for programs.
//!
//! Every text ends with a newline. On a terminal the tag has no control characters at all, so that one event cannot
//! pretend to be two.

use std::borrow::Cow;

use proto::map;
use proto::value::Value;

use super::clean::clean_line;
use super::json_writer::{Beyond, JsonWriter, Layout, Order};
use super::jsonl;
use super::style::{Paint, Style};

/// One event, as a subscriber has it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The tag.
    pub tag: &'a str,
    /// Its place on the bus, if it came from a durable log.
    pub offset: Option<u64>,
    /// Whether it is in the log: what the master fires while it cannot write the log is only seen live.
    pub durable: bool,
    /// The data, `_stamp` included.
    pub data: &'a Value,
}

/// Returns the event as `state.event pretty=True` prints it: tag, tab, JSON indented by four with sorted keys.
pub fn pretty(event: &Event<'_>, style: &Style) -> String {
    print(event, style, Layout::Indent(4), Order::Sorted)
}

/// Returns the event on one line as `state.event` prints it: tag, tab, JSON with its keys as they come.
pub fn plain(event: &Event<'_>, style: &Style) -> String {
    print(event, style, Layout::Line, Order::Kept)
}

/// Returns the event as one compact JSON document on one line: `tag`, `offset` if there is one, `durable` if it is not, `data`.
pub fn jsonl(event: &Event<'_>) -> String {
    let mut document = map! { "tag" => event.tag };
    if let Some(offset) = event.offset {
        document.insert("offset".into(), offset.into());
    }
    if !event.durable {
        document.insert("durable".into(), false.into());
    }
    document.insert("data".into(), event.data.clone());
    let mut line = jsonl::text(&Value::Map(document), &Style::PLAIN);
    line.push('\n');
    line
}

fn print(event: &Event<'_>, style: &Style, layout: Layout, order: Order) -> String {
    let writer = JsonWriter { style, layout, order, beyond: Beyond::Event, key_paint: Some(Paint::Cyan) };
    let tag = if style.escapes() { clean_line(event.tag) } else { Cow::Borrowed(event.tag) };
    format!("{}\t{}\n", style.paint(Paint::LightGreen, &tag), writer.document(event.data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Value {
        // recorded/events/state.event-plain.out, with a shorter key.
        Value::from(map! {
            "result" => true,
            "act" => "pend",
            "id" => "m2",
            "pub" => "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
            "_stamp" => "2026-11-20T23:51:42.651957+00:00",
        })
    }

    #[test]
    fn pretty_is_what_salt_prints() {
        let data = auth();
        let expected = "salt/auth\t{
    \"_stamp\": \"2026-11-20T23:51:42.651957+00:00\",
    \"act\": \"pend\",
    \"id\": \"m2\",
    \"pub\": \"-----BEGIN PUBLIC KEY-----\\nMIIB\\n-----END PUBLIC KEY-----\",
    \"result\": true
}
";
        let event = Event { tag: "salt/auth", offset: Some(7), durable: true, data: &data };
        assert_eq!(pretty(&event, &Style::PLAIN), expected);

        let data =
            Value::from(map! { "present" => Value::List(vec![]), "_stamp" => "2026-11-20T23:51:43.088262+00:00" });
        let event = Event { tag: "salt/presence/present", offset: None, durable: true, data: &data };
        let expected = "salt/presence/present\t{
    \"_stamp\": \"2026-11-20T23:51:43.088262+00:00\",
    \"present\": []
}
";
        assert_eq!(pretty(&event, &Style::PLAIN), expected);
    }

    #[test]
    fn plain_is_what_salt_prints() {
        let data = auth();
        let event = Event { tag: "salt/auth", offset: None, durable: true, data: &data };
        let expected = "salt/auth\t{\"result\": true, \"act\": \"pend\", \"id\": \"m2\", \"pub\": \"-----BEGIN PUBLIC \
                        KEY-----\\nMIIB\\n-----END PUBLIC KEY-----\", \"_stamp\": \"2026-11-20T23:51:42.651957+00:00\"}\n";
        assert_eq!(plain(&event, &Style::PLAIN), expected);

        // recorded/event-api/state-event-tagmatch.txt
        let data = Value::from(map! {
            "cmd" => "_return",
            "success" => true,
            "retcode" => 0,
            "fun_args" => Value::List(vec![]),
            "ts" => 1_795_219_620,
        });
        let event = Event { tag: "salt/job/20261121000700359259/ret/m2", offset: None, durable: true, data: &data };
        let expected = "salt/job/20261121000700359259/ret/m2\t{\"cmd\": \"_return\", \"success\": true, \"retcode\": 0, \
                        \"fun_args\": [], \"ts\": 1795219620}\n";
        assert_eq!(plain(&event, &Style::PLAIN), expected);
    }

    #[test]
    fn jsonl_is_one_strict_document() {
        let data = Value::from(map! { "a" => vec![1, 2], "x" => f64::NAN, "raw" => Value::Bytes(vec![0xff]) });
        let event = Event { tag: "my/\n\"tag\"", offset: Some(42), durable: true, data: &data };
        let expected =
            "{\"tag\":\"my/\\n\\\"tag\\\"\",\"offset\":42,\"data\":{\"a\":[1,2],\"x\":null,\"raw\":\"/w==\"}}\n";
        assert_eq!(jsonl(&event), expected);
        let event = Event { offset: None, data: &Value::Null, ..event };
        assert_eq!(jsonl(&event), "{\"tag\":\"my/\\n\\\"tag\\\"\",\"data\":null}\n");
        let event = Event { tag: "t", durable: false, ..event };
        assert_eq!(jsonl(&event), "{\"tag\":\"t\",\"durable\":false,\"data\":null}\n");
    }

    #[test]
    fn colour_marks_tag_and_keys() {
        let data = Value::from(map! { "a" => "b" });
        let event = Event { tag: "t", offset: None, durable: true, data: &data };
        let expected = "\x1b[0;1;32mt\x1b[0;0m\t{\n    \x1b[0;36m\"a\"\x1b[0;0m: \"b\"\n}\n";
        assert_eq!(pretty(&event, &Style::TERMINAL), expected);
    }

    #[test]
    fn an_event_cannot_talk_to_the_terminal_or_pretend_to_be_two() {
        let data = Value::from(map! { "\u{9b}2J" => "\x1b[2J\x07" });
        let event = Event { tag: "t\nsalt/auth\t{}\x1b[2J", offset: None, durable: true, data: &data };
        let style = Style { colour: super::super::Colour::Never, ..Style::TERMINAL };
        let expected = "t\\x0asalt/auth\\x09{}\\x1b[2J\t{\"\\u009b2J\": \"\\u001b[2J\\u0007\"}\n";
        assert_eq!(plain(&event, &style), expected);
    }
}
