//! How the master's public key is vouched for by a second key (salt-wire.md §2.4), so that minions which know that one's
//! public half (`verify_master_pubkey_sign`) take a master whose own key they have never seen.

use std::sync::Arc;

use proto::salt::auth::PubSig;
use zeroize::Zeroizing;

use super::{OpenError, SaltConfig};
use crate::keys::Keys;

/// Who signs (`master_sign_pubkey`).
#[derive(Clone)]
pub enum PubKeySignature {
    /// A key in `pki_dir` (`master_sign_key_name`, default `master_sign`), which is made if there is none.
    Key {
        /// The name of its files before their ends.
        name: String,
        /// Its passphrase (`signing_key_pass`).
        passphrase: Option<Zeroizing<String>>,
    },
    /// A key that is elsewhere: the signature lies in this file of `pki_dir` (`master_use_pubkey_signature`).
    File(String),
}

/// Reads or makes what is sent with the master's key.
pub(super) fn open(config: &SaltConfig, keys: &Keys) -> Result<Option<Arc<PubSig>>, OpenError> {
    let pub_sig = match &config.pub_sig {
        None => return Ok(None),
        Some(PubKeySignature::Key { name, passphrase }) => {
            let passphrase = passphrase.as_ref().map(|text| text.as_str());
            PubSig::Signing(keys.signing_pair(&config.pki_dir, name, config.keysize, passphrase)?)
        }
        Some(PubKeySignature::File(name)) => {
            let path = config.pki_dir.join(name);
            // Nothing of it is secret: every minion is told.
            let text = std::fs::read_to_string(&path);
            PubSig::Precomputed(text.map_err(|source| OpenError::NoSignature { path, source })?)
        }
    };
    Ok(Some(Arc::new(pub_sig)))
}
