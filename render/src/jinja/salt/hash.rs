//! Hashes and base64 of texts: `md5`, `sha256`, `hmac`, `uuid` and their kin.

use md5::{Digest as _, Md5};
use minijinja::value::ValueKind;
use minijinja::{Error, Value};
use ring::digest::{self, Algorithm};
use ring::hmac;

use super::super::builtin::Filter;
use super::super::convert::Args;
use super::super::ops::kind;
use super::super::session::failure;
use super::super::text;
use crate::{python, yaml};

/// The namespace of Salt's UUIDs (`GLOBAL_UUID` in `salt/utils/jinja.py`).
const NAMESPACE: [u8; 16] =
    [0x91, 0x63, 0x3e, 0xbf, 0x1c, 0x86, 0x5e, 0x33, 0x93, 0x5a, 0x28, 0x06, 0x1f, 0x4b, 0x48, 0x0e];

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("base64_decode", base64_decode),
    ("base64_encode", |value, _| text::bounded(python::base64(&bytes(value)?))),
    ("hmac", hmac_holds),
    ("hmac_compute", |value, args| text::bounded(hex(&hmac_sum(value, args)?))),
    ("md5", |value, _| text::bounded(hex(&Md5::digest(bytes(value)?)))),
    ("sha1", |value, _| sum(value, &digest::SHA1_FOR_LEGACY_USE_ONLY)),
    ("sha256", |value, _| sum(value, &digest::SHA256)),
    ("sha512", |value, _| sum(value, &digest::SHA512)),
    ("to_bytes", |value, _| Ok(Value::from_bytes(bytes(value)?))),
    ("uuid", uuid),
];

/// Returns the bytes of a text, as Salt's `to_bytes`: what is no text is refused.
pub(super) fn bytes(value: &Value) -> Result<Vec<u8>, Error> {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => Ok(text.as_bytes().to_vec()),
        (None, ValueKind::Bytes) => Ok(value.as_bytes().unwrap_or_default().to_vec()),
        (None, ValueKind::Undefined) => Err(super::super::object::undefined()),
        _ => Err(failure(format!("expected str, bytes, or bytearray not <class '{}'>", kind(value)))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum(value: &Value, algorithm: &'static Algorithm) -> Result<Value, Error> {
    text::bounded(hex(digest::digest(algorithm, &bytes(value)?).as_ref()))
}

fn base64_decode(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let encoded = String::from_utf8_lossy(&bytes(value)?).into_owned();
    let decoded = yaml::decode_base64(&encoded).map_err(failure)?;
    Ok(String::from_utf8(decoded).map_or_else(|error| Value::from_bytes(error.into_bytes()), Value::from))
}

fn hmac_sum(value: &Value, args: &Args<'_>) -> Result<Vec<u8>, Error> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(args.need(0, "shared_secret")?)?);
    Ok(hmac::sign(&key, &bytes(value)?).as_ref().to_vec())
}

fn hmac_holds(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let challenge = bytes(args.need(1, "challenge_hmac")?)?;
    Ok(Value::from(python::base64(&hmac_sum(value, args)?).as_bytes() == challenge))
}

/// A UUID of version 5 (RFC 4122, section 4.3).
fn uuid(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    let named = [NAMESPACE.as_slice(), &bytes(value)?].concat();
    let mut sum = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &named).as_ref()[..16].to_vec();
    sum[6] = sum[6] & 0x0f | 0x50;
    sum[8] = sum[8] & 0x3f | 0x80;
    let digits = hex(&sum);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    Ok(Value::from(parts.join("-")))
}
