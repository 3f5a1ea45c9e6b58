//! What is asked and answered about keys.

use proto::ids::MinionId;

/// Which keys an operator means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySelection {
    /// Ids or shell-style patterns.
    pub globs: Vec<String>,
    /// Rejected keys count too.
    pub include_rejected: bool,
    /// Denied keys count too.
    pub include_denied: bool,
    /// Accepted keys count too (reject).
    pub include_accepted: bool,
    /// Only tell what would change.
    pub dry_run: bool,
}

/// Key ids by state, as `salt-key -L` groups them. Sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyLists {
    /// Accepted.
    pub accepted: Vec<MinionId>,
    /// Denied.
    pub denied: Vec<MinionId>,
    /// Pending.
    pub pending: Vec<MinionId>,
    /// Rejected.
    pub rejected: Vec<MinionId>,
    /// Those of them that have an RSA key: they speak Salt's wire.
    pub salt: Vec<MinionId>,
}

/// Fingerprints by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFingers {
    /// The master's own files and their fingerprints.
    pub local: Vec<(String, String)>,
    /// Directory (`minions`, `minions_pre`…), id, fingerprint.
    pub keys: Vec<(&'static str, MinionId, String)>,
}

/// Keys by state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPems {
    /// Directory (`minions`, `minions_pre`…), id, PEM text.
    pub keys: Vec<(&'static str, MinionId, String)>,
}
