//! The checker: reads the log as it lies on the disk and compares it with what was acknowledged.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use proto::msgpack;
use proto::value::{Map, MapExt as _, Value};
use rusqlite::{Connection, OpenFlags, params};

use super::load::{LINE, SENT};

/// What the log holds, as far as the load has put it there.
#[derive(Debug)]
pub struct Ledger {
    folder: PathBuf,
    /// The first offset that has not been read.
    next: u64,
    swarm: HashSet<String>,
    lines: BTreeMap<String, Lines>,
    jobs: HashMap<String, Job>,
    /// Events that jobs have sent, by their tag: how often each is there.
    sent: HashMap<String, u64>,
    /// Returns of jobs that are not announced in the log, so that nobody knows whose they are to be.
    strays: HashSet<(String, String)>,
    /// What came more than once, or out of its order.
    doubled: Vec<String>,
}

/// The lines of one minion.
#[derive(Debug, Default)]
struct Lines {
    last: u64,
    seen: u64,
    /// Numbers that were skipped.
    missing: Vec<u64>,
}

/// A job in the log.
#[derive(Debug, Default)]
struct Job {
    minions: HashSet<String>,
    returned: HashMap<String, bool>,
    /// The tag of the event that it sends.
    sends: Option<String>,
}

/// How many of each there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Events of the swarm.
    pub swarm: u64,
    /// Lines that real minions have told.
    pub lines: u64,
    /// Returns.
    pub returns: u64,
    /// Events that jobs have sent.
    pub sent: u64,
}

impl Sums {
    /// Returns all events, returns among them.
    pub fn all(self) -> u64 {
        self.swarm + self.lines + self.returns + self.sent
    }
}

impl Ledger {
    /// Begins to read the log in this folder.
    pub fn of(folder: &Path) -> Ledger {
        Ledger {
            folder: folder.to_owned(),
            next: 1,
            swarm: HashSet::new(),
            lines: BTreeMap::new(),
            jobs: HashMap::new(),
            sent: HashMap::new(),
            strays: HashSet::new(),
            doubled: Vec::new(),
        }
    }

    /// Takes in what is new in the log.
    pub fn read(&mut self) -> anyhow::Result<()> {
        let mut firsts: Vec<(u64, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(&self.folder).context("read the folder of the log")? {
            let path = entry.context("read the folder of the log")?.path();
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".db"));
            firsts.extend(name.and_then(|name| name.parse().ok()).map(|first| (first, path.clone())));
        }
        firsts.sort();
        for (at, (_, path)) in firsts.iter().enumerate() {
            if firsts.get(at + 1).is_none_or(|(following, _)| *following > self.next) {
                self.read_segment(path).with_context(|| format!("read {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn read_segment(&mut self, path: &Path) -> anyhow::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        let sql = "SELECT offset, tag, data FROM events WHERE offset >= ?1 ORDER BY offset";
        let mut select = db.prepare(sql)?;
        let mut rows = select.query(params![self.next.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let offset = row.get::<_, i64>(0)?.cast_unsigned();
            let (tag, data): (String, Vec<u8>) = (row.get(1)?, row.get(2)?);
            self.take(&tag, &data)?;
            self.next = offset + 1;
        }
        Ok(())
    }

    fn take(&mut self, tag: &str, data: &[u8]) -> anyhow::Result<()> {
        let parts: Vec<&str> = tag.split('/').collect();
        match parts.as_slice() {
            ["salt", "beacon", _, "swarm", _] if self.swarm.insert(tag.to_owned()) => {}
            ["salt", "beacon", _, "swarm", _] => self.doubled.push(tag.to_owned()),
            ["salt", "beacon", id, "log", _] => self.line(id, &msgpack::decode_map(data)?),
            ["salt", "job", jid, "new"] => self.announced(jid, &msgpack::decode_map(data)?),
            ["halite", "job", jid, "nomatch", id] => {
                _ = self.jobs.entry((*jid).to_owned()).or_default().minions.remove(*id)
            }
            ["salt", "job", jid, "ret", id] => self.returned(jid, id, &msgpack::decode_map(data)?),
            _ if tag.starts_with(SENT) => *self.sent.entry(tag.to_owned()).or_default() += 1,
            _ => {}
        }
        Ok(())
    }

    fn line(&mut self, id: &str, data: &Map) {
        let text = data.text("raw").unwrap_or_default();
        let Some(number) = text.strip_prefix(LINE).and_then(|text| text.strip_suffix('.')?.parse::<u64>().ok()) else {
            return;
        };
        let lines = self.lines.entry(id.to_owned()).or_default();
        if number <= lines.last {
            self.doubled.push(format!("line {number} of {id} after {}", lines.last));
            return;
        }
        if lines.last > 0 {
            lines.missing.extend(lines.last + 1..number);
        }
        lines.last = number;
        lines.seen += 1;
    }

    fn announced(&mut self, jid: &str, data: &Map) {
        let job = self.jobs.entry(jid.to_owned()).or_default();
        let ids = data.at("minions").and_then(Value::as_list).unwrap_or_default();
        job.minions = ids.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let first = data.at("arg").and_then(Value::as_list).and_then(|list| list.first()).and_then(Value::as_str);
        job.sends = first.filter(|first| first.starts_with(SENT)).map(str::to_owned);
        // What came before its job was in the log: the log was out of order when it was published.
        for (_, id) in self.strays.extract_if(|(stray, _)| stray == jid) {
            job.returned.insert(id, false);
        }
    }

    fn returned(&mut self, jid: &str, id: &str, data: &Map) {
        let done = data.at("return") == Some(&Value::Bool(true));
        let doubled = match self.jobs.get_mut(jid) {
            Some(job) => job.returned.insert(id.to_owned(), done).is_some(),
            None => !self.strays.insert((jid.to_owned(), id.to_owned())),
        };
        if doubled {
            self.doubled.push(format!("the return of {id} for {jid}"));
        }
    }

    /// Returns how many of each there are, once each.
    pub fn sums(&self) -> Sums {
        Sums {
            swarm: self.swarm.len() as u64,
            lines: self.lines.values().map(|lines| lines.seen).sum(),
            returns: self.jobs.values().map(|job| job.returned.len() as u64).sum::<u64>() + self.strays.len() as u64,
            sent: self.sent.len() as u64,
        }
    }

    /// Returns who still owes the return of a job that is in the log.
    pub fn owed(&self) -> Vec<String> {
        let owed = |(jid, job): (&String, &Job)| {
            let missing: Vec<&String> = job.minions.iter().filter(|id| !job.returned.contains_key(*id)).collect();
            missing.first().map(|id| format!("{jid}: {} returns, of {id} among them", missing.len()))
        };
        self.jobs.iter().filter_map(owed).collect()
    }

    /// Returns whether a job is in the log.
    pub fn has_job(&self, jid: &str) -> bool {
        self.jobs.contains_key(jid)
    }

    /// Returns the number of the last line of a minion.
    pub fn last_line(&self, id: &str) -> u64 {
        self.lines.get(id).map_or(0, |lines| lines.last)
    }

    /// Returns the lines of a minion that never came.
    pub fn missing_lines(&self, id: &str) -> &[u64] {
        self.lines.get(id).map_or(&[], |lines| &lines.missing)
    }

    /// Returns events that a minion was told are in the log, and that are not.
    pub fn unsent(&self) -> Vec<String> {
        let acknowledged = self.jobs.values().filter(|job| job.returned.values().any(|done| *done));
        acknowledged.filter_map(|job| job.sends.clone()).filter(|tag| !self.sent.contains_key(tag)).collect()
    }

    /// Returns what is there more than once, or out of its order.
    pub fn doubled(&self) -> Vec<String> {
        let sent = self.sent.iter().filter(|(_, times)| **times > 1).map(|(tag, _)| tag.clone());
        self.doubled.iter().cloned().chain(sent).collect()
    }
}

/// Returns the numbers of jobs that ran more than once, by what each has noted.
pub fn ran_twice(runs: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(runs).unwrap_or_default();
    let mut seen = HashSet::new();
    text.lines().filter(|line| !seen.insert(line.to_owned())).map(|line| format!("job {line} ran again")).collect()
}

#[cfg(test)]
mod tests {
    use proto::map;

    use super::*;

    fn ledger() -> Ledger {
        Ledger::of(Path::new("none"))
    }

    fn line(ledger: &mut Ledger, number: u64) {
        let data = map! { "raw" => format!("{LINE}{number}.") };
        ledger.take("salt/beacon/m1/log/line", &msgpack::encode_map(&data)).unwrap();
    }

    #[test]
    fn what_comes_twice_is_named() {
        let mut ledger = ledger();
        let ret = msgpack::encode_map(&map! { "return" => true });
        for tag in ["salt/beacon/s/swarm/1", "salt/job/1/ret/m1", "faults/sent/m1/1"] {
            ledger.take(tag, &ret).unwrap();
            assert!(ledger.doubled().is_empty());
            ledger.take(tag, &ret).unwrap();
            assert_eq!(std::mem::take(&mut ledger).doubled().len(), 1, "{tag}");
        }
        line(&mut ledger, 3);
        line(&mut ledger, 3);
        assert_eq!(ledger.doubled().len(), 1);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut ledger = ledger();
        [2, 3, 6].into_iter().for_each(|number| line(&mut ledger, number));
        assert_eq!(ledger.missing_lines("m1"), [4, 5]);
        let new = map! { "minions" => vec!["m1", "m2"], "arg" => vec!["faults/sent/m1/7"] };
        ledger.take("salt/job/1/new", &msgpack::encode_map(&new)).unwrap();
        let ret = msgpack::encode_map(&map! { "return" => true });
        ledger.take("salt/job/1/ret/m1", &ret).unwrap();
        assert_eq!((ledger.owed().len(), ledger.unsent()), (1, vec!["faults/sent/m1/7".to_owned()]));
        ledger.take("salt/job/1/ret/m2", &ret).unwrap();
        ledger.take("faults/sent/m1/7", &ret).unwrap();
        assert!(ledger.owed().is_empty() && ledger.unsent().is_empty());
        assert_eq!(ledger.sums(), Sums { swarm: 0, lines: 3, returns: 2, sent: 1 });
    }

    impl Default for Ledger {
        fn default() -> Ledger {
            ledger()
        }
    }
}
