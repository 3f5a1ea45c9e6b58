//! The Salt wire against a hand-driven minion made of `proto::salt`'s other half: real sockets on loopback, a real log.
