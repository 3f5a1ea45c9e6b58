//! Who may ask what, decided once, at the door.
//!
//! The API socket belongs to the master's user and group (mode 0660), so whoever reaches it was let in by the
//! administrator. Reading is for all of them; changing keys and the configuration is for root and the master's own
//! user. Reactions act with the master's rights.

use crate::command::{Caller, Command, CommandError, Origin};
use crate::cursors::Owner;

/// The rights of this master.
#[derive(Debug, Clone)]
pub struct Acl {
    /// The user id that the master runs as.
    pub own_uid: u32,
}

impl Acl {
    /// Returns whose cursors a caller may use.
    pub fn owner(&self, caller: &Caller) -> Owner {
        match caller.origin {
            Origin::Api { uid, .. } | Origin::EventSocket { uid, .. } if uid != 0 && uid != self.own_uid => {
                Owner::User(uid)
            }
            Origin::Api { .. }
            | Origin::EventSocket { .. }
            | Origin::Minion
            | Origin::Reactor { .. }
            | Origin::SaltClient { .. } => Owner::Anyone,
        }
    }

    /// Refuses what the caller may not do.
    pub fn check(&self, caller: &Caller, command: &Command) -> Result<(), CommandError> {
        let Some(what) = privileged(command) else { return Ok(()) };
        match caller.origin {
            // Who showed the key of local clients can read a file of the master's user.
            Origin::Reactor { .. } | Origin::SaltClient { .. } => Ok(()),
            // What it may publish and run was looked up where it asked; nothing else is asked in its name.
            Origin::Minion if matches!(command, Command::Publish(_) | Command::Run { .. }) => Ok(()),
            Origin::Minion => Err(CommandError::NotPermitted {
                user: caller.user.clone(),
                what,
                remedy: "a minion publishes jobs (peer) and runs runners (peer_run), and nothing else".into(),
            }),
            Origin::Api { uid, .. } | Origin::EventSocket { uid, .. } if uid == 0 || uid == self.own_uid => Ok(()),
            Origin::Api { .. } | Origin::EventSocket { .. } => Err(CommandError::NotPermitted {
                user: caller.user.clone(),
                what,
                remedy: "run the command as root or as the master's user".into(),
            }),
        }
    }
}

/// Names what a command does that not everybody may do.
fn privileged(command: &Command) -> Option<&'static str> {
    match command {
        Command::KeyAccept(_) | Command::KeyDelete(_) | Command::KeyReject(_) => Some("change keys"),
        Command::ReactorAdd { .. } | Command::ReactorDelete { .. } => Some("change the reactor's rules"),
        Command::Compact => Some("compact the store"),
        Command::Reload => Some("reload the configuration"),
        Command::Fire { .. } => Some("fire events as the master"),
        Command::Run { .. } | Command::Wheel { .. } => Some("run functions on the master"),
        Command::Publish(_) => Some("publish jobs"),
        // A cursor is its reader's; whose it is, is checked where it is kept.
        Command::CursorAdvance { .. }
        | Command::CursorDelete(_)
        | Command::CursorList
        | Command::CursorTakeUp { .. }
        | Command::EventStats
        | Command::Events(_)
        | Command::Grains(_)
        | Command::Matching(_)
        | Command::JobShow(_)
        | Command::JobsActive
        | Command::JobsList(_)
        | Command::KeyFinger(_)
        | Command::KeyList
        | Command::KeyPrint(_)
        | Command::Minions
        | Command::OffsetAt(_)
        | Command::ReactorList
        | Command::ReactorShow
        | Command::ReactorTest { .. }
        | Command::Status => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uid: u32, command: &Command) -> bool {
        let caller = Caller { user: "alice".into(), origin: Origin::Api { uid, pid: None } };
        Acl { own_uid: 500 }.check(&caller, command).is_ok()
    }

    #[test]
    fn the_event_socket_gives_no_more_rights_than_the_api() {
        let fire = Command::Fire { tag: "a/b".into(), data: proto::value::Map::new() };
        for (uid, allowed) in [(0, true), (500, true), (1000, false)] {
            let caller = Caller { user: "alice".into(), origin: Origin::EventSocket { uid, pid: None, nth: 1 } };
            assert_eq!(Acl { own_uid: 500 }.check(&caller, &fire).is_ok(), allowed, "{uid}");
        }
    }

    #[test]
    fn only_root_and_the_masters_user_change_things() {
        for uid in [0, 500] {
            assert!(check(uid, &Command::Reload));
        }
        assert!(!check(1000, &Command::Reload));
        assert!(check(1000, &Command::KeyList));
    }
}
