//! The encrypted box (salt-wire.md §3): AES-192-CBC, then HMAC-SHA256 over vector and ciphertext, under one key text.
//!
//! A box is opened only after its HMAC was verified in constant time, so that nothing is learnt from its padding. Which
//! key a box is under is a type: [`SessionKey`] for requests, [`SharedKey`] for publications, [`OneTimeKey`] for pillar.

use std::fmt;

use aes::Aes192;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Nonce, msgpack};
use crate::value::{Map, Value};

/// How many random bytes a key is made of: 24 for AES-192, then 32 for the HMAC.
pub const KEY_LEN: usize = AES_LEN + MAC_LEN;
/// How many characters the text of a key has.
pub const KEY_TEXT_LEN: usize = 76;
/// How many bytes an initialisation vector has.
pub const IV_LEN: usize = 16;

const AES_LEN: usize = 24;
const MAC_LEN: usize = 32;
/// The block of AES; PKCS#7 adds one to sixteen bytes.
const BLOCK: usize = 16;
/// What every plaintext begins with. There is no pickle anywhere, the word is historical.
const PREFIX: &[u8] = b"pickle::";

/// A text that is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key text is the base64 of {KEY_LEN} bytes")]
pub struct BadKeyText;

/// What is said of a box that this key did not close. Never which part of it was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the box was not closed with this key")]
pub struct Refused;

/// Why the content of an opened box is not what was asked for. Whoever closed it held the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadContent {
    /// The box is not under this key.
    #[error(transparent)]
    Box(#[from] Refused),
    /// It is not msgpack.
    #[error("the content of the box is not msgpack")]
    Decode(#[from] crate::msgpack::DecodeError),
    /// It answers another request, or none.
    #[error("the box answers another request")]
    Nonce,
}

/// A symmetric key: what closes and opens boxes.
pub struct Crypticle {
    key: Zeroizing<[u8; KEY_LEN]>,
    mac: hmac::Key,
}

impl Crypticle {
    /// Makes a key of random bytes.
    pub fn from_random(random: Zeroizing<[u8; KEY_LEN]>) -> Crypticle {
        let mac = hmac::Key::new(hmac::HMAC_SHA256, &random[AES_LEN..]);
        Crypticle { key: random, mac }
    }

    /// Reads the text of a key.
    pub fn parse(text: &[u8]) -> Result<Crypticle, BadKeyText> {
        if text.len() != KEY_TEXT_LEN {
            return Err(BadKeyText);
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        // The decoder asks for room by the length of the text, padding included.
        let mut room = Zeroizing::new([0; KEY_TEXT_LEN]);
        let len = STANDARD.decode_slice(text, &mut *room).map_err(|_| BadKeyText)?;
        key.copy_from_slice(room.get(..len).filter(|bytes| bytes.len() == KEY_LEN).ok_or(BadKeyText)?);
        Ok(Crypticle::from_random(key))
    }

    /// Returns the key's text, as it is sealed for its holder or lies in a file.
    pub fn key_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.key.as_slice()))
    }

    /// Closes a box over bytes. The vector must be random and new for each box.
    pub fn seal_bytes(&self, iv: [u8; IV_LEN], plain: &[u8]) -> Vec<u8> {
        let cipher = cbc::Encryptor::<Aes192>::new(self.aes_key().into(), &iv.into());
        let mut sealed = Vec::with_capacity(IV_LEN + plain.len() + BLOCK + MAC_LEN);
        sealed.extend_from_slice(&iv);
        sealed.extend_from_slice(plain);
        sealed.resize(IV_LEN + (plain.len() / BLOCK + 1) * BLOCK, 0);
        cipher
            .encrypt_padded_mut::<Pkcs7>(&mut sealed[IV_LEN..], plain.len())
            .expect("there is room for one more block than the content fills");
        let tag = hmac::sign(&self.mac, &sealed);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens a box.
    pub fn open_bytes(&self, sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        let (body, tag) = sealed.split_at_checked(sealed.len().saturating_sub(MAC_LEN)).ok_or(Refused)?;
        let (iv, cipher_text) = body.split_first_chunk::<IV_LEN>().ok_or(Refused)?;
        if cipher_text.is_empty() || !cipher_text.len().is_multiple_of(BLOCK) {
            return Err(Refused);
        }
        hmac::verify(&self.mac, body, tag).map_err(|_| Refused)?;
        let cipher = cbc::Decryptor::<Aes192>::new(self.aes_key().into(), iv.into());
        cipher.decrypt_padded_vec_mut::<Pkcs7>(cipher_text).map_err(|_| Refused)
    }

    /// Closes a box over a value of the wire, after the nonce of the request that it answers.
    pub fn seal(&self, iv: [u8; IV_LEN], nonce: Option<&Nonce>, value: &Value) -> Vec<u8> {
        self.seal_encoded(iv, nonce, &msgpack::encode(value))
    }

    /// Closes a box over a map of the wire.
    pub fn seal_map(&self, iv: [u8; IV_LEN], nonce: Option<&Nonce>, map: &Map) -> Vec<u8> {
        self.seal_encoded(iv, nonce, &msgpack::encode_map(map))
    }

    fn seal_encoded(&self, iv: [u8; IV_LEN], nonce: Option<&Nonce>, encoded: &[u8]) -> Vec<u8> {
        let nonce = nonce.map_or("", Nonce::as_str).as_bytes();
        self.seal_bytes(iv, &[PREFIX, nonce, encoded].concat())
    }

    /// Opens a box over a value of the wire. With a nonce, the box must begin with it. A plaintext without Salt's prefix
    /// is an empty map, as Salt reads it.
    pub fn open(&self, nonce: Option<&Nonce>, sealed: &[u8]) -> Result<Value, BadContent> {
        let plain = self.open_bytes(sealed)?;
        let Some(content) = plain.strip_prefix(PREFIX) else { return Ok(Value::Map(Map::new())) };
        let content = match nonce {
            None => content,
            Some(nonce) => {
                let (head, rest) = content.split_at_checked(Nonce::LEN).ok_or(BadContent::Nonce)?;
                if !bool::from(head.ct_eq(nonce.as_str().as_bytes())) {
                    return Err(BadContent::Nonce);
                }
                rest
            }
        };
        Ok(msgpack::decode(content)?)
    }

    fn aes_key(&self) -> &[u8; AES_LEN] {
        self.key.first_chunk().expect("the AES key is the beginning of the key")
    }
}

impl PartialEq for Crypticle {
    fn eq(&self, other: &Crypticle) -> bool {
        bool::from(self.key.ct_eq(&*other.key))
    }
}

impl Eq for Crypticle {}

impl fmt::Debug for Crypticle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Crypticle(..)")
    }
}

/// The key between the master and one minion: requests and their replies.
#[derive(Debug, PartialEq, Eq)]
pub struct SessionKey(pub Crypticle);

/// The key that all accepted minions share: publications.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedKey(pub Crypticle);

/// The key of one pillar reply.
#[derive(Debug, PartialEq, Eq)]
pub struct OneTimeKey(pub Crypticle);
