//! Who is at the other end of a connection: the kernel says so, never the request.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use nix::unistd::geteuid;

use super::error::ApiError;
use crate::command::{Caller, CommandError, Origin};
use crate::unix::Peer;

/// The header in which root (or the master's own user) says for whom it acts: `sudo_alice`. From others it is ignored.
pub(super) const USER_HEADER: &str = "x-halite-user";

/// The longest user name that is taken from the header.
const MAX_USER: usize = 64;

/// Root, and the master's own user, may act for somebody.
fn may_name_another(peer: &Peer) -> bool {
    peer.uid == 0 || peer.uid == geteuid().as_raw()
}

/// The caller of a request.
pub(super) struct Who(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Who, ApiError> {
        let nobody = || CommandError::Internal("this connection has no peer".to_owned());
        let peer = parts.extensions.get::<Peer>().ok_or_else(nobody)?;
        let named = match parts.headers.get(USER_HEADER) {
            Some(header) if may_name_another(peer) => {
                let good = header.to_str().ok().filter(|name| is_user_name(name));
                Some(good.ok_or_else(|| ApiError::invalid(format!("{USER_HEADER} is not a user name")))?.to_owned())
            }
            _ => None,
        };
        let origin = Origin::Api { uid: peer.uid, pid: peer.pid };
        Ok(Who(Caller { user: named.unwrap_or_else(|| peer.user.clone()), origin }))
    }
}

fn is_user_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$' | '\\');
    (1..=MAX_USER).contains(&name.len()) && name.chars().all(good)
}
