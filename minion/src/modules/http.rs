//! `http`: asks a web server from this host.

use std::time::Duration;

use proto::value::{Map, MapExt, Value};

use super::args::plain_text;
use super::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};
use crate::host::http::request::{self, Query};

/// The longest that a request may take, in seconds.
const MAX_TIMEOUT: f64 = 300.0;
/// What a request may do.
const METHODS: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
/// Options of Salt's that would change who is trusted or who answers; silence would be worse than a refusal.
const UNSUPPORTED: [&str; 6] = ["auth", "cert", "cookies", "formdata", "proxy_host", "template"];

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "http.query",
    doc:
        "Ask a web server and return its answer as body. Redirections are not followed; an answer of more than 8 MiB is
refused.

url, method
    The address, http or https, and the method. Default: GET.
params
    A map that is added to the address as its query.
data
    What to send: a text, or a map that is sent as a form.
header_dict, header_list
    Headers, as a map, or as a list of texts with colons.
username, password
    Credentials for basic authentication.
decode, decode_type
    True adds the answer, read as json, as dict. Other types are not read.
text, status, headers
    True adds the answer as text, the status, or the headers.
timeout
    The seconds after which to give up. Default: 30.
raise_error
    False returns the body of an answer with an error status too.

CLI Example:

.. code-block:: bash

    salt '*' http.query http://somelink.com/
    salt '*' http.query http://somelink.com/ method=POST params='{\"key1\": \"val1\"}'
    salt '*' http.query http://somelink.com/ method=POST data='<xml>somecontent</xml>'",
    params: &[
        Param::required("url"),
        Param::optional("method", Fallback::Text("GET")),
        Param::optional("params", Fallback::None),
        Param::optional("data", Fallback::None),
        Param::optional("header_dict", Fallback::None),
        Param::optional("header_list", Fallback::None),
        Param::optional("username", Fallback::None),
        Param::optional("password", Fallback::None),
        Param::optional("decode", Fallback::Bool(false)),
        Param::optional("decode_type", Fallback::Text("auto")),
        Param::optional("text", Fallback::Bool(false)),
        Param::optional("status", Fallback::Bool(false)),
        Param::optional("headers", Fallback::Bool(false)),
        Param::optional("timeout", Fallback::None),
        Param::optional("raise_error", Fallback::Bool(true)),
        Param::optional("verify_ssl", Fallback::Bool(true)),
        Param::keywords(),
    ],
    run: query,
}];

fn refuse(text: &str) -> CallError {
    CallError::Invocation(text.to_owned())
}

fn query(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let answer = request::query(read(&args)?);
    let (answer, headers) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let mut map = proto::map! { "error" => format!("failed to {error}") };
            if args.flag("status") {
                map.set("status", 0);
            }
            return Ok(Outcome::with_retcode(map, 1));
        }
    };
    let mut map = Map::new();
    let failed = answer.status >= 400 && args.flag("raise_error");
    if failed {
        map.set("error", format!("HTTP {}", answer.status));
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    map.set("body", text.as_str());
    if args.flag("status") || failed {
        map.set("status", answer.status);
    }
    if args.flag("headers") {
        let mut all = Map::new();
        headers.iter().for_each(|(name, value)| all.set(name, value.as_str()));
        map.set("headers", all);
    }
    if args.flag("decode") && !failed {
        let json = serde_json::from_str(&text)
            .map_err(|error| CallError::Exception { kind: "JSONDecodeError", message: error.to_string() })?;
        map.set("dict", Value::from_json(&json));
    }
    if args.flag("text") {
        map.set("text", text);
    }
    Ok(Outcome { ret: map.into(), retcode: i64::from(failed), out: None })
}

fn read(args: &Args) -> Result<Query, CallError> {
    if let Some(option) = UNSUPPORTED.iter().find(|name| args.extra().at(name).is_some_and(Value::is_truthy)) {
        return Err(CallError::Invocation(format!("the option '{option}' is not supported by this minion")));
    }
    if !args.flag("verify_ssl") {
        return Err(refuse("this minion does not talk to servers that it cannot verify"));
    }
    if !["auto", "json"].contains(&args.text("decode_type").unwrap_or_default().as_str()) {
        return Err(refuse("decode_type must be auto or json"));
    }
    let method = args.text("method").unwrap_or_default().to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        return Err(refuse("the method is unknown"));
    }
    let mut url = args.text("url").unwrap_or_default();
    let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) || url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(refuse("the address must be of http or https"));
    }
    if let Value::Map(params) = args.value("params") {
        url = format!("{url}{}{}", if url.contains('?') { '&' } else { '?' }, form(params));
    }
    let mut headers = headers(args)?;
    let body = match args.value("data") {
        Value::Null => String::new(),
        Value::Map(data) => {
            let typed = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            let kind = ("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned());
            headers.extend((!typed).then_some(kind));
            form(data)
        }
        other => plain_text(other),
    };
    let timeout = args.number("timeout")?;
    if timeout.is_some_and(|seconds| !(0.001..=MAX_TIMEOUT).contains(&seconds)) {
        return Err(CallError::Invocation(format!("timeout must be more than 0 and at most {MAX_TIMEOUT} seconds")));
    }
    let timeout = timeout.map(Duration::from_secs_f64);
    Ok(Query { url, method, headers, body: body.into_bytes(), timeout })
}

/// Reads the headers. A header with a line feed, which would start another, is refused by the client.
fn headers(args: &Args) -> Result<Vec<(String, String)>, CallError> {
    let mut headers: Vec<(String, String)> = Vec::new();
    if let Value::Map(map) = args.value("header_dict") {
        headers.extend(map.iter().map(|(name, value)| (name.to_key(), plain_text(value))));
    }
    for line in args.value("header_list").as_list().unwrap_or_default().iter().map(plain_text) {
        let (name, value) = line.split_once(':').ok_or_else(|| refuse("a header has a colon"))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if let (Some(user), Some(password)) = (args.text("username"), args.text("password")) {
        let token = render::python::base64(format!("{user}:{password}").as_bytes());
        headers.push(("Authorization".to_owned(), format!("Basic {token}")));
    }
    Ok(headers)
}

/// Writes a map as a form.
fn form(map: &Map) -> String {
    let pairs = map.iter().map(|(key, value)| format!("{}={}", quote(&key.to_key()), quote(&plain_text(value))));
    pairs.collect::<Vec<_>>().join("&")
}

/// Writes a text as Python's `quote_plus` does.
fn quote(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules::find;
    use proto::map;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;

    fn call(url: &str, options: Map) -> Result<Outcome, CallError> {
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        find("http.query").expect("a function").call(&cx, vec![url.into()], options)
    }

    /// Asks a server that answers so; returns the outcome and what was sent.
    fn ask(options: Map, status: &str, body: &str) -> (Outcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/p", listener.local_addr().expect("an address"));
        let answer = format!("HTTP/1.1 {status}\r\nx-a: b\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let mut reader = BufReader::new(listener.accept().expect("a connection").0);
                let mut sent = String::new();
                while !sent.ends_with("\r\n\r\n") {
                    assert!(reader.read_line(&mut sent).expect("a head") > 0);
                }
                let lower = sent.to_lowercase();
                let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let mut data = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut data).expect("a body");
                reader.get_mut().write_all(answer.as_bytes()).expect("still open");
                sent + &String::from_utf8(data).expect("text")
            });
            let outcome = call(&url, options).expect("an outcome");
            (outcome, server.join().expect("no panic"))
        })
    }

    #[test]
    fn a_page_is_the_body() {
        let options = map! { "status" => true, "headers" => true, "params" => map! { "a b" => "c&d" } };
        let (outcome, sent) = ask(options, "200 OK", "hello");
        assert!(sent.starts_with("GET /p?a+b=c%26d HTTP/1.1\r\n"), "{sent}");
        let map = outcome.ret.as_map().expect("a map");
        assert_eq!((map.text("body"), map.at("status"), outcome.retcode), (Some("hello"), Some(&200.into()), 0));
        assert_eq!(map.at("headers").and_then(|headers| headers.get("x-a")), Some(&"b".into()));
    }

    #[test]
    fn a_form_is_posted_and_json_read() {
        let options = map! {
            "method" => "post", "data" => map! { "k" => "v w" }, "decode" => true, "header_list" => vec!["X-One: 1"],
            "username" => "u", "password" => "p",
        };
        let (outcome, sent) = ask(options, "200 OK", r#"{"n": 1}"#);
        assert!(sent.starts_with("POST /p ") && sent.ends_with("\r\n\r\nk=v+w"), "{sent}");
        let lower = sent.to_lowercase();
        assert!(lower.contains("x-one: 1\r\n") && lower.contains("authorization: basic dtpw\r\n"), "{sent}");
        assert_eq!(outcome.ret.get("dict"), Some(&map! { "n" => 1 }.into()));
    }

    #[test]
    fn failures_are_told() {
        let (outcome, _) = ask(Map::new(), "404 Not Found", "none");
        assert_eq!((outcome.retcode, outcome.ret.get("status")), (1, Some(&404.into())));
        let (outcome, _) = ask(map! { "raise_error" => false }, "404 Not Found", "none");
        assert_eq!((outcome.retcode, outcome.ret.get("error")), (0, None));
        let outcome = call("http://127.0.0.1:1/", Map::new()).expect("an outcome");
        assert!(outcome.retcode == 1 && outcome.ret.get("error").is_some());
    }

    #[test]
    fn what_is_not_safe_is_refused() {
        for url in ["file:///etc/passwd", "ftp://x", "x", "http://x/\r\nHost: y"] {
            assert!(call(url, Map::new()).is_err(), "{url}");
        }
        assert!(call("http://x", map! { "verify_ssl" => false }).is_err());
        assert!(call("http://x", map! { "method" => "CONNECT" }).is_err());
        assert!(call("http://x", map! { "timeout" => 0 }).is_err());
        assert!(call("http://x", map! { "cert" => "/x" }).is_err());
        let options = map! { "header_dict" => map! { "A" => "b\r\nC: d" } };
        assert!(call("http://127.0.0.1:1", options).is_ok_and(|outcome| outcome.retcode == 1));
    }
}
