//! The minion's own event bus: memory only, for whoever runs on this host. What the master shall know goes through the spool.

use proto::msgpack;
use proto::tag::{BadTag, Tag};
use proto::value::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::sync::broadcast;

/// How many events a slow subscriber may be behind. Beyond it the oldest are lost to that subscriber, which is told how many.
pub const CAPACITY: usize = 256;
/// The largest event: with [`CAPACITY`] it bounds what a slow subscriber can hold back, 16 MiB.
pub const MAX_EVENT: usize = 64 << 10;

/// One event on the local bus.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalEvent {
    /// The tag.
    pub tag: String,
    /// The data, `_stamp` included.
    pub data: Map,
}

/// Why an event is not fired.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FireError {
    /// The tag is none.
    #[error("fire the event: {0}")]
    Tag(#[from] BadTag),
    /// The data is too large.
    #[error("fire the event: its data has {size} bytes, and the local bus takes {MAX_EVENT}")]
    TooLarge {
        /// How large it is.
        size: usize,
    },
}

/// The handle of the local bus; cheap to clone.
#[derive(Debug, Clone)]
pub struct LocalBus {
    sender: broadcast::Sender<LocalEvent>,
}

/// One subscriber's place on the bus.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<LocalEvent>,
    prefix: String,
}

/// What a subscriber gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// An event.
    Event(LocalEvent),
    /// So many events were lost because this subscriber was too slow.
    Missed(u64),
}

impl Default for LocalBus {
    fn default() -> LocalBus {
        LocalBus { sender: broadcast::channel(CAPACITY).0 }
    }
}

impl LocalBus {
    /// Fires an event. Never blocks; without subscribers it is gone.
    pub fn fire(&self, tag: &str, mut data: Map) -> Result<(), FireError> {
        let tag = Tag::parse(tag)?;
        let size = msgpack::encode_map(&data).len();
        if size > MAX_EVENT {
            return Err(FireError::TooLarge { size });
        }
        data.entry(Value::from("_stamp")).or_insert_with(|| stamp().into());
        // An error means that nobody listens.
        let _ = self.sender.send(LocalEvent { tag: tag.as_str().to_owned(), data });
        Ok(())
    }

    /// Subscribes to the events whose tag begins with `prefix`, from now on.
    pub fn subscribe(&self, prefix: &str) -> Subscription {
        Subscription { receiver: self.sender.subscribe(), prefix: prefix.to_owned() }
    }
}

impl Subscription {
    /// Returns what comes next, or nothing when every handle of the bus is gone.
    pub async fn next(&mut self) -> Option<Received> {
        loop {
            match self.receiver.recv().await {
                Ok(event) if event.tag.starts_with(&self.prefix) => return Some(Received::Event(event)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(count)) => return Some(Received::Missed(count)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Returns the present as all stamps are written: UTC, microseconds.
fn stamp() -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00");
    OffsetDateTime::now_utc().format(&format).expect("every time has all these parts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_gets_its_events_in_order() {
        let bus = LocalBus::default();
        let mut subscription = bus.subscribe("a/");
        bus.fire("b/1", Map::new()).unwrap();
        bus.fire("a/1", proto::map! { "n" => 1, "_stamp" => "now" }).unwrap();
        drop(bus);
        let event = LocalEvent { tag: "a/1".to_owned(), data: proto::map! { "n" => 1, "_stamp" => "now" } };
        assert_eq!(subscription.next().await, Some(Received::Event(event)));
        assert_eq!(subscription.next().await, None);
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let bus = LocalBus::default();
        assert!(matches!(bus.fire("", Map::new()), Err(FireError::Tag(_))));
        let large = proto::map! { "text" => "x".repeat(MAX_EVENT) };
        assert!(matches!(bus.fire("t", large), Err(FireError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed() {
        let bus = LocalBus::default();
        let mut subscription = bus.subscribe("");
        for _ in 0..CAPACITY + 3 {
            bus.fire("t", Map::new()).unwrap();
        }
        assert_eq!(subscription.next().await, Some(Received::Missed(3)));
        assert!(matches!(subscription.next().await, Some(Received::Event(_))));
    }
}
