//! The names of uids, remembered for a while: a busy session runs many commands, and a look-up may ask a directory
//! server.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use nix::unistd::{Uid, User};

/// How long a name is believed.
const KEEP: Duration = Duration::from_secs(60);

/// Names remembered; beyond that all are forgotten.
const MAX_NAMES: usize = 1024;

/// A cache of user names.
#[derive(Debug, Default)]
pub(super) struct Users {
    names: HashMap<u32, String>,
    since: Option<Instant>,
}

impl Users {
    /// Returns the name of `uid`, or the number if nobody has it.
    pub(super) fn name(&mut self, uid: u32) -> String {
        let now = Instant::now();
        let stale = self.since.is_none_or(|since| now.duration_since(since) > KEEP);
        if stale || self.names.len() >= MAX_NAMES {
            self.names.clear();
            self.since = Some(now);
        }
        self.names.entry(uid).or_insert_with(|| look_up(uid)).clone()
    }
}

fn look_up(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => uid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_stranger_a_number() {
        let mut users = Users::default();
        assert_eq!(users.name(0), "root");
        assert_eq!(users.name(3_999_999_999), "3999999999");
    }
}
