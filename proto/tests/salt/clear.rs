//! `clear_commands.json`: what two masters of Salt's answered to local clients.

use halite_proto::ids::Jid;
use halite_proto::map;
use halite_proto::salt::clear::{ClearCommand, ClearError, ClearReply, Credentials};
use halite_proto::salt::envelope::{BareReply, Envelope};
use halite_proto::salt::msgpack;
use halite_proto::value::{Map, MapExt, Value};
use serde_json::Value as Json;

use crate::vectors::{every_cut, file, hex, id, items, text, value};

const MASTERS: [&str; 2] = ["salt-3008.5", "salt-3006.30"];

fn captures() -> Vec<Json> {
    let file = file("clear_commands");
    MASTERS.iter().flat_map(|master| items(&file[*master]).to_vec()).collect()
}

fn named(name: &str) -> Json {
    captures().into_iter().find(|capture| text(capture, "name") == name).unwrap()
}

fn command(capture: &Json) -> ClearCommand {
    match Envelope::decode(&hex(capture, "request_wire_hex")) {
        Ok(Envelope::Clear(load)) => ClearCommand::decode(load),
        other => panic!("{other:?}"),
    }
}

fn jid(json: &Json) -> Jid {
    Jid::parse(json.as_str().unwrap()).unwrap()
}

fn ids(json: &Json) -> Vec<halite_proto::ids::MinionId> {
    items(json).iter().map(|text| id(text.as_str().unwrap())).collect()
}

#[test]
fn envelopes_come_back_or_are_refused_as_salt_refuses_them() {
    for capture in captures() {
        let wire = hex(&capture, "request_wire_hex");
        match Envelope::decode(&wire) {
            // A sealed one without algorithms is written with them.
            Ok(Envelope::Aes(request)) => assert_eq!(request.sealed, [0; 64]),
            Ok(clear) => assert_eq!(clear.encode(), wire),
            Err(bad) => {
                let reply = msgpack::decode(&hex(&capture, "reply_wire_hex")).unwrap();
                assert_eq!(BareReply::of(&reply), Some(bad.answer()), "{}", text(&capture, "name"));
                if text(&capture, "name") != "not msgpack" {
                    assert_eq!(bad.answer().encode(), hex(&capture, "reply_wire_hex"));
                }
            }
        }
        if !wire.is_empty() {
            every_cut(&wire, |bad| Envelope::decode(bad).is_err());
        }
    }
    // The form of 3008.
    assert_eq!(BareReply::RoutingError.encode(), hex(&named("not msgpack"), "reply_wire_hex"));
}

/// The reply that the recorded JSON says, as one of ours.
fn reply(capture: &Json) -> ClearReply {
    let json = &capture["reply"];
    let load = &json["load"];
    match (command(capture), json["error"]["name"].as_str()) {
        (_, Some("AuthenticationError")) => ClearReply::Error(ClearError::Authentication),
        (_, Some("UserAuthenticationError")) => ClearReply::Error(ClearError::User),
        (ClearCommand::Publish(_), _) if load["error"].is_string() => {
            ClearReply::NoMatch { error: text(load, "error").to_owned() }
        }
        (ClearCommand::Publish(_), _) => ClearReply::Published {
            jid: jid(&load["jid"]),
            minions: ids(&load["minions"]),
            missing: ids(&load["missing"]),
        },
        (ClearCommand::Runner { .. }, _) => {
            ClearReply::Started { tag: text(json, "tag").to_owned(), jid: jid(&json["jid"]) }
        }
        (ClearCommand::MakeToken(_), _) => ClearReply::NoToken,
        (ClearCommand::GetToken(None), _) => ClearReply::TokenMissing,
        (ClearCommand::GetToken(Some(_)) | ClearCommand::Unknown, _) => ClearReply::Empty,
        (ClearCommand::Ping(load), _) => ClearReply::Done(load),
        (ClearCommand::Wheel { .. }, _) => ClearReply::Done(value(json).as_map().unwrap().clone()),
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_salts_byte_for_byte() {
    let mut seen = 0;
    for capture in captures() {
        if let Ok(Envelope::Clear(_)) = Envelope::decode(&hex(&capture, "request_wire_hex")) {
            let name = text(&capture, "name");
            assert_eq!(reply(&capture).encode(), hex(&capture, "reply_wire_hex"), "{name}");
            seen += 1;
        }
    }
    assert!(seen >= 38, "{seen}");
}

#[test]
fn a_publication_is_read_with_its_credentials() {
    let ClearCommand::Publish(publish) = command(&named("publish")) else { panic!() };
    assert!(matches!(&publish.credentials, Credentials::Key { user: Some(user), .. } if user == "root"));
    assert_eq!((publish.tgt_type.as_str(), publish.tgt.as_str()), ("glob", Some("m*")));
    assert_eq!((publish.fun.as_str(), publish.arg.len()), (Some("test.ping"), 0));
    assert_eq!((publish.jid.as_deref(), publish.ret.as_str()), (None, ""));
    assert_eq!((publish.user.as_deref(), publish.kwargs.text("delimiter")), (Some("root"), Some(":")));
    let ClearCommand::Publish(chosen) = command(&named("publish caller-chosen jid")) else { panic!() };
    assert_eq!(chosen.jid.as_deref(), Some("20260101000000000000"));
    let ClearCommand::Publish(none) = command(&named("publish no key")) else { panic!() };
    assert!(matches!(none.credentials, Credentials::None));
    // The user's own credentials go before those of the key file, which does not make up for them.
    let ClearCommand::Publish(eauth) = command(&named("publish bad eauth")) else { panic!() };
    assert!(matches!(&eauth.credentials, Credentials::Eauth { username, .. } if username == "x"));
    let ClearCommand::Publish(token) = command(&named("publish bad token")) else { panic!() };
    assert!(matches!(token.credentials, Credentials::Token(_)));
    assert!(token.kwargs.is_empty() && eauth.kwargs.is_empty());
}

#[test]
fn a_wheel_function_gets_its_arguments_and_no_credentials() {
    let ClearCommand::Wheel { fun, kwarg, credentials } = command(&named("wheel with args")) else { panic!() };
    assert_eq!((fun.as_str(), kwarg), ("key.accept", map! { "match" => "nosuch" }));
    assert!(matches!(credentials, Credentials::Key { user: None, .. }));
    let ClearCommand::Wheel { kwarg, credentials, .. } = command(&named("wheel")) else { panic!() };
    assert!(kwarg.is_empty() && matches!(credentials, Credentials::Key { user: Some(_), .. }));
}

#[test]
fn debug_shows_no_secret() {
    for capture in captures() {
        if let Ok(Envelope::Clear(load)) = Envelope::decode(&hex(&capture, "request_wire_hex")) {
            let secret = ["key", "password"].iter().find_map(|name| load.text(name).map(str::to_owned));
            let shown = format!("{:?}", ClearCommand::decode(load));
            assert!(secret.is_none_or(|secret| secret.len() < 4 || !shown.contains(&secret)), "{shown}");
        }
    }
}

#[test]
fn what_is_missing_makes_a_command_unknown() {
    let unknown = |load: Map| matches!(ClearCommand::decode(load), ClearCommand::Unknown);
    assert!(unknown(map! { "cmd" => "publish", "fun" => "test.ping" }));
    assert!(unknown(map! { "cmd" => "publish", "tgt" => "*" }));
    assert!(unknown(map! { "cmd" => "runner" }) && unknown(map! { "cmd" => "wheel" }) && unknown(map! {}));
    assert!(matches!(ClearCommand::decode(map! { "cmd" => "_auth" }), ClearCommand::Auth(_)));
    let one = map! { "cmd" => "publish", "tgt" => "*", "fun" => "x", "arg" => "one", "kwargs" => Value::Null };
    let ClearCommand::Publish(publish) = ClearCommand::decode(one) else { panic!() };
    assert_eq!((publish.arg, publish.tgt_type.as_str()), (vec![Value::from("one")], "glob"));
}

#[test]
fn each_refusal_has_its_name() {
    for (error, name) in [
        (ClearError::Authentication, "AuthenticationError"),
        (ClearError::Authorization, "AuthorizationError"),
        (ClearError::Eauth, "EauthAuthenticationError"),
        (ClearError::Token, "TokenAuthenticationError"),
        (ClearError::User, "UserAuthenticationError"),
    ] {
        let reply = msgpack::decode(&ClearReply::Error(error).encode()).unwrap();
        assert_eq!(reply.get("error").and_then(|error| error.get("name")).and_then(Value::as_str), Some(name));
    }
}
