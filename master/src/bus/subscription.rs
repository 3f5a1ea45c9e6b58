//! A reader of the bus: replays from the log, goes on in the ring, and falls back to the log when it was too slow.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::tag::Tag;
use proto::{map, msgpack};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::damage::{Gap, Why};
use super::event::Event;
use super::query::{EventQuery, Filter, Since};
use super::reader::{From, Hope, Page, ReadError};
use super::ring::{Most, Taken};
use super::{Progress, Shared, now_us};

/// How much a live reader takes out of the ring at a time: enough to make the lock cheap, little enough that idle readers
/// keep next to nothing alive.
const TAKE: Most = Most { events: 64, bytes: 64 * 1024 };

/// How long a reader waits after the log could not be read.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// How often it is tried until a complete segment is passed over: ten seconds. A sector that is bad stays bad.
const READ_AT_MOST: u32 = 20;

/// A stream of events. Dropping it ends it.
pub struct Subscription {
    shared: Arc<Shared>,
    filter: Arc<Filter>,
    progress: watch::Receiver<Progress>,
    place: Place,
    ready: VecDeque<Event>,
    /// The last offset that is wanted.
    until: u64,
    /// How often the next page could not be read.
    failed: u32,
}

#[derive(Debug)]
enum Place {
    /// In the ring, before the entry `seq`; every durable event below `next` was delivered.
    Live { seq: u64, next: u64 },
    /// In the log.
    Log(From),
    /// In the log, with a page under way. The task outlives a cancelled `next`.
    Reading { from: From, page: JoinHandle<Result<Page, ReadError>> },
}

impl Subscription {
    pub(super) fn new(shared: Arc<Shared>, query: &EventQuery) -> Subscription {
        let place = match query.since {
            Since::Now => {
                let ring = shared.ring();
                Place::Live { seq: ring.end(), next: shared.head() + 1 }
            }
            Since::Start | Since::Offset(0) => Place::Log(From::Offset(shared.segments.oldest())),
            Since::Offset(offset) => Place::Log(From::Offset(offset)),
            Since::Stamp(stamp_us) => Place::Log(From::Stamp(stamp_us)),
        };
        let filter = Arc::new(Filter::new(&query.tags));
        let progress = shared.progress.subscribe();
        let until = query.until.unwrap_or(u64::MAX);
        Subscription { shared, filter, progress, place, ready: VecDeque::new(), until, failed: 0 }
    }

    /// Returns the next event, waiting for it if need be; nothing once the bus has stopped or the end that was asked for is
    /// reached: no event up to it is still to come, whether there was one with exactly this offset or not. Durable events come once, in
    /// order, without a hole but those that `halite/bus/gap` tells of. Cancel-safe: an event is lost only by dropping the
    /// subscription.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over() {
                return None;
            }
            tokio::task::coop::consume_budget().await;
            let Progress { head, stopped } = *self.progress.borrow_and_update();
            match &mut self.place {
                Place::Live { .. } => {
                    if self.take() {
                        continue;
                    }
                    if stopped || self.progress.changed().await.is_err() {
                        return None;
                    }
                }
                // A replay has no end that is worth holding up a stop for: its reader comes back with an offset.
                Place::Log(_) | Place::Reading { .. } if stopped => return None,
                Place::Log(from) => {
                    let from = *from;
                    self.place = self.join_or_read(from, head);
                }
                Place::Reading { from, page } => {
                    let from = *from;
                    let page = page.await.unwrap_or(Err(ReadError::Stopped));
                    self.turn(from, page).await;
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        match &self.place {
            Place::Live { next, .. } | Place::Log(From::Offset(next)) => *next > self.until,
            Place::Log(From::Stamp(_)) => self.until == 0,
            Place::Reading { .. } => false,
        }
    }

    /// Takes from the ring; tells whether anything has changed.
    fn take(&mut self) -> bool {
        let Place::Live { seq, next } = &mut self.place else { return false };
        let taken = self.shared.ring().take(*seq, TAKE, &mut self.ready);
        match taken {
            Taken::Behind => {
                self.shared.count(|counters| counters.fell_behind += 1);
                self.place = Place::Log(From::Offset(*next));
                true
            }
            Taken::Upto(at) if at == *seq => false,
            Taken::Upto(at) => {
                *seq = at;
                let wanted = *next;
                if let Some(newest) = self.ready.iter().rev().find(|event| event.durable) {
                    *next = wanted.max(newest.offset + 1);
                }
                let (filter, until) = (&self.filter, self.until);
                self.ready.retain(|event| {
                    let in_place = !event.durable || event.offset >= wanted;
                    in_place && event.offset <= until && filter.wants(event.tag.as_str())
                });
                true
            }
        }
    }

    fn join_or_read(&self, from: From, head: u64) -> Place {
        if let From::Offset(next) = from
            && let Some(seq) = self.shared.ring().join(next)
        {
            return Place::Live { seq, next };
        }
        let hope = if self.failed < READ_AT_MOST { Hope::Left } else { Hope::Gone };
        let page = Arc::clone(&self.shared.readers).page(from, head.min(self.until), Arc::clone(&self.filter), hope);
        Place::Reading { from, page: tokio::spawn(page) }
    }

    /// Takes over a page that was read. Its place is set before the only wait, so that a cancelled wait is only shorter.
    async fn turn(&mut self, from: From, page: Result<Page, ReadError>) {
        match page {
            Ok(page) => {
                (self.place, self.failed) = (Place::Log(From::Offset(page.next)), 0);
                self.ready = page.events.into();
                if let Some(gap) = page.gap {
                    self.tell_gap(gap);
                }
            }
            Err(error) => {
                (self.place, self.failed) = (Place::Log(from), self.failed + 1);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a reader cannot read the event log, trying again"
                );
                tokio::time::sleep(READ_AGAIN).await;
            }
        }
    }

    /// Tells whoever reads this, whatever they filter, that they missed something.
    fn tell_gap(&mut self, gap: Gap) {
        let Gap { first, last, why } = gap;
        let count = last - first + 1;
        if why == Why::Deleted {
            tracing::warn!(first, last, count, "a reader of the event log came too late: what it wanted is deleted");
            self.shared.count(|counters| counters.overtaken = counters.overtaken.saturating_add(count));
        } else {
            tracing::error!(
                first, last, count, %why,
                "events of the log cannot be read, and a reader goes on behind them; `halite store check` names the file"
            );
        }
        let data = map! { "first" => first, "last" => last, "count" => count, "reason" => why.to_string() };
        let data = Bytes::from(msgpack::encode_map(&data));
        let gap = Event { offset: last, tag: Tag::bus("gap"), stamp_us: now_us(), data, durable: false };
        self.ready.push_front(gap);
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Place::Reading { page, .. } = &self.place {
            page.abort();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("filter", &self.filter).field("place", &self.place).finish_non_exhaustive()
    }
}
