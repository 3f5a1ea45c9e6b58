//! `requests.json`: requests under a session key and their replies, in both directions.

use halite_proto::map;
use halite_proto::salt::command::{self, BadCommand, Command, FileQuery, FileRef, Listing, Waits};
use halite_proto::salt::crypticle::{BadContent, Refused, SessionKey};
use halite_proto::salt::envelope::{BadRequest, BareReply, Envelope, SealedRequest};
use halite_proto::salt::request::{
    Asker, BadReply, Fresh, MinionRequest, Token, Ttl, open_reply, sign_return, verify_return,
};
use halite_proto::salt::rsa::{EncAlgo, SigAlgo};
use halite_proto::salt::{MAX_PAYLOAD, MAX_UNPROVEN_VALUES, Nonce, Verified, msgpack};
use halite_proto::value::{Map, MapExt, Value};
use serde_json::Value as Json;

use crate::vectors::{bytes, every_cut, every_flip, file, hex, id, items, iv, private, public, session, text, value};

fn sealed(wire: &[u8]) -> SealedRequest {
    match Envelope::decode(wire) {
        Ok(Envelope::Aes(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn key() -> SessionKey {
    session(text(&file("requests"), "session_key"))
}

fn vectors() -> Vec<Json> {
    items(&file("requests")["vectors"]).to_vec()
}

fn vector(name: &str) -> Json {
    vectors().into_iter().find(|vector| text(vector, "name").starts_with(name)).unwrap()
}

fn asker() -> Asker {
    let token = Token::new(&private("minion_web1"));
    Asker { id: id("web1"), token, enc_algo: EncAlgo::OaepSha1, sig_algo: SigAlgo::Pkcs1v15Sha1 }
}

fn open(wire: &[u8]) -> Result<Verified<MinionRequest>, BadRequest> {
    sealed(wire).open(&key(), &public("minion_web1"), Ttl::Off)
}

/// A request of ours with this load, opened by the master's half.
fn ask(load: Map) -> Result<Verified<MinionRequest>, BadRequest> {
    open(&asker().seal(&key(), &fresh(), load))
}

fn fresh() -> Fresh {
    Fresh { nonce: Nonce::from_random([7; 16]), iv: [9; 16], unix_s: 1_795_220_347 }
}

#[test]
fn requests_and_replies_are_salts_byte_for_byte() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|vector| vector["request_plaintext_hex"].is_string()) {
        let (name, wire) = (text(vector, "name"), hex(vector, "request_wire_hex"));
        assert_eq!(Envelope::decode(&wire).unwrap().encode(), wire, "{name}");
        let request = open(&wire).unwrap();
        let plain = hex(vector, "request_plaintext_hex");
        let load = msgpack::decode_map(&plain[8..]).unwrap();
        assert_eq!(Value::Map(load.clone()), value(&vector["request_load"]), "{name}");
        assert_eq!(key().0.seal_map(iv(&sealed(&wire).sealed), None, &load), sealed(&wire).sealed, "{name}");
        let reply = hex(vector, "reply_wire_hex");
        let box_of = msgpack::decode(&reply).unwrap().as_bytes().unwrap().to_vec();
        assert_eq!(key().0.open_bytes(&box_of).unwrap(), hex(vector, "reply_plaintext_hex"));
        let answer = open_reply(&key(), &request.get().nonce.unwrap(), &reply).unwrap();
        assert_eq!(*answer.get(), value(&vector["reply_object"]), "{name}");
        assert_eq!(request.reply(&key(), iv(&box_of), answer.get()), reply, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 19);
}

#[test]
fn commands_are_read_and_asked_again_byte_for_byte() {
    for vector in vectors().iter().filter(|vector| vector["request_plaintext_hex"].is_string()) {
        let (name, wire) = (text(vector, "name"), hex(vector, "request_wire_hex"));
        let request = open(&wire).unwrap();
        let command = Command::decode(&request).unwrap();
        let recorded = msgpack::decode_map(&hex(vector, "request_plaintext_hex")[8..]).unwrap();
        let fresh = Fresh {
            nonce: request.get().nonce.unwrap(),
            iv: iv(&sealed(&wire).sealed),
            unix_s: recorded.at("ts").and_then(Value::as_u64).unwrap(),
        };
        let mut load = command.to_load(&id("web1"));
        load.take("ts");
        let again = asker().seal(&key(), &fresh, load);
        // Some modules put their own token into the load before the client does: then it stands elsewhere.
        let place = |name: &str| recorded.get_index_of(&Value::from(name));
        if place("tok") > place("nonce") && !recorded.contains_key(&Value::from("sig")) {
            assert_eq!(again, wire, "{name}");
        }
        assert_eq!(open(&again).unwrap().get().load, request.get().load, "{name}");
    }
}

#[test]
fn failures_are_answered_byte_for_byte() {
    let bad = vector("bad HMAC");
    assert_eq!(open(&hex(&bad, "request_wire_hex")).unwrap_err(), BadRequest::Sealed);
    assert_eq!(BadRequest::Sealed.answer().encode(), hex(&bad, "reply_wire_hex"));
    let other = vector("outer id differs");
    let request = sealed(&hex(&other, "request_wire_hex"));
    let refused = request.open(
        &SessionKey(halite_proto::salt::crypticle::Crypticle::from_random(zeroize::Zeroizing::new([1; 56]))),
        &public("minion_web1"),
        Ttl::Off,
    );
    assert_eq!(refused.unwrap_err().answer().encode(), hex(&other, "reply_wire_hex"));
    let not_salts = vector("not a salt payload");
    let refused = Envelope::decode(&hex(&not_salts, "request_wire_hex")).unwrap_err();
    assert_eq!(refused.answer().encode(), hex(&not_salts, "reply_wire_hex"));
}

#[test]
fn what_is_not_proven_is_refused() {
    let load = || map! { "cmd" => "_file_envs" };
    assert!(ask(load()).is_ok());
    let (master, minion) = (public("master"), public("minion_web1"));
    let wire = asker().seal(&key(), &fresh(), load());
    assert_eq!(sealed(&wire).open(&key(), &master, Ttl::Off), Err(BadRequest::Token));
    let stolen = SealedRequest { id: id("web2"), ..sealed(&wire) };
    assert_eq!(stolen.open(&key(), &minion, Ttl::Off), Err(BadRequest::IdsDiffer));
    let seal = |load: &Map| SealedRequest { sealed: key().0.seal_map([0; 16], None, load), ..sealed(&wire) };
    let bare = seal(&map! { "cmd" => "_file_envs", "id" => "web1" });
    assert_eq!(bare.open(&key(), &minion, Ttl::Off), Err(BadRequest::Token));
    let token = || Value::Bytes(asker().token.as_bytes().to_vec());
    let pepper = Value::Bytes(private("minion_web1").seal_x931(b"pepper").unwrap());
    let pepper = seal(&map! { "cmd" => "_file_envs", "id" => "web1", "tok" => pepper });
    assert_eq!(pepper.open(&key(), &minion, Ttl::Off), Err(BadRequest::Token));
    let no_command = seal(&map! { "id" => "web1", "tok" => token() });
    assert_eq!(no_command.open(&key(), &minion, Ttl::Off), Err(BadRequest::Command));
    assert_eq!(BadRequest::Command.answer(), BareReply::Exception);
    let odd_nonce = seal(&map! { "id" => "web1", "tok" => token(), "nonce" => "x" });
    assert_eq!(odd_nonce.open(&key(), &minion, Ttl::Off), Err(BadRequest::Nonce));
    let list = SealedRequest { sealed: key().0.seal([0; 16], None, &Value::List(vec![])), ..sealed(&wire) };
    assert_eq!(list.open(&key(), &minion, Ttl::Off), Err(BadRequest::LoadNotMap));
    assert_eq!(format!("{:?}", asker().token), "Token(..)");
}

#[test]
fn a_load_without_nonce_is_answered_without_one() {
    let token = Value::Bytes(asker().token.as_bytes().to_vec());
    let load = map! { "cmd" => "_mine_flush", "id" => "web1", "tok" => token };
    let request = SealedRequest {
        sealed: key().0.seal_map([0; 16], None, &load),
        ..sealed(&asker().seal(&key(), &fresh(), map! {}))
    };
    let request = request.open(&key(), &public("minion_web1"), Ttl::Off).unwrap();
    let reply = msgpack::decode(&request.reply(&key(), [3; 16], &true.into())).unwrap();
    assert_eq!(key().0.open(None, reply.as_bytes().unwrap()), Ok(Value::Bool(true)));
}

#[test]
fn requests_age_only_where_that_is_asked_for() {
    let wire = asker().seal(&key(), &fresh(), map! { "cmd" => "_file_envs" });
    let at = |now_s| sealed(&wire).open(&key(), &public("minion_web1"), Ttl::Seconds { ttl_s: 60, now_s });
    assert!(at(fresh().unix_s + 60).is_ok() && at(fresh().unix_s - 5).is_ok());
    assert_eq!(at(fresh().unix_s + 61), Err(BadRequest::Stale));
    assert_eq!(at(fresh().unix_s + 61).unwrap_err().answer(), BareReply::BadLoad);
}

#[test]
fn damaged_boxes_are_refused() {
    let vector = vector("_file_hash");
    let request = sealed(&hex(&vector, "request_wire_hex"));
    let (key, minion) = (key(), public("minion_web1"));
    let refused = |bad: &[u8]| {
        let request = SealedRequest { sealed: bad.to_vec(), ..request.clone() };
        request.open(&key, &minion, Ttl::Off) == Err(BadRequest::Sealed)
    };
    every_flip(&request.sealed, refused);
    every_cut(&request.sealed, refused);
    every_cut(&hex(&vector, "request_wire_hex"), |bad| Envelope::decode(bad).is_err());
    let nonce =
        Nonce::parse(&bytes(&msgpack::decode_map(&hex(&vector, "request_plaintext_hex")[8..]).unwrap(), "nonce"));
    let reply = hex(&vector, "reply_wire_hex");
    every_flip(&reply, |bad| open_reply(&key, &nonce.unwrap(), bad).is_err());
    every_cut(&reply, |bad| open_reply(&key, &nonce.unwrap(), bad).is_err());
}

#[test]
fn a_bare_reply_is_told_from_a_box() {
    let nonce = Nonce::from_random([7; 16]);
    for bare in [
        BareReply::BadLoad,
        BareReply::Empty,
        BareReply::Exception,
        BareReply::NotAMap,
        BareReply::NulInId,
        BareReply::RoutingError,
    ] {
        assert_eq!(open_reply(&key(), &nonce, &bare.encode()), Err(BadReply::Bare(bare)));
    }
    assert_eq!(open_reply(&key(), &nonce, b"\x01"), Err(BadReply::NotABox));
    assert_eq!(open_reply(&key(), &nonce, b"\xc1"), Err(BadReply::NotABox));
    assert_eq!(open_reply(&key(), &nonce, b"\xa0"), Err(BadReply::Content(BadContent::Box(Refused))));
}

#[test]
fn envelopes_are_judged_before_they_are_opened() {
    let refused = |map: Map| Envelope::decode(&msgpack::encode_map(&map)).unwrap_err();
    let aes = |id: &str| map! { "enc" => "aes", "load" => "x", "version" => 3, "id" => id };
    assert_eq!(refused(aes("a\0b")).answer(), BareReply::NulInId);
    assert_eq!(refused(aes("../x")), BadRequest::Id);
    assert_eq!(refused(map! { "enc" => "aes", "load" => "x", "version" => 3 }), BadRequest::Field("id"));
    assert_eq!(refused(map! { "enc" => "aes", "load" => 1, "version" => 3, "id" => "x" }), BadRequest::Field("load"));
    assert_eq!(refused(map! { "enc" => "pub", "load" => 1, "version" => 3 }), BadRequest::Field("enc"));
    let mut odd = aes("x");
    odd.set("enc_algo", "OAEP-MD5");
    assert_eq!(refused(odd), BadRequest::Algorithm);
    assert_eq!(Envelope::decode(&vec![0; MAX_PAYLOAD + 1]), Err(BadRequest::TooLarge));
}

#[test]
fn what_is_not_proven_holds_few_values() {
    let load = |len| map! { "cmd" => "publish", "tgt" => vec![Value::Null; len] };
    let payload = |len| Envelope::Clear(load(len)).encode();
    assert!(Envelope::decode(&payload(MAX_UNPROVEN_VALUES - 20)).is_ok());
    assert_eq!(Envelope::decode(&payload(MAX_UNPROVEN_VALUES)), Err(BadRequest::TooLarge));
    assert_eq!(msgpack::decode_unproven_map(&msgpack::encode_map(&load(2))), Ok(load(2)));
    // What the box of a proven minion holds may be more.
    assert!(ask(map! { "cmd" => "_return", "return" => vec![Value::Null; MAX_UNPROVEN_VALUES] }).is_ok());
}

#[test]
fn debug_shows_no_load() {
    let request = ask(map! { "cmd" => "_return", "jid" => "x", "return" => "hunter2" }).unwrap();
    let command = Command::decode(&request).unwrap();
    let envelope = Envelope::Clear(map! { "cmd" => "publish", "key" => "hunter2" });
    let shown = format!("{request:?} {:?} {command:?} {envelope:?}", request.get());
    assert!(shown.contains("_return") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn a_return_carries_its_own_signature() {
    let vector = vector("_return with minion_sign_messages");
    let (private, public) = (private("minion_web1"), public("minion_web1"));
    let recorded = value(&vector["request_load"]).as_map().unwrap().clone();
    assert!(recorded.at("sig").is_some());
    assert_eq!(verify_return(&public, SigAlgo::Pkcs1v15Sha1, &recorded), Ok(()));
    let mut again = recorded.clone();
    again.take("sig");
    sign_return(&private, SigAlgo::Pkcs1v15Sha1, &mut again);
    assert_eq!(again.at("sig"), recorded.at("sig"));
    let mut forged = recorded.clone();
    forged.set("return", false);
    assert!(verify_return(&public, SigAlgo::Pkcs1v15Sha1, &forged).is_err());
    forged.take("sig");
    assert!(verify_return(&public, SigAlgo::Pkcs1v15Sha1, &forged).is_err());
}

/// Asks for a command and reads it back.
fn round(command: &Command) {
    let request = ask(command.to_load(&id("web1"))).unwrap();
    assert_eq!(Command::decode(&request).as_ref(), Ok(command));
}

#[test]
fn each_command_comes_back() {
    let file = || FileRef { path: "a/b.sls".into(), saltenv: "base".into() };
    for query in [FileQuery::Find, FileQuery::Hash, FileQuery::HashAndStat] {
        round(&Command::File(query, file()));
    }
    for listing in [Listing::Dirs, Listing::EmptyDirs, Listing::Files, Listing::Symlinks] {
        round(&Command::FileList { listing, saltenv: "dev".into(), prefix: "p".into() });
    }
    for env_only in [false, true] {
        round(&Command::MasterOpts { env_only });
    }
    round(&Command::MasterTops { opts: map! { "id" => "web1" } });
    round(&Command::MineDelete { fun: "test.ping".into() });
    round(&Command::MineFlush);
    round(&Command::RevokeAuth { preserve_minion_cache: true });
    round(&Command::ServeFile { file: file(), loc: 7, gzip: Some(9) });
    round(&Command::SyndicReturn(vec![map! { "jid" => "x" }]));
    let odd =
        ask(map! { "cmd" => "_syndic_return", "load" => vec![Value::Null, map! { "jid" => "x" }.into()] }).unwrap();
    assert_eq!(Command::decode(&odd), Ok(Command::SyndicReturn(vec![map! { "jid" => "x" }])));
    let old = ask(map! { "cmd" => "_syndic_return", "jid" => "x", "load" => map! { "fun" => "y" } }).unwrap();
    let Ok(Command::SyndicReturn(entries)) = Command::decode(&old) else { panic!() };
    assert_eq!((entries.len(), entries[0].text("jid")), (1, Some("x")), "one job, with what was published");
    round(&Command::FileReceive { path: vec!["a".into()], size: 3, loc: 0, data: vec![0xff, 0] });
    for (name, wrap) in [("minion_pub", Waits::No), ("minion_publish", Waits::Yes)] {
        let load = map! { "cmd" => name, "fun" => "test.ping", "tgt" => "*" };
        let request = ask(load).unwrap();
        let Ok(Command::Publish(waits, _)) = Command::decode(&request) else { panic!() };
        assert_eq!(waits, wrap);
    }
    let runner = ask(map! { "cmd" => "minion_runner", "fun" => "x.y" }).unwrap();
    assert!(matches!(Command::decode(&runner), Ok(Command::Runner(_))));
}

#[test]
fn what_is_no_command_is_answered_with_an_empty_map() {
    let refused = |load: Map| Command::decode(&ask(load).unwrap()).unwrap_err();
    assert_eq!(refused(map! { "cmd" => "__init__" }), BadCommand::Unknown);
    assert_eq!(refused(map! { "cmd" => "_file_hash" }), BadCommand::Field("path"));
    assert_eq!(refused(map! { "cmd" => "_return", "jid" => "x" }), BadCommand::Field("return"));
    assert_eq!(BadCommand::Unknown.answer(), Value::Map(map! {}));
    for part in ["", ".", "..", "a/b", "a\\b", "a\0"] {
        let load = map! { "cmd" => "_file_recv", "path" => vec!["ok", part], "size" => 1, "loc" => 0, "data" => "x" };
        assert_eq!(refused(load), BadCommand::Field("path"), "{part:?}");
    }
}

#[test]
fn events_are_found_in_both_forms() {
    let single =
        map! { "cmd" => "_minion_event", "tag" => "a/b", "data" => map! { "x" => 1 }, "pretag" => Value::Null };
    assert_eq!(command::events(&single), [("a/b", single.clone())]);
    let list = vec![
        Value::Map(map! { "tag" => "t/1", "data" => map! { "x" => 1 } }),
        Value::Map(map! { "tag" => "t/2", "y" => 2 }),
        Value::Map(map! { "data" => map! {} }),
        Value::Null,
    ];
    let many = map! { "cmd" => "_minion_event", "events" => list };
    assert_eq!(command::events(&many), [("t/1", map! { "x" => 1 }), ("t/2", map! { "tag" => "t/2", "y" => 2 })]);
    assert!(command::events(&map! { "cmd" => "_minion_event" }).is_empty());
}
