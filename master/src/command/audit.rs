//! Who asked for a change, from where, and whether it was allowed: told on the bus.

use proto::map;
use proto::tag::Tag;
use proto::value::{MapExt as _, Value};

use super::{Caller, Command, Door, KeySelection, Origin};

/// Which events of a connection to the event socket are told: an automation that fires a hundred thousand is named six
/// times, not with each of them.
fn is_told(nth: u64) -> bool {
    nth.checked_ilog10().is_some_and(|digits| nth == 10_u64.pow(digits))
}

impl Door {
    /// Tells the bus who asked for a change, from where, and whether it was allowed. Questions are not audited; of the
    /// events that a process may fire at the event socket, the 1st, 10th, 100th… are told.
    pub(super) fn audit(&self, caller: &Caller, command: &Command, allowed: bool) {
        let by_salt_client = matches!(caller.origin, Origin::SaltClient { .. });
        let found = audited(command).or_else(|| if by_salt_client { audited_of_salt(command) } else { None });
        let Some((name, what)) = found else { return };
        if matches!(command, Command::KeyAccept(keys) | Command::KeyDelete(keys) | Command::KeyReject(keys) if keys.dry_run)
        {
            return;
        }
        if let Origin::EventSocket { nth, .. } = caller.origin
            && allowed
            && !is_told(nth)
        {
            return;
        }
        let (origin, uid, pid) = match caller.origin {
            Origin::Api { uid, pid } => ("api", Value::from(uid), Value::from(pid)),
            Origin::EventSocket { uid, pid, .. } => ("event_socket", Value::from(uid), Value::from(pid)),
            Origin::Minion => ("minion", Value::Null, Value::Null),
            Origin::Reactor { .. } => ("reactor", Value::Null, Value::Null),
            Origin::SaltClient { .. } => ("salt", Value::Null, Value::Null),
        };
        let mut data = map! { "user" => caller.user.as_str(), "origin" => origin, "uid" => uid, "pid" => pid,
        "what" => what, "allowed" => allowed };
        match caller.origin {
            Origin::EventSocket { nth, .. } => data.set("nth", nth),
            Origin::SaltClient { addr } => data.set("addr", addr.to_string()),
            Origin::Api { .. } | Origin::Minion | Origin::Reactor { .. } => {}
        }
        self.rooms.bus.try_fire(Tag::audit(name), &data);
    }
}

/// Names what Salt's tools ask for besides: with the key of local clients, whoever reads it acts for anybody.
fn audited_of_salt(command: &Command) -> Option<(&'static str, Value)> {
    match command {
        Command::Publish(request) => Some(("publish", request.fun.clone())),
        Command::Run { fun, .. } => Some(("run", fun.as_str().into())),
        Command::Wheel { fun, .. } => Some(("wheel", fun.as_str().into())),
        _ => None,
    }
}

/// Names the commands that change something. Arguments stay out: they can be secrets. Jobs have their own `new` event.
fn audited(command: &Command) -> Option<(&'static str, Value)> {
    let globs = |selection: &KeySelection| Value::from(selection.globs.clone());
    match command {
        Command::KeyAccept(keys) => Some(("key.accept", globs(keys))),
        Command::KeyDelete(keys) => Some(("key.delete", globs(keys))),
        Command::KeyReject(keys) => Some(("key.reject", globs(keys))),
        Command::Compact => Some(("compact", Value::Null)),
        Command::CursorDelete(name) => Some(("cursor.delete", name.as_str().into())),
        Command::Fire { tag, .. } => Some(("fire", tag.as_str().into())),
        Command::ReactorAdd { tag, .. } => Some(("reactor.add", tag.as_str().into())),
        Command::ReactorDelete { tag } => Some(("reactor.delete", tag.as_str().into())),
        Command::Reload => Some(("reload", Value::Null)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_events_is_told_by_its_powers_of_ten() {
        let told: Vec<u64> = (0..=100_000).filter(|nth| is_told(*nth)).collect();
        assert_eq!(told, [1, 10, 100, 1_000, 10_000, 100_000]);
    }
}
