//! What `halite events stats` and `halite events cursors` print: tables for people. Tags have no control characters.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Prints the whole answer.
pub(super) fn text(stats: &Json) -> String {
    let newest = &stats["newest"];
    let mut text = format!(
        "{} events so far; the newest {} came from {} to {}\n\n{:>10} {:>12} {:>10}  class\n",
        stats["head"],
        newest["events"],
        newest["from"].as_str().unwrap_or_default(),
        newest["to"].as_str().unwrap_or_default(),
        "events",
        "bytes",
        "per s",
    );
    let mut classes: Vec<&Json> = stats["classes"].as_array().into_iter().flatten().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class["bytes"].as_u64()));
    for class in classes {
        let rate = class["per_s"].as_f64().unwrap_or(0.0);
        let name = class["class"].as_str().unwrap_or_default();
        let _ = writeln!(text, "{:>10} {:>12} {rate:>10.2}  {}", number(class, "events"), number(class, "bytes"), name);
    }
    let _ = writeln!(text, "\n{:>20} {:>20} {:>14}  segment", "first", "last", "bytes");
    for segment in stats["segments"].as_array().into_iter().flatten() {
        let phase = if segment["sealed"] == true { "sealed" } else { "open" };
        let [first, last, bytes] = ["first", "last", "bytes"].map(|name| number(segment, name));
        let _ = writeln!(text, "{first:>20} {last:>20} {bytes:>14}  {phase}");
    }
    text.push('\n');
    text.push_str(&cursors(&stats["cursors"]));
    text
}

/// Prints cursors.
pub(super) fn cursors(cursors: &Json) -> String {
    let mut text = format!("{:>20} {:>14} {:>14}  cursor\n", "next", "lag", "of it deleted");
    for cursor in cursors.as_array().into_iter().flatten() {
        let own = if cursor["own"] == true { " (the master's own)" } else { "" };
        let name = cursor["name"].as_str().unwrap_or_default();
        let [next, lag, deleted] = ["next", "lag", "deleted"].map(|field| number(cursor, field));
        let _ = writeln!(text, "{next:>20} {lag:>14} {deleted:>14}  {name}{own}");
    }
    text
}

/// Returns a number that can be set in columns, which JSON values cannot.
fn number(from: &Json, name: &str) -> u64 {
    from[name].as_u64().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_class_comes_first() {
        let class = |name: &str, bytes: u64| json!({"class": name, "events": 1, "bytes": bytes, "per_s": 0.5});
        let stats = json!({"head": 2, "newest": {"events": 2, "from": "a", "to": "b"},
            "classes": [class("small", 1), class("large", 9)],
            "segments": [{"first": 1, "last": 2, "bytes": 4096, "sealed": false}],
            "cursors": [{"name": "jobs", "next": 3, "lag": 0, "own": true}]});
        let text = text(&stats);
        assert!(text.find("large") < text.find("small"), "{text}");
        assert!(text.contains("         1            9       0.50  large"), "{text}");
        assert!(text.contains("open") && text.contains("jobs (the master's own)"), "{text}");
    }
}
