//! Fires for every command that a person's session runs, promptly and exactly, as the kernel saw it (`host/exec/`).
//!
//! ```yaml
//! beacons:
//!   sh: []
//! ```
//!
//! The tag's suffix is the pid of the session leader. `args`, `cmd` and `user` are Salt's; `uid`, `tty`, `cwd`, `pid`, `ppid`
//! and `source` are ours, and `loginuid`, `lossy` and `truncated` where they say something.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use proto::map;
use proto::value::{MapExt, Value};
use serde::Deserialize;
use tracing::{info, warn};

use super::{Beacon, BeaconContext, BeaconEvent, Build, BuildError, Kind, LookError, Waker};
use crate::host::exec::{Exec, Tracer};

pub(super) const KIND: Kind = Kind::new::<Sh>("sh");

/// Commands between the tracer and the next look. A look follows each batch at once; beyond this, commands are counted.
const QUEUE: usize = 4096;
/// How soon the tracer's thread sees that it is no longer wanted.
const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// How long opening the tracer may take; the kernel checks its programs in about 0.2 s.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before a tracer that failed is opened anew.
const REOPEN_DELAY: Duration = Duration::from_secs(5);
/// The tracer's thread needs no deep stack.
const STACK_BYTES: usize = 256 << 10;

/// It has no options.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {}

pub(super) struct Sh {
    shared: Arc<Shared>,
    reported: u64,
    /// Which mechanism sees the commands.
    source: &'static str,
}

#[derive(Default)]
struct Shared {
    /// At most [`QUEUE`]. Not a bounded channel: that has all its room from the start.
    commands: Mutex<VecDeque<Exec>>,
    stop: AtomicBool,
    /// Commands that were seen or lost, and not fired.
    missed: AtomicU64,
}

impl Shared {
    /// Queues commands; those without room are counted.
    fn put(&self, commands: Vec<Exec>) {
        let mut queue = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let (room, count) = (QUEUE.saturating_sub(queue.len()), commands.len());
        queue.extend(commands.into_iter().take(room));
        let lost = u64::try_from(count.saturating_sub(room)).unwrap_or(u64::MAX);
        self.missed.fetch_add(lost, Ordering::Relaxed);
    }

    /// Takes all queued commands, and the queue's memory with them.
    fn take(&self) -> VecDeque<Exec> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Build for Sh {
    type Config = Config;

    fn build(_config: Config, cx: &BeaconContext) -> Result<Sh, BuildError> {
        let (opened, answer) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let (own, waker) = (Arc::clone(&shared), cx.waker.clone());
        let body = move || trace(&opened, &own, &waker);
        let thread = thread::Builder::new().name("beacon-sh".into()).stack_size(STACK_BYTES).spawn(body);
        thread.map_err(|error| BuildError::Host(error.to_string()))?;
        let mut sh = Sh { shared, reported: 0, source: "" };
        match answer.recv_timeout(OPEN_TIMEOUT) {
            Ok(Ok(source)) => {
                sh.source = source;
                Ok(sh)
            }
            Ok(Err(text)) => Err(BuildError::Host(text)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                Err(BuildError::Host("the kernel did not answer in time".to_owned()))
            }
        }
    }
}

impl Beacon for Sh {
    fn look(&mut self, _cx: &BeaconContext) -> Result<Vec<BeaconEvent>, LookError> {
        Ok(self.shared.take().into_iter().map(event).collect())
    }

    fn reading(&self) -> Result<Value, LookError> {
        Ok(map! { "source" => self.source, "missed" => self.shared.missed.load(Ordering::Relaxed) }.into())
    }

    fn missed(&mut self) -> u64 {
        let missed = self.shared.missed.load(Ordering::Relaxed);
        let news = missed.saturating_sub(self.reported);
        self.reported = missed;
        news
    }
}

impl Drop for Sh {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The tracer's thread: opens it, tells whether that worked, then passes commands on until the beacon is gone.
fn trace(opened: &SyncSender<Result<&'static str, String>>, shared: &Shared, waker: &Waker) {
    let mut tracer = match Tracer::open() {
        Ok(tracer) => tracer,
        // The beacon may have given up waiting.
        Err(error) => return drop(opened.try_send(Err(error.to_string()))),
    };
    info!(source = tracer.source().name(), "beacon sh: tracing commands");
    drop(opened.try_send(Ok(tracer.source().name())));
    let mut drops_before = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        match tracer.read(READ_TIMEOUT) {
            Ok(commands) => {
                if !commands.is_empty() {
                    shared.put(commands);
                    waker.wake();
                }
            }
            Err(error) => {
                warn!(%error, "beacon sh: the tracer failed and is opened anew");
                drops_before = 0;
                thread::sleep(REOPEN_DELAY);
                match Tracer::open() {
                    Ok(again) => tracer = again,
                    Err(error) => warn!(%error, "beacon sh: the tracer cannot be opened"),
                }
            }
        }
        let drops = tracer.drops();
        if drops > drops_before {
            shared.missed.fetch_add(drops - drops_before, Ordering::Relaxed);
            drops_before = drops;
            waker.wake();
        }
    }
}

fn event(exec: Exec) -> BeaconEvent {
    let mut data = map! {
        "args" => exec.argv,
        "cmd" => exec.path,
        "user" => exec.user,
        "uid" => exec.uid,
        "tty" => exec.tty,
        "cwd" => exec.cwd,
        "pid" => exec.pid,
        "ppid" => exec.ppid,
        "source" => exec.source.name(),
    };
    if let Some(loginuid) = exec.loginuid {
        data.set("loginuid", loginuid);
    }
    for (name, says) in [("lossy", exec.lossy), ("truncated", exec.truncated)] {
        if says {
            data.set(name, Value::Bool(true));
        }
    }
    BeaconEvent { suffix: exec.session_leader.to_string(), data }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use crate::host::exec::Source;

    use super::*;

    fn exec() -> Exec {
        Exec {
            pid: 90,
            ppid: Some(87),
            uid: 0,
            user: "root".into(),
            loginuid: None,
            session_leader: 87,
            tty: Some("pts/3".into()),
            cwd: Some("/root".into()),
            path: "/usr/bin/ls".into(),
            argv: vec!["ls".into(), "/tmp".into()],
            truncated: false,
            lossy: false,
            source: Source::Ebpf,
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_event_is_salts_and_more() {
        let BeaconEvent { suffix, data } = event(exec());
        assert_eq!(suffix, "87");
        let json = Value::Map(data).to_json().to_string();
        assert_eq!(
            json,
            r#"{"args":["ls","/tmp"],"cmd":"/usr/bin/ls","user":"root","uid":0,"tty":"pts/3","cwd":"/root","pid":90,"ppid":87,"source":"ebpf"}"#
        );
    }

    #[test]
    fn what_is_uncertain_is_said() {
        let exec = Exec { truncated: true, lossy: true, source: Source::ProcConnector, ..exec() };
        let data = event(exec).data;
        assert_eq!((data.at("lossy"), data.at("truncated")), (Some(&Value::Bool(true)), Some(&Value::Bool(true))));
        assert_eq!(data.text("source"), Some("process-connector"));
    }

    #[test]
    fn commands_without_room_are_counted() {
        let shared = Shared::default();
        shared.put(vec![exec(); QUEUE - 1]);
        shared.put(vec![exec(); 3]);
        assert_eq!((shared.take().len(), shared.missed.load(Ordering::Relaxed)), (QUEUE, 2));
        shared.put(vec![exec()]);
        assert_eq!(shared.take().len(), 1);
    }

    #[test]
    fn it_takes_no_options() {
        assert!(serde_json::from_str::<Config>("{}").is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"users": []}"#).is_err());
    }
}
