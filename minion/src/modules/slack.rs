//! `slack`: sends messages to Slack channels.
//!
//! ```yaml
//! # Minion configuration, where the key is not an argument of the call:
//! slack:
//!   api_key: xoxb-…
//!   api_url: https://slack.com/api      # the default; another Slack-compatible server, or a proxy for tests
//! ```
//! The key never appears in a return, an error or a log line.

use proto::value::{Map, MapExt, Value};
use tracing::warn;

use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::http::{self, Answer};

const API_URL: &str = "https://slack.com/api";
/// The most of a server's own error that is shown.
const MAX_REASON: usize = 200;

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "slack.post_message",
    doc: "Send a message to a Slack channel.

channel
    The channel's name; a hash is put before it if it has neither that nor an @.
message
    The text.
from_name
    Who the message is from.
api_key
    The Slack API key, if it is not in the minion's configuration.
icon
    The address of an image to show beside the message.

CLI Example:

.. code-block:: bash

    salt '*' slack.post_message channel=\"Development Room\" message=\"Build is done\" from_name=\"Build Server\"",
    params: &[
        Param::required("channel"),
        Param::required("message"),
        Param::required("from_name"),
        Param::optional("api_key", Fallback::None),
        Param::optional("icon", Fallback::None),
    ],
    run: post_message,
}];

fn post_message(cx: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let key = api_key(cx, &args)?;
    let mut channel = required(&args, "channel")?;
    if !channel.starts_with(['#', '@']) {
        channel.insert(0, '#');
    }
    let (message, from_name) = (required(&args, "message")?, required(&args, "from_name")?);
    let mut form = vec![("channel", channel.as_str()), ("username", from_name.as_str()), ("text", message.as_str())];
    let icon = args.text("icon");
    form.extend(icon.as_deref().map(|icon| ("icon_url", icon)));
    let url = configured(cx, "api_url").unwrap_or_else(|| API_URL.to_owned());
    let url = format!("{}/chat.postMessage", url.trim_end_matches('/'));
    let judged = match http::post_form(&url, &key, &form) {
        Ok(answer) => judge(&answer),
        Err(error) => Err(error.to_string()),
    };
    match judged {
        Ok(()) => Ok(Value::Bool(true).into()),
        Err(reason) => {
            // A server may answer with what it was sent.
            let reason = reason.replace(&key, "**********");
            warn!(channel, reason, "failed to post to Slack");
            let ret: Map = proto::map! { "message" => reason, "res" => false };
            Ok(Outcome::with_retcode(ret, 1))
        }
    }
}

fn api_key(cx: &ModuleContext, args: &Args) -> Result<String, CallError> {
    let key = args.text("api_key").filter(|key| !key.is_empty()).or_else(|| configured(cx, "api_key"));
    let key = key.ok_or_else(|| CallError::Invocation("No Slack API key found.".to_owned()))?;
    // It becomes a header: a line feed in it would start another.
    match key.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        true => Ok(key),
        false => Err(CallError::Invocation("The Slack API key has characters that no key has.".to_owned())),
    }
}

/// Returns `slack.<name>` or `slack:<name>` from the configuration, as Salt looks for them.
fn configured(cx: &ModuleContext, name: &str) -> Option<String> {
    let value = cx.configured(&format!("slack.{name}")).or_else(|| cx.configured(&format!("slack:{name}")));
    value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn required(args: &Args, name: &str) -> Result<String, CallError> {
    let text = args.text(name).filter(|text| !text.is_empty());
    text.ok_or_else(|| CallError::Invocation(format!("{name} is a required option.")))
}

/// Judges an answer: Slack says `ok: true`, or `ok: false` with an error, both with status 200.
fn judge(answer: &Answer) -> Result<(), String> {
    let json = serde_json::from_slice(&answer.body).ok().map(|json| Value::from_json(&json));
    let Some(Value::Map(map)) = json else {
        return Err(format!("Unknown response, status {}", answer.status));
    };
    match (answer.status, map.text("error"), map.at("ok").and_then(Value::as_bool)) {
        (200, None, Some(true)) => Ok(()),
        (_, Some(error), _) => Err(error.chars().take(MAX_REASON).collect()),
        (status, None, _) => Err(format!("Unknown response, status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    const KEY: &str = "xoxb-very-secret";

    fn call(config: Map, keyword: Map) -> Result<Outcome, CallError> {
        let cx = ModuleContext::offline("m1", Arc::new(config), Arc::new(Map::new()));
        find("slack.post_message").expect("a function").call(&cx, vec![], keyword)
    }

    /// Posts a message to a server that answers so; returns the outcome, the request's head and its body.
    fn post(config: Map, keyword: Map, status: &str, body: &str) -> (Outcome, String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let (stream, _) = listener.accept().expect("a connection");
                let mut reader = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut head).expect("a head") > 0);
                }
                let length = head
                    .to_lowercase()
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
                let mut body = vec![0; length.expect("a length")];
                reader.read_exact(&mut body).expect("a body");
                reader.get_mut().write_all(answer.as_bytes()).expect("still open");
                (head, String::from_utf8(body).expect("text"))
            });
            let mut config = config;
            config.set("slack.api_url", format!("http://{address}/api/"));
            let outcome = call(config, keyword).expect("an outcome");
            let (head, body) = server.join().expect("no panic");
            (outcome, head, body)
        })
    }

    fn message() -> Map {
        proto::map! { "channel" => "ops", "message" => "a & b\n", "from_name" => "Salt", "api_key" => KEY }
    }

    #[test]
    fn a_message_is_posted_as_a_form() {
        let (outcome, head, body) = post(Map::new(), message(), "200 OK", r##"{"ok": true, "channel": "C1"}"##);
        assert_eq!(outcome, Value::Bool(true).into());
        assert!(head.starts_with("POST /api/chat.postMessage HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(head.contains(&format!("authorization: bearer {KEY}")), "{head}");
        assert!(head.contains("content-type: application/x-www-form-urlencoded"), "{head}");
        assert_eq!(body.replace("%20", "+"), "channel=%23ops&username=Salt&text=a+%26+b%0A");
    }

    #[test]
    fn the_key_may_come_from_the_configuration() {
        let config = proto::map! { "slack" => proto::map! { "api_key" => KEY } };
        let mut keyword = message();
        keyword.take("api_key");
        keyword.set("icon", "http://x/i.png");
        let (outcome, head, body) = post(config, keyword, "200 OK", r#"{"ok": true}"#);
        assert_eq!(outcome.retcode, 0);
        assert!(head.contains(KEY));
        assert!(body.ends_with("&icon_url=http%3A%2F%2Fx%2Fi.png"), "{body}");
    }

    #[test]
    fn a_refusal_is_told_without_the_key() {
        let check = |status: &str, body: &str, expected: &str| {
            let (outcome, ..) = post(Map::new(), message(), status, body);
            let ret = proto::map! { "message" => expected, "res" => false };
            assert_eq!(outcome, Outcome::with_retcode(ret, 1));
        };
        check("200 OK", r#"{"ok": false, "error": "invalid_auth"}"#, "invalid_auth");
        check("200 OK", &format!(r#"{{"ok": false, "error": "bad key {KEY}"}}"#), "bad key **********");
        check("500 Oh", "<html>", "Unknown response, status 500");
        check("200 OK", &"x".repeat(300_000), "read the answer: larger than 262144 bytes");
    }

    #[test]
    fn what_is_missing_is_told() {
        let check = |keyword: Map, expected: &str| {
            assert_eq!(call(Map::new(), keyword), Err(CallError::Invocation(expected.to_owned())));
        };
        let mut without = message();
        without.take("api_key");
        check(without.clone(), "No Slack API key found.");
        without.set("api_key", "x\r\nHost: y");
        check(without, "The Slack API key has characters that no key has.");
        let mut empty = message();
        empty.set("message", "");
        check(empty, "message is a required option.");
    }

    #[test]
    fn an_unreachable_server_is_told_without_the_key() {
        let outcome = call(proto::map! { "slack.api_url" => "http://127.0.0.1:1/api" }, message()).expect("an outcome");
        assert_eq!(outcome.retcode, 1);
        assert!(!format!("{outcome:?}").contains(KEY));
    }
}
