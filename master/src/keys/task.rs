//! The thread that owns the store: takes one request after the other, asks the rules, writes the files, tells everybody.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proto::ids::MinionId;
use proto::keys::PublicKey;
use proto::message::SessionState;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::autosign::Autosign;
use super::state::{Act, Advice, Files, KeysState};
use super::store::{FileError, Store};
use super::view::View;
use super::watch::{Names, Touched, Watching};
use super::{
    Judgement, KeyChange, KeyFingers, KeyLists, KeyPems, KeySelection, KeyState, KeysConfig, KeysError, Vouching,
};

/// How long a key may be in no folder while somebody moves it. Each time a key vanishes the store waits so long.
const MOVING: Duration = Duration::from_millis(200);

/// What the handle asks.
#[derive(Debug)]
pub(super) enum Request {
    Act { act: Act, selection: KeySelection, done: oneshot::Sender<Result<KeyLists, KeysError>> },
    Finger { selection: KeySelection, done: oneshot::Sender<KeyFingers> },
    Judge { id: MinionId, key: PublicKey, vouching: Option<Vouching>, done: oneshot::Sender<Judgement> },
    List { done: oneshot::Sender<KeyLists> },
    Print { selection: KeySelection, done: oneshot::Sender<KeyPems> },
    Reload { config: Box<KeysConfig>, done: oneshot::Sender<()> },
    Rescan { done: oneshot::Sender<Result<(), KeysError>> },
    Stop,
    Touched,
    Upgrade { id: MinionId, rsa: PublicKey, native: [u8; 32], done: oneshot::Sender<bool> },
}

/// Why the key store has ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The thread could not be started.
    #[error("start the key store")]
    Thread(#[source] std::io::Error),
    /// The thread has panicked; its last words are in the log.
    #[error("keep the key store running: it has panicked")]
    Panicked,
}

/// The running half of the key store. Without it no request is answered.
#[must_use = "no key is judged before the task runs"]
pub struct KeysTask {
    pub(super) keeper: Keeper,
    pub(super) stop: mpsc::Sender<Request>,
}

impl KeysTask {
    /// Runs until `shutdown` says true, or until its sender is gone.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> Result<(), RunError> {
        let KeysTask { keeper, stop } = self;
        let (done, mut ended) = oneshot::channel();
        let work = move || {
            keeper.run();
            let _ = done.send(());
        };
        std::thread::Builder::new().name("keys".into()).spawn(work).map_err(RunError::Thread)?;
        tokio::select! {
            _ = shutdown.wait_for(|stop| *stop) => {}
            _ = &mut ended => return Err(RunError::Panicked),
        }
        // Fails only if the thread has ended already.
        let _ = stop.send(Request::Stop).await;
        drop(stop);
        ended.await.map_err(|_| RunError::Panicked)
    }
}

/// What the thread owns.
pub(super) struct Keeper {
    pub(super) state: KeysState,
    pub(super) autosign: Autosign,
    pub(super) store: Store,
    pub(super) view: Arc<View>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) changes: broadcast::Sender<KeyChange>,
    pub(super) touched: Arc<Touched>,
    /// Kept for its drop.
    pub(super) _watching: Watching,
}

impl Keeper {
    fn run(mut self) {
        while let Some(request) = self.requests.blocking_recv() {
            match self.touched.take() {
                Names::All => {
                    if let Err(error) = self.rescan() {
                        tracing::error!(error = &error as &dyn std::error::Error, "cannot look through the key store");
                    }
                }
                Names::These(ids) => self.observe_touched(&ids),
            }
            // Whoever asked may be gone by now.
            match request {
                Request::Act { act, selection, done } => drop(done.send(self.act(act, &selection))),
                Request::Finger { selection, done } => drop(done.send(self.state.fingers(&selection))),
                Request::Judge { id, key, vouching, done } => {
                    drop(done.send(self.judge(&id, &key, vouching.as_ref())));
                }
                Request::List { done } => drop(done.send(self.state.lists())),
                Request::Print { selection, done } => drop(done.send(self.state.pems(&selection))),
                Request::Reload { config, done } => {
                    self.reload(*config);
                    let _ = done.send(());
                }
                Request::Rescan { done } => drop(done.send(self.rescan().map_err(KeysError::Store))),
                Request::Stop => return,
                Request::Touched => {}
                Request::Upgrade { id, rsa, native, done } => drop(done.send(self.upgrade(&id, &rsa, native))),
            }
        }
    }

    fn reload(&mut self, config: KeysConfig) {
        self.state.limit(config.limits());
        self.autosign = Autosign::new(config.autosign, self.store.pki_dir());
    }

    fn judge(&mut self, id: &MinionId, key: &PublicKey, vouching: Option<&Vouching>) -> Judgement {
        let advice = if self.state.is_open(id) {
            self.autosign.advise(id, vouching.map(|vouching| &vouching.0))
        } else {
            Advice::Ask
        };
        let ruling = self.state.judge(id, key, advice);
        let reason = ruling.reason.map(str::to_owned);
        let Some(change) = ruling.change else {
            return Judgement { state: ruling.state, changed: false, reason };
        };
        if let Err(error) = self.store.perform(&change) {
            tracing::error!(minion_id = %id, error = &error as &dyn std::error::Error, "cannot store a key");
            let turned_away = matches!(ruling.state, SessionState::Denied | SessionState::Rejected);
            let state = if turned_away { ruling.state } else { SessionState::Full };
            let reason = Some("the master cannot store the key".to_owned());
            return Judgement { state, changed: false, reason };
        }
        self.commit(std::slice::from_ref(&change));
        if change.to == Some(KeyState::Accepted) {
            self.autosign.use_stub(id);
            tracing::info!(minion_id = %id, fingerprint = key.fingerprint().as_str(), "a key was accepted without asking");
        }
        Judgement { state: ruling.state, changed: true, reason }
    }

    fn upgrade(&mut self, id: &MinionId, rsa: &PublicKey, native: [u8; 32]) -> bool {
        let Some(change) = self.state.upgrade(id, rsa, native) else { return false };
        let changes = std::slice::from_ref(&change);
        if let Err(error) = self.store.perform(&change).and_then(|()| self.store.sync(changes)) {
            tracing::error!(minion_id = %id, error = &error as &dyn std::error::Error, "cannot store a key");
            return false;
        }
        // It was turned away as a stranger's before it was vouched for. Nobody has to decide on it any more.
        self.commit(changes);
        if let Some(undenied) = self.state.undenied(id) {
            match self.store.perform(&undenied) {
                Ok(()) => self.state.apply(&undenied),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(minion_id = %id, error, "an accepted key stays among the denied ones too");
                }
            }
        }
        tracing::info!(minion_id = %id, "the RSA key was replaced by the native key that it vouched for");
        true
    }

    fn act(&mut self, act: Act, selection: &KeySelection) -> Result<KeyLists, KeysError> {
        let chosen = self.state.choose(act, selection);
        for (id, other) in &chosen.shared {
            tracing::warn!(minion_id = %id, %other, "not accepting a key that is accepted under another id");
        }
        if chosen.changes.is_empty()
            && let Some((id, other)) = chosen.shared.into_iter().next()
        {
            return Err(KeysError::SharedKey { id, other });
        }
        if selection.dry_run {
            return Ok(chosen.lists);
        }
        for (at, change) in chosen.changes.iter().enumerate() {
            if let Err(error) = self.store.perform(change) {
                // What was done before stays done, and has to be known.
                self.commit(&chosen.changes[..at]);
                return Err(KeysError::Store(error));
            }
        }
        let synced = self.store.sync(&chosen.changes);
        self.commit(&chosen.changes);
        synced.map_err(KeysError::Store)?;
        Ok(chosen.lists)
    }

    fn rescan(&mut self) -> Result<(), FileError> {
        let found = self.store.scan()?;
        for id in self.state.ids() {
            if !found.contains_key(&id) {
                self.observe(&id, &Files::default());
            }
        }
        for (id, files) in &found {
            self.observe(id, files);
        }
        Ok(())
    }

    /// Looks at what was touched. `salt-key` of 3008 takes a key out of one folder before it puts it into the next; believed
    /// at once, its minion would be pending anew before it is accepted. So what has vanished is looked at again.
    fn observe_touched(&mut self, ids: &BTreeSet<MinionId>) {
        let mut found: Vec<(&MinionId, Files)> = ids.iter().map(|id| (id, self.store.look(id))).collect();
        let has_vanished =
            |state: &KeysState, id: &MinionId, files: &Files| files.is_vacant() && !state.observe(id, files).is_empty();
        if found.iter().any(|(id, files)| has_vanished(&self.state, id, files)) {
            std::thread::sleep(MOVING);
            for (id, files) in &mut found {
                *files = self.store.look(id);
            }
        }
        for (id, files) in &found {
            self.observe(id, files);
        }
    }

    fn observe(&mut self, id: &MinionId, files: &Files) {
        let changes = self.state.observe(id, files);
        for KeyChange { id, from, to, .. } in &changes {
            let name = |state: &Option<KeyState>| state.map_or("nothing", KeyState::name);
            tracing::info!(minion_id = %id, from = name(from), to = name(to), "a key file was changed by hand");
        }
        self.commit(&changes);
    }

    /// Tells everybody of changes that are on the disk.
    fn commit(&mut self, changes: &[KeyChange]) {
        if changes.is_empty() {
            return;
        }
        for change in changes {
            self.state.apply(change);
        }
        self.view.apply(changes);
        for change in changes {
            // Nobody listens: nobody has to be told.
            let _ = self.changes.send(change.clone());
        }
    }
}
