//! Which cursors have a reader now. Two readers of one cursor would both get everything, and each move it for the other.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;

use super::error::ApiError;
use crate::command::CommandError;

/// How long a reader waits for the one before it: of one that was just ended, the closed connection is yet to be seen.
const GIVE_WAY: Duration = Duration::from_secs(2);

/// The names of the cursors that are read; cheap to clone. There are no more than connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers(watch::Sender<HashSet<String>>);

/// The right to read behind a cursor, until it is dropped.
#[derive(Debug)]
pub(super) struct Reading {
    name: String,
    readers: Readers,
}

impl Readers {
    /// Takes a cursor for one reader, and refuses it while it has another.
    pub(super) async fn begin(&self, name: &str) -> Result<Reading, ApiError> {
        let mut names = self.0.subscribe();
        let taken = async {
            loop {
                // The sender is ours, so it cannot be gone.
                let _ = names.wait_for(|names| !names.contains(name)).await;
                if self.0.send_if_modified(|names| names.insert(name.to_owned())) {
                    return;
                }
            }
        };
        if tokio::time::timeout(GIVE_WAY, taken).await.is_err() {
            let text =
                format!("the cursor {name} has a reader already; end that one, or read behind a cursor of your own");
            return Err(CommandError::Busy(text).into());
        }
        Ok(Reading { name: name.to_owned(), readers: self.clone() })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.readers.0.send_modify(|names| _ = names.remove(&self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_cursor_has_one_reader_at_a_time() {
        let readers = Readers::default();
        let first = readers.begin("ship").await.unwrap();
        let refused = format!("{:?}", readers.begin("ship").await.unwrap_err());
        assert!(refused.contains("the cursor ship has a reader already"), "{refused}");
        let _other = readers.begin("audit").await.unwrap();
        let (next, ()) = tokio::join!(readers.begin("ship"), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        next.unwrap();
        assert!(readers.begin("ship").await.is_ok(), "it was let go");
    }
}
