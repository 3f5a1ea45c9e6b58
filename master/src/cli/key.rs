//! `halite key`: who is trusted. The layouts and texts are those of `salt-key`.

use std::io::{self, Write as _};

use proto::map;
use proto::value::{Map, Value};
use render::output::Format;

use super::exit::{self, Usage};
use super::globals::{Face, Globals};
use super::out::{Out, tell};
use crate::api::client::Client;
use crate::api::keys::{FingersView, KeyRequest, KeysView};

/// List, accept, reject, delete minion keys; print them and their fingerprints
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  halite key list
  halite key finger web1
  halite key accept web1 'db*'
  halite key delete -y old.example.com")]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(super) verb: KeyVerb,
}

/// What to do with keys.
#[derive(Debug, Clone, PartialEq, Eq, clap::Subcommand)]
pub(super) enum KeyVerb {
    /// Accept pending keys: their minions may connect
    #[command(after_help = "Example:\n  halite key accept 'web*'")]
    Accept(Selection),
    /// Delete keys: their minions start anew, as pending
    #[command(after_help = "Example:\n  halite key delete -y web1")]
    Delete(Selection),
    /// Show fingerprints
    #[command(after_help = "Example:\n  halite key finger web1")]
    Finger {
        /// Ids or shell-style patterns [default: all]
        #[arg(value_name = "GLOB")]
        globs: Vec<String>,
    },
    /// List keys by state
    #[command(after_help = "Example:\n  halite key list pending --out json")]
    List {
        /// Only keys in this state: accepted, denied, pending, rejected
        #[arg(value_name = "STATE", value_parser = KeyState::parse)]
        state: Option<KeyState>,
    },
    /// Print keys
    #[command(after_help = "Example:\n  halite key print web1")]
    Print {
        /// Ids or shell-style patterns [default: all]
        #[arg(value_name = "GLOB")]
        globs: Vec<String>,
    },
    /// Reject pending keys: their minions are turned away
    #[command(after_help = "Example:\n  halite key reject 'rogue*'")]
    Reject(Selection),
}

/// Which keys, and how to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Selection {
    /// Ids or shell-style patterns
    #[arg(value_name = "GLOB", required_unless_present = "all")]
    pub(super) globs: Vec<String>,
    /// All keys that can be meant
    #[arg(short = 'A', long, conflicts_with = "globs")]
    pub(super) all: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Accepted keys count too (reject)
    #[arg(long)]
    pub(super) include_accepted: bool,
    /// Denied keys count too
    #[arg(long)]
    pub(super) include_denied: bool,
    /// Rejected keys count too (accept)
    #[arg(long)]
    pub(super) include_rejected: bool,
    /// Show what would change, change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// A state of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyState {
    Accepted,
    Denied,
    Pending,
    Rejected,
}

impl KeyState {
    /// Reads a state by Salt's names or ours.
    pub(super) fn parse(name: &str) -> Result<KeyState, String> {
        match name {
            "acc" | "accepted" => Ok(KeyState::Accepted),
            "den" | "denied" => Ok(KeyState::Denied),
            "pre" | "un" | "unaccepted" | "pending" => Ok(KeyState::Pending),
            "rej" | "rejected" => Ok(KeyState::Rejected),
            _ => Err("known are accepted, denied, pending, rejected".to_owned()),
        }
    }

    /// Returns the name of its directory, which is what outputters know it by.
    fn directory(self) -> &'static str {
        match self {
            KeyState::Accepted => "minions",
            KeyState::Denied => "minions_denied",
            KeyState::Pending => "minions_pre",
            KeyState::Rejected => "minions_rejected",
        }
    }

    fn word(self) -> &'static str {
        match self {
            KeyState::Accepted => "accepted",
            KeyState::Denied => "denied",
            KeyState::Pending => "unaccepted",
            KeyState::Rejected => "rejected",
        }
    }

    fn of(self, keys: &KeysView) -> &[String] {
        match self {
            KeyState::Accepted => &keys.accepted,
            KeyState::Denied => &keys.denied,
            KeyState::Pending => &keys.pending,
            KeyState::Rejected => &keys.rejected,
        }
    }
}

/// The order in which `salt-key -L --out json` has them.
const STATES: [KeyState; 4] = [KeyState::Pending, KeyState::Rejected, KeyState::Accepted, KeyState::Denied];

/// Does what the verb says.
pub(super) async fn run(globals: &Globals, args: &KeyArgs) -> anyhow::Result<u8> {
    let mut out = Out::open(globals)?;
    let client = globals.client()?;
    match &args.verb {
        KeyVerb::Accept(selection) => change(&client, &mut out, Change::Accept, selection, globals.face).await,
        KeyVerb::Delete(selection) => change(&client, &mut out, Change::Delete, selection, globals.face).await,
        KeyVerb::Finger { globs } => show(&client, &mut out, globs, Shown::Fingerprints, globals.face).await,
        KeyVerb::List { state } => {
            let mut keys = client.keys().await?;
            if globals.face == Face::Halite && out.format().is_none() {
                name_wires(&mut keys);
            }
            out.value(Format::Key, &by_state(&keys, |candidate| state.is_none_or(|state| state == candidate)))?;
            Ok(exit::OK)
        }
        KeyVerb::Print { globs } => show(&client, &mut out, globs, Shown::Keys, globals.face).await,
        KeyVerb::Reject(selection) => change(&client, &mut out, Change::Reject, selection, globals.face).await,
    }
}

/// Adds to each id the wire that its key speaks, where there are two of them. For people: an outputter gets bare ids.
fn name_wires(keys: &mut KeysView) {
    if keys.salt.is_empty() {
        return;
    }
    let KeysView { accepted, denied, pending, rejected, salt } = keys;
    for id in [accepted, denied, pending, rejected].into_iter().flatten() {
        let wire = if salt.contains(id) { "salt" } else { "native" };
        *id = format!("{id} ({wire})");
    }
}

/// Returns keys as the outputters take them: by state directory, the states that are wanted.
fn by_state(keys: &KeysView, wanted: impl Fn(KeyState) -> bool) -> Value {
    let states = STATES.into_iter().filter(|state| wanted(*state));
    states.map(|state| (state.directory().into(), state.of(keys).to_vec().into())).collect::<Map>().into()
}

/// What is shown of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Fingerprints,
    Keys,
}

async fn show(client: &Client, out: &mut Out, globs: &[String], what: Shown, face: Face) -> anyhow::Result<u8> {
    let globs = if globs.is_empty() { vec!["*".to_owned()] } else { globs.to_vec() };
    let is_all = globs.iter().any(|glob| glob == "*");
    let request = KeyRequest { r#match: globs, ..KeyRequest::default() };
    let fingers = match what {
        Shown::Fingerprints => client.fingers(&request).await?,
        Shown::Keys => client.pems(&request).await?,
    };
    let shown = fingers_value(&fingers, is_all);
    if shown.as_map().is_none_or(Map::is_empty) {
        out.text(&no_match(&request.r#match, &["accepted", "denied", "unaccepted", "rejected"]))?;
        return Ok(nothing_matched(face));
    }
    out.value(Format::Key, &shown)?;
    Ok(exit::OK)
}

/// Salt says so and is content; a script of ours learns that nothing was there.
fn nothing_matched(face: Face) -> u8 {
    if face == Face::Halite { exit::NO_MATCH } else { exit::OK }
}

fn fingers_value(fingers: &FingersView, with_local: bool) -> Value {
    let prints = |prints: &std::collections::BTreeMap<String, String>| -> Value {
        prints.iter().map(|(id, print)| (id.as_str().into(), print.as_str().into())).collect::<Map>().into()
    };
    let mut shown = Map::new();
    if with_local && !fingers.local.is_empty() {
        shown.insert("local".into(), prints(&fingers.local));
    }
    shown.extend(fingers.keys.iter().map(|(state, keys)| (state.as_str().into(), prints(keys))));
    shown.into()
}

/// A change of state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Accept,
    Delete,
    Reject,
}

impl Change {
    /// Returns its name in the API.
    fn action(self) -> &'static str {
        match self {
            Change::Accept => "accept",
            Change::Delete => "delete",
            Change::Reject => "reject",
        }
    }

    /// Returns what has happened to a key then.
    fn past(self) -> &'static str {
        match self {
            Change::Accept => "accepted",
            Change::Delete => "deleted",
            Change::Reject => "rejected",
        }
    }

    /// Returns the question and whether an empty answer means yes.
    fn question(self) -> (&'static str, bool) {
        match self {
            Change::Accept | Change::Reject => ("Proceed? [n/Y] ", true),
            Change::Delete => ("Proceed? [N/y] ", false),
        }
    }

    /// Returns the states whose keys it can change.
    fn states(self, selection: &Selection) -> Vec<&'static str> {
        let candidates = match self {
            Change::Accept => [
                (false, KeyState::Accepted),
                (selection.include_denied, KeyState::Denied),
                (true, KeyState::Pending),
                (selection.include_rejected, KeyState::Rejected),
            ],
            Change::Delete => [
                (true, KeyState::Accepted),
                (true, KeyState::Denied),
                (true, KeyState::Pending),
                (true, KeyState::Rejected),
            ],
            Change::Reject => [
                (selection.include_accepted, KeyState::Accepted),
                (selection.include_denied, KeyState::Denied),
                (true, KeyState::Pending),
                (false, KeyState::Rejected),
            ],
        };
        candidates.into_iter().filter(|(counts, _)| *counts).map(|(_, state)| state.word()).collect()
    }
}

async fn change(
    client: &Client,
    out: &mut Out,
    change: Change,
    selection: &Selection,
    face: Face,
) -> anyhow::Result<u8> {
    let mut request = request(selection);
    let would = client.change_keys(change.action(), &request).await?;
    let shown = by_state(&would, |state| !state.of(&would).is_empty());
    if shown.as_map().is_none_or(Map::is_empty) {
        out.text(&no_match(&request.r#match, &change.states(selection)))?;
        return Ok(nothing_matched(face));
    }
    let for_people = out.format().is_none();
    if for_people {
        out.text(&format!("The following keys are going to be {}:\n", change.past()))?;
        out.value(Format::Key, &shown)?;
    }
    if selection.dry_run {
        if !for_people {
            out.value(Format::Key, &shown)?;
        }
        return Ok(exit::OK);
    }
    if !selection.yes && !agreed(&asking(change, &would, for_people), for_people, change.question().1).await? {
        return Ok(exit::FAILED);
    }
    request.dry_run = false;
    let changed = client.change_keys(change.action(), &request).await?;
    let ids: Vec<&str> = STATES.iter().flat_map(|state| state.of(&changed)).map(String::as_str).collect();
    if for_people {
        let lines: String = ids.iter().map(|id| format!("Key for minion {id} {}.\n", change.past())).collect();
        out.text(&lines)?;
    } else {
        out.value(Format::Key, &map! { change.past() => ids }.into())?;
    }
    Ok(exit::OK)
}

/// Returns the request that changes nothing yet.
fn request(selection: &Selection) -> KeyRequest {
    KeyRequest {
        r#match: if selection.all { vec!["*".to_owned()] } else { selection.globs.clone() },
        include_accepted: selection.include_accepted,
        include_denied: selection.include_denied,
        include_rejected: selection.include_rejected,
        dry_run: true,
    }
}

/// Says that no key is meant: `The key glob 'x' does not match any unaccepted keys.`
fn no_match(globs: &[String], states: &[&str]) -> String {
    let quoted: Vec<String> = globs.iter().map(|glob| format!("'{glob}'")).collect();
    let states = match states {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} or {last}", all.join(", ")),
    };
    match quoted.as_slice() {
        [one] => format!("The key glob {one} does not match any {states} keys.\n"),
        _ => format!("The key globs {} do not match any {states} keys.\n", quoted.join(", ")),
    }
}

/// Returns the question. With an outputter the keys were not shown yet, and stdout is for one document alone.
fn asking(change: Change, would: &KeysView, for_people: bool) -> String {
    let question = change.question().0;
    if for_people {
        return question.to_owned();
    }
    let ids: Vec<&str> = STATES.iter().flat_map(|state| state.of(would)).map(String::as_str).collect();
    format!("The following keys are going to be {}: {}\n{question}", change.past(), ids.join(", "))
}

/// Asks on the terminal (or reads the answer from a pipe).
async fn agreed(question: &str, for_people: bool, default: bool) -> anyhow::Result<bool> {
    if for_people {
        let mut stdout = io::stdout();
        stdout.write_all(question.as_bytes())?;
        stdout.flush()?;
    } else {
        tell(question);
    }
    let line = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|length| (length, line))
    });
    let (length, line) = line.await??;
    if length == 0 {
        tell("\n");
        return Err(Usage("there is nobody to ask: give -y to go ahead".to_owned()).into());
    }
    Ok(match line.trim().to_ascii_lowercase().as_str() {
        "" => default,
        answer => answer.starts_with('y'),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_match_names_the_states_that_count() {
        // recorded/events/key-accept-m2-missing.txt
        let globs = vec!["nosuch".to_owned()];
        let check = |change: Change, selection: &Selection, expected: &str| {
            assert_eq!(
                no_match(&globs, &change.states(selection)),
                format!("The key glob 'nosuch' does not match any {expected} keys.\n")
            );
        };
        check(Change::Accept, &Selection::default(), "unaccepted");
        let wide = Selection { include_rejected: true, include_denied: true, ..Selection::default() };
        check(Change::Accept, &wide, "denied, unaccepted or rejected");
        check(Change::Reject, &Selection::default(), "unaccepted");
        check(Change::Delete, &Selection::default(), "accepted, denied, unaccepted or rejected");
    }

    #[test]
    fn wires_are_named_where_there_are_two() {
        let list = |salt: &[&str]| {
            let texts = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            let mut keys = KeysView { accepted: texts(&["m1", "s1"]), salt: texts(salt), ..KeysView::default() };
            name_wires(&mut keys);
            keys.accepted
        };
        assert_eq!(list(&[]), ["m1", "s1"]);
        assert_eq!(list(&["s1"]), ["m1 (native)", "s1 (salt)"]);
    }

    #[test]
    fn a_question_beside_a_document_names_the_keys() {
        let would = KeysView { pending: vec!["m1".to_owned(), "m2".to_owned()], ..KeysView::default() };
        assert_eq!(asking(Change::Accept, &would, true), "Proceed? [n/Y] ");
        assert_eq!(
            asking(Change::Accept, &would, false),
            "The following keys are going to be accepted: m1, m2\nProceed? [n/Y] "
        );
    }
}
