//! `file.line`: one line of a file put in, put right or taken out.

use proto::value::Value;
use regex::Regex;

use super::content::overwrite;
use super::{bounded, path};
use crate::modules::diff::unified;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

pub(super) const LINE: Function = Function {
    name: "file.line",
    doc:
        "Put a line into a file, replace one, or take one out. Returns how the file has changed, or False if it has not.

content
    The line.
match
    A regular expression for the lines that are replaced or deleted. Default: the content, as it is.
mode
    ensure: the line stands once, at its place; insert: it is put there; replace; delete.
location
    start or end, for insert.
before, after
    Regular expressions for the line before or after which it belongs. Each must match one line.
show_changes
    False returns True instead of the difference.
quiet
    True returns False for a file that is not there, instead of an error.
indent
    False does not take over the indentation of the neighbour or of the old line.

CLI Example:

.. code-block:: bash

    salt '*' file.line /etc/nsswitch.conf \"networks:\\tfiles dns\" after=\"hosts:.*?\" mode='ensure'",
    params: &[
        Param::required("path"),
        Param::optional("content", Fallback::None),
        Param::optional("match", Fallback::None),
        Param::optional("mode", Fallback::None),
        Param::optional("location", Fallback::None),
        Param::optional("before", Fallback::None),
        Param::optional("after", Fallback::None),
        Param::optional("show_changes", Fallback::Bool(true)),
        Param::optional("backup", Fallback::Bool(false)),
        Param::optional("quiet", Fallback::Bool(false)),
        Param::optional("indent", Fallback::Bool(true)),
    ],
    run: line,
};

/// What is done, and where.
struct Change {
    content: String,
    wanted: Option<Regex>,
    before: Option<Regex>,
    after: Option<Regex>,
    location: Option<String>,
    indent: bool,
}

fn failed(text: impl Into<String>) -> CallError {
    CallError::Failed(text.into())
}

fn line(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let file = path(&args, "path");
    if !file.is_file() {
        if args.flag("quiet") {
            return Ok(Value::Bool(false).into());
        }
        return Err(failed(format!("File \"{}\" does not exists or is not a file.", file.display())));
    }
    if args.flag("backup") {
        return Err(CallError::Invocation(
            "the option 'backup' is not supported by this minion: see file.copy".to_owned(),
        ));
    }
    let mode = args.text("mode").map(|mode| mode.to_lowercase());
    let mode = mode.ok_or_else(|| failed("Mode was not defined. How to process the file?"))?;
    let old = String::from_utf8(bounded(&file)?).map_err(|_| failed("the file is no text"))?;
    let change = Change::read(&args, &mode)?;
    let mut lines: Vec<String> = old.lines().map(str::to_owned).collect();
    match mode.as_str() {
        "delete" => lines.retain(|line| !change.hits(line)),
        "ensure" => change.ensure(&mut lines)?,
        "insert" => change.insert(&mut lines)?,
        _ => change.replace(&mut lines),
    }
    let mut new = lines.join("\n");
    if !new.is_empty() && (old.is_empty() || old.ends_with('\n')) {
        new.push('\n');
    }
    if new == old {
        return Ok(Value::Bool(false).into());
    }
    overwrite(&file, new.as_bytes())?;
    Ok(if args.flag("show_changes") { unified(&old, &new).into() } else { Value::Bool(true) }.into())
}

impl Change {
    fn read(args: &Args, mode: &str) -> Result<Change, CallError> {
        if !["delete", "ensure", "insert", "replace"].contains(&mode) {
            return Err(failed(format!("Unknown mode: {mode}")));
        }
        let content = args.text("content");
        if content.is_none() && mode != "delete" {
            return Err(failed("Content can only be empty if mode is \"delete\""));
        }
        let regex = |name: &str| {
            let bad = |text: &str| CallError::Invocation(format!("{name}: '{}' is no expression", text.escape_debug()));
            args.text(name).map(|text| Regex::new(&text).map_err(|_| bad(&text))).transpose()
        };
        let content = content.unwrap_or_default().trim_end_matches('\n').to_owned();
        let same = || if content.is_empty() { Ok(None) } else { Regex::new(&regex::escape(&content)).map(Some) };
        let wanted = match regex("match")? {
            None => same().map_err(|_| failed("the content is too long to look for"))?,
            given => given,
        };
        let (before, after) = (regex("before")?, regex("after")?);
        Ok(Change { content, wanted, before, after, location: args.text("location"), indent: args.flag("indent") })
    }

    fn hits(&self, line: &str) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.is_match(line))
    }

    /// Returns the content, indented as this line is.
    fn beside(&self, line: &str) -> String {
        let indent = &line[..line.len() - line.trim_start().len()];
        if self.indent { format!("{indent}{}", self.content.trim_start()) } else { self.content.clone() }
    }

    fn replace(&self, lines: &mut [String]) {
        for line in lines.iter_mut().filter(|line| self.hits(line) && **line != self.content) {
            *line = self.beside(line);
        }
    }

    /// Returns where the one line is that an expression means.
    fn find(lines: &[String], wanted: &Regex, name: &str) -> Result<usize, CallError> {
        let found: Vec<usize> = (0..lines.len()).filter(|at| wanted.is_match(&lines[*at])).collect();
        match found.as_slice() {
            [at] => Ok(*at),
            [] => Err(failed(format!("Unable to match line in expression: \"{}\" ({name})", wanted.as_str()))),
            _ => Err(failed(format!("Found more than expected occurrences in \"{name}\" expression"))),
        }
    }

    /// Returns where the line belongs, and the neighbour whose indentation it takes.
    fn place(&self, lines: &[String]) -> Result<Option<(usize, usize)>, CallError> {
        let after = self.after.as_ref().map(|after| Change::find(lines, after, "after")).transpose()?;
        let before = self.before.as_ref().map(|before| Change::find(lines, before, "before")).transpose()?;
        match (after, before) {
            (Some(after), Some(before)) if before <= after => Err(failed("\"after\" does not stand before \"before\"")),
            (Some(after), _) => Ok(Some((after + 1, after))),
            (None, Some(before)) => Ok(Some((before, before))),
            (None, None) => Ok(None),
        }
    }

    fn insert(&self, lines: &mut Vec<String>) -> Result<(), CallError> {
        let (at, line) = match (self.place(lines)?, self.location.as_deref()) {
            (Some((at, neighbour)), _) => (at, self.beside(&lines[neighbour])),
            (None, Some("start")) => (0, self.content.clone()),
            (None, Some("end")) => (lines.len(), self.content.clone()),
            (None, Some(_)) => return Err(failed("\"location\" must be \"start\" or \"end\"")),
            (None, None) => {
                return Err(failed(
                    "Neither before or after was found in file: \"location\" or \"position\" is required",
                ));
            }
        };
        lines.insert(at, line);
        Ok(())
    }

    fn ensure(&self, lines: &mut Vec<String>) -> Result<(), CallError> {
        let Some((at, neighbour)) = self.place(lines)? else {
            return Err(failed(
                "Wrong conditions? Unable to ensure line without knowing where to put it before and/or after.",
            ));
        };
        // Before a line it has to stand right above; after one, right below.
        let there = if at > neighbour { at } else { at.wrapping_sub(1) };
        let stands = lines.get(there).is_some_and(|line| line.trim() == self.content.trim());
        if !stands {
            let line = self.beside(&lines[neighbour]);
            lines.insert(at, line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::map;
    use proto::value::{Map, MapExt};

    use super::*;
    use crate::modules::find;

    const HOSTS: &str = "one\n  two: x\nthree\n";

    fn call(options: Map) -> (Result<Value, CallError>, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("hosts");
        std::fs::write(&file, HOSTS).expect("written");
        let cx = ModuleContext::offline("m1", Arc::new(Map::new()), Arc::new(Map::new()));
        let path = Value::from(file.display().to_string());
        let outcome = find("file.line").expect("a function").call(&cx, vec![path], options);
        (outcome.map(|outcome| outcome.ret), std::fs::read_to_string(&file).expect("read"))
    }

    #[track_caller]
    fn check(options: Map, expected: &str) {
        let (ret, text) = call(options);
        assert_eq!(text, expected);
        let changed = ret.expect("an outcome") != Value::Bool(false);
        assert_eq!(changed, expected != HOSTS);
    }

    fn mode(mode: &str, content: &str, more: Map) -> Map {
        let mut options = map! { "mode" => mode, "content" => content };
        for (name, value) in more {
            options.set(&name.to_key(), value);
        }
        options
    }

    #[test]
    fn a_line_is_put_at_its_place_once() {
        check(mode("ensure", "new", map! { "after" => "^one" }), "one\nnew\n  two: x\nthree\n");
        check(mode("ensure", "new", map! { "before" => "two" }), "one\n  new\n  two: x\nthree\n");
        check(mode("ensure", "two: x", map! { "after" => "one" }), HOSTS);
        check(mode("ensure", "one", map! { "before" => "two" }), HOSTS);
        check(mode("insert", "new", map! { "location" => "start" }), "new\none\n  two: x\nthree\n");
        check(mode("insert", "new", map! { "location" => "end" }), "one\n  two: x\nthree\nnew\n");
        check(mode("insert", "new", map! { "after" => "two", "indent" => false }), "one\n  two: x\nnew\nthree\n");
    }

    #[test]
    fn lines_are_replaced_and_deleted() {
        check(mode("replace", "two: y", map! { "match" => "two: .*" }), "one\n  two: y\nthree\n");
        check(mode("replace", "zzz", map! { "match" => "none" }), HOSTS);
        check(mode("delete", "one", Map::new()), "  two: x\nthree\n");
        check(map! { "mode" => "delete", "match" => "^t" }, "one\n  two: x\n");
        let (ret, _) = call(mode("delete", "one", Map::new()));
        assert_eq!(ret, Ok("--- \n+++ \n@@ -1,3 +1,2 @@\n-one\n   two: x\n three\n".into()));
    }

    #[test]
    fn what_is_not_clear_changes_nothing() {
        for options in [
            Map::new(),
            mode("dance", "x", Map::new()),
            map! { "mode" => "ensure", "after" => "one" },
            mode("ensure", "x", Map::new()),
            mode("ensure", "x", map! { "after" => "t" }),
            mode("insert", "x", map! { "after" => "none" }),
            mode("insert", "x", map! { "after" => "(" }),
            mode("ensure", "x", map! { "after" => "three", "before" => "one" }),
        ] {
            let (ret, text) = call(options);
            assert!(ret.is_err());
            assert_eq!(text, HOSTS);
        }
    }
}
