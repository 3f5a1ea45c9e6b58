//! What a syndic says for the minions of the master below it (salt-wire.md §5.2): their returns, gathered by job, and
//! which of them a job is for. Whether it may is not decided here.

use crate::ids::Jid;
use crate::map;
use crate::tag::Tag;
use crate::value::{Map, MapExt, Value};

/// The fields of an entry that go to each of its returns.
const SHARED: [&str; 5] = ["master_id", "fun", "fun_args", "out", "sig"];

/// What an entry of `_syndic_return` holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returns {
    /// The job.
    pub jid: Jid,
    /// Ids, not yet checked, and the return of each: what its minion would have sent as `_return`.
    pub returns: Vec<(String, Map)>,
}

/// Takes an entry apart as Salt's master does. One that lacks `return`, `jid` or `id` is nothing, and so is a return that is
/// no map: Salt's syndics send none.
pub fn returns(entry: &Map) -> Option<Returns> {
    entry.at("id")?;
    let jid = Jid::parse(entry.text("jid")?).ok()?;
    let said = entry.at("return").and_then(Value::as_map)?;
    let one = |(id, item): (&Value, &Value)| Some((id.as_str()?.to_owned(), one(&jid, id, item.as_map()?, entry)));
    let returns = said.iter().filter_map(one).collect();
    Some(Returns { jid, returns })
}

fn one(jid: &Jid, id: &Value, item: &Map, entry: &Map) -> Map {
    let mut ret = map! { "jid" => jid, "id" => id.clone() };
    let named = |name: &Value| matches!(name.as_str(), Some("jid" | "id"));
    ret.extend(item.iter().filter(|(name, _)| !named(name)).map(|(name, value)| (name.clone(), value.clone())));
    for name in SHARED {
        if let Some(value) = entry.at(name) {
            ret.set(name, value.clone());
        }
    }
    // Older minions did not send it back, and the syndic has it once for all of them.
    if let (None, Some(Value::List(arg))) = (ret.at("fun_args"), entry.at("arg")) {
        ret.set("fun_args", arg.clone());
    }
    ret
}

/// Which minions of a syndic a job is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The job.
    pub jid: Jid,
    /// Their ids, not yet checked.
    pub minions: Vec<String>,
}

/// Reads an event that a syndic has sent up: where a job was made, it names the minions that it is for. Below it there may be
/// further syndics, whose events have their tags in front.
pub fn announcement(tag: &str, data: &Map) -> Option<Announcement> {
    let jid = Jid::parse(data.text("jid")?).ok()?;
    let path = tag.strip_suffix(Tag::job_new(&jid).as_str())?;
    if !path.is_empty() && !path.ends_with('/') {
        return None;
    }
    let minions = data.at("minions").and_then(Value::as_list)?;
    let minions = minions.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Announcement { jid, minions })
}

/// Returns what a job's load, or the event that announced it below, says of a job that this master has not published: the
/// fields of a `new` event.
pub fn job(jid: &Jid, said: &Map) -> Map {
    let field = |name: &str| said.at(name).cloned().unwrap_or_default();
    map! { "jid" => jid, "tgt_type" => field("tgt_type"), "tgt" => field("tgt"), "user" => field("user"),
    "fun" => field("fun"), "arg" => field("arg") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JID: &str = "20261121001531634687";

    fn entry() -> Map {
        let ret = map! { "return" => true, "retcode" => 0, "success" => true };
        map! { "id" => "low", "jid" => JID, "fun" => "test.ping", "arg" => vec![1], "tgt" => "*", "tgt_type" => "glob",
        "load" => Value::Null, "out" => "nested", "master_id" => "top", "return" => map! { "web1" => ret } }
    }

    #[test]
    fn an_entry_is_a_return_for_each_of_its_minions() {
        let Returns { jid, returns } = returns(&entry()).unwrap();
        assert_eq!(jid.as_str(), JID);
        let whole = map! { "jid" => JID, "id" => "web1", "return" => true, "retcode" => 0, "success" => true,
        "master_id" => "top", "fun" => "test.ping", "out" => "nested", "fun_args" => vec![1] };
        assert_eq!(returns, [("web1".to_owned(), whole)]);
    }

    #[test]
    fn a_return_names_neither_another_job_nor_another_minion() {
        let mut entry = entry();
        let forged = map! { "return" => 1, "id" => "db1", "jid" => "20261121001531000000", "fun_args" => vec!["own"] };
        entry.set("return", map! { "web1" => forged });
        let returns = returns(&entry).unwrap().returns;
        let (id, ret) = &returns[0];
        assert_eq!((id.as_str(), ret.text("id"), ret.text("jid")), ("web1", Some("web1"), Some(JID)));
        assert_eq!(ret.at("fun_args"), Some(&vec!["own"].into()), "what its minion has said goes first");
    }

    #[test]
    fn what_is_damaged_is_nothing() {
        for missing in ["id", "jid", "return"] {
            let mut entry = entry();
            entry.take(missing);
            assert_eq!(returns(&entry), None, "{missing}");
        }
        for (field, value) in [("jid", Value::from("req")), ("jid", 5.into()), ("return", vec![1].into())] {
            let mut entry = entry();
            entry.set(field, value);
            assert_eq!(returns(&entry), None, "{field}");
        }
        let mut entry = entry();
        let mut odd = map! { "web1" => true };
        odd.insert(7.into(), Map::new().into());
        entry.set("return", odd);
        assert_eq!(returns(&entry).unwrap().returns, []);
    }

    #[test]
    fn the_event_of_a_new_job_announces_its_minions() {
        let data = map! { "jid" => JID, "minions" => vec![Value::from("web1"), 5.into()], "fun" => "test.ping" };
        let new = format!("salt/job/{JID}/new");
        let announced = announcement(&new, &data).unwrap();
        assert_eq!(announcement(&format!("syndic/deeper/{new}"), &data), Some(announced.clone()));
        for tag in ["myco/x", "salt/job/20261121001531000000/new", &format!("x{new}"), &format!("{new}/x"), JID] {
            assert_eq!(announcement(tag, &data), None, "{tag}");
        }
        assert_eq!((announced.jid.as_str(), announced.minions), (JID, vec!["web1".to_owned()]));
        assert_eq!(announcement(&new, &map! { "minions" => vec!["web1"] }), None);
        assert_eq!(announcement(&new, &map! { "jid" => JID }), None);
        assert_eq!(job(&announced.jid, &data).text("fun"), Some("test.ping"));
    }
}
