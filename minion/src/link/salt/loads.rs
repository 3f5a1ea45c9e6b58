//! Loads as Salt's wire has them: what the spool holds, what is asked, and what is published. Pure.

use bytes::Bytes;
use proto::ids::{Jid, MinionId};
use proto::map;
use proto::message::{Publish, Request, Spooled};
use proto::msgpack;
use proto::target::Target;
use proto::value::{Map, MapExt, Value};

/// How long the memory of jobs keeps a jid. Salt's publications do not expire: a serial is heard once under one key, so a
/// job can only come twice if the master publishes it twice.
pub(super) const JID_LIFE_MS: u64 = 900_000;

/// Returns a spooled load as `_minion_event` or `_return`, and its place in the spool.
pub(super) fn spooled(row: &Bytes, id: &MinionId) -> Option<(Spooled, Map)> {
    match Request::decode(row).ok()? {
        Request::MinionEvents(load) => {
            let event = |item: &proto::message::event::EventItem| {
                let data = msgpack::decode_map(&item.data).ok()?;
                Some(Value::Map(map! { "tag" => item.tag.as_str(), "data" => data }))
            };
            let events: Vec<Value> = load.events.iter().filter_map(event).collect();
            let sent = map! { "id" => id, "cmd" => "_minion_event", "events" => events, "pretag" => Value::Null };
            Some((load.at, sent))
        }
        Request::Return(ret) => {
            let mut sent = map! { "cmd" => "_return", "id" => id };
            sent.extend(msgpack::decode_map(&ret.load).ok()?);
            Some((ret.at, sent))
        }
        _ => None,
    }
}

/// Returns the load of a sign of life, `ping_interval`.
pub(super) fn ping(id: &MinionId) -> Map {
    map! { "id" => id, "cmd" => "_minion_event", "pretag" => Value::Null, "data" => "ping", "tag" => "minion_ping" }
}

/// Reads a publication. One that is no job, or whose target cannot be read, is none of ours: on this wire everybody hears
/// everything, and Salt's minions are silent about what does not mean them.
pub(super) fn publication(mut load: Map, now_ms: u64) -> Result<Publish, &'static str> {
    let jid = load.text("jid").and_then(|jid| Jid::parse(jid).ok()).ok_or("it has no proper jid")?;
    let serial = load.take("serial").as_ref().and_then(Value::as_u64).ok_or("it has no serial")?;
    if load.at("fun").is_none() || load.at("tgt").is_none() {
        return Err("it lacks a function or a target");
    }
    if Target::of(&load).is_err() {
        return Err("its target cannot be read");
    }
    Ok(Publish { jid, serial, expires_ms: now_ms.saturating_add(JID_LIFE_MS), load })
}

#[cfg(test)]
mod tests {
    use proto::message::event::EventItem;
    use proto::message::{MinionEvents, Return};

    use super::*;

    const JID: &str = "20261120235232821625";

    fn id() -> MinionId {
        MinionId::parse("m1").unwrap()
    }

    #[test]
    fn a_batch_of_the_spool_is_one_minion_event() {
        let at = Spooled { spool: [1; 16], n: 7 };
        let item = |tag: &str| EventItem { tag: tag.into(), data: msgpack::encode_map(&map! { "n" => tag }).into() };
        let row = Request::MinionEvents(MinionEvents { at, events: vec![item("a"), item("b")] }).encode();
        let (told, load) = spooled(&row.into(), &id()).unwrap();
        assert_eq!((told, load.text("cmd"), load.text("id")), (at, Some("_minion_event"), Some("m1")));
        let expected = ["a", "b"].map(|tag| map! { "tag" => tag, "data" => map! { "n" => tag } });
        assert_eq!(load.at("events"), Some(&Value::from(expected.to_vec())));
        assert_eq!(load.at("pretag"), Some(&Value::Null));
    }

    #[test]
    fn a_return_keeps_its_fields_and_loses_what_is_of_the_native_wire() {
        let at = Spooled { spool: [1; 16], n: 7 };
        let ret = map! { "cmd" => "_return", "return" => true, "jid" => JID, "fun" => "test.ping", "retcode" => 0 };
        let row = Request::Return(Return::new(at, &ret).unwrap()).encode();
        let (_, load) = spooled(&row.into(), &id()).unwrap();
        let names: Vec<String> = load.keys().map(Value::to_key).collect();
        assert_eq!(names, ["cmd", "id", "return", "jid", "fun", "retcode"]);
    }

    #[test]
    fn what_is_no_job_is_not_taken() {
        let good = map! { "jid" => JID, "fun" => "test.ping", "tgt" => "*", "tgt_type" => "glob", "serial" => 3 };
        let publish = publication(good.clone(), 1000).unwrap();
        assert_eq!((publish.serial, publish.expires_ms), (3, 1000 + JID_LIFE_MS));
        assert_eq!(publish.load.at("serial"), None);
        let refused = |name: &str, value: Value| {
            let mut bad = good.clone();
            bad.set(name, value);
            publication(bad, 1000).unwrap_err()
        };
        assert_eq!(refused("jid", "../x".into()), "it has no proper jid");
        assert_eq!(refused("serial", "x".into()), "it has no serial");
        assert_eq!(refused("tgt_type", "no such type".into()), "its target cannot be read");
        let mut bad = good.clone();
        bad.take("fun");
        assert_eq!(publication(bad, 1000).unwrap_err(), "it lacks a function or a target");
    }
}
