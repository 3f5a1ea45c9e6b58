//! What the demonstration prints: steps, the bus line by line, and how to go on by hand. Under `--json` only the report
//! goes to stdout; the steps then go to stderr.

use std::io::{IsTerminal as _, Write as _};

use render::output::clean;
use serde_json::Value as Json;

use crate::api::events::EventView;
use crate::fleet::Site;

/// How much of an event's data fits on its line, in characters.
const DATA_WIDTH: usize = 150;

/// The printer: cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Show {
    json: bool,
    colour: bool,
}

impl Show {
    pub(super) fn new(json: bool, no_color: bool) -> Show {
        let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let unwanted = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Show { json, colour: terminal && !unwanted }
    }

    /// Says what happens next.
    pub(super) fn step(&self, text: &str) {
        self.line(&self.paint("1", &format!("==> {text}")));
    }

    /// Adds a detail.
    pub(super) fn note(&self, text: &str) {
        self.line(&format!("    {text}"));
    }

    /// Shows one event of the bus.
    pub(super) fn event(&self, event: &EventView) {
        let stamp = event.data["_stamp"].as_str().and_then(|stamp| stamp.get(11..19)).unwrap_or("--------");
        let colour = match event.tag.split('/').nth(1) {
            Some("beacon") => "33",
            Some("job") => "36",
            Some("auth" | "key") => "35",
            _ => "32",
        };
        let tag = self.paint(colour, &clean(&event.tag));
        self.line(&format!("    {stamp}  {tag}  {}", summary(&event.data)));
    }

    /// Says how to go on by hand.
    pub(super) fn by_hand(&self, site: &Site) {
        self.step("The fleet runs until you press Ctrl-C. In another terminal:");
        let halite = site.binaries().halite.display();
        self.note(&format!("export HALITE_CONFIG_DIR={}", site.confdir("master").display()));
        for command in
            ["'*' test.ping", "edge1 cmd.run 'uname -a'", "key list", "minions", "events", "jobs list", "doctor"]
        {
            self.note(&format!("{halite} {command}"));
        }
    }

    /// Prints the counts.
    pub(super) fn report(&self, report: &Json) {
        if self.json {
            // Whoever closed the pipe does not want the report.
            let _ = writeln!(std::io::stdout(), "{report}");
            return;
        }
        self.step("What happened");
        let beacons = &report["beacon_events"];
        let sh = if beacons["sh"].is_null() { "not permitted here".to_owned() } else { beacons["sh"].to_string() };
        self.note(&format!("beacon events: load {}, memusage {}, sh {sh}", beacons["load"], beacons["memusage"]));
        self.note(&format!(
            "reactions {}, jobs {}, returns {}",
            report["reactions"], report["jobs"], report["returns"]
        ));
        self.note(&format!("acknowledged events missing in the log: {}", report["lost"]));
    }

    fn line(&self, text: &str) {
        // A closed pipe must not end the demonstration before its processes have been stopped.
        let _ = if self.json { writeln!(std::io::stderr(), "{text}") } else { writeln!(std::io::stdout(), "{text}") };
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Shows an event's data on the rest of a line: no stamp, no key material, no control characters.
fn summary(data: &Json) -> String {
    let Some(map) = data.as_object() else { return String::new() };
    let mut shown = map.clone();
    shown.retain(|name, _| name != "_stamp" && name != "pub");
    let text = Json::Object(shown).to_string();
    let text = clean(&text);
    match text.char_indices().nth(DATA_WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}
