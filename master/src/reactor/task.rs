//! The loop of the reactor: reads the bus from the cursor on, and carries out what `state.rs` and the files say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::ids::Jid;
use proto::tag::Tag;
use proto::value::Map;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::high::Chunk;
use super::outbox::{Entry, OpenError, Outbox, OutboxError};
use super::plan::{self, Plan};
use super::print;
use super::reactions;
use super::report::{self, Fault};
use super::rules::Step;
use super::sls::Files;
use super::state::{Outcome, Print, ReactorState, Seen, USER, Verdict};
use super::{Loaded, Standings};
use crate::bus::{Bus, Event, EventQuery, Since, Subscription};
use crate::command::{Caller, Command, CommandError, Origin};
use crate::runners::Ask;

/// How often the cursor is stored while no event sets anything off.
const STORE_EVERY: Duration = Duration::from_secs(5);
/// After how many such events it is stored at the latest: so many are looked at again after a crash.
const STORE_AFTER: u64 = 10_000;
/// How long a reaction may take: a runner that hangs must not hold up the others for ever.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a reaction is tried when the master is not able to carry it out.
const ATTEMPTS: u32 = 6;
/// How long the first of these waits is; each next one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How long to wait before the outbox is written again after it failed.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// The name of this reader of the log, for those who ask how far it is.
const CURSOR: &str = "reactor";

/// Why the reactor has ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The outbox cannot be read.
    #[error("take up the reactions that were interrupted")]
    Outbox(#[from] OutboxError),
    /// A write to the outbox has panicked; its last words are in the log.
    #[error("keep the reactor running: its outbox has panicked")]
    Panicked,
}

/// The running half of the reactor.
#[must_use = "nothing reacts before the task runs"]
pub struct ReactorTask {
    loaded: watch::Receiver<Arc<Loaded>>,
    told: watch::Sender<Standings>,
    bus: Bus,
    door: Arc<dyn Ask>,
    state: ReactorState,
    /// Both are away while another thread uses them.
    files: Option<Files>,
    outbox: Option<Outbox>,
    /// Who jobs are published as: the user that the master runs as.
    user: String,
}

/// What the loop has to deal with.
enum ReactorInput {
    Event(Event),
    Reloaded,
    Stop,
    StoreCursor,
}

impl ReactorTask {
    pub(super) fn new(
        loaded: watch::Receiver<Arc<Loaded>>,
        told: watch::Sender<Standings>,
        bus: Bus,
        door: Arc<dyn Ask>,
        mut outbox: Outbox,
    ) -> Result<ReactorTask, OpenError> {
        let cursor = outbox.resume(bus.head())?;
        bus.note_cursor(CURSOR, Some(cursor + 1));
        let mut state = ReactorState::new(cursor, outbox.causes()?, loaded.borrow().guards);
        let max_age = i64::try_from(loaded.borrow().max_age.as_micros()).unwrap_or(i64::MAX);
        state.note_outage(bus.head(), now_us().saturating_sub(max_age));
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| "root".to_owned(), |user| user.name);
        Ok(ReactorTask { loaded, told, bus, door, state, files: None, outbox: Some(outbox), user })
    }

    /// Takes up what was interrupted, then reacts until the token is cancelled or the bus stops. What has begun by then
    /// is finished.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), RunError> {
        let unfinished = self.off(|outbox| outbox.unfinished()).await??;
        for entry in unfinished {
            tracing::info!(tag = entry.tag, id = entry.chunk.id, "reaction was interrupted; it happens now");
            if self.perform(entry, &stop).await?.is_none() {
                return Ok(());
            }
        }
        let query = EventQuery { tags: Vec::new(), since: Since::Offset(self.state.cursor() + 1), until: None };
        let mut events = self.bus.subscribe(query);
        let mut tick = interval(STORE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.next(&mut events, &mut tick, &stop).await {
                ReactorInput::Event(event) => self.take_in(event, &stop).await?,
                ReactorInput::Reloaded => {
                    let loaded = Arc::clone(&self.loaded.borrow_and_update());
                    self.state.reload(&loaded.rules, loaded.guards);
                    self.told.send_modify(|told| told.retain(|tag, _| loaded.rules.has(tag)));
                }
                ReactorInput::Stop => break,
                ReactorInput::StoreCursor => self.store_cursor().await?,
            }
        }
        self.store_cursor().await
    }

    async fn next(&mut self, events: &mut Subscription, tick: &mut Interval, stop: &CancellationToken) -> ReactorInput {
        tokio::select! {
            biased;
            () = stop.cancelled() => ReactorInput::Stop,
            _ = tick.tick() => ReactorInput::StoreCursor,
            Ok(()) = self.loaded.changed() => ReactorInput::Reloaded,
            event = events.next() => event.map_or(ReactorInput::Stop, ReactorInput::Event),
        }
    }

    /// Does all that one event asks for.
    async fn take_in(&mut self, event: Event, stop: &CancellationToken) -> Result<(), RunError> {
        // What is not in the log cannot be taken up again after a crash; who fired it has been told.
        if !event.durable {
            return Ok(());
        }
        let loaded = Arc::clone(&self.loaded.borrow());
        let tag = event.tag.as_str();
        let seen = Seen { offset: event.offset, tag, stamp_us: event.stamp_us, print: Print::default() };
        if loaded.rules.matching(tag).next().is_some() && !tag.starts_with(Tag::reactor("").as_str()) {
            match event.map() {
                Ok(data) => {
                    if !self.judge(&loaded, seen, &event.tag, data, stop).await? {
                        return Ok(());
                    }
                }
                Err(error) => tracing::error!(tag, error = &error as &dyn std::error::Error, "event is not a map"),
            }
        }
        if let Some(skipped) = self.state.end_of_outage(seen) {
            report::skipped(&self.bus, &skipped, loaded.max_age.as_secs());
        }
        self.state.advance(event.offset);
        self.bus.note_cursor(CURSOR, Some(event.offset + 1));
        if self.state.unstored_count() >= STORE_AFTER {
            self.store_cursor().await?;
        }
        Ok(())
    }

    /// Reacts to an event that some rule matches. False if the master stopped before that could be stored: then the
    /// event comes again after the restart.
    async fn judge(
        &mut self,
        loaded: &Arc<Loaded>,
        seen: Seen<'_>,
        tag: &Tag,
        data: Map,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        let compares = loaded.guards.repeats_us > 0;
        let seen = if compares { Seen { print: print::print(seen.tag, &data), ..seen } } else { seen };
        let verdict = self.state.judge(&loaded.rules, seen, &data);
        self.tell_standings(loaded.rules.matching(seen.tag).map(|rule| rule.tag.as_str()));
        match verdict {
            Verdict::Ignore | Verdict::Skip => Ok(true),
            Verdict::Loop { cause } => {
                report::chain_cut(&self.bus, seen.tag, &cause);
                Ok(true)
            }
            Verdict::React { steps, depth, limited } => {
                limited.iter().for_each(|limited| report::limited(&self.bus, seen.tag, limited, &loaded.guards));
                if steps.is_empty() {
                    return Ok(true);
                }
                let plan = self.render(loaded, steps.clone(), tag, data).await;
                plan.warnings.iter().for_each(|warning| report::warning(&self.bus, seen.tag, warning));
                plan.faults.iter().for_each(|fault| report::fault(&self.bus, seen.tag, fault));
                let mut outcomes = Outcomes::of(&steps, &plan);
                if !self.react(plan.chunks, seen, depth, &mut outcomes, stop).await? {
                    return Ok(false);
                }
                self.note(outcomes, loaded, seen);
                Ok(true)
            }
        }
    }

    /// Notes how the rules did, and tells of those that are switched off or on by it.
    fn note(&mut self, outcomes: Outcomes, loaded: &Loaded, seen: Seen<'_>) {
        for (rule, outcome) in &outcomes.0 {
            if let Some(news) = self.state.note_outcome(rule, *outcome, seen.stamp_us) {
                report::breaker(&self.bus, seen.tag, rule, &news, &loaded.guards);
            }
        }
        self.tell_standings(outcomes.0.keys().map(String::as_str));
    }

    /// Lets those who ask for the rules know how these do.
    fn tell_standings<'a>(&self, rules: impl Iterator<Item = &'a str>) {
        let mut rules = rules.peekable();
        if rules.peek().is_none() {
            return;
        }
        self.told.send_modify(|told| {
            for rule in rules {
                told.insert(rule.to_owned(), self.state.standing(rule));
            }
        });
    }

    /// Stores what an event sets off, and then does it. False if it could not be stored.
    async fn react(
        &mut self,
        chunks: Vec<Chunk>,
        seen: Seen<'_>,
        depth: u32,
        outcomes: &mut Outcomes,
        stop: &CancellationToken,
    ) -> Result<bool, RunError> {
        if chunks.is_empty() {
            return Ok(true);
        }
        let mut entries = Vec::with_capacity(chunks.len());
        for (index, chunk) in chunks.into_iter().enumerate() {
            let jid = match self.jid_for(&chunk, stop).await {
                Some(jid) => jid,
                None => return Ok(false),
            };
            entries.push(Entry::new(seen, index, depth, jid, chunk));
        }
        let Some(entries) = self.store(seen.offset, entries, stop).await? else { return Ok(false) };
        for entry in entries {
            let rule = entry.chunk.rule.clone();
            match self.perform(entry, stop).await? {
                Some(outcome) => outcomes.note(&rule, outcome),
                None => break,
            }
        }
        Ok(true)
    }

    /// Chooses the jid of a job. Nothing at all when the master is stopping: the event will come again.
    async fn jid_for(&mut self, chunk: &Chunk, stop: &CancellationToken) -> Option<Option<Jid>> {
        if !is_job(chunk) {
            return Some(None);
        }
        loop {
            match self.door.new_jid().await {
                Ok(jid) => return Some(Some(jid)),
                Err(error) => tracing::warn!(%error, "reaction gets no jid; trying again"),
            }
            if !wait(DISK_WAIT, stop).await {
                return None;
            }
        }
    }

    /// Carries out a reaction, and notes that. Nothing if the master is stopping and cannot: it stays unfinished, and so
    /// must those behind it.
    async fn perform(&mut self, entry: Entry, stop: &CancellationToken) -> Result<Option<Outcome>, RunError> {
        self.state.note_cause(entry.cause(), entry.depth);
        let failed = match command(&entry) {
            Ok(command) => match self.ask(command, entry.depth, stop).await {
                Some(done) => done.err().map(|error| failure(&entry.chunk, &error)),
                None => return Ok(None),
            },
            Err(error) => Some(error.to_string()),
        };
        let outcome = if failed.is_some() { Outcome::Failed } else { Outcome::Good };
        if let Some(error) = failed {
            report::fault(&self.bus, &entry.tag, &Fault::of(entry.chunk, error));
        }
        if let Err(error) = self.off(move |outbox| outbox.done(entry.n)).await? {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "reaction is not known to be done; it may happen again after a restart");
        }
        Ok(Some(outcome))
    }

    /// Asks at the door, again and again if the master is not able to answer. Nothing if it is stopping meanwhile.
    async fn ask(
        &mut self,
        command: Command,
        depth: u32,
        stop: &CancellationToken,
    ) -> Option<Result<(), CommandError>> {
        // As in Salt: jobs are the master's user's, and their events may set off more.
        let user = if matches!(command, Command::Publish(_)) { self.user.as_str() } else { USER };
        let caller = Caller { user: user.to_owned(), origin: Origin::Reactor { depth } };
        let mut pause = FIRST_WAIT;
        let mut attempt = 0;
        loop {
            let asked = tokio::time::timeout(DEADLINE, self.door.ask(caller.clone(), command.clone())).await;
            let late = |_| CommandError::Invalid(format!("no answer within {} seconds", DEADLINE.as_secs()));
            let error = match asked.map_err(late).flatten() {
                Ok(_) => return Some(Ok(())),
                Err(error) => error,
            };
            if !matches!(error, CommandError::Busy(_) | CommandError::Internal(_)) {
                return Some(Err(error));
            }
            // While the log is out of order nothing can work, and it will work later.
            let degraded = self.bus.watch_degraded().borrow().is_some();
            attempt += u32::from(!degraded);
            if attempt >= ATTEMPTS {
                return Some(Err(error));
            }
            if !wait(pause, stop).await {
                return None;
            }
            pause = (pause * 2).min(DISK_WAIT);
        }
    }

    /// Renders an event's files on a thread that may be busy for a while.
    async fn render(&mut self, loaded: &Arc<Loaded>, steps: Vec<Step>, tag: &Tag, data: Map) -> Plan {
        let mut files = self.files.take().unwrap_or_default();
        let (loaded, event) = (Arc::clone(loaded), tag.clone());
        let work = move || {
            let plan = plan::plan(&loaded, &mut files, &steps, &event, &data);
            (files, plan)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((files, plan)) => {
                self.files = Some(files);
                plan
            }
            Err(_) => {
                let error = format!("Exception encountered while compiling reactions for event {tag}");
                let fault = Fault { error, ..Fault::default() };
                Plan { faults: vec![fault], ..Plan::default() }
            }
        }
    }

    /// Stores entries and cursor, however long that takes. Nothing if the master is stopping meanwhile.
    async fn store(
        &mut self,
        cursor: u64,
        entries: Vec<Entry>,
        stop: &CancellationToken,
    ) -> Result<Option<Vec<Entry>>, RunError> {
        let mut entries = entries;
        loop {
            let work = move |outbox: &mut Outbox| {
                let planned = outbox.plan(cursor, &mut entries);
                (entries, planned)
            };
            let (back, planned) = self.off(work).await?;
            entries = back;
            match planned {
                Ok(()) => {
                    self.state.note_stored(cursor);
                    return Ok(Some(entries));
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "reactions wait until the outbox can be written again");
                }
            }
            if !wait(DISK_WAIT, stop).await {
                return Ok(None);
            }
        }
    }

    async fn store_cursor(&mut self) -> Result<(), RunError> {
        let Some(cursor) = self.state.unstored() else { return Ok(()) };
        match self.off(move |outbox| outbox.store_cursor(cursor)).await? {
            Ok(()) => self.state.note_stored(cursor),
            // The events that came since are looked at again after a restart, that is all.
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cursor of the reactor is not stored")
            }
        }
        Ok(())
    }

    /// Uses the outbox on a thread that may wait for the disk.
    async fn off<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Outbox) -> T + Send + 'static,
    ) -> Result<T, RunError> {
        let mut outbox = self.outbox.take().ok_or(RunError::Panicked)?;
        let work = move || {
            let done = work(&mut outbox);
            (outbox, done)
        };
        let (outbox, done) = tokio::task::spawn_blocking(work).await.map_err(|_| RunError::Panicked)?;
        self.outbox = Some(outbox);
        Ok(done)
    }
}

impl std::fmt::Debug for ReactorTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReactorTask").field("cursor", &self.state.cursor()).finish_non_exhaustive()
    }
}

/// How the rules of one event did: a rule is good if all of its reactions are. One that had nothing to do is not in it.
#[derive(Debug, Default)]
struct Outcomes(BTreeMap<String, Outcome>);

impl Outcomes {
    /// Begins with what is known before anything happens. What is wrong with the files together is so for each rule.
    fn of(steps: &[Step], plan: &Plan) -> Outcomes {
        let mut outcomes = Outcomes::default();
        for fault in &plan.faults {
            let blamed = steps.iter().filter(|step| fault.rule.as_ref().is_none_or(|rule| *rule == step.rule));
            blamed.for_each(|step| outcomes.note(&step.rule, Outcome::Failed));
        }
        outcomes
    }

    fn note(&mut self, rule: &str, outcome: Outcome) {
        let noted = self.0.entry(rule.to_owned()).or_insert(outcome);
        if outcome == Outcome::Failed {
            *noted = outcome;
        }
    }
}

/// Tells whether a chunk publishes a job: such a one has a jid before it happens.
pub(super) fn is_job(chunk: &Chunk) -> bool {
    reactions::kind_name(&chunk.state) == "local"
}

/// Builds the command of an entry, with the jid that was chosen for it.
pub(super) fn command(entry: &Entry) -> Result<Command, reactions::ReactionError> {
    let mut command = reactions::build(&entry.chunk, &entry.key)?.command;
    if let Command::Publish(request) = &mut command {
        request.jid.clone_from(&entry.jid);
    }
    Ok(command)
}

/// Says in Salt's words what failed.
fn failure(chunk: &Chunk, error: &CommandError) -> String {
    let state = reactions::kind_name(&chunk.state);
    format!("Reactor '{}' failed to execute {state} '{}': {error}", chunk.id, chunk.fun)
}

/// Waits; tells whether the master goes on.
async fn wait(pause: Duration, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
