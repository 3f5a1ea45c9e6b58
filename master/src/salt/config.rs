//! What the Salt listener is told.

use std::path::PathBuf;
use std::time::Duration;

use proto::salt::rsa::SigAlgo;
use proto::value::Map;
use zeroize::Zeroizing;

use super::vouch::PubKeySignature;

/// The options of the Salt listener, under Salt's own names.
#[derive(Clone)]
pub struct SaltConfig {
    /// The master's name (`id`).
    pub id: String,
    /// Where its RSA pair lies (`pki_dir`).
    pub pki_dir: PathBuf,
    /// Where its session keys lie (`cachedir`).
    pub cachedir: PathBuf,
    /// The bits of a new RSA pair (`keysize`, default 2048).
    pub keysize: u32,
    /// The passphrase of the RSA pair (`key_pass`, default none).
    pub key_pass: Option<Zeroizing<String>>,
    /// Who vouches for the pair (`master_sign_pubkey`, default nobody).
    pub pub_sig: Option<PubKeySignature>,
    /// The port that minions are told to subscribe to: the one that is open.
    pub publish_port: u16,
    /// How long session keys and the shared key live (`publish_session`, seconds, default 86,400; 0: for ever).
    pub key_life: Duration,
    /// How publications are signed (`publish_signing_algorithm`, default `PKCS1v15-SHA1`); not at all without
    /// `sign_pub_messages` (default on).
    pub signing: Option<SigAlgo>,
    /// Whether publications go out under topics (`zmq_filtering`, default off).
    pub filtering: bool,
    /// How old a request may be (`request_server_ttl`, seconds, default 0: as old as it likes).
    pub request_ttl: Duration,
    /// Whether the shared key is replaced when a minion loses its rights (`rotate_aes_key`, default on).
    pub rotate: bool,
    /// How often the drop file is looked for (`loop_interval`, seconds, default 60).
    pub look_every: Duration,
    /// Whether keys that are judged are told on the bus (`auth_events`, default on).
    pub auth_events: bool,
    /// Whether a minion may delete its own key (`allow_minion_key_revoke`, default off; Salt's default is on).
    pub revoke: bool,
    /// The whole configuration, with Salt's names: `_master_opts` tells minions some of it.
    pub opts: Map,
}

impl std::fmt::Debug for SaltConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration may hold passwords.
        f.debug_struct("SaltConfig").field("pki_dir", &self.pki_dir).finish_non_exhaustive()
    }
}
