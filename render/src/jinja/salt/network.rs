//! Addresses and networks: `is_ip`, `ipaddr`, `network_hosts` and their kin, as Salt does them with Python's `ipaddress`.

mod address;

use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::super::builtin::{Filter, defined};
use super::super::convert::{Args, int, items};
use super::super::object::{Dict, List};
use super::super::session::{self, MAX_ITEMS, failure};
use address::{Entry, Version};

/// What one host of a network takes, in bytes.
const HOST_WORK: usize = 48;

/// The filters, alphabetically.
pub(super) const FILTERS: &[(&str, Filter)] = &[
    ("filter_by_networks", filter_by_networks),
    ("ip_host", |value, args| each(value, args, |entry| Ok(Value::from(entry.with_prefix())))),
    ("ipaddr", |value, args| addresses(value, &[Version::V4, Version::V6], &options(args))),
    ("ipv4", |value, args| addresses(value, &[Version::V4], &options(args))),
    ("ipv6", |value, args| addresses(value, &[Version::V6], &options(args))),
    ("ipwrap", ipwrap),
    ("is_ip", |value, args| is(value, args, &[Version::V4, Version::V6])),
    ("is_ipv4", |value, args| is(value, args, &[Version::V4])),
    ("is_ipv6", |value, args| is(value, args, &[Version::V6])),
    ("network_hosts", |value, args| each(value, args, hosts)),
    ("network_size", |value, args| each(value, args, size)),
];

fn options(args: &Args<'_>) -> String {
    args.maybe_text(0, "options").unwrap_or_default()
}

fn parse(value: &Value) -> Option<Entry> {
    match value.as_str() {
        Some(text) => Entry::parse(text),
        None if value.is_integer() => Entry::from_int(i128::try_from(value.clone()).ok()?),
        None => None,
    }
}

/// Reads a value as an address or a network of these versions that has all the properties.
fn wanted(value: &Value, versions: &[Version], options: &str) -> Option<Entry> {
    let entry = parse(value)?;
    (versions.contains(&entry.version()) && entry.is(options)).then_some(entry)
}

fn is(value: &Value, args: &Args<'_>, versions: &[Version]) -> Result<Value, Error> {
    Ok(Value::from(wanted(defined(value)?, versions, &options(args)).is_some()))
}

fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Picks the addresses of a list, one version after the other; of one text, that text.
fn pick(value: &Value, versions: &[Version], options: &str) -> Result<Vec<Entry>, Error> {
    if value.as_str().is_some() {
        return Ok(wanted(value, versions, options).into_iter().collect());
    }
    if !is_sequence(value) {
        return Ok(Vec::new());
    }
    let all = items(value)?;
    let of = |version: &Version| all.iter().filter_map(|item| wanted(item, &[*version], options)).collect::<Vec<_>>();
    Ok(versions.iter().flat_map(of).collect())
}

fn addresses(value: &Value, versions: &[Version], options: &str) -> Result<Value, Error> {
    let picked = pick(defined(value)?, versions, options)?.into_iter().map(|entry| Value::from(entry.to_string()));
    if is_sequence(value) { List::value(picked.collect()) } else { Ok(first(picked)) }
}

fn first(mut values: impl Iterator<Item = Value>) -> Value {
    values.next().unwrap_or_else(|| Value::from(()))
}

/// Answers for one address, or for each of a list; nothing if there is none.
fn each(value: &Value, args: &Args<'_>, answer: fn(&Entry) -> Result<Value, Error>) -> Result<Value, Error> {
    let versions: &[Version] = match args.int(1, "version", 0)? {
        0 => &[Version::V4, Version::V6],
        4 => &[Version::V4],
        6 => &[Version::V6],
        _ => &[],
    };
    let picked = pick(defined(value)?, versions, &options(args))?;
    let mut answers = Vec::new();
    for entry in &picked {
        answers.push(answer(entry)?);
    }
    match () {
        () if answers.is_empty() => Ok(Value::from(())),
        () if is_sequence(value) => List::value(answers),
        () => Ok(first(answers.into_iter())),
    }
}

fn hosts(entry: &Entry) -> Result<Value, Error> {
    let (start, end) = entry.hosts();
    if end - start >= MAX_ITEMS as u128 {
        return Err(failure(format!("the network {} has more than {MAX_ITEMS} hosts", entry.with_prefix())));
    }
    let count = usize::try_from(end - start).unwrap_or(MAX_ITEMS);
    session::spend(count.saturating_mul(HOST_WORK))?;
    List::value((start..=end).map(|host| Value::from(entry.version().name(host))).collect())
}

fn size(entry: &Entry) -> Result<Value, Error> {
    let size = 1i128.checked_shl(entry.host_bits()).filter(|&size| size > 0);
    size.map(int).ok_or_else(|| failure(format!("the network {} is too large to count", entry.with_prefix())))
}

fn ipwrap(value: &Value, _: &Args<'_>) -> Result<Value, Error> {
    fn wrap(value: &Value) -> Result<Value, Error> {
        match wanted(value, &[Version::V6], "") {
            // Salt finds networks here too, and then fails on them.
            Some(entry) if entry.prefix.is_some() => {
                Err(failure(format!("'{entry}' does not appear to be an IPv4 or IPv6 address")))
            }
            Some(entry) => Ok(Value::from(format!("[{entry}]"))),
            None => Ok(value.clone()),
        }
    }
    match defined(value)? {
        many if is_sequence(many) => List::value(items(many)?.iter().map(wrap).collect::<Result<_, _>>()?),
        one => wrap(one),
    }
}

fn filter_by_networks(value: &Value, args: &Args<'_>) -> Result<Value, Error> {
    let networks = args.need(0, "networks")?;
    if networks.is_none() {
        return Ok(value.clone());
    }
    let mut known = Vec::new();
    for network in items(networks)? {
        let entry = parse(&network).ok_or_else(|| no_address(&network, "network"))?;
        if entry.network() != entry.bits() {
            return Err(failure(format!("{network} has host bits set")));
        }
        known.push(entry);
    }
    let keep = |addresses: &Value| {
        let mut kept = Vec::new();
        for address in items(addresses)? {
            let found = parse(&address).filter(|entry| entry.prefix.is_none());
            let entry = found.ok_or_else(|| no_address(&address, "address"))?;
            session::spend(known.len())?;
            kept.extend(known.iter().filter(|network| network.holds(&entry)).map(|_| address.clone()));
            if kept.len() > MAX_ITEMS {
                break;
            }
        }
        List::value(kept)
    };
    if defined(value)?.kind() != ValueKind::Map {
        return keep(value);
    }
    let kept = Dict::default();
    for interface in items(value)? {
        kept.insert(&interface, &keep(&value.get_item(&interface)?)?)?;
    }
    Ok(Value::from_object(kept))
}

fn no_address(value: &Value, what: &str) -> Error {
    let shown = super::super::print::repr(value);
    failure(format!("{shown} does not appear to be an IPv4 or IPv6 {what}"))
}
