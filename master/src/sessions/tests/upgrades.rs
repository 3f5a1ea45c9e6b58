//! A host that was a Salt minion becomes a native one under the same id.

use proto::keys::PublicKey;
use proto::message::{ErrorCode, RsaProof};
use proto::salt::rsa::PrivateKey;
use proto::salt::upgrade::vouch_for_minion;

use super::*;

/// Asks for the upgrade and returns the answer.
async fn upgrade(minion: &mut Minion, rsa: &PrivateKey, sig: Vec<u8>) -> Result<Value, (ErrorCode, String)> {
    let Request::Session(mut asked) = session(1) else { panic!("it is a session") };
    asked.upgrade = Some(RsaProof { rsa_pub: rsa.public().pem().to_owned(), sig });
    minion.send(&Request::Session(asked));
    minion.reply().await.result
}

#[tokio::test]
async fn only_the_accepted_rsa_key_hands_its_id_on() {
    let master = Master::start().await;
    let (rsa, other) = (PrivateKey::generate(2048).unwrap(), PrivateKey::generate(2048).unwrap());
    let id = MinionId::parse("web1").unwrap();
    let stored = PublicKey::Rsa(rsa.public().pem().to_owned());
    master.keys.judge(&id, &stored, None).await;
    master.accept("web1").await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Denied);
    let native = minion.keys.public();
    let key = master.keys.master_pair().public;
    let web2 = MinionId::parse("web2").unwrap();
    for (signer, sig) in [
        (&other, vouch_for_minion(&other, &id, &native, &key)),
        (&rsa, vouch_for_minion(&rsa, &web2, &native, &key)),
        (&rsa, vouch_for_minion(&rsa, &id, &native, &[9; 32])),
    ] {
        let refused = upgrade(&mut minion, signer, sig).await;
        assert!(matches!(refused, Err((ErrorCode::Refused, _))), "{refused:?}");
        assert_eq!(master.keys.key_of(&id), Some(stored.clone()));
    }
    assert_eq!(master.event("halite/minion/upgrade_refused").await.at("refused"), Some(&1.into()));
    let good = vouch_for_minion(&rsa, &id, &native, &key);
    assert_eq!(upgrade(&mut minion, &rsa, good).await, Ok(Value::Null));
    assert_eq!(minion.state().await, SessionState::Accepted);
    assert_eq!(master.keys.key_of(&id), Some(PublicKey::X25519(native)));
    let lists = master.keys.list().await;
    assert!(lists.denied.is_empty() && lists.salt.is_empty() && lists.accepted == [id], "{lists:?}");
    let file = std::fs::read_to_string(master._dir.path().join("pki/minions/web1")).unwrap();
    assert_eq!(PublicKey::from_pem(&file), Ok(PublicKey::X25519(native)));
    let mut events =
        master.bus.subscribe(EventQuery { tags: vec!["salt/key".into()], since: Since::Start, until: None });
    let mut acts = Vec::new();
    while acts.last().map(String::as_str) != Some("upgraded") {
        let event = tokio::time::timeout(PATIENCE, events.next()).await.expect("the event comes").unwrap();
        acts.push(event.map().unwrap().text("act").unwrap().to_owned());
    }
    assert_eq!(acts, ["accepted", "upgraded"]);
}

#[tokio::test]
async fn guessing_ends_after_a_few_times() {
    let master = Master::start().await;
    let rsa = PrivateKey::generate(2048).unwrap();
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.state().await, SessionState::Pending);
    for _ in 0..6 {
        assert!(upgrade(&mut minion, &rsa, vec![1; 256]).await.is_err());
    }
    let refused = master.event("halite/minion/upgrade_refused").await;
    assert_eq!(refused.text("id"), Some("web1"));
    assert_eq!(
        master.count("halite/minion/upgrade_refused").await,
        3,
        "told at the 1st, 2nd, 4th; then it is not looked at"
    );
}
