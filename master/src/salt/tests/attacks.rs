//! What a peer must not be able to do.

use proto::salt::envelope::{BareReply, Envelope};

use super::*;

fn bare(reply: &Bytes) -> Option<BareReply> {
    BareReply::of(&proto::salt::msgpack::decode(reply).unwrap())
}

#[tokio::test]
async fn both_forms_of_events_are_judged_alike() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let data = map! { "id" => "forged", "act" => "accept" };
    for tag in ["salt/key", "salt/job/20260101000000000000/ret/web2", "salt/beacon/web2/load/", "key", "salt/auth"] {
        let single = map! { "cmd" => "_minion_event", "tag" => tag, "data" => data.clone() };
        let item = map! { "tag" => tag, "data" => data.clone() };
        let several = map! { "cmd" => "_minion_event", "events" => vec![Value::from(item)] };
        assert_eq!(minion.request(single).await, Value::Null);
        assert_eq!(minion.request(several).await, Value::Null);
    }
    let own = map! { "tag" => "myco/x", "data" => data.clone() };
    let beacon = map! { "tag" => "salt/beacon/web1/load/", "data" => data.clone() };
    let several = map! { "cmd" => "_minion_event", "events" => vec![Value::from(own), Value::from(beacon)] };
    assert_eq!(minion.request(several).await, Value::Null);
    let single = map! { "cmd" => "_minion_event", "tag" => "myco/y", "data" => data, "pretag" => Value::Null };
    assert_eq!(minion.request(single).await, Value::Null);
    let tags = master.tags().await;
    // The one `salt/key` is the master's own, of the acceptance.
    assert_eq!(tags.iter().filter(|tag| *tag == "salt/key").count(), 1, "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.contains("web2") || tag == "key"), "{tags:?}");
    assert_eq!(master.event("myco/x").await.text("id"), Some("web1"), "the sender is who it has proven to be");
    let whole = master.event("myco/y").await;
    assert_eq!((whole.text("cmd"), whole.text("id")), (Some("_minion_event"), Some("web1")));
    assert!(whole.at("ts").is_some() && whole.at("tok").is_none() && whole.at("nonce").is_none());
    let denied = master.event("halite/minion/web1/denied").await;
    assert_eq!((denied.text("tag"), denied.at("denied")), (Some("salt/key"), Some(&1.into())));
}

#[tokio::test]
async fn a_replayed_event_is_answered_and_not_fired_again() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let load = map! { "cmd" => "_minion_event", "tag" => "myco/once", "data" => Map::new() };
    let (nonce, payload) = minion.seal(load);
    for _ in 0..3 {
        let reply = minion.ask(payload.clone()).await.unwrap();
        assert_eq!(open_reply(minion.session(), &nonce, &reply).unwrap().into_inner(), Value::Null);
    }
    assert_eq!(master.count("myco/once").await, 1);
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let master = Master::start().await;
    let mut web = Minion::accepted(&master, "web1", 1).await;
    let mut db = Minion::accepted(&master, "db1", 2).await;
    let load = map! { "cmd" => "_minion_event", "tag" => "myco/forged", "data" => Map::new() };
    // Its own session key in another's envelope.
    let (_, payload) = db.seal(load.clone());
    let Ok(Envelope::Aes(mut sealed)) = Envelope::decode(&payload) else { panic!("it is sealed") };
    sealed.id = web.id.clone();
    let reply = db.ask(Envelope::Aes(sealed).encode()).await.unwrap();
    assert_eq!(bare(&reply), Some(BareReply::BadLoad));
    // Another's session key, with a token of its own.
    std::mem::swap(&mut web.credentials, &mut db.credentials);
    db.asker.id = web.id.clone();
    let (_, payload) = db.seal(load);
    let reply = db.ask(payload).await.unwrap();
    assert_eq!(bare(&reply), Some(BareReply::BadLoad));
    assert_eq!(master.count("myco/forged").await, 0);
}

#[tokio::test]
async fn ids_stay_out_of_paths() {
    let master = Master::start().await;
    let mut link = connect(&master.requests, SocketType::Req).await;
    for id in ["../salt-escape", "a/../../salt-escape", "/etc/x", "..", ".x", "a\u{0}b", ""] {
        let outer = map! { "enc" => "aes", "load" => Value::Bytes(vec![1; 64]), "version" => 3, "id" => id };
        let reply = exchange(&mut link, proto::salt::msgpack::encode_map(&outer)).await.unwrap();
        assert!(matches!(bare(&reply), Some(BareReply::BadLoad | BareReply::NulInId)), "{id:?}");
        let auth = map! { "cmd" => "_auth", "id" => id, "nonce" => "0".repeat(32), "enc_algo" => "OAEP-SHA1",
        "sig_algo" => "PKCS1v15-SHA1", "pub" => rsa(1).public().pem() };
        let clear = map! { "enc" => "clear", "load" => auth, "version" => 3 };
        let reply = exchange(&mut link, proto::salt::msgpack::encode_map(&clear)).await.unwrap();
        let reply = proto::salt::msgpack::decode_map(&reply).unwrap();
        let load = reply.at("load").and_then(Value::as_bytes).unwrap();
        let load = proto::salt::msgpack::decode_map(load).unwrap();
        assert_eq!(load.at("ret"), Some(&false.into()), "{id:?}");
    }
    // An id that nobody has makes no file either.
    let outer = map! { "enc" => "aes", "load" => Value::Bytes(vec![1; 64]), "version" => 3, "id" => "nobody" };
    exchange(&mut link, proto::salt::msgpack::encode_map(&outer)).await.unwrap();
    assert!(!master.dir.path().join("salt-escape").exists() && !master.dir.path().join("../salt-escape").exists());
    assert_eq!(std::fs::read_dir(master.dir.path().join("sessions")).unwrap().count(), 0);
    assert_eq!(master.keys.list().await, crate::command::KeyLists::default());
}

#[tokio::test]
async fn what_is_not_known_is_answered_as_salt_does() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    assert_eq!(minion.request(map! { "cmd" => "no_such" }).await, Map::new().into());
    let verify = map! { "cmd" => "verify_minion", "id_" => "web1", "token" => "x" };
    assert_eq!(minion.request(verify).await, "".into(), "as of Salt's master, which cannot call it either");
    assert_eq!(minion.request(map! { "cmd" => "_return", "jid" => "req" }).await, Map::new().into());
    assert_eq!(minion.request(map! { "cmd" => "minion_runner", "fun" => "test.arg" }).await, Map::new().into());
    let revoked = minion.request(map! { "cmd" => "revoke_auth" }).await;
    assert_eq!(revoked.as_map().unwrap().text("cmd"), Some("revoke_auth"), "it is off: the load comes back");
    assert_eq!(minion.auth().await, Auth::Accepted);
    let clear =
        |load: Map| proto::salt::msgpack::encode_map(&map! { "enc" => "clear", "load" => load, "version" => 3 });
    let ping = map! { "cmd" => "ping", "x" => 1 };
    let reply = minion.ask(clear(ping.clone())).await.unwrap();
    assert_eq!(proto::salt::msgpack::decode_map(&reply), Ok(ping));
    for (payload, expected) in [
        (clear(map! { "cmd" => "no_such" }), BareReply::Empty),
        (b"\xc1".to_vec(), BareReply::RoutingError),
        (msgpack::encode_map(&map! { "enc" => "clear", "load" => Map::new(), "version" => 2 }), BareReply::BadLoad),
        (msgpack::encode_map(&map! { "enc" => "clear", "load" => 1, "version" => 3 }), BareReply::NotAMap),
        (msgpack::encode_map(&map! { "enc" => "clear", "version" => 3 }), BareReply::BadLoad),
    ] {
        let reply = minion.ask(payload).await.unwrap();
        assert_eq!(bare(&reply), Some(expected));
    }
}

#[tokio::test]
async fn a_large_return_may_be_the_first_frame_and_a_hundred_mebibytes_close_the_connection() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    minion.link = connect(&master.requests, SocketType::Req).await;
    let ret =
        map! { "cmd" => "_return", "jid" => "20260101000000000000", "fun" => "f", "return" => "x".repeat(10_000_000) };
    assert_eq!(minion.request(ret).await, Value::Null);
    assert_eq!(master.event("salt/job/20260101000000000000/ret/web1").await.text("return").unwrap().len(), 10_000_000);
    let mut link = connect(&master.requests, SocketType::Req).await;
    assert!(exchange(&mut link, vec![0xc0; 100 << 20]).await.is_none(), "it is closed before it is buffered");
    assert_eq!(minion.request(map! { "cmd" => "_file_envs" }).await, vec!["base"].into(), "others are served");
}

#[tokio::test]
async fn an_old_request_is_refused_where_requests_have_an_age() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let master = Master::start_with(dir, |config| config.request_ttl = Duration::from_secs(60)).await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    assert_eq!(minion.request(map! { "cmd" => "_file_envs" }).await, vec!["base"].into());
    let fresh = Fresh { nonce: Nonce::from_random([7; 16]), iv: *random(), unix_s: unix_s() - 61 };
    let payload = minion.asker.seal(minion.session(), &fresh, map! { "cmd" => "_file_envs" });
    let reply = minion.ask(payload).await.unwrap();
    assert_eq!(bare(&reply), Some(BareReply::BadLoad));
}

#[tokio::test]
async fn a_minion_may_revoke_itself_alone_where_that_is_on() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let master = Master::start_with(dir, |config| config.revoke = true).await;
    let mut star = Minion::accepted(&master, "*", 1).await;
    let mut web = Minion::accepted(&master, "web1", 2).await;
    // The reply is under a session key that is gone by then.
    let (_, payload) = star.seal(map! { "cmd" => "revoke_auth" });
    star.ask(payload).await;
    let accepted: Vec<String> = master.keys.list().await.accepted.iter().map(ToString::to_string).collect();
    assert_eq!(accepted, ["web1"], "a glob in an id means nobody else");
    assert_eq!(web.request(map! { "cmd" => "_file_envs" }).await, vec!["base"].into());
}
