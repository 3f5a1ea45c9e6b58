//! News for a connection's task. Each kind is kept once, so that none is ever lost, however many arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What a connection's task is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// Look at the key's state again.
    Rejudge,
    /// The SUB now belongs to a session.
    Attached,
    /// The SUB's session is gone.
    Detached,
    /// Another process took over this session.
    Replaced,
}

#[derive(Default)]
struct News {
    replaced: bool,
    rejudge: bool,
    /// Attached or Detached, whichever came last.
    place: Option<Control>,
}

#[derive(Default)]
struct Shared {
    news: Mutex<News>,
    wake: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, News> {
        // Nothing panics while it is held.
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns both ends.
pub(super) fn channel() -> (Teller, Inbox) {
    let shared = Arc::new(Shared::default());
    (Teller(Arc::clone(&shared)), Inbox(shared))
}

/// The registry's end.
pub(super) struct Teller(Arc<Shared>);

impl Teller {
    /// Leaves a word; never waits, never fails.
    pub(super) fn tell(&self, control: Control) {
        let mut news = self.0.lock();
        match control {
            Control::Rejudge => news.rejudge = true,
            Control::Attached | Control::Detached => news.place = Some(control),
            Control::Replaced => news.replaced = true,
        }
        drop(news);
        self.0.wake.notify_one();
    }
}

/// The task's end.
pub(super) struct Inbox(Arc<Shared>);

impl Inbox {
    /// Waits for the next word, what ends the connection first. Cancel-safe.
    pub(super) async fn recv(&self) -> Control {
        loop {
            if let Some(control) = self.take() {
                return control;
            }
            self.0.wake.notified().await;
        }
    }

    fn take(&self) -> Option<Control> {
        let mut news = self.0.lock();
        if std::mem::take(&mut news.replaced) {
            return Some(Control::Replaced);
        }
        if std::mem::take(&mut news.rejudge) {
            return Some(Control::Rejudge);
        }
        news.place.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flood_of_one_word_hides_no_other() {
        let (teller, inbox) = channel();
        for _ in 0..1_000 {
            teller.tell(Control::Attached);
        }
        teller.tell(Control::Rejudge);
        teller.tell(Control::Detached);
        assert_eq!(inbox.recv().await, Control::Rejudge);
        assert_eq!(inbox.recv().await, Control::Detached, "the last word on the place counts");
        assert_eq!(inbox.take(), None);
        teller.tell(Control::Rejudge);
        teller.tell(Control::Replaced);
        assert_eq!(inbox.recv().await, Control::Replaced);
    }
}
