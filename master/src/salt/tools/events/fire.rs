//! Those who fire events: each connection is one process, and the kernel says whose. Its events go through the door one
//! after the other; who fires faster than it may is read more slowly, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proto::salt::event::{BadEvent, Event};
use proto::salt::ipc::Frames;
use proto::tag::Tag;
use proto::value::{Map, MapExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Counts, Pull};
use crate::bus::{Bus, EventQuery, Since};
use crate::command::{Caller, Command, Origin};
use crate::runners::Ask;
use crate::unix::Peer;

/// How many processes may fire at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// How many events one connection may fire at once.
const RATE_BURST: u32 = 5_000;
/// How many more it may fire in a second. An automation that needs more than that has a minion's spool.
const RATE_PER_SECOND: u32 = 1_000;
/// How long before `salt-key` tells it a change of a key may have been noticed, and how long after.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
const NOTICED_WITHIN: Duration = Duration::from_millis(1_500);
/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;
/// The pause after the system refused a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the token is cancelled.
pub(super) async fn serve(
    listeners: Vec<Pull>,
    bus: Bus,
    door: Arc<dyn Ask>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            let accepts = listeners.iter().map(|listener| Box::pin(listener.accept()));
            (futures_util::future::select_all(accepts).await.0, slot)
        };
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            (accepted, slot) = accept => match accepted {
                Ok((stream, _)) => {
                    let (bus, door, counts) = (bus.clone(), Arc::clone(&door), Arc::clone(&counts));
                    connections.spawn(async move {
                        connection(stream, &bus, door, &counts).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "failed to accept one that fires events");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    connections.shutdown().await;
}

/// Serves one process until it goes, or sends what is no frame.
async fn connection(stream: UnixStream, bus: &Bus, door: Arc<dyn Ask>, counts: &Counts) {
    // Off the async threads: the name of a user may have to be fetched from far away.
    let identified = tokio::task::spawn_blocking(move || Peer::of(&stream).map(|peer| (peer, stream))).await;
    let Ok(Ok((peer, mut stream))) = identified else {
        tracing::warn!("the kernel does not say who fires events");
        return;
    };
    let Peer { uid, pid, user } = peer;
    let refused = |error: &(dyn std::error::Error + 'static)| {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(user, pid, error, "an event that a local tool fired was refused");
    };
    let mut nth = 0;
    let (mut frames, mut bucket) = (Frames::default(), Bucket::new(Instant::now()));
    let mut input = vec![0; READ_BYTES];
    loop {
        let read = match stream.read(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(read) => read,
        };
        if let Err(error) = frames.push(&input[..read]) {
            return refused(&error);
        }
        loop {
            match frames.next_event() {
                Ok(Some(body)) => {
                    tokio::time::sleep_until(bucket.take(Instant::now())).await;
                    nth += 1;
                    let caller = Caller { user: user.clone(), origin: Origin::EventSocket { uid, pid, nth } };
                    if let Err(error) = fire(bus, &*door, caller, &body).await {
                        refused(&error);
                    }
                }
                Ok(None) => break,
                Err(error) => return refused(&error),
            }
        }
    }
}

/// Why an event was not fired.
#[derive(Debug, thiserror::Error)]
enum FireError {
    #[error("read the event")]
    Bad(#[from] BadEvent),
    #[error("read the event's data")]
    Data(#[from] proto::msgpack::DecodeError),
    #[error(transparent)]
    Command(#[from] crate::command::CommandError),
}

async fn fire(bus: &Bus, door: &dyn Ask, caller: Caller, body: &Bytes) -> Result<(), FireError> {
    let event = Event::decode(body)?;
    let data = event.map()?;
    if event.tag == Tag::key().as_str() && is_told(bus, &data).await {
        return Ok(());
    }
    door.ask(caller, Command::Fire { tag: event.tag, data }).await?;
    Ok(())
}

/// Tells whether the master has told a change of a key already that `salt-key` tells: it watches the files that `salt-key`
/// moves, and a reaction is to run once.
async fn is_told(bus: &Bus, data: &Map) -> bool {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(TOLD_WITHIN);
    let since_us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let query = EventQuery { tags: vec![Tag::key().as_str().to_owned()], since: Since::Stamp(since_us), until: None };
    let mut events = bus.subscribe(query);
    let same = |told: &Map| told.text("id") == data.text("id") && act(told) == act(data);
    let told = async {
        while let Some(event) = events.next().await {
            if event.map().is_ok_and(|told| same(&told)) {
                return true;
            }
        }
        false
    };
    tokio::time::timeout(NOTICED_WITHIN, told).await.unwrap_or(false)
}

/// Returns what became of a key: 3008 has other words for it than Salt before, and than we.
fn act(key_event: &Map) -> Option<&str> {
    match key_event.text("act") {
        Some("accepted") => Some("accept"),
        Some("rejected") => Some("reject"),
        other => other,
    }
}

/// How fast a connection may fire.
struct Bucket {
    /// When it would be full, had nobody taken anything.
    full_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// Takes one; returns when it may be used.
    fn take(&mut self, now: Instant) -> Instant {
        let each = Duration::from_secs(1) / RATE_PER_SECOND;
        self.full_at = self.full_at.max(now) + each;
        self.full_at.checked_sub(each * RATE_BURST).map_or(now, |ready| ready.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_what_follows_is_paced() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        for _ in 0..RATE_BURST {
            assert_eq!(bucket.take(now), now);
        }
        let mut last = now;
        for _ in 0..RATE_PER_SECOND {
            last = bucket.take(now);
        }
        assert_eq!(last, now + Duration::from_secs(1));
        let later = now + Duration::from_secs(60);
        assert_eq!(bucket.take(later), later);
    }
}
