//! What a job returns: built once, cut to size, in the order of fields that Salt's minions send.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use time::OffsetDateTime;
use time::macros::format_description;

use super::job::Job;

/// What one or several calls gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The value; a map by function for several calls.
    pub ret: Value,
    /// The return code; a map by function for several calls.
    pub retcode: Value,
    /// Whether all is well; a map by function for several calls.
    pub success: Value,
    /// The outputter that suits the value, if one is special.
    pub out: Option<String>,
}

impl Done {
    /// Returns a failure with this text.
    pub fn failed(text: String, retcode: i64) -> Done {
        Done { ret: text.into(), retcode: retcode.into(), success: false.into(), out: Some("nested".to_owned()) }
    }

    /// Returns a result with this return code.
    pub fn with_retcode(ret: Value, retcode: i64, out: Option<String>) -> Done {
        Done { ret, retcode: retcode.into(), success: (retcode == 0).into(), out }
    }
}

/// The return of one job.
#[derive(Debug, Clone, PartialEq)]
pub struct Return {
    /// The job's id.
    pub jid: String,
    /// The load to send: `cmd` `_return` and Salt's fields, without `id`.
    pub load: Map,
}

impl Return {
    /// Builds the return of a job that ended now.
    pub fn new(job: &Job, done: Done) -> Return {
        let failed = done.retcode != Value::Int(0);
        let mut load = proto::map! { "cmd" => "_return", "success" => done.success, "return" => done.ret };
        load.set("retcode", done.retcode);
        if let (Some(out), true) = (&done.out, failed) {
            load.set("out", out.as_str());
        }
        load.set("jid", job.jid.as_str());
        load.set("fun", job.fun());
        load.set("fun_args", job.fun_args());
        load.set("user", job.user.as_str());
        if let (Some(out), false) = (done.out, failed) {
            load.set("out", out);
        }
        for field in ["metadata", "master_id"] {
            if let Some(value) = job.load.at(field).filter(|value| value.is_truthy()) {
                load.set(field, value.clone());
            }
        }
        load.set("_stamp", stamp(OffsetDateTime::now_utc()));
        Return { jid: job.jid.clone(), load }
    }
}

/// Returns a time as `_stamp` says it: `2026-11-21T00:32:25.417646+00:00`.
fn stamp(time: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    time.format(&format).expect("every time has all these parts")
}

/// Where over-long returns are kept, and what is over-long.
#[derive(Debug, Clone)]
pub struct Limit {
    /// The most bytes of msgpack that a value may have to be sent.
    pub max_return_size: usize,
    /// The folder that keeps the others; made when needed, for the minion's user alone.
    pub folder: PathBuf,
}

/// How many over-long returns are kept; the oldest go first.
const MAX_KEPT: usize = 20;

impl Limit {
    /// Returns `done` as it is, or, if it is too large to send, with a text in its place that says how large it is and where
    /// it stays. The return code stays too.
    pub fn apply(&self, jid: &str, done: Done) -> Done {
        let encoded = msgpack::encode(&done.ret);
        if encoded.len() <= self.max_return_size {
            return done;
        }
        let (text, whole) = match &done.ret {
            Value::Str(text) => ("txt", text.clone().into_bytes()),
            other => ("json", other.to_json().to_string().into_bytes()),
        };
        let path = self.folder.join(format!("{}.{text}", file_name(jid)));
        let size = format!("The return is too large to send: {} bytes, limit {}.", encoded.len(), self.max_return_size);
        let place = match self.keep(&path, &whole) {
            Ok(()) => format!("All of it is on the minion in {}", path.display()),
            Err(error) => format!("It could not be kept in {}: {error}", path.display()),
        };
        Done { ret: format!("{size} {place}").into(), out: Some("nested".to_owned()), ..done }
    }

    fn keep(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.make_room()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
    }

    fn make_room(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        kept.sort();
        let excess = (kept.len() + 1).saturating_sub(MAX_KEPT);
        kept.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// A jid comes from outside; only what a jid consists of may become a file's name.
fn file_name(jid: &str) -> String {
    jid.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn job() -> Job {
        let publication = proto::map! {
            "fun" => "grains.item", "arg" => vec!["role"], "tgt" => "*", "jid" => "20261121003306523852", "ret" => "",
            "tgt_type" => "glob", "user" => "root",
        };
        Job::from_publication(&publication).expect("a job")
    }

    fn keys(ret: &Return) -> String {
        ret.load.keys().map(Value::to_key).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fields_are_in_the_order_of_the_recordings() {
        let done = Done::with_retcode("x".into(), 0, Some("nested".to_owned()));
        assert_eq!(keys(&Return::new(&job(), done)), "cmd success return retcode jid fun fun_args user out _stamp");
        let done = Done::failed("no".to_owned(), 1);
        assert_eq!(keys(&Return::new(&job(), done)), "cmd success return retcode out jid fun fun_args user _stamp");
    }

    #[test]
    fn a_stamp_has_microseconds_and_a_zone() {
        let time = OffsetDateTime::from_unix_timestamp_nanos(1_795_221_145_417_646_000).expect("a time");
        assert_eq!(stamp(time), "2026-11-21T00:32:25.417646+00:00");
    }

    #[test]
    fn a_return_over_the_limit_stays_on_the_minion() {
        let folder = tempfile::tempdir().expect("a folder");
        let limit = Limit { max_return_size: 100, folder: folder.path().join("returns") };
        let fits = Done::with_retcode("x".repeat(90).into(), 3, None);
        assert_eq!(limit.apply("1", fits.clone()), fits);
        let long = Done::with_retcode("y".repeat(200).into(), 3, None);
        let cut = limit.apply("../../20261121", long);
        let path = limit.folder.join("20261121.txt");
        assert_eq!(cut.retcode, Value::Int(3));
        let expected = format!(
            "The return is too large to send: 202 bytes, limit 100. All of it is on the minion in {}",
            path.display()
        );
        assert_eq!(cut.ret, Value::from(expected));
        assert_eq!(fs::read_to_string(&path).expect("kept"), "y".repeat(200));
        assert_eq!(fs::metadata(&path).expect("kept").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_the_newest_over_long_returns_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let limit = Limit { max_return_size: 1, folder: folder.path().to_owned() };
        for jid in 0..MAX_KEPT + 5 {
            limit.apply(&jid.to_string(), Done::with_retcode("long".into(), 0, None));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), MAX_KEPT);
    }
}
