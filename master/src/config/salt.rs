//! The options of the Salt listener, and whom it lets speak for others: `order_masters`, `syndics`, `syndic_wait`.

use std::time::Duration;

use proto::salt::rsa::SigAlgo;
use proto::target::glob::Glob;
use proto::value::Map;
use zeroize::Zeroizing;

use super::{ConfigError, Options, Paths};
use crate::salt::{PubKeySignature, SaltConfig, SyndicsConfig};

/// How many patterns `syndics` may have.
const MAX_PATTERNS: usize = 1_000;

/// Reads them; nothing where the listener is off.
pub(super) fn read(
    options: &Options<'_>,
    paths: &Paths,
    id: &str,
    opts: &Map,
) -> Result<Option<SaltConfig>, ConfigError> {
    if !options.flag("salt_listener", false)? {
        return Ok(None);
    }
    const ALGO: &str = "publish_signing_algorithm";
    let algo = match options.text(ALGO)? {
        None => SigAlgo::Pkcs1v15Sha1,
        Some(name) => SigAlgo::parse(&name).ok_or_else(|| options.wrong(ALGO, "PKCS1v15-SHA1 or PKCS1v15-SHA224"))?,
    };
    Ok(Some(SaltConfig {
        id: id.to_owned(),
        pki_dir: paths.pki_dir.clone(),
        cachedir: paths.cachedir.clone(),
        keysize: options.number("keysize")?.unwrap_or(2048),
        key_pass: passphrase(options, "key_pass")?,
        pub_sig: pub_sig(options, id)?,
        publish_port: options.number("publish_port")?.unwrap_or(4505),
        key_life: options.span("publish_session", 86_400)?,
        signing: options.flag("sign_pub_messages", true)?.then_some(algo),
        filtering: options.flag("zmq_filtering", false)?,
        request_ttl: options.span("request_server_ttl", 0)?,
        rotate: options.flag("rotate_aes_key", true)?,
        look_every: options.seconds("loop_interval", 60)?.max(Duration::from_secs(1)),
        auth_events: options.flag("auth_events", true)?,
        revoke: options.flag("allow_minion_key_revoke", false)?,
        opts: opts.clone(),
    }))
}

/// Who vouches for the master's key. A name becomes a part of a path.
fn pub_sig(options: &Options<'_>, id: &str) -> Result<Option<PubKeySignature>, ConfigError> {
    let name = |key: &'static str, default: String| {
        let name = options.text(key)?.filter(|name| !name.is_empty()).unwrap_or(default);
        if name.contains('/') || name.starts_with('.') {
            Err(options.wrong(key, "the name of a file"))
        } else {
            Ok(name)
        }
    };
    if !options.flag("master_sign_pubkey", false)? {
        return Ok(None);
    }
    Ok(Some(if options.flag("master_use_pubkey_signature", false)? {
        PubKeySignature::File(name("master_pubkey_signature", format!("{id}_pubkey_signature"))?)
    } else {
        let passphrase = passphrase(options, "signing_key_pass")?;
        PubKeySignature::Key { name: name("master_sign_key_name", "master_sign".to_owned())?, passphrase }
    }))
}

fn passphrase(options: &Options<'_>, key: &'static str) -> Result<Option<Zeroizing<String>>, ConfigError> {
    Ok(options.text(key)?.filter(|text| !text.is_empty()).map(Zeroizing::new))
}

/// Reads who speaks for others: nobody unless all of it is said. What is said in part is told.
pub(super) fn syndics(options: &Options<'_>, warnings: &mut Vec<String>) -> Result<Option<SyndicsConfig>, ConfigError> {
    let orders = options.flag("order_masters", false)?;
    let patterns = options.texts("syndics")?;
    if patterns.len() > MAX_PATTERNS {
        return Err(options.wrong("syndics", "a list of at most 1000 patterns of minion ids"));
    }
    let wait = options.span("syndic_wait", 5)?;
    let timeout = options.seconds("timeout", 5)?;
    let lacks = match (orders, patterns.is_empty(), options.flag("salt_listener", false)?) {
        (false, true, _) => return Ok(None),
        (true, false, true) => {
            let ids = patterns.iter().map(|pattern| Glob::new(pattern)).collect();
            return Ok(Some(SyndicsConfig { ids, timeout, wait }));
        }
        (true, true, _) => {
            "order_masters has no effect without syndics: list the ids of the minions that may return for others, as in \
             `syndics: [syndic1, 'dc*-syndic']`"
        }
        (false, false, _) => "syndics has no effect without `order_masters: true`",
        (true, false, false) => "order_masters and syndics have no effect without `salt_listener: true`",
    };
    warnings.push(lacks.to_owned());
    Ok(None)
}
