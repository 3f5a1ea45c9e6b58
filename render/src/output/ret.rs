//! What `halite TARGET FUN` prints around the returns: headers, minions that did not return, the summary, the last line.
//!
//! Texts that Salt has are Salt's, letter for letter: scripts look for them.

use std::fmt::Write as _;
use std::time::Duration;

use crate::python;

use super::ago;

/// The line that separates headers and the parts of a summary.
const RULE: &str = "-------------------------------------------";

/// Printed on stdout when the target matches nobody.
pub const NO_MATCH: &str = "No minions matched the target. No command was sent, no jid was assigned.\n";

/// The last line on stderr when no return came; the exit code is 2.
pub const NO_RETURN: &str = "ERROR: No return received\n";

/// The last line on stderr when a minion failed or did not return; the exit code is 1.
pub const NON_ZERO: &str = "ERROR: Minions returned with non-zero exit code\n";

/// The line on stderr when a batch stops at the first failure.
pub const FAILHARD: &str = "[ERROR   ] Batch run stopped due to failhard\n";

/// Returns what stands in the place of a return that did not come in time.
///
/// `lookup` is the command that shows the job later: `salt-run jobs.lookup_jid <jid>` or `halite jobs show <jid>`.
pub fn no_response(lookup: &str) -> String {
    format!(
        "Minion did not return. [No response]\nThe minions may not have all finished running and any remaining minions \
         will return upon completion. To look up the return data for this job later, run the following \
         command:\n\n{lookup}"
    )
}

/// Returns what stands in the place of the return of a minion known to be down, with the time since it was last seen.
///
/// Begins as Salt's text does and says `Not connected` within the brackets, which is all that scripts look for.
pub fn not_connected(last_seen: Option<Duration>) -> String {
    match last_seen {
        Some(age) => format!("Minion did not return. [Not connected, last seen {}]", ago(age)),
        None => "Minion did not return. [Not connected]".to_owned(),
    }
}

/// Returns the words for a minion known to be down, for lists and progress: `not connected, last seen 3 min ago`.
pub fn down(last_seen: Option<Duration>) -> String {
    last_seen.map_or("not connected".to_owned(), |age| format!("not connected, last seen {}", ago(age)))
}

/// Returns the header of `--verbose`.
pub fn verbose_header(jid: &str) -> String {
    format!("Executing job with jid {jid}\n{RULE}\n\n")
}

/// Returns the line of `--show-jid`.
pub fn jid_line(jid: &str) -> String {
    format!("jid: {jid}\n")
}

/// Returns the line of `--async`.
pub fn async_line(jid: &str) -> String {
    format!("Executed command with job ID: {jid}\n")
}

/// Returns the header of one step of `--batch`.
pub fn batch_header(minions: &[&str]) -> String {
    let names: Vec<String> = minions.iter().map(|id| python::text_repr(id)).collect();
    format!("\nExecuting run on [{}]\n\n", names.join(", "))
}

/// Returns how far a job is, without a line end: `12 of 40 minions returned, 28 to go`.
pub fn progress(returned: usize, targeted: usize) -> String {
    let noun = if targeted == 1 { "minion" } else { "minions" };
    match targeted.saturating_sub(returned) {
        0 => format!("{returned} of {targeted} {noun} returned"),
        left => format!("{returned} of {targeted} {noun} returned, {left} to go"),
    }
}

/// How a job went, for `--summary`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many minions returned, well or not.
    pub returned: usize,
    /// Those that are known to be down.
    pub not_connected: Vec<String>,
    /// Those that did not answer in time.
    pub not_responding: Vec<String>,
    /// Those whose return code was not zero.
    pub failed: Vec<String>,
}

/// Whether a summary names minions or only counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Counts only.
    Counts,
    /// Counts and names, as `--verbose` asks.
    Names,
}

impl Summary {
    /// Returns the block printed under the returns.
    pub fn text(&self, detail: Detail) -> String {
        let missing = self.not_connected.len() + self.not_responding.len();
        let mut text = format!("\n\n{RULE}\nSummary\n{RULE}\n");
        let mut count = |what: &str, number: usize| {
            let _ = writeln!(text, "# of minions {what}: {number}");
        };
        count("targeted", self.returned + missing);
        count("returned", self.returned);
        count("that did not return", missing);
        count("with errors", self.failed.len());
        if detail == Detail::Names {
            self.add_names(&mut text);
        }
        text.push_str(RULE);
        text.push('\n');
        text
    }

    fn add_names(&self, text: &mut String) {
        let lists = [
            ("Minions not connected", &self.not_connected),
            ("Minions not responding", &self.not_responding),
            ("Minions with failures", &self.failed),
        ];
        for (title, names) in lists {
            if !names.is_empty() {
                let _ = writeln!(text, "{title}: {}", names.join(" "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::map;
    use proto::value::Value;

    use super::super::{Format, Style, render};
    use super::*;

    #[test]
    fn a_missing_minion_is_shown_as_salt_shows_it() {
        // recorded/targeting-jobs/dead-minion.txt and dead-minion-t2.txt
        let text = no_response("salt-run jobs.lookup_jid 20261121003409212881");
        let value = Value::from(map! { "m3" => text });
        let expected = "m3:
    Minion did not return. [No response]
    The minions may not have all finished running and any remaining minions will return upon completion. To look up the \
                        return data for this job later, run the following command:
    \n    salt-run jobs.lookup_jid 20261121003409212881
";
        assert_eq!(render(Format::Nested, &value, &Style::PLAIN), expected);
        assert_eq!(render(Format::NoReturn, &value, &Style::PLAIN), expected);
        let json = "{
    \"m3\": \"Minion did not return. [No response]\\nThe minions may not have all finished running and any remaining \
                    minions will return upon completion. To look up the return data for this job later, run the \
                    following command:\\n\\nsalt-run jobs.lookup_jid 20261121003409212881\"
}
";
        assert_eq!(render(Format::Json, &value, &Style::PLAIN), json);
        assert!(no_response("halite jobs show 7").ends_with("run the following command:\n\nhalite jobs show 7"));
    }

    #[test]
    fn a_minion_that_is_down_is_named_with_its_age() {
        let age = Some(Duration::from_secs(185));
        assert_eq!(not_connected(age), "Minion did not return. [Not connected, last seen 3 min ago]");
        assert_eq!(not_connected(None), "Minion did not return. [Not connected]");
        assert_eq!(down(age), "not connected, last seen 3 min ago");
        assert_eq!(down(None), "not connected");
    }

    #[test]
    fn headers_are_those_of_salt() {
        // recorded/targeting-jobs/verbose.txt, show-jid.txt, async.txt, batch-fail.txt
        let verbose = "Executing job with jid 20261121003327804095\n-------------------------------------------\n\n";
        assert_eq!(verbose_header("20261121003327804095"), verbose);
        assert_eq!(jid_line("20261121003329449220"), "jid: 20261121003329449220\n");
        assert_eq!(async_line("20261121003232784705"), "Executed command with job ID: 20261121003232784705\n");
        assert_eq!(batch_header(&["m2", "m3"]), "\nExecuting run on ['m2', 'm3']\n\n");
    }

    #[test]
    fn the_summary_is_that_of_salt() {
        // recorded/targeting-jobs/summary-missing.txt
        let summary = Summary { returned: 1, not_responding: vec!["zz".to_owned()], ..Summary::default() };
        let expected = "

-------------------------------------------
Summary
-------------------------------------------
# of minions targeted: 2
# of minions returned: 1
# of minions that did not return: 1
# of minions with errors: 0
-------------------------------------------
";
        assert_eq!(summary.text(Detail::Counts), expected);
    }

    #[test]
    fn a_verbose_summary_names_minions() {
        let names = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let summary = Summary {
            returned: 3,
            not_connected: names(&["m4"]),
            not_responding: names(&["m5", "m6"]),
            failed: names(&["m1"]),
        };
        let expected = "# of minions targeted: 6
# of minions returned: 3
# of minions that did not return: 3
# of minions with errors: 1
Minions not connected: m4
Minions not responding: m5 m6
Minions with failures: m1
-------------------------------------------
";
        assert!(summary.text(Detail::Names).ends_with(expected), "{}", summary.text(Detail::Names));
    }

    #[test]
    fn progress_counts_what_is_left() {
        assert_eq!(progress(12, 40), "12 of 40 minions returned, 28 to go");
        assert_eq!(progress(40, 40), "40 of 40 minions returned");
        assert_eq!(progress(0, 1), "0 of 1 minion returned, 1 to go");
        assert_eq!(progress(3, 2), "3 of 2 minions returned");
    }
}
