//! `_return`: what a minion's function returned (salt-wire.md §5.3, without `id`, `tok` and `nonce`).

use bytes::Bytes;

use super::{BadLoad, Fields, Spooled, fields};
use crate::ids::MinionId;
use crate::map;
use crate::msgpack;
use crate::value::{Map, MapExt, Value};

/// A return, its fields still encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// Where the load stands in its spool.
    pub at: Spooled,
    /// The job, or `req` for a return without one.
    pub jid: String,
    /// The function; the first one of a multi-function job.
    pub fun: String,
    /// The return code; the largest one of a multi-function job.
    pub retcode: i64,
    /// The whole load without `cmd`, `seq`, `spool`, `n` and `id`, as an encoded map.
    pub load: Bytes,
}

/// Fields that belong to the wire, not to the return; the id comes from the session.
const WIRE_FIELDS: [&str; 7] = ["cmd", "seq", "spool", "n", "id", "tok", "nonce"];

impl Return {
    /// Makes a return of a load as the executor builds it.
    pub fn new(at: Spooled, load: &Map) -> Result<Return, BadLoad> {
        let mut whole = map! { "cmd" => "_return", "spool" => Value::Bytes(at.spool.to_vec()), "n" => at.n };
        whole.extend(
            load.iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .filter(|(key, _)| key.as_str().is_none_or(|name| !WIRE_FIELDS.contains(&name))),
        );
        let bytes = Bytes::from(msgpack::encode_map(&whole));
        Return::from_fields(&bytes, &Fields::read(&bytes)?)
    }

    pub(super) fn from_fields(_load: &Bytes, fields: &Fields<'_>) -> Result<Return, BadLoad> {
        let kept: Vec<(&str, &[u8])> = fields.iter().filter(|(name, _)| !WIRE_FIELDS.contains(name)).collect();
        Ok(Return {
            at: Spooled { spool: fields.array16("spool")?, n: fields.u64("n")? },
            jid: fields.str("jid")?.to_owned(),
            fun: fun(fields)?,
            retcode: retcode(fields)?,
            load: fields::encode_with(&Map::new(), &kept).into(),
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let head = map! { "cmd" => "_return", "spool" => Value::Bytes(self.at.spool.to_vec()), "n" => self.at.n };
        // The load was encoded by `from_fields`: it is a map.
        let fields = Fields::read(&self.load).expect("a return's load is an encoded map");
        fields::encode_with(&head, &fields.iter().collect::<Vec<_>>())
    }

    /// Returns the data of `salt/job/<jid>/ret/<id>`: Salt's whole load, with the id of the session.
    pub fn event_data(&self, id: &MinionId, jid: &str, unix_s: i64) -> Bytes {
        let head = map! { "cmd" => "_return", "id" => id };
        let fields = Fields::read(&self.load).expect("a return's load is an encoded map");
        let (jid, ts) = (msgpack::encode(&jid.into()), msgpack::encode(&unix_s.into()));
        let mut rest: Vec<(&str, &[u8])> = fields
            .iter()
            .filter(|(name, _)| !matches!(*name, "_stamp" | "ts"))
            .map(|(name, raw)| if name == "jid" { (name, jid.as_slice()) } else { (name, raw) })
            .collect();
        rest.push(("ts", &ts));
        fields::encode_with(&head, &rest).into()
    }
}

fn fun(fields: &Fields<'_>) -> Result<String, BadLoad> {
    match fields.value("fun")? {
        Some(Value::Str(fun)) => Ok(fun),
        Some(Value::List(funs)) => funs.first().and_then(Value::as_str).map(str::to_owned).ok_or(BadLoad::Field("fun")),
        _ => Err(BadLoad::Field("fun")),
    }
}

fn retcode(fields: &Fields<'_>) -> Result<i64, BadLoad> {
    let worst = |values: &mut dyn Iterator<Item = &Value>| values.filter_map(Value::as_int).max().unwrap_or(0);
    let code = match fields.value("retcode")? {
        None | Some(Value::Null) => 0,
        Some(Value::Int(code)) => code,
        Some(Value::Map(map)) => worst(&mut map.values()),
        Some(Value::List(list)) => worst(&mut list.iter()),
        Some(_) => return Err(BadLoad::Field("retcode")),
    };
    Ok(i64::try_from(code).unwrap_or(1))
}

/// Tells whether a return's map says that it succeeded: `success` where it is given, else by its return code.
pub fn succeeded(data: &Map) -> bool {
    match data.at("success") {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::Map(map)) => map.values().all(Value::is_truthy),
        Some(Value::List(list)) => list.iter().all(Value::is_truthy),
        _ => data.at("retcode").and_then(Value::as_int).unwrap_or(0) == 0,
    }
}
