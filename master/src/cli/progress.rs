//! A discreet line on stderr while a job takes long. On a terminal only, and gone when the job is over.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use render::output::ret;
use tokio::time::Instant;

/// For so long there is nothing to see: most jobs are over by then.
const QUIET: Duration = Duration::from_secs(2);

/// How often the line is drawn anew.
const STEP: Duration = Duration::from_millis(250);

/// The line.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    next: Instant,
}

impl Progress {
    /// Starts to count the time.
    pub(super) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let plain = ProgressStyle::with_template("{msg}").expect("the template is a constant and right");
            ProgressBar::new_spinner().with_style(plain)
        });
        let started = Instant::now();
        Progress { bar, started, next: started + QUIET }
    }

    /// Waits until the line is to be drawn; for ever if there is none.
    pub(super) async fn due(&self) {
        match self.bar {
            Some(_) => tokio::time::sleep_until(self.next).await,
            None => std::future::pending().await,
        }
    }

    /// Draws the line.
    pub(super) fn draw(&mut self, returned: usize, targeted: usize) {
        self.next = Instant::now() + STEP;
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} ({} s)", ret::progress(returned, targeted), self.started.elapsed().as_secs()));
            bar.tick();
        }
    }

    /// Takes the line away while something else is printed.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
