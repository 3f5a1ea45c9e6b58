//! The minion's own event bus: memory only, for whoever runs on this host. What the master shall know goes through the spool.

use proto::value::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::broadcast;

/// How many events a slow subscriber may be behind. Beyond it the oldest are lost to that subscriber, which is told how many.
pub const CAPACITY: usize = 1_024;

/// One event on the local bus.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalEvent {
    /// The tag.
    pub tag: String,
    /// The data, `_stamp` included.
    pub data: Map,
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
    pub fn fire(&self, tag: &str, mut data: Map) {
        data.entry(Value::from("_stamp")).or_insert_with(|| stamp().into());
        // An error means that nobody listens.
        let _ = self.sender.send(LocalEvent { tag: tag.to_owned(), data });
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

fn stamp() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).expect("the present has a year of four digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_subscriber_gets_its_events_in_order() {
        let bus = LocalBus::default();
        let mut subscription = bus.subscribe("a/");
        bus.fire("b/1", Map::new());
        bus.fire("a/1", proto::map! { "n" => 1, "_stamp" => "now" });
        drop(bus);
        let event = LocalEvent { tag: "a/1".to_owned(), data: proto::map! { "n" => 1, "_stamp" => "now" } };
        assert_eq!(subscription.next().await, Some(Received::Event(event)));
        assert_eq!(subscription.next().await, None);
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed() {
        let bus = LocalBus::default();
        let mut subscription = bus.subscribe("");
        for _ in 0..CAPACITY + 3 {
            bus.fire("t", Map::new());
        }
        assert_eq!(subscription.next().await, Some(Received::Missed(3)));
        assert!(matches!(subscription.next().await, Some(Received::Event(_))));
    }
}
