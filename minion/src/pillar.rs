//! The pillar: what the master's files say to this minion alone. Asked for when a session opens and when a function
//! refreshes it; kept in memory, never on the disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::map;
use proto::value::{Map, MapExt, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use crate::link::LinkStatus;
use crate::modules::{AskError, MasterRequests};

/// How long the master may take: it renders every file that concerns this minion.
pub const WAIT: Duration = Duration::from_secs(60);
/// Where a pillar names what is wrong with it.
pub const ERRORS: &str = "_errors";
/// How many of its errors are logged.
const MAX_LOGGED: usize = 20;

/// The pillar as it was told last; cheap to clone, and all clones are one.
#[derive(Clone, Default)]
pub struct Pillar(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    pillar: Arc<Map>,
    changes: Option<watch::Sender<()>>,
}

/// What a pillar is compiled for.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// This host's grains.
    pub grains: Map,
    /// The minion's configuration: its `saltenv` and `pillarenv` are sent.
    pub config: Option<&'a Map>,
    /// The pillar environment, instead of the configured one.
    pub pillarenv: Option<String>,
    /// The environment, instead of the configured one.
    pub saltenv: Option<String>,
    /// Values that go before what the files say.
    pub pillar: Option<Map>,
}

impl Request<'_> {
    /// Asks the master. The pillar is whole even if some of its files failed: [`ERRORS`] then says which, and why.
    pub fn ask(self, master: &dyn MasterRequests) -> Result<Map, AskError> {
        let configured = |key: &str| self.config.and_then(|config| config.text(key)).map(str::to_owned);
        let fields = map! {
            "grains" => self.grains.clone(),
            "saltenv" => self.saltenv.clone().or_else(|| configured("saltenv")),
            "pillarenv" => self.pillarenv.clone().or_else(|| configured("pillarenv")),
            "pillar_override" => self.pillar.clone().unwrap_or_default(),
            "extra_minion_data" => Map::new(),
            "ver" => "2",
        };
        match master.ask("_pillar", fields, WAIT)? {
            Value::Map(pillar) => Ok(pillar),
            other => Err(AskError::Refused(format!("its pillar is {}, not a map", other.kind()))),
        }
    }
}

impl std::fmt::Debug for Pillar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Its values are secrets.
        write!(f, "Pillar({} keys)", self.get().len())
    }
}

impl Pillar {
    /// Returns the pillar.
    pub fn get(&self) -> Arc<Map> {
        // A panic leaves the pointer whole.
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner).pillar)
    }

    /// Takes a new one, and tells who watches.
    pub fn set(&self, pillar: Map) {
        log_errors(&pillar);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *told.pillar == pillar {
            return;
        }
        told.pillar = Arc::new(pillar);
        told.changes.iter().for_each(|changes| changes.send_replace(()));
    }

    /// Tells of changes from now on.
    pub fn changes(&self) -> watch::Receiver<()> {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.changes.get_or_insert_with(|| watch::channel(()).0).subscribe()
    }

    /// Asks for the pillar each time a session opens, until the link has ended.
    pub fn follow(
        &self,
        master: Arc<dyn MasterRequests>,
        mut status: watch::Receiver<LinkStatus>,
        facts: impl Fn() -> (Arc<Map>, Arc<Map>) + Send + 'static,
    ) -> JoinHandle<()> {
        let pillar = self.clone();
        tokio::spawn(async move {
            let mut known = None;
            loop {
                let now = status.borrow_and_update().clone();
                match now {
                    LinkStatus::Stopped => return,
                    LinkStatus::Up { session } if known != Some(session) => {
                        known = Some(session);
                        let (config, grains) = facts();
                        pillar.fetch(Arc::clone(&master), config, grains).await;
                    }
                    _ => {}
                }
                if status.changed().await.is_err() {
                    return;
                }
            }
        })
    }

    async fn fetch(&self, master: Arc<dyn MasterRequests>, config: Arc<Map>, grains: Arc<Map>) {
        let asked = tokio::task::spawn_blocking(move || {
            Request { grains: (*grains).clone(), config: Some(&config), ..Request::default() }.ask(&*master)
        });
        match asked.await {
            Ok(Ok(pillar)) => self.set(pillar),
            Ok(Err(AskError::NotConnected)) => debug!("the session ended before the pillar was told"),
            Ok(Err(error)) => warn!("failed to get the pillar: {error}; the last one stays"),
            // The runtime is shutting down.
            Err(_) => {}
        }
    }
}

fn log_errors(pillar: &Map) {
    let errors = pillar.at(ERRORS).and_then(Value::as_list).unwrap_or_default();
    for text in errors.iter().take(MAX_LOGGED).filter_map(Value::as_str) {
        error!("the pillar is not whole: {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Value);

    impl MasterRequests for Says {
        fn ask(&self, cmd: &str, fields: Map, _wait: Duration) -> Result<Value, AskError> {
            assert_eq!((cmd, fields.text("ver")), ("_pillar", Some("2")));
            Ok(map! { "env" => fields.at("pillarenv").cloned(), "said" => self.0.clone() }.into())
        }
    }

    #[test]
    fn the_configured_environment_is_asked_for_unless_another_one_is() {
        let config = map! { "pillarenv" => "prod" };
        let request = || Request { config: Some(&config), ..Request::default() };
        let pillar = request().ask(&Says(1.into())).unwrap();
        assert_eq!(pillar.text("env"), Some("prod"));
        let other = Request { pillarenv: Some("dev".to_owned()), ..request() };
        assert_eq!(other.ask(&Says(1.into())).unwrap().text("env"), Some("dev"));
    }

    #[test]
    fn watchers_hear_of_changes_alone() {
        let pillar = Pillar::default();
        let mut changes = pillar.changes();
        changes.mark_unchanged();
        pillar.set(map! { "a" => 1 });
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        pillar.clone().set(map! { "a" => 1 });
        assert!(!changes.has_changed().unwrap());
        assert_eq!(pillar.get().at("a"), Some(&1.into()));
        assert_eq!(format!("{pillar:?}"), "Pillar(1 keys)");
    }
}
