//! The Salt wire: what arrives on its ports and local sockets, and what is in its boxes.
//!
//! A fuzzer finds no session key and no signature. So each target gives the bytes to the decoder as they are, and then
//! closes the box over them itself: what an accepted peer may say is judged too.

use std::sync::LazyLock;

use bytes::Bytes;
use halite_proto::ids::MinionId;
use halite_proto::map;
use halite_proto::salt::Nonce;
use halite_proto::salt::auth::{Applicant, AuthAnswer, AuthRequest, Trust};
use halite_proto::salt::clear::ClearCommand;
use halite_proto::salt::command::{Command, events};
use halite_proto::salt::crypticle::{Crypticle, KEY_LEN, SessionKey, SharedKey};
use halite_proto::salt::envelope::{BareReply, Envelope};
use halite_proto::salt::event::Event;
use halite_proto::salt::ipc::{self, BadFrame, Frames, Framing};
use halite_proto::salt::msgpack;
use halite_proto::salt::pillar::Waiting;
use halite_proto::salt::publish::{self, BadPublication, Ear};
use halite_proto::salt::request::{Asker, Fresh, Token, Ttl, open_reply, verify_return};
use halite_proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use halite_proto::salt::syndic;
use halite_proto::value::{Map, MapExt, Value};
use zeroize::Zeroizing;

/// What no handler of a clear command may see.
const SECRETS: [&str; 5] = ["key", "token", "eauth", "username", "password"];
const ENC: EncAlgo = EncAlgo::OaepSha1;
const SIG: SigAlgo = SigAlgo::Pkcs1v15Sha1;
/// Vectors of boxes; nothing here is secret.
const IV: [u8; 16] = [2; 16];
/// How a plaintext begins whose content is read.
const PREFIX: &[u8] = b"pickle::";

/// The recorded key pairs: making one takes longer than a million inputs.
struct Pairs {
    master: PrivateKey,
    minion: PrivateKey,
    asker: Asker,
}

static PAIRS: LazyLock<Pairs> = LazyLock::new(|| {
    let recorded = include_str!("../../../tests/data/salt/rsa_keys.json");
    let recorded: serde_json::Value = serde_json::from_str(recorded).expect("the vectors are JSON");
    let pair = |name: &str| {
        let pem = recorded["keys"][name]["private_pem"].as_str().expect("a key of this name");
        PrivateKey::from_pem(pem, None).expect("a recorded key")
    };
    let (master, minion) = (pair("master"), pair("minion_web1"));
    let asker = Asker { id: web1(), token: Token::new(&minion), enc_algo: ENC, sig_algo: SIG };
    Pairs { master, minion, asker }
});

fn web1() -> MinionId {
    MinionId::parse("web1").expect("an id")
}

fn crypticle() -> Crypticle {
    Crypticle::from_random(Zeroizing::new([7; KEY_LEN]))
}

fn nonce() -> Nonce {
    Nonce::from_random([1; 16])
}

/// `_auth`, both halves: a request is read as it is written, and no answer makes a minion believe that the master's key
/// has not signed for this very request.
pub(super) fn auth(data: &[u8]) {
    if let Ok(load) = msgpack::decode_unproven_map(data) {
        request_of(&load);
        if let Some(load) = load.at("load").and_then(Value::as_map) {
            request_of(load);
        }
    }
    let (id, trust) = (web1(), Trust::default());
    let applicant =
        Applicant { id: &id, key: &PAIRS.minion, enc_algo: ENC, sig_algo: SIG, autosign_grains: None, trust: &trust };
    let (attempt, _) = applicant.ask([1; 16], Zeroizing::new([0; KEY_LEN])).expect("nothing is pinned, nothing sealed");
    assert!(!matches!(applicant.judge(&attempt, data), Ok(AuthAnswer::Accepted(_))), "nobody has signed this");
    // As if the master had signed it: then the rest is judged.
    if msgpack::decode_unproven_map(data).is_ok_and(|load| nonce().is(load.at("nonce"))) {
        let sig = PAIRS.master.sign(SIG, data);
        let answer = map! { "enc" => "clear", "load" => Value::Bytes(data.to_vec()), "sig" => Value::Bytes(sig) };
        let _ = applicant.judge(&attempt, &msgpack::encode_map(&answer));
    }
}

fn request_of(load: &Map) {
    match AuthRequest::decode(load) {
        Ok(request) => {
            let load = request.to_load();
            let again = AuthRequest::decode(&load).expect("our own load");
            assert_eq!(again.to_load(), load);
        }
        Err(bad) => {
            let answer = bad.answer(&PAIRS.master);
            assert!(msgpack::decode_unproven(&answer).is_ok(), "an answer is msgpack");
        }
    }
}

/// Commands of local clients: no handler sees a credential, whatever it stands beside.
pub(super) fn clear(data: &[u8]) {
    let load = match Envelope::decode(data) {
        Ok(Envelope::Clear(load)) => load,
        _ => match msgpack::decode_unproven_map(data) {
            Ok(load) => load,
            Err(_) => return,
        },
    };
    let bare = |map: &Map| assert!(SECRETS.iter().all(|name| map.at(name).is_none()), "a credential is left");
    let cmd = load.text("cmd").unwrap_or_default().to_owned();
    let command = ClearCommand::decode(load);
    match &command {
        ClearCommand::Publish(publish) => bare(&publish.kwargs),
        ClearCommand::Wheel { kwarg, .. } => bare(kwarg),
        _ => {}
    }
    let name = format!("{command:?}");
    assert!(name.starts_with("Unknown") || name.to_lowercase().starts_with(&shown(&cmd)), "{name} of {cmd}");
}

/// Returns how the command of a name begins to be shown.
fn shown(cmd: &str) -> String {
    match cmd {
        "_auth" => "auth".to_owned(),
        "get_token" => "gettoken".to_owned(),
        "mk_token" => "maketoken".to_owned(),
        other => other.to_owned(),
    }
}

/// An envelope: what is read is written as it can be read again, and what is refused has an answer that a minion knows.
pub(super) fn envelope(data: &[u8]) {
    match Envelope::decode(data) {
        Ok(envelope) => {
            let encoded = envelope.encode();
            let again = Envelope::decode(&encoded).expect("our own bytes");
            assert_eq!(again.encode(), encoded);
        }
        Err(bad) => {
            let answer = bad.answer();
            let value = msgpack::decode(&answer.encode()).expect("our own bytes");
            assert_eq!(BareReply::of(&value), Some(answer));
        }
    }
    if let Ok(value) = msgpack::decode(data) {
        let _ = BareReply::of(&value);
    }
}

/// An event of the local bus: read and written, it is the same bytes.
pub(super) fn event(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    let Ok(event) = Event::decode(&body) else { return };
    assert_eq!(event.encode(), body);
    assert!(!event.tag.is_empty());
    if let Ok(data) = event.map() {
        let again = Event::decode(&Event::new(&event.tag, &data).encode()).expect("our own bytes");
        assert_eq!(Event::new(&again.tag, &again.map().expect("our own data")), again);
    }
}

/// Frames of the local sockets: the same events whether the bytes come at once or in pieces, and what we write comes
/// back.
pub(super) fn ipc(data: &[u8]) {
    let Some((&step, bytes)) = data.split_first() else { return };
    assert_eq!(frames(bytes, usize::MAX), frames(bytes, usize::from(step) + 1));
    for framing in [Framing::Prefixed, Framing::Stream] {
        assert_eq!(frames(&ipc::encode(framing, bytes), usize::MAX), (vec![Bytes::copy_from_slice(bytes)], None));
    }
}

fn frames(bytes: &[u8], step: usize) -> (Vec<Bytes>, Option<BadFrame>) {
    let (mut frames, mut seen) = (Frames::default(), Vec::new());
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        if let Err(bad) = frames.push(piece) {
            return (seen, Some(bad));
        }
        loop {
            match frames.next_event() {
                Ok(Some(event)) => seen.push(event),
                Ok(None) => break,
                Err(bad) => return (seen, Some(bad)),
            }
        }
    }
    (seen, None)
}

/// Both dialects: one round makes the bytes canonical, a second one changes nothing; and whoever is not proven says
/// nothing that a proven one could not.
pub(super) fn msgpack_dialects(data: &[u8]) {
    let wire = msgpack::decode(data);
    if let Ok(value) = &wire {
        let encoded = msgpack::encode(value);
        assert_eq!(msgpack::encode(&msgpack::decode(&encoded).expect("our own bytes")), encoded);
    }
    if let Ok(value) = msgpack::decode_unproven(data) {
        let encoded = wire.map(|value| msgpack::encode(&value));
        assert_eq!(encoded, Ok(msgpack::encode(&value)));
    }
    if let Ok(value) = msgpack::decode_modern(data) {
        let encoded = msgpack::encode_modern(&value);
        assert_eq!(msgpack::encode_modern(&msgpack::decode_modern(&encoded).expect("our own bytes")), encoded);
    }
    let _ = (Crypticle::parse(data), Nonce::parse(data), crypticle().open_bytes(data));
}

/// Publications: what the shared key has not closed is refused, what it has is taken once.
pub(super) fn publication(data: &[u8]) {
    let mut ear = Ear::new(SharedKey(crypticle()), Some(PAIRS.master.public().clone()));
    assert!(ear.open(data).is_err(), "nobody has signed this");
    let mut ear = Ear::new(SharedKey(crypticle()), None);
    let plain = [PREFIX, data].concat();
    let payload = map! { "enc" => "aes", "load" => Value::Bytes(crypticle().seal_bytes(IV, &plain)) };
    let payload = msgpack::encode_map(&payload);
    if ear.open(&payload).is_ok() {
        assert!(matches!(ear.open(&payload), Err(BadPublication::Replayed { .. })));
    }
    let Ok(load) = msgpack::decode_map(data) else { return };
    let payload = publish::seal(&SharedKey(crypticle()), IV, load, u64::MAX, None);
    let mut ear = Ear::new(SharedKey(crypticle()), None);
    let opened = ear.open(&payload).expect("our own box");
    assert_eq!(opened.get().at("serial").and_then(Value::as_u64), Some(u64::MAX));
    assert!(ear.open(&payload).is_err(), "no serial is larger");
}

/// What an accepted minion may ask: the load of a request, the command in it, and the events of one.
pub(super) fn request(data: &[u8]) {
    let Ok(load) = msgpack::decode_map(data) else { return };
    let _ = (events(&load), verify_return(PAIRS.minion.public(), SIG, &load));
    let session = SessionKey(crypticle());
    let had_cmd = load.text("cmd").is_some();
    let wire = PAIRS.asker.seal(&session, &Fresh { nonce: nonce(), iv: IV, unix_s: 1 }, load);
    let Ok(Envelope::Aes(sealed)) = Envelope::decode(&wire) else { panic!("our own request") };
    let opened = sealed.open(&session, PAIRS.minion.public(), Ttl::Off);
    assert_eq!(opened.is_ok(), had_cmd);
    let Ok(opened) = opened else { return };
    assert!(SECRETS_OF_A_REQUEST.iter().all(|name| opened.get().load.at(name).is_none()), "no handler sees the token");
    let Ok(command) = Command::decode(&opened) else { return };
    assert_eq!(opened.get().load.text("cmd"), Some(command.name()));
    if let Command::SyndicReturn(entries) = &command {
        for syndic::Returns { jid, returns } in entries.iter().filter_map(syndic::returns) {
            let own = |id: &str, ret: &Map| ret.text("id") == Some(id) && ret.text("jid") == Some(jid.as_str());
            assert!(returns.iter().all(|(id, ret)| own(id, ret)), "a return names another job or minion");
        }
    }
    let wire = PAIRS.asker.seal(&session, &Fresh { nonce: nonce(), iv: IV, unix_s: 1 }, command.to_load(&web1()));
    let Ok(Envelope::Aes(sealed)) = Envelope::decode(&wire) else { panic!("our own request") };
    let opened = sealed.open(&session, PAIRS.minion.public(), Ttl::Off).expect("our own request");
    let again = Command::decode(&opened).expect("our own load");
    assert_eq!(again.to_load(&web1()), command.to_load(&web1()));
}

/// What opening a request takes out of its load.
const SECRETS_OF_A_REQUEST: [&str; 2] = ["nonce", "tok"];

/// Replies: without the key nothing is believed, and under the key only the reply to this request.
pub(super) fn reply(data: &[u8]) {
    let (session, nonce) = (SessionKey(crypticle()), nonce());
    assert!(open_reply(&session, &nonce, data).is_err(), "nobody has closed this");
    let waiting = Waiting { key: &PAIRS.minion, master: PAIRS.master.public(), enc_algo: ENC, sig_algo: SIG, nonce };
    assert!(waiting.open(data).is_err(), "nobody has signed this");
    let boxed = |head: &[u8]| {
        let plain = [PREFIX, head, data].concat();
        msgpack::encode(&Value::Bytes(session.0.seal_bytes(IV, &plain)))
    };
    let ours = open_reply(&session, &nonce, &boxed(nonce.as_str().as_bytes()));
    assert_eq!(ours.is_ok(), msgpack::decode(data).is_ok());
    let other = Nonce::from_random([9; 16]);
    assert!(open_reply(&session, &nonce, &boxed(other.as_str().as_bytes())).is_err(), "the reply to another request");
}
