//! The master's half of `_auth`: judges the shape of a request and says what was decided (salt-wire.md §2.1 to §2.4).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::crypticle::{KEY_TEXT_LEN, SessionKey, SharedKey};
use super::super::envelope::BareReply;
use super::super::rsa::{EncAlgo, PrivateKey, PublicKey, Refused, SigAlgo};
use super::super::{Nonce, bytes, msgpack};
use super::{Standing, digest_of};
use crate::ids::MinionId;
use crate::map;
use crate::value::{Map, MapExt, Value};

/// A request for acceptance. Nothing of it is proven: who knows the public key can send it, and only the holder of the
/// private one can read the answer.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthRequest {
    /// The minion that it says it is.
    pub id: MinionId,
    /// Comes back in the signed answer.
    pub nonce: Nonce,
    /// How the answer's keys are sealed.
    pub enc_algo: EncAlgo,
    /// How the answer is signed.
    pub sig_algo: SigAlgo,
    /// The key that it asks acceptance for.
    pub public: PublicKey,
    /// Sealed for the master's key, if the minion knows it.
    pub token: Option<Vec<u8>>,
    /// Grains that may vouch for a key that is not accepted.
    pub autosign_grains: Option<Map>,
}

impl fmt::Debug for AuthRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Autosign grains can be shared secrets.
        write!(f, "AuthRequest {{ id: {:?}, public: {:?} }}", self.id, self.public)
    }
}

/// Why a load is not a request for acceptance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAuth {
    /// `enc_algo` is not known.
    #[error("the encryption algorithm is not known")]
    EncAlgo,
    /// A field is missing or of the wrong kind.
    #[error("the request has no {0:?}, or a wrong one")]
    Field(&'static str),
    /// The id is not a minion id.
    #[error("the id is not a minion id")]
    Id {
        /// Comes back in the answer.
        nonce: Nonce,
        /// How the answer is signed.
        sig_algo: SigAlgo,
    },
    /// The key is not an RSA key that is used here.
    #[error("the key is not an RSA key that is used here")]
    Key {
        /// Comes back in the answer.
        nonce: Nonce,
        /// How the answer is signed.
        sig_algo: SigAlgo,
    },
    /// `sig_algo` is not known.
    #[error("the signing algorithm is not known")]
    SigAlgo,
}

impl BadAuth {
    /// Encodes what the peer is told. An algorithm that is not known is said in the clear and unsigned, for there is
    /// nothing to sign with; a bad id or key is a rejection like any other.
    pub fn answer(&self, master: &PrivateKey) -> Vec<u8> {
        let unsigned = |ret: &str| msgpack::encode_map(&map! { "enc" => "clear", "load" => map! { "ret" => ret } });
        match self {
            BadAuth::EncAlgo => unsigned("bad enc algo"),
            BadAuth::Field(_) => BareReply::BadLoad.encode(),
            BadAuth::Id { nonce, sig_algo } | BadAuth::Key { nonce, sig_algo } => {
                stand(master, *sig_algo, nonce, Standing::Rejected)
            }
            BadAuth::SigAlgo => unsigned("bad sig algo"),
        }
    }
}

impl AuthRequest {
    /// Judges the shape of a clear load whose `cmd` is `_auth`. All of it is judged before any key is looked up.
    pub fn decode(load: &Map) -> Result<AuthRequest, BadAuth> {
        let text = |name: &'static str| load.text(name).ok_or(BadAuth::Field(name));
        if text("cmd")? != "_auth" {
            return Err(BadAuth::Field("cmd"));
        }
        let sig_algo = SigAlgo::parse(text("sig_algo")?).ok_or(BadAuth::SigAlgo)?;
        let enc_algo = EncAlgo::parse(text("enc_algo")?).ok_or(BadAuth::EncAlgo)?;
        let nonce = Nonce::parse(text("nonce")?.as_bytes()).map_err(|_| BadAuth::Field("nonce"))?;
        let id = MinionId::parse(text("id")?).map_err(|_| BadAuth::Id { nonce, sig_algo })?;
        let public = PublicKey::from_pem(text("pub")?).map_err(|_| BadAuth::Key { nonce, sig_algo })?;
        let token = match load.at("token") {
            None => None,
            Some(_) => Some(bytes(load, "token").ok_or(BadAuth::Field("token"))?.to_vec()),
        };
        let autosign_grains = load.at("autosign_grains").and_then(Value::as_map).cloned();
        Ok(AuthRequest { id, nonce, enc_algo, sig_algo, public, token, autosign_grains })
    }

    /// Returns the load that says this, in the order in which Salt writes it.
    pub fn to_load(&self) -> Map {
        let mut load = map! {
            "cmd" => "_auth",
            "id" => &self.id,
            "nonce" => self.nonce.as_str(),
            "enc_algo" => self.enc_algo.name(),
            "sig_algo" => self.sig_algo.name(),
        };
        if let Some(grains) = &self.autosign_grains {
            load.set("autosign_grains", grains.clone());
        }
        if let Some(token) = &self.token {
            load.set("token", Value::Bytes(token.clone()));
        }
        load.set("pub", self.public.pem());
        load
    }

    /// Encodes the answer to a key that is not accepted, signed by the master.
    pub fn stand(&self, master: &PrivateKey, standing: Standing) -> Vec<u8> {
        stand(master, self.sig_algo, &self.nonce, standing)
    }
}

fn stand(master: &PrivateKey, sig_algo: SigAlgo, nonce: &Nonce, standing: Standing) -> Vec<u8> {
    signed(master, sig_algo, &map! { "ret" => standing.value(), "nonce" => nonce.as_str() })
}

fn signed(master: &PrivateKey, sig_algo: SigAlgo, load: &Map) -> Vec<u8> {
    let load = msgpack::encode_map(load);
    let sig = master.sign(sig_algo, &load);
    msgpack::encode_map(&map! { "enc" => "clear", "load" => Value::Bytes(load), "sig" => Value::Bytes(sig) })
}

/// How a master that has a separate signing key vouches for its public key (`master_sign_pubkey`).
#[derive(Debug)]
pub enum PubSig {
    /// The text of the file of `master_use_pubkey_signature`: the signing key itself is elsewhere.
    Precomputed(String),
    /// The signing key.
    Signing(PrivateKey),
}

impl PubSig {
    fn text(&self, sig_algo: SigAlgo, pem: &str) -> String {
        match self {
            PubSig::Precomputed(text) => text.clone(),
            PubSig::Signing(key) => format!("{}\n", STANDARD.encode(key.sign(sig_algo, pem.as_bytes()))),
        }
    }
}

/// What every accepted minion is told: made once for each shared key.
pub struct Acceptance {
    publish_port: u16,
    aes: Zeroizing<String>,
    proof: Vec<u8>,
    pub_sig: Option<Arc<PubSig>>,
}

impl Acceptance {
    /// Takes what is the same for all minions, and proves the shared key with the master's key.
    pub fn new(master: &PrivateKey, publish_port: u16, shared: &SharedKey, pub_sig: Option<Arc<PubSig>>) -> Acceptance {
        let proof = master.seal_x931(digest_of(shared).as_bytes());
        let proof = proof.expect("64 bytes fit into the smallest modulus that is taken");
        Acceptance { publish_port, aes: shared.0.key_text(), proof, pub_sig }
    }

    /// Encodes the answer to an accepted minion: its keys, sealed for it, and signed by the master.
    ///
    /// A token that does not open comes back as none. The minion has then sealed it for another master's key, and is to
    /// learn this one's and refuse it. Only what has the length of a token is sealed anew, so that nobody can have
    /// something else opened by asking for acceptance.
    pub fn accept(&self, master: &PrivateKey, request: &AuthRequest, session: &SessionKey) -> Result<Vec<u8>, Refused> {
        let seal = |plain: &[u8]| request.public.encrypt(request.enc_algo, plain).map(Value::Bytes);
        let pem = master.public().pem();
        let mut load = map! { "enc" => "pub", "pub_key" => pem, "publish_port" => self.publish_port };
        if let Some(pub_sig) = &self.pub_sig {
            load.set("pub_sig", pub_sig.text(request.sig_algo, pem));
        }
        if let Some(token) = request.token.as_ref().and_then(|token| master.decrypt(request.enc_algo, token).ok())
            && token.len() == KEY_TEXT_LEN
        {
            load.set("token", seal(&token)?);
        }
        load.set("aes", seal(self.aes.as_bytes())?);
        load.set("session", seal(session.0.key_text().as_bytes())?);
        load.set("sig", Value::Bytes(self.proof.clone()));
        load.set("nonce", request.nonce.as_str());
        Ok(signed(master, request.sig_algo, &load))
    }
}
