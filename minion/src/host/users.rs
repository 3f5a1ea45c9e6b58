//! Whose rights this process has.

use nix::unistd::{Group, User, getegid, geteuid};

/// The user this process runs as. Names are empty for a number without a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Me {
    /// The user's number.
    pub uid: u32,
    /// The user's name.
    pub user: String,
    /// The group's number.
    pub gid: u32,
    /// The group's name.
    pub group: String,
}

/// Reads who this process runs as.
pub fn me() -> Me {
    let (uid, gid) = (geteuid(), getegid());
    let user = User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default();
    let group = Group::from_gid(gid).ok().flatten().map(|group| group.name).unwrap_or_default();
    Me { uid: uid.as_raw(), user, gid: gid.as_raw(), group }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_called_root() {
        let me = me();
        assert_eq!(me.uid == 0, me.user == "root");
    }
}
