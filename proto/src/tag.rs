//! Event tags: built and parsed here and nowhere else, and who may fire which (design §4).

use std::fmt;
use std::sync::Arc;

use crate::ids::{Jid, MinionId};

/// The longest tag, in bytes.
pub const MAX_TAG: usize = 4096;

/// The tag of an event: `a/b/c`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// Why a text is not a tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTag {
    /// It is empty or too long.
    #[error("an event tag has 1 to {MAX_TAG} bytes, this one has {0}")]
    Length(usize),
    /// It would break the one-line forms and terminals.
    #[error("an event tag must not contain control characters")]
    Control,
}

impl Tag {
    /// Checks a text: 1 to 4,096 bytes, no control characters.
    pub fn parse(text: &str) -> Result<Tag, BadTag> {
        if text.is_empty() || text.len() > MAX_TAG {
            return Err(BadTag::Length(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(BadTag::Control);
        }
        Ok(Tag(text.into()))
    }

    /// Returns the tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn make(text: String) -> Tag {
        Tag(text.into())
    }

    /// `salt/auth`: a minion's key was judged.
    pub fn auth() -> Tag {
        Tag::make("salt/auth".into())
    }

    /// `salt/key`: an operator changed a key's state.
    pub fn key() -> Tag {
        Tag::make("salt/key".into())
    }

    /// `key`: the key that Salt's minions share was replaced.
    pub fn rotated() -> Tag {
        Tag::make("key".into())
    }

    /// `minion/refresh/<id>`: a Salt minion told its grains and asked for its pillar.
    pub fn minion_refresh(id: &MinionId) -> Tag {
        Tag::make(format!("minion/refresh/{id}"))
    }

    /// `minion_start`: the old form of a minion's start.
    pub fn minion_start() -> Tag {
        Tag::make("minion_start".into())
    }

    /// `salt/minion/<id>/start`: a minion has started.
    pub fn started(id: &MinionId) -> Tag {
        Tag::make(format!("salt/minion/{id}/start"))
    }

    /// The bare jid that older Salt fires before a job.
    pub fn bare_jid(jid: &Jid) -> Tag {
        Tag::make(jid.as_str().to_owned())
    }

    /// `salt/job/<jid>/new`: a job was made.
    pub fn job_new(jid: &Jid) -> Tag {
        Tag::make(format!("salt/job/{jid}/new"))
    }

    /// `salt/job/<jid>/publish`: a job was published.
    pub fn job_publish(jid: &Jid) -> Tag {
        Tag::make(format!("salt/job/{jid}/publish"))
    }

    /// `salt/job/<jid>/ret/<id>`: a minion returned.
    pub fn job_ret(jid: &Jid, id: &MinionId) -> Tag {
        Tag::make(format!("salt/job/{jid}/ret/{id}"))
    }

    /// `salt/job/<jid>/sub/<id>/error/<fun>`: a state of a state run failed.
    pub fn job_error(jid: &Jid, id: &MinionId, fun: &str) -> Result<Tag, BadTag> {
        Tag::parse(&format!("salt/job/{jid}/sub/{id}/error/{fun}"))
    }

    /// `halite/job/<jid>/live`: until when minions may take a job.
    pub fn job_live(jid: &Jid) -> Tag {
        Tag::make(format!("halite/job/{jid}/live"))
    }

    /// `halite/job/<jid>/nomatch/<id>`: a recipient said that the job does not mean it after all.
    pub fn job_no_match(jid: &Jid, id: &MinionId) -> Tag {
        Tag::make(format!("halite/job/{jid}/nomatch/{id}"))
    }

    /// `halite/job/<jid>/syndic/<id>`: a syndic named its minions that a job is for.
    pub fn job_syndic(jid: &Jid, syndic: &MinionId) -> Tag {
        Tag::make(format!("halite/job/{jid}/syndic/{syndic}"))
    }

    /// `syndic/<id>/<tag>`: what happened below a syndic.
    pub fn below(syndic: &MinionId, tag: &str) -> Result<Tag, BadTag> {
        Tag::parse(&format!("syndic/{syndic}/{tag}"))
    }

    /// `salt/run/<jid>/new` or `salt/wheel/<jid>/new`.
    pub fn run_new(room: &str, jid: &Jid) -> Tag {
        Tag::make(format!("salt/{room}/{jid}/new"))
    }

    /// `salt/run/<jid>/ret` or `salt/wheel/<jid>/ret`.
    pub fn run_ret(room: &str, jid: &Jid) -> Tag {
        Tag::make(format!("salt/{room}/{jid}/ret"))
    }

    /// `salt/beacon/<id>/<beacon>/<suffix>`: a beacon fired. An empty suffix leaves the trailing slash, as Salt does.
    pub fn beacon(id: &MinionId, beacon: &str, suffix: &str) -> Result<Tag, BadTag> {
        Tag::parse(&format!("salt/beacon/{id}/{beacon}/{suffix}"))
    }

    /// `salt/minion/<id>/beacon_dropped`: a beacon fired more than it may, or missed something.
    pub fn beacon_dropped(id: &MinionId) -> Tag {
        Tag::make(format!("salt/minion/{id}/beacon_dropped"))
    }

    /// `salt/minion/<id>/beacon_error`: a beacon is wrong, or its looks fail.
    pub fn beacon_error(id: &MinionId) -> Tag {
        Tag::make(format!("salt/minion/{id}/beacon_error"))
    }

    /// `salt/presence/present`: who is connected.
    pub fn presence_present() -> Tag {
        Tag::make("salt/presence/present".into())
    }

    /// `salt/presence/change`: who came and went.
    pub fn presence_change() -> Tag {
        Tag::make("salt/presence/change".into())
    }

    /// `halite/minion/<id>/dropped`: a spool lost something to its limit.
    pub fn dropped(id: &MinionId) -> Tag {
        Tag::make(format!("halite/minion/{id}/dropped"))
    }

    /// `halite/minion/upgrade_refused`: a native key was not signed by the RSA key that is accepted for its id.
    pub fn upgrade_refused() -> Tag {
        Tag::make("halite/minion/upgrade_refused".into())
    }

    /// `halite/minion/duplicate`: two daemons claim one id.
    pub fn duplicate() -> Tag {
        Tag::make("halite/minion/duplicate".into())
    }

    /// `halite/minion/<id>/denied`: a minion fired a tag that is not its to fire.
    pub fn denied(id: &MinionId) -> Tag {
        Tag::make(format!("halite/minion/{id}/denied"))
    }

    /// `halite/config/rejected` or `halite/config/reloaded`.
    pub fn config(outcome: &str) -> Tag {
        Tag::make(format!("halite/config/{outcome}"))
    }

    /// `halite/bus/degraded` or `halite/bus/recovered`: the log cannot be written, or can be again.
    pub fn bus(state: &str) -> Tag {
        Tag::make(format!("halite/bus/{state}"))
    }

    /// `halite/reactor/<what>`: a guard rail or an error of the reactor.
    pub fn reactor(what: &str) -> Tag {
        Tag::make(format!("halite/reactor/{what}"))
    }

    /// `halite/audit/<command>`: somebody asked the master for something.
    pub fn audit(command: &str) -> Tag {
        Tag::make(format!("halite/audit/{command}"))
    }

    /// Returns the kind of event a tag stands for: ids and jids become `*`, and what follows its kind is left out.
    pub fn class(&self) -> String {
        let parts: Vec<&str> = self.0.split('/').collect();
        match parts.as_slice() {
            ["salt", "job", _, "ret" | "prog" | "start" | "sub", ..] => format!("salt/job/*/{}/*", parts[3]),
            ["salt", noun @ ("beacon" | "job" | "minion" | "run" | "state_result"), _, kind, ..] => {
                // The third part of the tag of a state's result is the minion's id.
                let kind = if *noun == "state_result" { "*" } else { kind };
                format!("salt/{noun}/*/{kind}")
            }
            ["halite", "job", _, kind] => format!("halite/job/*/{kind}"),
            ["halite", "job", _, kind, _] => format!("halite/job/*/{kind}/*"),
            ["halite", "minion", _, kind] => format!("halite/minion/*/{kind}"),
            [single] if Jid::parse(single).is_ok() => "<jid>".to_owned(),
            [first, second, _, ..] if !matches!(*first, "salt" | "halite") => format!("{first}/{second}/*"),
            _ => self.0.to_string(),
        }
    }

    /// Tells whether this minion may fire this tag (design §4, *Authority*).
    pub fn allowed_from(&self, id: &MinionId) -> bool {
        let parts: Vec<&str> = self.0.split('/').collect();
        let own = |part: &&str| *part == id.as_str();
        match parts.as_slice() {
            ["minion_start"] | ["salt", "engines", ..] => true,
            ["salt", "beacon" | "minion", id, _, ..] => own(id),
            ["salt", "job", _, "prog" | "start" | "sub", id, ..] => own(id),
            ["salt", "state_result", _, id, ..] => own(id),
            ["salt" | "halite" | "syndic" | "key"] | ["salt" | "halite" | "syndic", ..] => false,
            ["minion", "refresh", ..] => false,
            [single] => Jid::parse(single).is_err(),
            _ => true,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tag: &str, allowed: bool) {
        let id = MinionId::parse("web1").unwrap();
        assert_eq!(Tag::parse(tag).unwrap().allowed_from(&id), allowed, "{tag}");
    }

    #[test]
    fn a_minion_fires_only_what_is_its_own() {
        check("myco/mytag/success", true);
        check("minion_start", true);
        check("salt/minion/web1/start", true);
        check("salt/minion/web2/start", false);
        check("salt/minion/web1/beacon_error", true);
        check("salt/beacon/web1/load/", true);
        check("salt/beacon/web1", false);
        check("salt/beacon/web10/load/", false);
        check("salt/job/20261120235232821625/prog/web1/0", true);
        check("salt/job/20261120235232821625/ret/web1", false);
        check("salt/job/20261120235232821625/new", false);
        check("salt/state_result/20261120235232821625/web1/x", true);
        check("salt/engines/x", true);
        check("salt/auth", false);
        check("salt/key", false);
        check("salt", false);
        check("key", false);
        check("key/x", true);
        check("halite/minion/duplicate", false);
        check("syndic/x", false);
        check("minion/refresh/web1", false);
        check("20261120235232821625", false);
        check("20261120235232821625/x", true);
    }

    #[test]
    fn a_class_has_no_ids() {
        let check = |tag: &str, class: &str| assert_eq!(Tag::parse(tag).unwrap().class(), class);
        check("salt/beacon/web1/load/", "salt/beacon/*/load");
        check("salt/job/20261120235232821625/ret/web1", "salt/job/*/ret/*");
        check("salt/job/20261120235232821625/new", "salt/job/*/new");
        check("20261120235232821625", "<jid>");
        check("salt/auth", "salt/auth");
        check("halite/minion/web1/dropped", "halite/minion/*/dropped");
        check("halite/job/20261120235232821625/live", "halite/job/*/live");
        check("halite/job/20261120235232821625/nomatch/web1", "halite/job/*/nomatch/*");
        check("halite/bus/degraded", "halite/bus/degraded");
        check("myco/mytag/success/1", "myco/mytag/*");
        check("myco/mytag", "myco/mytag");
    }

    #[test]
    fn tags_that_break_a_line_are_refused() {
        assert_eq!(Tag::parse("a\tb"), Err(BadTag::Control));
        assert_eq!(Tag::parse(""), Err(BadTag::Length(0)));
        assert!(Tag::parse(&"a".repeat(MAX_TAG)).is_ok());
        assert!(Tag::parse(&"a".repeat(MAX_TAG + 1)).is_err());
    }
}
