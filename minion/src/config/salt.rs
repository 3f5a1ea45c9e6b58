//! `wire: salt`: the options of Salt's wire, under Salt's names and with Salt's defaults.

use std::time::Duration;

use proto::ids::Fingerprint;
use proto::salt::rsa::{EncAlgo, MAX_BITS, MIN_BITS, SigAlgo};
use proto::value::Value;

use super::reader::{OptionError, Reader};
use super::{port, seconds};
use crate::link::salt::Patience;

/// Which master this minion speaks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// A Halite master.
    Native,
    /// A Salt master.
    Salt(Box<SaltOptions>),
}

/// What can be configured about Salt's wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaltOptions {
    /// `encryption_algorithm`: how the master seals keys for this minion: `OAEP-SHA1` or `OAEP-SHA224`. Default: `OAEP-SHA1`.
    pub enc_algo: EncAlgo,
    /// `master_finger`: Salt's fingerprint of the master's key. Default: the first key seen is pinned.
    pub finger: Option<Fingerprint>,
    /// `zmq_filtering`: whether the master sends publications by topic. Default: False.
    pub filtering: bool,
    /// `keysize`: how large the key pair is that is made at the first start, in bits. Default: 2048.
    pub key_bits: u32,
    /// `acceptance_wait_time` (10), `acceptance_wait_time_max` (0: it does not double), `auth_timeout` (5),
    /// `request_channel_timeout` (60), all in seconds, and `request_channel_tries` (3).
    pub patience: Patience,
    /// `ping_interval`: how often the master hears that this minion lives, in minutes. Default: 0, never.
    pub ping: Option<Duration>,
    /// `publish_port`, if the files have one: else the master says it.
    pub publish_port: Option<u16>,
    /// `signing_algorithm`: how the master signs: `PKCS1v15-SHA1` or `PKCS1v15-SHA224`. Default: `PKCS1v15-SHA1`.
    pub sig_algo: SigAlgo,
    /// `verify_master_pubkey_sign`, `master_sign_key_name`: the key that must vouch for the master's. Default: none;
    /// `master_sign` if it is turned on.
    pub sign_key: Option<String>,
    /// `sign_pub_messages`: whether each publication must be signed by the master. Default: False.
    pub signed_publications: bool,
}

/// Options that count with `wire: salt` alone.
pub const ONLY: &[&str] = &[
    "acceptance_wait_time",
    "acceptance_wait_time_max",
    "auth_timeout",
    "encryption_algorithm",
    "keysize",
    "master_sign_key_name",
    "ping_interval",
    "request_channel_timeout",
    "request_channel_tries",
    "sign_pub_messages",
    "signing_algorithm",
    "verify_master_pubkey_sign",
    "zmq_filtering",
];

const DAY_S: u64 = 86_400;

/// Reads `wire` and what belongs to it.
pub(super) fn wire(reader: &Reader<'_>) -> Result<Wire, OptionError> {
    match reader.text("wire")?.as_deref() {
        None | Some("native") => Ok(Wire::Native),
        Some("salt") => Ok(Wire::Salt(Box::new(options(reader)?))),
        Some(other) => Err(reader.wrong("wire", "native or salt", &other.into())),
    }
}

fn options(reader: &Reader<'_>) -> Result<SaltOptions, OptionError> {
    let seconds = |option, default| Ok(seconds(reader.number(option, 1, DAY_S)?, default));
    let patience = Patience {
        acceptance: seconds("acceptance_wait_time", 10)?,
        acceptance_max: Duration::from_secs(reader.number("acceptance_wait_time_max", 0, DAY_S)?.unwrap_or(0)),
        auth: seconds("auth_timeout", 5)?,
        request: seconds("request_channel_timeout", 60)?,
        tries: small(reader.number("request_channel_tries", 1, 100)?, 3),
    };
    let minutes = reader.number("ping_interval", 0, DAY_S)?.unwrap_or(0);
    Ok(SaltOptions {
        enc_algo: algorithm(reader, "encryption_algorithm", EncAlgo::OaepSha1, EncAlgo::parse)?,
        finger: finger(reader)?,
        filtering: reader.flag("zmq_filtering", false)?,
        key_bits: small(reader.number("keysize", MIN_BITS.into(), MAX_BITS.into())?, MIN_BITS),
        patience,
        ping: (minutes > 0).then(|| Duration::from_secs(60 * minutes)),
        publish_port: port(reader, "publish_port")?,
        sig_algo: algorithm(reader, "signing_algorithm", SigAlgo::Pkcs1v15Sha1, SigAlgo::parse)?,
        sign_key: sign_key(reader)?,
        signed_publications: reader.flag("sign_pub_messages", false)?,
    })
}

fn small(given: Option<u64>, default: u32) -> u32 {
    given.and_then(|number| u32::try_from(number).ok()).unwrap_or(default)
}

fn algorithm<T>(reader: &Reader<'_>, option: &str, default: T, parse: fn(&str) -> Option<T>) -> Result<T, OptionError> {
    let Some(name) = reader.text(option)? else { return Ok(default) };
    let expected =
        if option == "signing_algorithm" { "PKCS1v15-SHA1 or PKCS1v15-SHA224" } else { "OAEP-SHA1 or OAEP-SHA224" };
    parse(&name).ok_or_else(|| reader.wrong(option, expected, &name.as_str().into()))
}

/// Reads a fingerprint: 32 hex pairs joined by colons.
fn finger(reader: &Reader<'_>) -> Result<Option<Fingerprint>, OptionError> {
    let Some(text) = reader.text("master_finger")? else { return Ok(None) };
    let pair = |pair: &str| (pair.len() == 2).then(|| u8::from_str_radix(pair, 16).ok()).flatten();
    let digest: Option<Vec<u8>> = text.trim().split(':').map(pair).collect();
    match digest.filter(|digest| digest.len() == 32) {
        Some(digest) => Ok(Some(Fingerprint::new(&digest))),
        None => Err(reader.wrong(
            "master_finger",
            "a SHA-256 fingerprint, as `salt-key -F master` shows it",
            &text.as_str().into(),
        )),
    }
}

fn sign_key(reader: &Reader<'_>) -> Result<Option<String>, OptionError> {
    const NAME: &str = "master_sign_key_name";
    let name = reader.text(NAME)?.unwrap_or_else(|| "master_sign".to_owned());
    // It becomes a file's name.
    if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
        return Err(reader.wrong(NAME, "the name of a file in pki_dir, without .pub", &Value::from(name.as_str())));
    }
    Ok(reader.flag("verify_master_pubkey_sign", false)?.then_some(name))
}
