//! The loop of the event sockets: takes up readers, hands them the events of the bus, lets go of who does not keep up.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::framing::FramingPolicy;
use super::subscriber::{Earlier, Offered, Subscriber};
use super::{Counts, EventSocketsConfig, Markers, Pull, encode, fire};
use crate::bus::{Bus, Event, EventQuery, Since, Subscription};
use crate::runners::Ask;

/// How many readers there may be. A tool has one or two; more are refused, with a line in the log.
const MAX_READERS: usize = 512;
/// The pause after the system refused a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long after a publication a new reader still gets the returns that came before it. A script that publishes without
/// waiting connects afterwards; Salt's minions never were as fast as ours are.
const RECENT: Duration = Duration::from_secs(2);
/// How many publications of that time are remembered; beyond, the oldest is forgotten first.
const MAX_RECENT: usize = 1_024;
/// How often the log names readers that were let go, at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// A socket for readers, and how their events are framed.
pub(super) struct Readers {
    listener: UnixListener,
    /// The same socket: what has connected is taken up at once, whether the runtime has noticed it or not.
    direct: std::os::unix::net::UnixListener,
    policy: FramingPolicy,
    /// Its place among the sockets' paths.
    path: Option<std::path::PathBuf>,
}

impl Readers {
    pub(super) fn new(listener: UnixListener, policy: FramingPolicy) -> io::Result<Readers> {
        let path = path_of(&listener);
        let direct = listener.into_std()?;
        let listener = UnixListener::from_std(direct.try_clone()?)?;
        Ok(Readers { listener, direct, policy, path })
    }
}

fn path_of(listener: &UnixListener) -> Option<std::path::PathBuf> {
    listener.local_addr().ok()?.as_pathname().map(std::path::Path::to_owned)
}

/// What the loop turns to next.
enum Input {
    Came(usize, io::Result<UnixStream>),
    Ended(usize),
    Event(Option<Event>),
    Settle(oneshot::Sender<()>),
    Stop,
}

/// Owns the sockets and their readers.
pub struct EventSocketsTask {
    sockets: Vec<Readers>,
    pull: Vec<Pull>,
    /// Gone with the task.
    _markers: Vec<Markers>,
    settles: mpsc::Receiver<oneshot::Sender<()>>,
    bus: Bus,
    door: Arc<dyn Ask>,
    counts: Arc<Counts>,
    max_event_size: usize,
    readers: Vec<(usize, Subscriber)>,
    next_reader: usize,
    /// There while there are readers: otherwise nobody pays for events that nobody reads.
    events: Option<Subscription>,
    writers: JoinSet<usize>,
    /// When Salt's tools have published lately, and the newest event there was then.
    published: VecDeque<(Instant, u64)>,
    told: Option<Instant>,
}

impl EventSocketsTask {
    #[expect(clippy::too_many_arguments, reason = "called once, by the handle that makes all of them")]
    pub(super) fn new(
        config: &EventSocketsConfig,
        sockets: Vec<Readers>,
        pull: Vec<Pull>,
        markers: Vec<Markers>,
        settles: mpsc::Receiver<oneshot::Sender<()>>,
        bus: Bus,
        door: Arc<dyn Ask>,
        counts: Arc<Counts>,
    ) -> EventSocketsTask {
        EventSocketsTask {
            sockets,
            pull,
            _markers: markers,
            settles,
            bus,
            door,
            counts,
            max_event_size: config.max_event_size,
            readers: Vec::new(),
            next_reader: 0,
            events: None,
            writers: JoinSet::new(),
            published: VecDeque::new(),
            told: None,
        }
    }

    /// Runs until the token is cancelled; then the sockets are gone.
    pub async fn run(mut self, stop: CancellationToken) {
        let pull = std::mem::take(&mut self.pull);
        let pull_paths: Vec<_> = pull.iter().filter_map(path_of).collect();
        let firing =
            fire::serve(pull, self.bus.clone(), Arc::clone(&self.door), Arc::clone(&self.counts), stop.clone());
        let firing = tokio::spawn(firing);
        loop {
            match self.next(&stop).await {
                Input::Came(socket, Ok(stream)) => self.take_up(socket, stream),
                Input::Came(_, Err(error)) => {
                    tracing::warn!(%error, "failed to accept a reader of events");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Input::Ended(reader) => self.let_go(reader),
                Input::Event(Some(event)) => self.hand_out(&event),
                Input::Event(None) => break,
                Input::Settle(answer) => {
                    self.take_up_all();
                    self.note_publication();
                    // Whoever asked may have gone.
                    let _ = answer.send(());
                }
                Input::Stop => break,
            }
        }
        let paths = self.sockets.iter().filter_map(|socket| socket.path.clone()).chain(pull_paths);
        for path in paths {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "failed to remove an event socket");
            }
        }
        stop.cancel();
        if firing.await.is_err() {
            tracing::warn!("those who fire events were cut off");
        }
    }

    async fn next(&mut self, stop: &CancellationToken) -> Input {
        let sockets = &self.sockets;
        let came = futures_util::future::select_all(
            sockets.iter().map(|socket| Box::pin(async { socket.listener.accept().await.map(|(stream, _)| stream) })),
        );
        let event = async {
            match &mut self.events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => Input::Stop,
            Some(answer) = self.settles.recv() => Input::Settle(answer),
            (stream, socket, _) = came => Input::Came(socket, stream),
            Some(ended) = self.writers.join_next() => Input::Ended(ended.unwrap_or(usize::MAX)),
            event = event => Input::Event(event),
        }
    }

    fn note_publication(&mut self) {
        if self.published.len() >= MAX_RECENT {
            self.published.pop_front();
        }
        self.published.push_back((Instant::now(), self.bus.head()));
    }

    /// Returns the returns that a script which has just published may wait for, and that have come already.
    fn recent_returns(&mut self, until: u64) -> Option<Subscription> {
        while self.published.front().is_some_and(|(when, _)| when.elapsed() > RECENT) {
            self.published.pop_front();
        }
        let (_, before) = self.published.front()?;
        let tags = vec!["salt/job/*/ret/*".to_owned()];
        Some(self.bus.subscribe(EventQuery { tags, since: Since::Offset(before + 1), until: Some(until) }))
    }

    /// Takes up everybody who has connected by now.
    fn take_up_all(&mut self) {
        for socket in 0..self.sockets.len() {
            while let Ok((stream, _)) = self.sockets[socket].direct.accept() {
                let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
                match stream {
                    Ok(stream) => self.take_up(socket, stream),
                    Err(error) => tracing::warn!(%error, "failed to take up a reader of events"),
                }
            }
        }
    }

    fn take_up(&mut self, socket: usize, stream: UnixStream) {
        if self.readers.len() >= MAX_READERS {
            tracing::warn!(readers = MAX_READERS, "too many readers of events; one more was refused");
            return;
        }
        if self.events.is_none() {
            let query = EventQuery { tags: Vec::new(), since: Since::Now, until: None };
            self.events = Some(self.bus.subscribe(query));
        }
        let policy = self.sockets[socket].policy;
        let reader = self.next_reader;
        self.next_reader += 1;
        let after = self.bus.head();
        let earlier = Earlier { returns: self.recent_returns(after), max_size: self.max_event_size };
        let (subscriber, writing) = Subscriber::new(stream, policy, earlier, after);
        let abort = self.writers.spawn(async move {
            writing.await;
            reader
        });
        self.readers.push((reader, subscriber.ended_by(abort)));
    }

    fn let_go(&mut self, reader: usize) {
        self.readers.retain(|(known, _)| *known != reader);
        if self.readers.is_empty() {
            self.events = None;
        }
    }

    fn hand_out(&mut self, event: &Event) {
        let Some(bytes) = encode::event(event, self.max_event_size) else {
            tracing::warn!(tag = %event.tag, "an event cannot be written for Salt's tools");
            return;
        };
        let mut slow = 0_u64;
        self.readers.retain(|(_, reader)| match reader.offer(event, &bytes) {
            Offered::Taken => true,
            Offered::TooSlow => {
                slow += 1;
                false
            }
        });
        if slow > 0 {
            let all = self.counts.dropped.fetch_add(slow, Ordering::Relaxed) + slow;
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.told = Some(Instant::now());
                tracing::warn!(since_start = all, "a reader of events did not keep up and was disconnected");
            }
        }
        if self.readers.is_empty() {
            self.events = None;
        }
    }
}
