//! RSA as Salt uses it (salt-wire.md §2.6): PKCS#1 v1.5 signatures and OAEP, each with SHA-1 or SHA-224, and the X9.31
//! form by which a private key proves itself. The arithmetic is OpenSSL's, blinded and in constant time.

use std::fmt;

use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, Id, PKey, Private, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{Signer, Verifier};
use zeroize::Zeroizing;

use crate::ids::Fingerprint;
use crate::keys::{self, MAX_KEY_FILE};

/// The smallest modulus, in bits: Salt makes none below 2048.
pub const MIN_BITS: u32 = 2048;
/// The largest modulus, in bits. A longer key is refused: a peer must not choose how long one operation lasts.
pub const MAX_BITS: u32 = 8192;
/// The longest public exponent, in bits, for the same reason. Salt's is 65537.
const MAX_EXPONENT_BITS: i32 = 33;
/// `RSA_X931_PADDING`, which the binding has no name for.
const X931: i32 = 5;
/// Why an operation with a checked key and a bounded input does not fail.
const READY: &str = "OpenSSL has SHA-1, SHA-224 and SHA-256, and the key was checked when it was read";

/// How a key is sealed for its reader: `enc_algo` of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncAlgo {
    /// `OAEP-SHA1`, Salt's default.
    OaepSha1,
    /// `OAEP-SHA224`.
    OaepSha224,
}

impl EncAlgo {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            EncAlgo::OaepSha1 => "OAEP-SHA1",
            EncAlgo::OaepSha224 => "OAEP-SHA224",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<EncAlgo> {
        [EncAlgo::OaepSha1, EncAlgo::OaepSha224].into_iter().find(|algo| algo.name() == name)
    }

    fn digest(self) -> MessageDigest {
        match self {
            EncAlgo::OaepSha1 => MessageDigest::sha1(),
            EncAlgo::OaepSha224 => MessageDigest::sha224(),
        }
    }
}

/// How a message is signed: `sig_algo` of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigAlgo {
    /// `PKCS1v15-SHA1`, Salt's default.
    Pkcs1v15Sha1,
    /// `PKCS1v15-SHA224`.
    Pkcs1v15Sha224,
}

impl SigAlgo {
    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            SigAlgo::Pkcs1v15Sha1 => "PKCS1v15-SHA1",
            SigAlgo::Pkcs1v15Sha224 => "PKCS1v15-SHA224",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<SigAlgo> {
        [SigAlgo::Pkcs1v15Sha1, SigAlgo::Pkcs1v15Sha224].into_iter().find(|algo| algo.name() == name)
    }

    fn digest(self) -> MessageDigest {
        match self {
            SigAlgo::Pkcs1v15Sha1 => MessageDigest::sha1(),
            SigAlgo::Pkcs1v15Sha224 => MessageDigest::sha224(),
        }
    }
}

/// Why a text is not an RSA key that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRsaKey {
    /// It is not a PEM RSA key, or its passphrase is missing or wrong.
    #[error("it is not an RSA key in PEM form, or its passphrase is missing or wrong")]
    NotRsa,
    /// Its modulus or exponent is out of range.
    #[error("an RSA key has {MIN_BITS} to {MAX_BITS} bits and a small odd exponent, this one does not")]
    Size,
    /// It is too large to be a key.
    #[error("it is larger than {MAX_KEY_FILE} bytes")]
    TooLarge,
}

/// What an operation with a public key says of a message that does not fit: nothing more is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("RSA refused the message")]
pub struct Refused;

/// An RSA public key.
#[derive(Clone)]
pub struct PublicKey {
    key: PKey<Public>,
    pem: String,
}

impl PublicKey {
    /// Reads a PEM SubjectPublicKeyInfo or PKCS#1 public key.
    pub fn from_pem(pem: &str) -> Result<PublicKey, BadRsaKey> {
        if pem.len() > MAX_KEY_FILE {
            return Err(BadRsaKey::TooLarge);
        }
        let rsa = Rsa::public_key_from_pem(pem.as_bytes())
            .or_else(|_| Rsa::public_key_from_pem_pkcs1(pem.as_bytes()))
            .map_err(|_| BadRsaKey::NotRsa)?;
        let key = PKey::from_rsa(rsa).map_err(|_| BadRsaKey::NotRsa)?;
        check(&key)?;
        let pem = key.public_key_to_pem().ok().and_then(|pem| String::from_utf8(pem).ok()).ok_or(BadRsaKey::NotRsa)?;
        Ok(PublicKey { key, pem: pem.trim_end().to_owned() })
    }

    /// Returns the key's PEM text: LF line ends, no line feed at the end (salt-wire.md §2.1). A key has one text, whatever
    /// stood around it where it was read, so that it has one fingerprint too.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns Salt's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        keys::fingerprint(&self.pem)
    }

    /// Verifies a signature.
    pub fn verify(&self, algo: SigAlgo, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        self.verify_with(algo.digest(), message, signature)
    }

    /// Verifies a signature of the native wire: PKCS#1 v1.5 with SHA-256 (native-wire.md §2).
    pub fn verify_sha256(&self, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        self.verify_with(MessageDigest::sha256(), message, signature)
    }

    fn verify_with(&self, digest: MessageDigest, message: &[u8], signature: &[u8]) -> Result<(), Refused> {
        let mut verifier = Verifier::new(digest, &self.key).expect(READY);
        verifier.set_rsa_padding(Padding::PKCS1).expect(READY);
        match verifier.verify_oneshot(signature, message) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Refused),
        }
    }

    /// Seals a message for the holder of the private key. The randomness of the padding is OpenSSL's own.
    pub fn encrypt(&self, algo: EncAlgo, message: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut context = PkeyCtx::new(&self.key).expect(READY);
        context.encrypt_init().expect(READY);
        oaep(&mut context, algo);
        let mut out = Vec::new();
        context.encrypt_to_vec(message, &mut out).map_err(|_| Refused)?;
        Ok(out)
    }

    /// Opens what the private key wrote in X9.31 form.
    pub fn open_x931(&self, proof: &[u8]) -> Result<Vec<u8>, Refused> {
        let rsa = self.key.rsa().expect(READY);
        // A shorter number would be read as one with zeroes before it: one proof has one form.
        if proof.len() != self.key.size() {
            return Err(Refused);
        }
        let mut out = vec![0; self.key.size()];
        let len = rsa.public_decrypt(proof, &mut out, Padding::from_raw(X931)).map_err(|_| Refused)?;
        out.truncate(len);
        Ok(out)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &PublicKey) -> bool {
        self.key.public_eq(&other.key)
    }
}

impl Eq for PublicKey {}

/// An RSA private key. OpenSSL wipes it when it is dropped.
pub struct PrivateKey {
    key: PKey<Private>,
    public: PublicKey,
}

impl PrivateKey {
    /// Reads a PEM PKCS#1 or PKCS#8 private key, with the passphrase if it has one.
    pub fn from_pem(pem: &str, passphrase: Option<&str>) -> Result<PrivateKey, BadRsaKey> {
        if pem.len() > MAX_KEY_FILE {
            return Err(BadRsaKey::TooLarge);
        }
        // Without a passphrase an empty one is tried: OpenSSL would ask on the terminal.
        let key = PKey::private_key_from_pem_passphrase(pem.as_bytes(), passphrase.unwrap_or_default().as_bytes())
            .map_err(|_| BadRsaKey::NotRsa)?;
        check(&key)?;
        // A damaged file is found now, not by the first signature that nobody can verify.
        if !key.rsa().and_then(|rsa| rsa.check_key()).unwrap_or(false) {
            return Err(BadRsaKey::NotRsa);
        }
        let public = key.public_key_to_pem().map_err(|_| BadRsaKey::NotRsa)?;
        let public = String::from_utf8(public).map_err(|_| BadRsaKey::NotRsa)?;
        Ok(PrivateKey { public: PublicKey::from_pem(&public)?, key })
    }

    /// Makes a new key of this many bits, with Salt's exponent. The randomness is OpenSSL's own; it takes a moment.
    pub fn generate(bits: u32) -> Result<PrivateKey, BadRsaKey> {
        if !(MIN_BITS..=MAX_BITS).contains(&bits) {
            return Err(BadRsaKey::Size);
        }
        let key = Rsa::generate(bits).and_then(PKey::from_rsa).map_err(|_| BadRsaKey::NotRsa)?;
        let public = key.public_key_to_pem().map_err(|_| BadRsaKey::NotRsa)?;
        let public = String::from_utf8(public).map_err(|_| BadRsaKey::NotRsa)?;
        Ok(PrivateKey { public: PublicKey::from_pem(&public)?, key })
    }

    /// Returns the key's PEM text in the form that Salt writes: PKCS#1, without a passphrase (salt-wire.md §2.6).
    pub fn to_pem(&self) -> Zeroizing<String> {
        let pem = self.key.rsa().and_then(|rsa| rsa.private_key_to_pem()).expect(READY);
        Zeroizing::new(String::from_utf8(pem).expect("PEM is ASCII"))
    }

    /// Returns the public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message. Deterministic.
    pub fn sign(&self, algo: SigAlgo, message: &[u8]) -> Vec<u8> {
        self.sign_with(algo.digest(), message)
    }

    /// Signs for the native wire: PKCS#1 v1.5 with SHA-256 (native-wire.md §2). Deterministic.
    pub fn sign_sha256(&self, message: &[u8]) -> Vec<u8> {
        self.sign_with(MessageDigest::sha256(), message)
    }

    fn sign_with(&self, digest: MessageDigest, message: &[u8]) -> Vec<u8> {
        let mut signer = Signer::new(digest, &self.key).expect(READY);
        signer.set_rsa_padding(Padding::PKCS1).expect(READY);
        signer.sign_oneshot_to_vec(message).expect(READY)
    }

    /// Opens what was sealed for this key.
    pub fn decrypt(&self, algo: EncAlgo, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let mut context = PkeyCtx::new(&self.key).expect(READY);
        context.decrypt_init().expect(READY);
        oaep(&mut context, algo);
        let mut out = Zeroizing::new(vec![0; self.key.size()]);
        let len = context.decrypt(sealed, Some(&mut out)).map_err(|_| Refused)?;
        out.truncate(len);
        Ok(out)
    }

    /// Writes a message in X9.31 form, which only this key can. Deterministic. Fails if it is too long for the modulus.
    pub fn seal_x931(&self, message: &[u8]) -> Result<Vec<u8>, Refused> {
        let rsa = self.key.rsa().expect(READY);
        let mut out = vec![0; self.key.size()];
        let len = rsa.private_encrypt(message, &mut out, Padding::from_raw(X931)).map_err(|_| Refused)?;
        out.truncate(len);
        Ok(out)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(of {})", self.public.fingerprint())
    }
}

fn oaep<T>(context: &mut PkeyCtx<T>, algo: EncAlgo) {
    let digest = openssl::md::Md::from_nid(algo.digest().type_()).expect(READY);
    context.set_rsa_padding(Padding::PKCS1_OAEP).expect(READY);
    context.set_rsa_oaep_md(digest).expect(READY);
    context.set_rsa_mgf1_md(digest).expect(READY);
}

fn check<T: HasPublic>(key: &PKey<T>) -> Result<(), BadRsaKey> {
    if key.id() != Id::RSA {
        return Err(BadRsaKey::NotRsa);
    }
    let rsa = key.rsa().map_err(|_| BadRsaKey::NotRsa)?;
    let bits = MIN_BITS..=MAX_BITS;
    let exponent = rsa.e();
    let small = exponent.num_bits() > 1 && exponent.num_bits() <= MAX_EXPONENT_BITS && exponent.is_bit_set(0);
    if bits.contains(&key.bits()) && rsa.n().is_bit_set(0) && small { Ok(()) } else { Err(BadRsaKey::Size) }
}
