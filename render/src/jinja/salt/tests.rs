//! What Salt 3008.5 makes of its filters, in UTC: each line of the data is a template and its text, or nothing where Salt
//! fails.

use std::time::{Duration, SystemTime};

use proto::map;
use proto::value::Value as OurValue;

use super::super::{Context, render};

fn context() -> Context {
    let data = map! {
        "id" => "web1", "n" => 3, "f" => 2.5, "args" => vec!["ls", "-l"], "empty" => OurValue::Null,
        "nested" => map! { "deep" => map! { "x" => "y" } },
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
    Context { vars: map! { "data" => data, "tag" => "lab/x" }, now: Some(now), ..Context::default() }
}

fn rendered(template: &str) -> Result<String, String> {
    render(template, "t", &context()).map(|rendered| rendered.text).map_err(|error| error.to_string())
}

fn check(template: &str, expected: &str) {
    assert_eq!(rendered(template), Ok(expected.to_owned()), "{template}");
}

fn refused(template: &str, reason: &str) {
    let error = rendered(template).expect_err(template);
    assert!(error.contains(reason), "{template}: {error}");
}

#[test]
fn filters_compute_what_salts_do() {
    let mut wrong = Vec::new();
    for line in include_str!("tests/filters.jsonl").lines() {
        let (template, expected): (String, Option<String>) = serde_json::from_str(line).expect(line);
        match (rendered(&template), expected) {
            (Ok(ours), Some(theirs)) if ours == theirs => {}
            (Err(_), None) => {}
            (ours, theirs) => wrong.push(format!("{template}\n  ours:   {ours:?}\n  theirs: {theirs:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_time_is_the_one_that_was_given() {
    check("{{ none | strftime('%F %T') }} {{ 'now' | strftime('%F %T') }}", "2020-09-13 12:26:40 2020-09-13 12:26:40");
    check("{{ 'today' | strftime('%F %T') }} {{ 'yesterday' | strftime }}", "2020-09-13 00:00:00 2020-09-12");
    let timeless = Context { now: None, ..context() };
    assert!(render("{{ none | strftime }}", "t", &timeless).is_err());
}

#[test]
fn what_is_no_function_of_its_input_is_refused() {
    refused(
        "{{ 5 | random_hash }}",
        "the filter 'random_hash' is not available: a template gives the same text each time",
    );
    refused("{{ '/etc/passwd' | file_hashsum }}", "it would read the master's host");
    refused("{{ 'ls' | which }}", "it would read the master's host");
    refused("{{ 'http://localhost' | http_query }}", "it would ask the network");
    refused("{{ [] | json_query('x') }}", "it is not supported");
    // A filter that is only named sets nothing off.
    check("{% if false %}{{ 'ls' | which }}{% endif %}ok", "ok");
}

#[test]
fn filters_stay_within_the_limits() {
    refused("{{ '10.0.0.0/8' | network_hosts }}", "has more than 100000 hosts");
    refused("{{ '::/0' | network_hosts }}", "has more than 100000 hosts");
    refused("{{ '::/0' | network_size }}", "too large to count");
    refused("{{ range(90000) | list | union(range(90000) | list) }}", "too much work");
    refused("{{ range(90000) | list | unique }}", "too much work");
    refused("{{ (['10.0.0.0/16'] * 100) | network_hosts }}", "too much work");
    refused("{{ (['10.0.0.1'] * 50000) | filter_by_networks(['10.0.0.0/8'] * 50000) }}", "100000 items");
    refused("{{ 'x' | check_whitelist_blacklist(['y'] * 100000) }}", "too much work");
    refused("{{ 0 | strftime('%999999d') }}", "filled up too far");
    refused("{% for i in range(100000) %}{{ ('x' * 1000) | sha512 }}{% endfor %}", "too much work");
    refused("{{ ('%c' * 100000) | md5 }}{{ 0 | strftime('%c' * 100000) }}", "more than 1048576 bytes");
    refused(&format!("{{{{ {{}} | set_dict_key_value('{}', 1) }}}}", "a:".repeat(100)), "nested deeper");
    refused("{% set d = {} %}{{ d | set_dict_key_value('a:b', d) }}", "cannot contain itself");
    refused("{% set l = [] %}{{ {'a': l} | append_dict_key_value('a', l) }}", "itself");
    check("{% set d = {'a': 1} %}{{ d | compare_dicts(d) }}", "{}");
}
