//! Requests as Salt's own classes made them, at the listener, whose keys are the recorded ones: whole they are understood;
//! cut off or with a bit turned over, at every byte, each is answered and changes nothing.

use proto::keys::PublicKey as StoredKey;
use proto::salt::envelope::{BareReply, Envelope};
use proto::salt::rsa::PublicKey;
use serde_json::Value as Json;

use super::*;

fn file(name: &str) -> Json {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/data/salt").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Returns a recorded request.
fn request(file_name: &str, name: &str) -> Vec<u8> {
    let vectors = file(file_name)["vectors"].as_array().unwrap().clone();
    let vector = vectors.iter().find(|vector| vector["name"].as_str().unwrap().starts_with(name)).unwrap();
    unhex(vector["request_wire_hex"].as_str().unwrap())
}

/// Starts a master with the recorded keys, `web1` accepted, and its recorded session key.
async fn recorded() -> Master {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let keys = file("rsa_keys.json")["keys"].clone();
    let text = |name: &str, field: &str| keys[name][field].as_str().unwrap().to_owned();
    let pki = dir.path().join("pki");
    std::fs::create_dir_all(pki.join("minions")).unwrap();
    disk::write(&pki.join("master.pem"), text("master", "private_pem").as_bytes()).unwrap();
    std::fs::write(pki.join("minions/web1"), text("minion_web1", "public_pem")).unwrap();
    disk::folder(&dir.path().join("sessions")).unwrap();
    let session = file("requests.json")["session_key"].as_str().unwrap().to_owned();
    disk::write(&dir.path().join("sessions/web1"), session.as_bytes()).unwrap();
    Master::start_with(dir, |_| {}).await
}

/// Sends a request cut off before every byte, then with one bit of every byte turned over; `judge` sees the damaged ones and
/// their answers.
async fn damage(master: &Master, whole: &[u8], mut judge: impl FnMut(&[u8], &Bytes)) {
    let mut link = connect(&master.requests, SocketType::Req).await;
    for at in 0..whole.len() {
        let reply = exchange(&mut link, whole[..at].to_vec()).await.expect("what is cut off is answered");
        let bare = BareReply::of(&proto::salt::msgpack::decode(&reply).unwrap());
        assert!(bare.is_some(), "cut at {at}");
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        let reply = exchange(&mut link, flipped.clone()).await.expect("what is damaged is answered");
        judge(&flipped, &reply);
    }
}

/// Tells whether a reply hands out keys.
fn accepts(reply: &[u8]) -> bool {
    let inner = || {
        let outer = proto::salt::msgpack::decode_map(reply).ok()?;
        proto::salt::msgpack::decode_map(outer.at("load")?.as_bytes()?).ok()
    };
    inner().is_some_and(|inner| inner.at("session").is_some())
}

#[tokio::test]
async fn a_damaged_login_gets_no_keys_but_for_the_key_that_is_accepted() {
    let master = recorded().await;
    let accepted = file("rsa_keys.json")["keys"]["minion_web1"]["public_pem"].as_str().unwrap().to_owned();
    let accepted = PublicKey::from_pem(&accepted).unwrap();
    for name in ["accepted, minion has no master key yet", "accepted, with token"] {
        let whole = request("auth.json", name);
        let mut handed_out = 0;
        damage(&master, &whole, |damaged, reply| {
            if !accepts(reply) {
                return;
            }
            handed_out += 1;
            let Ok(Envelope::Clear(load)) = Envelope::decode(damaged) else { panic!("it was not understood") };
            let key = load.text("pub").and_then(|pem| PublicKey::from_pem(pem).ok());
            assert_eq!((load.text("id"), key.as_ref()), (Some("web1"), Some(&accepted)));
        })
        .await;
        assert!(handed_out > 0 && handed_out < whole.len() / 2, "{name}: {handed_out}");
        let mut link = connect(&master.requests, SocketType::Req).await;
        assert!(accepts(&exchange(&mut link, whole).await.unwrap()), "undamaged it is still accepted");
    }
    let lists = master.keys.list().await;
    assert_eq!(lists.accepted.iter().map(MinionId::as_str).collect::<Vec<_>>(), ["web1"]);
    let stored = std::fs::read_to_string(master.dir.path().join("pki/minions/web1")).unwrap();
    let StoredKey::Rsa(stored) = StoredKey::from_pem(&stored).unwrap() else { panic!("an RSA key") };
    assert_eq!(PublicKey::from_pem(&stored).unwrap(), accepted);
}

#[tokio::test]
async fn a_damaged_return_or_event_counts_once_or_not_at_all() {
    let master = recorded().await;
    for (name, tag) in [
        ("_return of test.ping", "salt/job/20260101000000000000/ret/web1"),
        ("_minion_event start", "salt/minion/web1/start"),
        ("_minion_event beacons", "salt/beacon/web1/"),
    ] {
        let whole = request("requests.json", name);
        let boxed = match Envelope::decode(&whole).unwrap() {
            Envelope::Aes(sealed) => sealed.sealed,
            Envelope::Clear(_) => panic!("it is sealed"),
        };
        let at = whole.windows(boxed.len()).position(|window| window == boxed).unwrap();
        let seen = async || master.tags().await.iter().filter(|seen| seen.starts_with(tag)).count();
        let mut understood = 0;
        damage(&master, &whole, |damaged, reply| {
            let is_boxed = damaged[at..].starts_with(&boxed);
            let bare = BareReply::of(&proto::salt::msgpack::decode(reply).unwrap());
            understood += usize::from(bare.is_none());
            assert!(is_boxed || bare.is_some(), "{name}: a damaged box was opened");
        })
        .await;
        let (before, mut link) = (seen().await, connect(&master.requests, SocketType::Req).await);
        let reply = exchange(&mut link, whole.clone()).await.unwrap();
        assert!(
            BareReply::of(&proto::salt::msgpack::decode(&reply).unwrap()).is_none(),
            "{name}: undamaged it is answered"
        );
        let once = seen().await;
        assert!(once > 0 && (before == 0 || before == once), "{name}: {before}, then {once}");
        assert!(understood < whole.len() - boxed.len(), "{name}: {understood}");
        exchange(&mut link, whole).await.unwrap();
        assert_eq!(seen().await, once, "{name}: a replay changes nothing");
    }
    assert_eq!(master.keys.list().await.accepted.len(), 1);
}

#[tokio::test]
async fn every_recorded_request_is_answered() {
    let master = recorded().await;
    let mut link = connect(&master.requests, SocketType::Req).await;
    let session = file("requests.json")["session_key"].as_str().unwrap().to_owned();
    let session = SessionKey(proto::salt::crypticle::Crypticle::parse(session.as_bytes()).unwrap());
    for vector in file("requests.json")["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let reply = exchange(&mut link, unhex(vector["request_wire_hex"].as_str().unwrap())).await.unwrap();
        let Some(nonce) = vector["request_load"]["nonce"].as_str().map(unhex) else {
            let is_bare = BareReply::of(&proto::salt::msgpack::decode(&reply).unwrap()).is_some();
            assert_eq!(is_bare, !name.contains("minion_sign_messages"), "{name}");
            continue;
        };
        let nonce = Nonce::from_random(nonce.try_into().unwrap());
        let opened = open_reply(&session, &nonce, &reply);
        let refused = ["bad HMAC", "outer id differs"].iter().any(|bad| name.starts_with(bad));
        assert_eq!(opened.is_err(), refused, "{name}: {:?}", opened.err());
    }
}
