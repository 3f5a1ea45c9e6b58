//! The job cache, as Salt's `local_cache` lays it out (salt-wire.md §8.2): `jobs/<h[0:2]>/<h[2:]>/`, h being the SHA-256
//! of the jid.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::salt::msgpack;
use proto::value::{Map, MapExt, Value};

use super::disk::{self, WriteError};
use crate::bus::Event;

/// The directory in `cachedir`.
const JOBS: &str = "jobs";
/// What says that the returns of a job are not to be kept.
const NOCACHE: &str = "nocache";
/// How many directories one look for old jobs deletes; the next look goes on.
const MAX_EXPIRED: usize = 50_000;

/// Whether a load that is there counts more than a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    No,
    Yes,
}

/// The directory of one job.
#[derive(Debug)]
pub(super) struct JobDir(PathBuf);

impl JobDir {
    pub(super) fn of(cachedir: &Path, jid: &Jid) -> JobDir {
        let digest = ring::digest::digest(&ring::digest::SHA256, jid.as_str().as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        JobDir(cachedir.join(JOBS).join(&hex[..2]).join(&hex[2..]))
    }

    /// Writes the load, and who is expected to return.
    pub(super) fn save_load(
        &self,
        jid: &Jid,
        load: &Map,
        minions: &[MinionId],
        replace: Replace,
    ) -> Result<(), WriteError> {
        disk::make_dir(&self.0)?;
        self.add_minions(minions)?;
        let path = self.0.join(".load.p");
        if replace == Replace::No && path.exists() {
            return Ok(());
        }
        disk::write_whole(&self.0.join("jid"), jid.as_str().as_bytes())?;
        let wants_none = load.at("kwargs").and_then(|kwargs| kwargs.get(NOCACHE)).is_some_and(Value::is_truthy);
        if wants_none {
            disk::write_whole(&self.0.join(NOCACHE), b"")?;
        }
        // The last: who finds it finds all.
        disk::write_whole(&path, &msgpack::encode_modern(&load.clone().into()))
    }

    /// Adds to who is expected to return: a batch is one job in several parts.
    fn add_minions(&self, minions: &[MinionId]) -> Result<(), WriteError> {
        let path = self.0.join(".minions.p");
        let there = fs::read(&path).ok().and_then(|bytes| msgpack::decode_modern(&bytes).ok());
        let there = there.as_ref().and_then(Value::as_list).unwrap_or_default();
        let known = there.iter().filter_map(Value::as_str);
        let ids: BTreeSet<&str> = minions.iter().map(MinionId::as_str).chain(known).collect();
        if ids.len() == there.len() && path.exists() {
            return Ok(());
        }
        let ids: Vec<Value> = ids.into_iter().map(Value::from).collect();
        disk::write_whole(&path, &msgpack::encode_modern(&ids.into()))
    }

    /// Writes which of a syndic's minions are expected to return, besides those that are known already.
    fn save_minions(&self, syndic: &MinionId, minions: &[MinionId]) -> Result<(), WriteError> {
        disk::write_whole(&self.0.join(format!(".minions.{syndic}.p")), &sorted(minions))
    }

    /// Writes a return, unless this minion's is there.
    fn save_return(&self, id: &MinionId, ret: &Map) -> Result<(), WriteError> {
        if self.0.join(NOCACHE).exists() {
            return Ok(());
        }
        let path = self.0.join(id.as_str());
        if path.exists() {
            return Ok(());
        }
        let mut kept = Map::new();
        for field in ["return", "retcode", "success"] {
            if let Some(value) = ret.at(field) {
                kept.set(field, value.clone());
            }
        }
        // Salt's tools take the directory for the return, so it appears with all that is in it.
        let temporary = disk::beside(&path);
        let write = || {
            disk::make_dir(&temporary)?;
            disk::write_new(&temporary.join("return.p"), &msgpack::encode_modern(&kept.into()))?;
            if let Some(out) = ret.at("out").filter(|out| !out.is_null()) {
                disk::write_new(&temporary.join("out.p"), &msgpack::encode_modern(out))?;
            }
            fs::rename(&temporary, &path).map_err(WriteError::at(&path))
        };
        let written = write();
        if written.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        // Another return of the same minion was faster.
        if path.is_dir() { Ok(()) } else { written }
    }
}

/// Writes what an event tells about a job.
pub(super) fn take_in(cachedir: &Path, event: &Event) -> Result<(), WriteError> {
    let parts: Vec<&str> = event.tag.as_str().splitn(5, '/').collect();
    let ["salt" | "halite", "job", jid, kind, ..] = parts.as_slice() else { return Ok(()) };
    let (Ok(jid), Ok(data)) = (Jid::parse(jid), event.map()) else { return Ok(()) };
    let job = JobDir::of(cachedir, &jid);
    match (*kind, parts.get(4)) {
        ("new", None) => job.save_load(&jid, &load_of_new(&jid, &data), &minions_of(&data), Replace::No),
        ("syndic", Some(id)) => {
            let Ok(id) = MinionId::parse(id) else { return Ok(()) };
            let minions = minions_of(&data);
            // A job that was published below it, and not here.
            if !job.0.join(".load.p").exists() {
                job.save_load(&jid, &load_of_new(&jid, &data), &minions, Replace::No)?;
            }
            job.save_minions(&id, &minions)
        }
        ("ret", Some(id)) => {
            let Ok(id) = MinionId::parse(id) else { return Ok(()) };
            if !job.0.join(".load.p").exists() {
                // A return that stands alone: of `salt-call`, of a schedule.
                job.save_load(&jid, &load_of_return(&jid, &data, &id), std::slice::from_ref(&id), Replace::No)?;
            }
            job.save_return(&id, &data)
        }
        _ => Ok(()),
    }
}

fn minions_of(data: &Map) -> Vec<MinionId> {
    let ids = data.at("minions").and_then(Value::as_list).unwrap_or_default();
    ids.iter().filter_map(|id| MinionId::parse(id.as_str()?).ok()).collect()
}

/// Returns ids as they lie in a file.
fn sorted(minions: &[MinionId]) -> Vec<u8> {
    let mut ids: Vec<&MinionId> = minions.iter().collect();
    ids.sort();
    msgpack::encode_modern(&ids.into_iter().map(Value::from).collect::<Vec<_>>().into())
}

/// Makes the load that Salt's command line would have sent for a job.
fn load_of_new(jid: &Jid, new: &Map) -> Map {
    let field = |name: &str| new.at(name).cloned().unwrap_or_default();
    let mut kwargs = map! { "delimiter" => new.text("delimiter").unwrap_or(":") };
    if let Some(metadata) = new.at("metadata") {
        kwargs.set("metadata", metadata.clone());
    }
    map! {
        "cmd" => "publish", "tgt" => field("tgt"), "fun" => field("fun"), "arg" => list(new.at("arg")),
        "tgt_type" => field("tgt_type"), "ret" => "", "jid" => jid, "kwargs" => kwargs, "user" => field("user"),
    }
}

/// Makes the load that Salt's master stores for a return without a job: the return, addressed to its own minion. Salt's
/// tools stumble over a load without its jid, or arguments that are no list: local users may fire any event.
fn load_of_return(jid: &Jid, ret: &Map, id: &MinionId) -> Map {
    let mut load = ret.clone();
    load.set("jid", jid);
    let arg = list(load.at("fun_args"));
    load.set("arg", arg);
    load.set("tgt", id.as_str());
    load.set("tgt_type", "glob");
    load
}

fn list(arg: Option<&Value>) -> Value {
    Value::List(arg.and_then(Value::as_list).map(<[Value]>::to_vec).unwrap_or_default())
}

/// Deletes the jobs that are older than they may get; returns how many.
pub(super) fn expire(cachedir: &Path, keep: Duration, now: SystemTime) -> Result<usize, WriteError> {
    let root = cachedir.join(JOBS);
    let mut expired = 0;
    for first in folders(&root)? {
        for job in folders(&first)? {
            if expired >= MAX_EXPIRED {
                return Ok(expired);
            }
            // A directory without this file is what a crash left.
            let touched =
                fs::metadata(job.join("jid")).or_else(|_| fs::metadata(&job)).and_then(|meta| meta.modified());
            let is_old = touched.is_ok_and(|touched| now.duration_since(touched).is_ok_and(|age| age > keep));
            if is_old {
                fs::remove_dir_all(&job).map_err(WriteError::at(&job))?;
                expired += 1;
            }
        }
        // It stays if anything is in it.
        let _ = fs::remove_dir(&first);
    }
    Ok(expired)
}

/// Returns the directories in one; links are none.
fn folders(path: &Path) -> Result<Vec<PathBuf>, WriteError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(WriteError::at(path)(error)),
    };
    let folder = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        entry.file_type().ok()?.is_dir().then(|| entry.path())
    };
    Ok(entries.filter_map(folder).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::tag::Tag;

    use super::*;

    const JID: &str = "20261121001531634687";

    fn jid() -> Jid {
        Jid::parse(JID).unwrap()
    }

    fn event(tag: &str, data: &Map) -> Event {
        let data = Bytes::from(proto::msgpack::encode_map(data));
        Event { offset: 1, tag: Tag::parse(tag).unwrap(), stamp_us: 0, data, durable: true }
    }

    fn hex(path: &Path) -> String {
        fs::read(path).unwrap().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `disk.json`: what a master of 3008.5 wrote for this job.
    #[test]
    fn a_job_lies_where_salt_puts_it_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let load = map! { "cmd" => "publish", "tgt" => "m8", "fun" => "event.send",
        "arg" => vec![Value::from("my/tag/go"), map! { "__kwarg__" => true, "data" => map! { "x" => 7 } }.into()],
        "tgt_type" => "glob", "ret" => "", "jid" => JID,
        "kwargs" => map! { "show_timeout" => true, "show_jid" => false, "delimiter" => ":" }, "user" => "root" };
        let job = JobDir::of(dir.path(), &jid());
        job.save_load(&jid(), &load, &[MinionId::parse("m8").unwrap()], Replace::Yes).unwrap();
        let ret = map! { "id" => "m8", "return" => true, "retcode" => 0, "success" => true, "fun" => "event.send" };
        take_in(dir.path(), &event(&format!("salt/job/{JID}/ret/m8"), &ret)).unwrap();
        let place = dir.path().join("jobs/00/b1f31f8c8be10988446bdba922cd0936212a744c4583a32b81bfb76d107932");
        assert_eq!(fs::read_to_string(place.join("jid")).unwrap(), JID);
        assert_eq!(hex(&place.join(".minions.p")), "91a26d38");
        assert_eq!(
            hex(&place.join(".load.p")),
            "89a3636d64a77075626c697368a3746774a26d38a366756eaa6576656e742e73656e64a361726792a96d792f7461672f676f82a95f5f6b776172\
             675f5fc3a46461746181a17807a87467745f74797065a4676c6f62a3726574a0a36a6964b43230323631313231303031353331363334363837\
             a66b776172677383ac73686f775f74696d656f7574c3a873686f775f6a6964c2a964656c696d69746572a13aa475736572a4726f6f74"
        );
        assert_eq!(hex(&place.join("m8/return.p")), "83a672657475726ec3a7726574636f646500a773756363657373c3");
        assert!(!place.join("m8/out.p").exists());
    }

    #[test]
    fn a_job_of_our_own_is_written_once_and_salts_own_load_wins() {
        let dir = tempfile::tempdir().unwrap();
        let new = map! { "jid" => JID, "tgt_type" => "glob", "tgt" => "*", "user" => "root", "fun" => "test.ping",
        "arg" => Vec::<Value>::new(), "minions" => vec!["m2", "m1"], "missing" => Vec::<Value>::new() };
        take_in(dir.path(), &event(&format!("salt/job/{JID}/new"), &new)).unwrap();
        let job = JobDir::of(dir.path(), &jid());
        let load = || msgpack::decode_modern_map(&fs::read(job.0.join(".load.p")).unwrap()).unwrap();
        assert_eq!(load().text("fun"), Some("test.ping"));
        assert_eq!(hex(&job.0.join(".minions.p")), "92a26d31a26d32", "sorted");
        let asked = map! { "fun" => "test.ping", "jid" => JID, "kwargs" => map! { "show_jid" => true } };
        job.save_load(&jid(), &asked, &[], Replace::Yes).unwrap();
        take_in(dir.path(), &event(&format!("salt/job/{JID}/new"), &new)).unwrap();
        assert!(load().at("kwargs").unwrap().get("show_jid").is_some());
        let part = map! { "jid" => JID, "fun" => "test.ping", "minions" => vec!["m3"] };
        take_in(dir.path(), &event(&format!("salt/job/{JID}/new"), &part)).unwrap();
        assert_eq!(hex(&job.0.join(".minions.p")), "93a26d31a26d32a26d33", "a batch is one job in several parts");
        assert!(load().at("kwargs").unwrap().get("show_jid").is_some());
    }

    #[test]
    fn a_syndic_has_its_own_list_of_minions() {
        let dir = tempfile::tempdir().unwrap();
        let new = map! { "jid" => JID, "fun" => "test.ping", "tgt" => "*", "minions" => vec!["m1"] };
        let below = |minions: Vec<&str>| map! { "jid" => JID, "fun" => "test.arg", "tgt" => "*", "minions" => minions };
        take_in(dir.path(), &event(&format!("salt/job/{JID}/new"), &new)).unwrap();
        take_in(dir.path(), &event(&format!("halite/job/{JID}/syndic/low"), &below(vec!["w2", "w1"]))).unwrap();
        take_in(dir.path(), &event(&format!("halite/job/{JID}/live"), &map! { "jid" => JID, "expires" => 5 })).unwrap();
        let job = JobDir::of(dir.path(), &jid());
        assert_eq!(
            (hex(&job.0.join(".minions.p")), hex(&job.0.join(".minions.low.p"))),
            ("91a26d31".into(), "92a27731a27732".into())
        );
        let load = |job: &JobDir| msgpack::decode_modern_map(&fs::read(job.0.join(".load.p")).unwrap()).unwrap();
        assert_eq!(load(&job).text("fun"), Some("test.ping"), "the master's own job counts");
        let other = "20261121001531000000";
        take_in(dir.path(), &event(&format!("halite/job/{other}/syndic/low"), &below(vec!["w1"]))).unwrap();
        let job = JobDir::of(dir.path(), &Jid::parse(other).unwrap());
        assert_eq!((load(&job).text("fun"), hex(&job.0.join(".minions.p"))), (Some("test.arg"), "91a27731".into()));
    }

    #[test]
    fn a_return_without_a_job_gets_one_and_a_second_return_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tag = format!("salt/job/{JID}/ret/web1");
        let ret = map! { "id" => "web1", "fun" => "test.ping", "fun_args" => "odd", "return" => "one", "retcode" => 0, "success" => true, "out" => "nested" };
        take_in(dir.path(), &event(&tag, &ret)).unwrap();
        take_in(dir.path(), &event(&tag, &map! { "return" => "two" })).unwrap();
        let job = JobDir::of(dir.path(), &jid());
        let read = |name: &str| msgpack::decode_modern(&fs::read(job.0.join(name)).unwrap()).unwrap();
        assert_eq!(read("web1/return.p").get("return"), Some(&"one".into()));
        assert_eq!(read("web1/out.p"), "nested".into());
        assert_eq!(read(".load.p").get("tgt"), Some(&"web1".into()));
        assert_eq!(read(".load.p").get("jid"), Some(&JID.into()));
        let mut names: Vec<_> =
            fs::read_dir(&job.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [".load.p", ".minions.p", "jid", "web1"], "nothing is left lying about");
    }

    #[test]
    fn a_job_without_cache_keeps_no_returns() {
        let dir = tempfile::tempdir().unwrap();
        let job = JobDir::of(dir.path(), &jid());
        job.save_load(&jid(), &map! { "kwargs" => map! { "nocache" => true } }, &[], Replace::Yes).unwrap();
        take_in(dir.path(), &event(&format!("salt/job/{JID}/ret/web1"), &map! { "return" => true })).unwrap();
        assert!(!job.0.join("web1").exists());
    }

    #[test]
    fn ids_and_jids_that_would_leave_the_cache_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        for tag in ["salt/job/../ret/web1", "salt/job/x/new"] {
            take_in(dir.path(), &event(tag, &map! { "return" => true })).unwrap();
        }
        take_in(dir.path(), &event(&format!("salt/job/{JID}/ret/../../x"), &map! { "return" => true })).unwrap();
        take_in(dir.path(), &event(&format!("salt/job/{JID}/ret/..",), &map! { "return" => true })).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn old_jobs_go_and_young_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let tag = format!("salt/job/{JID}/ret/web1");
        take_in(dir.path(), &event(&tag, &map! { "return" => true })).unwrap();
        let keep = Duration::from_secs(60);
        assert_eq!(expire(dir.path(), keep, SystemTime::now()).unwrap(), 0);
        assert_eq!(expire(dir.path(), keep, SystemTime::now() + Duration::from_secs(120)).unwrap(), 1);
        assert_eq!(fs::read_dir(dir.path().join("jobs")).unwrap().count(), 0);
    }
}
