//! What no two runs have in common is made equal: ids of jobs, stamps, places, fingerprints, numbers of processes, the
//! order in which minions answer, and what Python alone has to say.

use std::sync::OnceLock;

use regex::Regex;

/// What is replaced, in this order, and by what.
const PATTERNS: &[(&str, &str)] = &[
    // Salt's own complaints about itself.
    (r"(?m)^(\[WARNING \] |# \[WARNING \] )?unclosed .*\n", ""),
    // The frames of a traceback; what was raised stays.
    (r"Traceback \(most recent call last\):\n(?:[ ]*File .*\n(?:[ ]+.*\n)*?)+(?P<end>[ ]*[A-Za-z]+: )", "$end"),
    (r"exception: +(?P<kind>[A-Z])", "exception: $kind"),
    (r"20\d{18}", "JID"),
    (r"\d{4}, [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d\.\d{6}", "STARTED"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(\+00:00)?", "STAMP"),
    (r"(?:[0-9a-f]{2}:){31}[0-9a-f]{2}", "FINGERPRINT"),
    (r#""(?P<key>pid|m\d)": \d+"#, "\"$key\": PID"),
    (r#""ts": \d+"#, "\"ts\": TIME"),
    (r#""key": "[A-Za-z0-9+/=]{40,}""#, "\"key\": KEY"),
    (r"/opt/salt-lab/lab/m/(?P<id>m\d)/etc", "DIR/$id"),
    (r"/opt/salt-lab(/lab[A-Z]?\b)?", "DIR"),
    (r"last seen [^]]+", "last seen AGO"),
    // `cmd.run` takes the shell of whoever started the minion.
    (r"/bin/(ba|da)?sh: (line )?1: True: (command )?not found", "SHELL: True: not found"),
];

fn patterns() -> &'static [(Regex, &'static str)] {
    static COMPILED: OnceLock<Vec<(Regex, &'static str)>> = OnceLock::new();
    COMPILED.get_or_init(|| PATTERNS.iter().map(|(regex, with)| (Regex::new(regex).unwrap(), *with)).collect())
}

/// Makes a text comparable; `dir` is where this fleet lies.
pub(super) fn normal(text: &str, dir: &str) -> String {
    let text = text.replace(dir, "DIR");
    let text = patterns().iter().fold(text, |text, (regex, with)| regex.replace_all(&text, *with).into_owned());
    by_minion(&text)
}

/// Sorts what minions returned: each text of one minion, and each document.
fn by_minion(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let documents = lines.iter().filter(|line| **line == "{").count() > 1;
    let mut out: Vec<String> = Vec::new();
    let mut run = Run::default();
    for line in lines {
        if run.continues(line, documents) {
            run.extend(line);
        } else if begins(line, documents) {
            run.begin(line, &mut out);
        } else {
            run.flush(&mut out);
            out.push(line.to_owned());
        }
    }
    run.flush(&mut out);
    out.iter().map(|line| format!("{line}\n")).collect()
}

/// Tells whether a line begins what one minion returned, in one of the layouts.
fn begins(line: &str, documents: bool) -> bool {
    static BEGINS: OnceLock<Regex> = OnceLock::new();
    let begins = BEGINS.get_or_init(|| Regex::new(r#"^(m\d|zz|ghost):|^\{['"]m\d|^ +"m\d"(: |,|$)"#).unwrap());
    if documents { line == "{" } else { begins.is_match(line) }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What minions returned, one after the other.
#[derive(Default)]
struct Run {
    indent: usize,
    blocks: Vec<String>,
}

impl Run {
    fn continues(&self, line: &str, documents: bool) -> bool {
        if self.blocks.is_empty() {
            return false;
        }
        let closes = (documents || self.indent > 0) && line.trim_start().starts_with(['}', ']']);
        indent(line) > self.indent || (indent(line) == self.indent && closes)
    }

    fn begin(&mut self, line: &str, out: &mut Vec<String>) {
        if indent(line) != self.indent {
            self.flush(out);
        }
        self.indent = indent(line);
        self.blocks.push(line.to_owned());
    }

    fn extend(&mut self, line: &str) {
        if let Some(last) = self.blocks.last_mut() {
            last.push('\n');
            last.push_str(line);
        }
    }

    /// The last one of a list has no comma behind it, whoever that is.
    fn flush(&mut self, out: &mut Vec<String>) {
        self.blocks.iter_mut().for_each(|block| block.truncate(block.trim_end_matches(',').len()));
        self.blocks.sort();
        out.append(&mut self.blocks);
    }
}

#[test]
fn what_differs_from_run_to_run_is_made_equal() {
    let check = |text: &str, expected: &str| assert_eq!(normal(text, "/tmp/x"), expected);
    check("m2: True\nm1: True\n", "m1: True\nm2: True\n");
    check("m2:\n    True\nm1:\n    False\n\n---\n", "m1:\n    False\nm2:\n    True\n\n---\n");
    check("{\n    \"m2\": true\n}\n{\n    \"m1\": true\n}\n", "{\n    \"m1\": true\n}\n{\n    \"m2\": true\n}\n");
    check("{\n    \"m2\": true,\n    \"m1\": true\n}\n", "{\n    \"m1\": true\n    \"m2\": true\n}\n");
    check("/bin/sh: 1: True: not found\n", "SHELL: True: not found\n");
    check("/bin/bash: line 1: True: command not found\n", "SHELL: True: not found\n");
    check("jid: 20261121003329449220 in /tmp/x/a\n", "jid: JID in DIR/a\n");
    let nested = "{\n    \"R\": {\n        \"m2\": {\n            \"a\": 1\n        },\n        \"m1\": {\n            \"a\": 1\n        }\n    }\n}\n";
    let sorted = "{\n    \"R\": {\n        \"m1\": {\n            \"a\": 1\n        }\n        \"m2\": {\n            \"a\": 1\n        }\n    }\n}\n";
    check(nested, sorted);
    let raised = "exception: Traceback (most recent call last):\n      File \"a.py\", line 1, in f\n        raise X\n              ^\n    ValueError: bad\n";
    check(raised, "exception: ValueError: bad\n");
}
