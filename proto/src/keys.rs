//! Key files and fingerprints: X25519 pairs as PKCS#8 and SubjectPublicKeyInfo PEM (RFC 8410), any public key by its
//! algorithm, and Salt's fingerprint over the PEM body (salt-wire.md §2.6).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use crate::ids::Fingerprint;

/// The bytes before the 32 key bytes of an X25519 PKCS#8 private key.
const PKCS8_PREFIX: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 4, 0x22, 4, 0x20];
/// The bytes before the 32 key bytes of an X25519 SubjectPublicKeyInfo.
const SPKI_PREFIX: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x6e, 3, 0x21, 0];
/// The object identifier of RSA keys, as it stands inside a SubjectPublicKeyInfo.
const RSA_OID: &[u8] = &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
/// The largest key file that is read: an RSA-8192 private key has about 6.5 KiB.
pub const MAX_KEY_FILE: usize = 16 * 1024;

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It has no PEM block of the kind asked for.
    #[error("it has no PEM block {0:?}")]
    NoBlock(&'static str),
    /// The PEM body is not base64.
    #[error("its PEM body is not base64")]
    NotBase64,
    /// It is a key of another algorithm, or damaged.
    #[error("it is not an X25519 key")]
    NotX25519,
    /// It is too large to be a key.
    #[error("it is larger than {MAX_KEY_FILE} bytes")]
    TooLarge,
}

/// A public key as it lies in a key store; the algorithm names the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// A native minion's key.
    X25519([u8; 32]),
    /// A Salt minion's key, as its PEM text.
    Rsa(String),
}

impl PublicKey {
    /// Reads a PEM SubjectPublicKeyInfo.
    pub fn from_pem(pem: &str) -> Result<PublicKey, BadKey> {
        let der = block(pem, "PUBLIC KEY")?;
        if let Some(key) = der.strip_prefix(SPKI_PREFIX).and_then(|key| key.try_into().ok()) {
            return Ok(PublicKey::X25519(key));
        }
        if der.windows(RSA_OID.len()).take(16).any(|window| window == RSA_OID) {
            return Ok(PublicKey::Rsa(pem.trim_end().to_owned()));
        }
        Err(BadKey::NotX25519)
    }

    /// Returns the PEM text, without a line feed at the end (as events carry it).
    pub fn to_pem(&self) -> String {
        match self {
            PublicKey::X25519(key) => public_pem(key),
            PublicKey::Rsa(pem) => pem.clone(),
        }
    }

    /// Returns Salt's fingerprint of this key.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(&self.to_pem())
    }

    /// Returns the name of the wire that this key speaks.
    pub fn wire(&self) -> &'static str {
        match self {
            PublicKey::X25519(_) => "native",
            PublicKey::Rsa(_) => "salt",
        }
    }
}

/// Returns the PEM text of an X25519 public key, without a line feed at the end.
pub fn public_pem(key: &[u8; 32]) -> String {
    let mut der = SPKI_PREFIX.to_vec();
    der.extend_from_slice(key);
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----", STANDARD.encode(der))
}

/// Returns the PEM text of an X25519 private key.
pub fn private_pem(secret: &[u8; 32]) -> Zeroizing<String> {
    let mut der = Zeroizing::new(PKCS8_PREFIX.to_vec());
    der.extend_from_slice(secret);
    let body = Zeroizing::new(STANDARD.encode(&*der));
    Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *body))
}

/// Reads the secret of a PEM PKCS#8 X25519 private key.
pub fn secret_from_pem(pem: &str) -> Result<Zeroizing<[u8; 32]>, BadKey> {
    let mut der = block(pem, "PRIVATE KEY")?;
    let secret = der.strip_prefix(PKCS8_PREFIX).and_then(|key| key.try_into().ok()).map(Zeroizing::new);
    der.zeroize();
    secret.ok_or(BadKey::NotX25519)
}

/// Returns the public key of an X25519 secret.
pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    *crypto_box::SecretKey::from(*secret).public_key().as_bytes()
}

/// Returns Salt's fingerprint of a PEM text: SHA-256 over the lines between BEGIN and END, line feeds included.
pub fn fingerprint(pem: &str) -> Fingerprint {
    let body: Vec<&str> = pem.trim().lines().filter(|line| !line.starts_with("-----")).collect();
    let text = format!("{}\n", body.join("\n"));
    Fingerprint::new(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

fn block(pem: &str, label: &'static str) -> Result<Vec<u8>, BadKey> {
    if pem.len() > MAX_KEY_FILE {
        return Err(BadKey::TooLarge);
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let (_, rest) = pem.split_once(&begin).ok_or(BadKey::NoBlock(label))?;
    let (body, _) = rest.split_once(&end).ok_or(BadKey::NoBlock(label))?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    STANDARD.decode(body.as_bytes()).map_err(|_| BadKey::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;

    // The private key of RFC 7748 §6.1 (Alice), as PKCS#8.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_pair_goes_through_its_files() {
        let secret = secret_from_pem(PRIVATE).unwrap();
        assert_eq!(*private_pem(&secret), PRIVATE);
        // The public key printed there begins with these bytes.
        let public = public_of(&secret);
        assert_eq!(public[..4], [0x85, 0x20, 0xf0, 0x09]);
        let key = PublicKey::from_pem(&public_pem(&public)).unwrap();
        assert_eq!(key, PublicKey::X25519(public));
        assert_eq!(key.wire(), "native");
    }

    #[test]
    fn fingerprints_are_over_the_body_with_its_line_feed() {
        let pem = public_pem(&[7; 32]);
        let body = pem.lines().nth(1).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{body}\n").as_bytes());
        assert_eq!(fingerprint(&pem), Fingerprint::new(digest.as_ref()));
        assert_eq!(fingerprint(&format!("{pem}\n")), fingerprint(&pem));
    }

    #[test]
    fn other_texts_are_refused_with_the_reason() {
        assert_eq!(PublicKey::from_pem("x"), Err(BadKey::NoBlock("PUBLIC KEY")));
        assert_eq!(
            PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"),
            Err(BadKey::NotBase64)
        );
        assert_eq!(
            PublicKey::from_pem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
            Err(BadKey::NotX25519)
        );
        assert_eq!(PublicKey::from_pem(&"x".repeat(MAX_KEY_FILE + 1)), Err(BadKey::TooLarge));
    }
}
