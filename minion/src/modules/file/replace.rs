//! Searching a file for a regular expression and replacing what it finds.

use std::fs;
use std::path::Path;

use proto::value::Value;
use regex::bytes::{Captures, Regex, RegexBuilder};

use super::content::overwrite;
use super::{bounded, failed, path};
use crate::modules::args::plain_text;
use crate::modules::diff::unified;
use crate::modules::{Args, CallError, Fallback, Function, ModuleContext, Outcome, Param};

/// Python's flags: ignore case, many lines, dot matches all, verbose.
const FLAGS: [(&str, i64); 4] = [("IGNORECASE", 2), ("MULTILINE", 8), ("DOTALL", 16), ("VERBOSE", 64)];
/// The most that a replaced file may grow to.
const MAX_RESULT: usize = 64 << 20;

pub(super) const REPLACE: Function = Function {
    name: "file.replace",
    doc: "Replace what a regular expression finds in a file; returns the difference.

path, pattern, repl
    The file, what to find, and what to put there. Groups are written \\\\1 or \\\\g<name>.
count
    How many to replace at most; 0 means all.
flags
    Python's flags, as a number or a list of names. Default: 8 (MULTILINE).
append_if_not_found, prepend_if_not_found
    True adds not_found_content, or repl, to the end or the start if nothing is found.
backup
    The ending of the name under which the file is kept as it was. Default: .bak; False keeps none.
dry_run
    True writes nothing.
search_only
    True returns whether something is found.
show_changes
    False returns whether something changed.
ignore_if_missing
    True returns False for a file that is not there.
backslash_literal
    True takes a backslash in repl as it is.

CLI Example:

.. code-block:: bash

    salt '*' file.replace /etc/httpd/httpd.conf pattern='LogLevel warn' repl='LogLevel info'",
    params: &[
        Param::required("path"),
        Param::required("pattern"),
        Param::required("repl"),
        Param::optional("count", Fallback::Int(0)),
        Param::optional("flags", Fallback::Int(8)),
        Param::optional("bufsize", Fallback::Int(1)),
        Param::optional("append_if_not_found", Fallback::Bool(false)),
        Param::optional("prepend_if_not_found", Fallback::Bool(false)),
        Param::optional("not_found_content", Fallback::None),
        Param::optional("backup", Fallback::Text(".bak")),
        Param::optional("dry_run", Fallback::Bool(false)),
        Param::optional("search_only", Fallback::Bool(false)),
        Param::optional("show_changes", Fallback::Bool(true)),
        Param::optional("ignore_if_missing", Fallback::Bool(false)),
        Param::optional("preserve_inode", Fallback::Bool(true)),
        Param::optional("backslash_literal", Fallback::Bool(false)),
    ],
    run: replace,
};

pub(super) const SEARCH: Function = Function {
    name: "file.search",
    doc: "Tell whether a regular expression finds something in a file.

multiline
    True sets the flag MULTILINE, whatever flags says.

CLI Example:

.. code-block:: bash

    salt '*' file.search /etc/crontab 'mymaintenance.sh'",
    params: &[
        Param::required("path"),
        Param::required("pattern"),
        Param::optional("flags", Fallback::Int(8)),
        Param::optional("bufsize", Fallback::Int(1)),
        Param::optional("ignore_if_missing", Fallback::Bool(false)),
        Param::optional("multiline", Fallback::Bool(false)),
    ],
    run: search,
};

fn verdict(flag: bool) -> Result<Outcome, CallError> {
    Ok(Value::Bool(flag).into())
}

/// Reads the file; nothing if it is missing and may be.
fn content(args: &Args, file: &Path) -> Result<Option<Vec<u8>>, CallError> {
    if !file.exists() {
        return match args.flag("ignore_if_missing") {
            true => Ok(None),
            false => Err(CallError::Invocation(format!("File not found: {}", file.display()))),
        };
    }
    bounded(file).map(Some)
}

fn pattern(args: &Args) -> Result<Regex, CallError> {
    let flags = flags(args)? | if args.flag("multiline") { 8 } else { 0 };
    let text = args.text("pattern").unwrap_or_default();
    let regex = RegexBuilder::new(&text)
        .case_insensitive(flags & 2 != 0)
        .multi_line(flags & 8 != 0)
        .dot_matches_new_line(flags & 16 != 0)
        .ignore_whitespace(flags & 64 != 0)
        .build();
    regex.map_err(|error| CallError::Invocation(format!("bad pattern: {error}")))
}

fn flags(args: &Args) -> Result<i64, CallError> {
    let names = match args.value("flags") {
        Value::List(names) => names.iter().map(plain_text).collect(),
        Value::Str(name) if name.parse::<i64>().is_err() => vec![name.clone()],
        _ => return args.integer("flags"),
    };
    names.iter().try_fold(0, |flags, name| {
        let known = FLAGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let unknown = || CallError::Invocation(format!("there is no flag '{name}'"));
        known.map(|(_, bit)| flags | bit).ok_or_else(unknown)
    })
}

fn search(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let regex = pattern(&args)?;
    verdict(content(&args, &path(&args, "path"))?.is_some_and(|content| regex.is_match(&content)))
}

fn replace(_: &ModuleContext, args: Args) -> Result<Outcome, CallError> {
    let (file, regex) = (path(&args, "path"), pattern(&args)?);
    let (append, prepend) = (args.flag("append_if_not_found"), args.flag("prepend_if_not_found"));
    if args.flag("search_only") && (append || prepend) {
        return Err(CallError::Invocation("search_only cannot be used with append/prepend_if_not_found".to_owned()));
    }
    if append && prepend {
        let message = "Only one of append and prepend_if_not_found is permitted";
        return Err(CallError::Invocation(message.to_owned()));
    }
    let Some(old) = content(&args, &file)? else {
        return verdict(false);
    };
    if args.flag("search_only") {
        return verdict(regex.is_match(&old));
    }
    let mut new = replaced(&args, &regex, &old)?;
    if (append || prepend) && !regex.is_match(&old) {
        new = added(&args, old.clone());
    }
    if new != old && !args.flag("dry_run") {
        keep(&args, &file)?;
        overwrite(&file, &new)?;
    }
    if args.flag("show_changes") {
        return Ok(Value::from(unified(&String::from_utf8_lossy(&old), &String::from_utf8_lossy(&new))).into());
    }
    verdict(new != old)
}

fn replaced(args: &Args, regex: &Regex, old: &[u8]) -> Result<Vec<u8>, CallError> {
    let count = usize::try_from(args.integer("count")?)
        .map_err(|_| CallError::Invocation("count must not be negative".to_owned()))?;
    let repl = args.text("repl").unwrap_or_default();
    let parts = match args.flag("backslash_literal") {
        true => vec![Part::Text(repl.into_bytes())],
        false => template(&repl, regex)?,
    };
    let limit = if count == 0 { usize::MAX } else { count };
    let (mut new, mut at) = (Vec::with_capacity(old.len()), 0);
    for found in regex.captures_iter(old).take(limit) {
        let Some(whole) = found.get(0) else {
            continue;
        };
        new.extend_from_slice(&old[at..whole.start()]);
        expand(&parts, &found, &mut new);
        at = whole.end();
        if new.len() > MAX_RESULT {
            return Err(CallError::Failed(format!("the result would be larger than {MAX_RESULT} bytes")));
        }
    }
    new.extend_from_slice(&old[at..]);
    Ok(new)
}

/// A piece of a replacement.
enum Part {
    Group(String),
    Text(Vec<u8>),
}

fn expand(parts: &[Part], found: &Captures<'_>, out: &mut Vec<u8>) {
    for part in parts {
        match part {
            Part::Text(text) => out.extend_from_slice(text),
            Part::Group(name) => {
                let group = name.parse().map_or_else(|_| found.name(name), |number: usize| found.get(number));
                out.extend_from_slice(group.map_or(b"", |group| group.as_bytes()));
            }
        }
    }
}

/// Reads a replacement as Python writes it.
fn template(text: &str, regex: &Regex) -> Result<Vec<Part>, CallError> {
    let bad = |what: &str| CallError::Exception { kind: "re.error", message: what.to_owned() };
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once('\\') {
        parts.push(Part::Text(before.as_bytes().to_vec()));
        let letter = after.chars().next().ok_or_else(|| bad("bad escape (end of pattern)"))?;
        rest = &after[letter.len_utf8()..];
        match letter {
            '0'..='9' => {
                let second = rest.chars().next().filter(char::is_ascii_digit);
                rest = &rest[second.map_or(0, char::len_utf8)..];
                parts.push(Part::Group([letter].into_iter().chain(second).collect()));
            }
            'g' => {
                let name = rest.strip_prefix('<').and_then(|rest| rest.split_once('>'));
                let (name, tail) = name.ok_or_else(|| bad("missing group name"))?;
                parts.push(Part::Group(name.to_owned()));
                rest = tail;
            }
            'n' => parts.push(Part::Text(b"\n".to_vec())),
            'r' => parts.push(Part::Text(b"\r".to_vec())),
            't' => parts.push(Part::Text(b"\t".to_vec())),
            '\\' => parts.push(Part::Text(b"\\".to_vec())),
            letter if letter.is_ascii_alphabetic() => return Err(bad(&format!("bad escape \\{letter}"))),
            letter => parts.push(Part::Text(format!("\\{letter}").into_bytes())),
        }
    }
    parts.push(Part::Text(rest.as_bytes().to_vec()));
    let exists = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < regex.captures_len(),
        Err(_) => regex.capture_names().flatten().any(|known| known == name),
    };
    let missing = parts.iter().find_map(|part| match part {
        Part::Group(name) if !exists(name) => Some(name),
        _ => None,
    });
    missing.map_or(Ok(()), |name| Err(bad(&format!("invalid group reference {name}"))))?;
    Ok(parts)
}

/// Adds the line that was not found, unless it is there as it is.
fn added(args: &Args, mut old: Vec<u8>) -> Vec<u8> {
    let given = args.text("not_found_content").or_else(|| args.text("repl")).unwrap_or_default();
    let line = given.trim_end_matches('\n').as_bytes();
    if old.split(|byte| *byte == b'\n').any(|known| known.strip_suffix(b"\r").unwrap_or(known) == line) {
        return old;
    }
    if args.flag("prepend_if_not_found") {
        return [line, b"\n", &old].concat();
    }
    if !old.is_empty() && !old.ends_with(b"\n") {
        old.push(b'\n');
    }
    [old.as_slice(), line, b"\n"].concat()
}

/// Keeps a copy of the file as it is, if one is wanted.
fn keep(args: &Args, file: &Path) -> Result<(), CallError> {
    let Some(ending) = args.text("backup").filter(|_| args.flag("backup")) else {
        return Ok(());
    };
    if ending.contains('/') {
        return Err(CallError::Invocation("backup must be the ending of a name".to_owned()));
    }
    let mut name = file.as_os_str().to_owned();
    name.push(&ending);
    fs::copy(file, &name).map_err(|error| failed(&format!("Could not keep '{}'", file.display()), &error))?;
    Ok(())
}
