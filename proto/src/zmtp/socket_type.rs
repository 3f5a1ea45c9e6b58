//! The socket types of ZeroMQ, and which of them may talk to each other (RFC 23, "Socket Type").

use std::fmt;

/// A socket type, as named by the property `Socket-Type` of READY and INITIATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SocketType {
    /// Asynchronous requests.
    Dealer,
    /// Publications, one direction.
    Pub,
    /// Lock-step answers.
    Rep,
    /// Lock-step requests.
    Req,
    /// Answers by connection.
    Router,
    /// Subscriptions.
    Sub,
    /// PUB that hands subscriptions to its user.
    XPub,
    /// SUB whose user writes the subscriptions.
    XSub,
}

impl SocketType {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            SocketType::Dealer => "DEALER",
            SocketType::Pub => "PUB",
            SocketType::Rep => "REP",
            SocketType::Req => "REQ",
            SocketType::Router => "ROUTER",
            SocketType::Sub => "SUB",
            SocketType::XPub => "XPUB",
            SocketType::XSub => "XSUB",
        }
    }

    /// Returns the type with this name, if we know it.
    pub fn from_name(name: &[u8]) -> Option<SocketType> {
        use SocketType::*;
        [Dealer, Pub, Rep, Req, Router, Sub, XPub, XSub].into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Tells whether RFC 23 lets a socket of this type talk to `peer`.
    pub fn accepts(self, peer: SocketType) -> bool {
        use SocketType::*;
        match self {
            Dealer => matches!(peer, Router | Dealer | Rep),
            Pub | XPub => matches!(peer, Sub | XSub),
            Rep => matches!(peer, Req | Dealer),
            Req => matches!(peer, Rep | Router),
            Router => matches!(peer, Dealer | Req | Router),
            Sub | XSub => matches!(peer, Pub | XPub),
        }
    }

    /// Tells whether what this socket receives are subscriptions, not messages.
    pub(super) fn takes_subscriptions(self) -> bool {
        matches!(self, SocketType::Pub | SocketType::XPub)
    }

    /// Tells whether READY and INITIATE carry the property `Identity` for this type.
    pub(super) fn names_itself(self) -> bool {
        matches!(self, SocketType::Dealer | SocketType::Req | SocketType::Router)
    }
}

impl fmt::Display for SocketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_acceptance_is_mutual() {
        use SocketType::*;
        for kind in [Dealer, Pub, Rep, Req, Router, Sub, XPub, XSub] {
            assert_eq!(SocketType::from_name(kind.name().as_bytes()), Some(kind));
            for peer in [Dealer, Pub, Rep, Req, Router, Sub, XPub, XSub] {
                assert_eq!(kind.accepts(peer), peer.accepts(kind), "{kind} {peer}");
            }
        }
        assert_eq!(SocketType::from_name(b"dealer"), None);
        assert!(!Pub.accepts(Dealer));
    }
}
