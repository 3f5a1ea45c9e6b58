//! An RSA key of Salt's and what it has signed, as `hello` and `session` carry it. Whether the signature is good,
//! `salt::upgrade` says.

use super::BadLoad;
use crate::keys::MAX_KEY_FILE;
use crate::value::Value;

/// The longest signature: that of the largest key that is used.
const MAX_SIG: usize = 1024;

/// A public key and its signature; nothing of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsaProof {
    /// The RSA public key, as PEM.
    pub rsa_pub: String,
    /// Its signature.
    pub sig: Vec<u8>,
}

impl RsaProof {
    /// Reads the two fields: both, or none.
    pub(super) fn read(rsa_pub: Option<Value>, sig: Option<Value>) -> Result<Option<RsaProof>, BadLoad> {
        let (rsa_pub, sig) = match (rsa_pub, sig) {
            (None, None) => return Ok(None),
            (rsa_pub, sig) => (rsa_pub.unwrap_or_default(), sig.unwrap_or_default()),
        };
        let rsa_pub = rsa_pub.as_str().filter(|pem| pem.len() <= MAX_KEY_FILE).ok_or(BadLoad::Field("rsa_pub"))?;
        let sig = sig.as_bytes().filter(|sig| sig.len() <= MAX_SIG).ok_or(BadLoad::Field("sig"))?;
        Ok(Some(RsaProof { rsa_pub: rsa_pub.to_owned(), sig: sig.to_vec() }))
    }
}
