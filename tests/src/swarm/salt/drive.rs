//! The two connections of one minion on Salt's wire, and the order of things: authenticate, subscribe, pillar, start events,
//! then requests one after the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use proto::ids::MinionId;
use proto::salt::Nonce;
use proto::salt::auth::{Applicant, AuthAnswer, AuthRefused, Standing, Trust};
use proto::salt::crypticle::IV_LEN;
use proto::salt::pillar::{BadPillar, Waiting};
use proto::salt::request::Fresh;
use proto::salt::rsa::{PrivateKey, PublicKey, Refused};
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use transport::{Backoff, ConnectConfig, ConnectError, ConnectMechanism, Incoming, Link, LinkClosed, SocketType};

use super::super::minion::{Answers, Now};
use super::super::options::Address;
use super::super::tally::Totals;
use super::fire::{Burst, Up};
use super::keys::Cache;
use super::minion::SaltMinion;
use super::{Clock, ENC_ALGO, SIG_ALGO};

/// How long a master may take for one answer: Salt's `request_channel_timeout`.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a minion waits whose key waits to be accepted. Salt's `acceptance_wait_time` is 10 s; a measurement has less.
const PENDING_WAIT: Duration = Duration::from_secs(2);
/// The pauses before a connection is tried again: between Salt's `recon_default` and `recon_max`.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };
/// How many failures are told on standard error; all of them are counted.
const MAX_TOLD: u64 = 5;

/// What all minions of a swarm have in common.
pub(super) struct Common {
    /// Where the master is.
    pub(super) address: Address,
    /// What is answered.
    pub(super) answers: Answers,
    /// What is counted.
    pub(super) totals: Arc<Mutex<Totals>>,
    /// The time.
    pub(super) clock: Clock,
    /// How many may be starting at the same time.
    pub(super) starting: Semaphore,
    /// Where the master's key is kept.
    pub(super) cache: Cache,
}

impl Common {
    /// Changes what is counted.
    pub(super) fn count<T>(&self, change: impl FnOnce(&mut Totals) -> T) -> T {
        change(&mut self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Why a minion's connections ended.
#[derive(Debug, Error)]
enum Ended {
    #[error("connecting")]
    Connect(#[from] ConnectError),
    #[error("the master has not answered for {} s", PATIENCE.as_secs())]
    Late,
    #[error("the connection was lost")]
    Lost(#[from] LinkClosed),
    #[error("asking for the pillar")]
    Pillar(#[from] BadPillar),
    #[error("keeping the master's key")]
    Pin(#[source] anyhow::Error),
    #[error("authenticating")]
    Refused(#[from] AuthRefused),
    #[error("the key is not accepted: {0:?}")]
    Standing(Standing),
    #[error("an RSA key or the system's randomness failed")]
    Unready,
}

impl From<Refused> for Ended {
    fn from(_: Refused) -> Ended {
        Ended::Unready
    }
}

/// A minion's name and key.
pub(super) struct Identity {
    /// Its id.
    pub(super) id: MinionId,
    /// Its key.
    pub(super) key: PrivateKey,
}

impl Identity {
    fn applicant<'a>(&'a self, trust: &'a Trust) -> Applicant<'a> {
        let (enc_algo, sig_algo) = (ENC_ALGO, SIG_ALGO);
        Applicant { id: &self.id, key: &self.key, enc_algo, sig_algo, autosign_grains: None, trust }
    }
}

/// One minion and its connections.
pub(super) struct Driver {
    /// What it shares.
    pub(super) common: Arc<Common>,
    /// Who it is.
    pub(super) identity: Arc<Identity>,
    /// Its rules.
    pub(super) minion: SaltMinion,
    /// What it is to fire.
    pub(super) bursts: mpsc::Receiver<Burst>,
    /// Whether it can fire.
    pub(super) up: Up,
    /// The master's key, once it is known.
    pub(super) pinned: Option<PublicKey>,
    /// Its number in the swarm: chooses its pauses.
    pub(super) number: u64,
}

impl Driver {
    /// Comes, and comes again, until its runtime is gone.
    pub(super) async fn run(mut self, begin: Instant) {
        sleep_until(begin).await;
        let mut attempt = 0;
        loop {
            let Err(ended) = self.live(&mut attempt).await;
            self.up.set(false);
            self.common.count(|totals| self.minion.closed(totals));
            self.tell(&ended);
            let pause = match ended {
                Ended::Standing(Standing::Pending) => PENDING_WAIT,
                _ => PAUSES.delay(attempt, self.number),
            };
            attempt += 1;
            sleep(pause).await;
        }
    }

    /// Counts an end, and tells the first of them.
    fn tell(&self, ended: &Ended) {
        let told = self.common.count(|totals| {
            match ended {
                Ended::Lost(_) | Ended::Late => totals.count.lost += 1,
                _ => totals.count.failed += 1,
            }
            totals.count.lost + totals.count.failed
        });
        if told <= MAX_TOLD {
            eprintln!("swarm: {}: {}", self.identity.id, chain(ended));
        }
    }

    /// Lives one life: from the first connection to the loss of either.
    async fn live(&mut self, attempt: &mut u32) -> Result<std::convert::Infallible, Ended> {
        let common = Arc::clone(&self.common);
        let starting = common.starting.acquire().await.map_err(|_| Ended::Unready)?;
        let Address { host, requests, .. } = &common.address;
        let mut req = self.connect(format!("{host}:{requests}"), SocketType::Req).await?;
        let port = self.authenticate(&mut req).await?;
        let sub = self.connect(format!("{host}:{port}"), SocketType::Sub).await?;
        sub.subscribe(b"").map_err(|_| LinkClosed::Local)?;
        self.pillar(&mut req).await?;
        drop(starting);
        *attempt = 0;
        self.minion.started(self.common.clock.now());
        self.up.set(true);
        self.work(req, sub).await
    }

    async fn connect(&self, addr: String, socket: SocketType) -> Result<Link, Ended> {
        let config = ConnectConfig::new(addr, socket, ConnectMechanism::Null);
        let link = transport::connect(&config).await?.link;
        self.common.count(|totals| totals.count.handshakes += 1);
        Ok(link)
    }

    /// Runs `_auth` to its end, and takes the keys. Returns the publish port.
    async fn authenticate(&mut self, req: &mut Link) -> Result<u16, Ended> {
        let (nonce, token) = (random()?, random()?.into());
        let trust = Trust { pinned: self.pinned.clone(), ..Trust::default() };
        let identity = Arc::clone(&self.identity);
        let asked = rsa(move || {
            let asked = identity.applicant(&trust).ask(nonce, token);
            asked.map(|(attempt, payload)| (attempt, payload, trust))
        });
        let (attempt, payload, trust) = asked.await??;
        let answer = ask(req, payload).await?;
        let identity = Arc::clone(&self.identity);
        let judged = rsa(move || identity.applicant(&trust).judge(&attempt, &answer)).await??;
        let credentials = match judged {
            AuthAnswer::Accepted(credentials) => credentials.into_inner(),
            AuthAnswer::Standing { standing, .. } => return Err(Ended::Standing(standing)),
        };
        if self.pinned.is_none() {
            self.common.cache.pin(&credentials.master).map_err(Ended::Pin)?;
            self.pinned = Some(credentials.master);
        }
        let keys = (credentials.session, credentials.shared);
        self.common.count(|totals| self.minion.accepted(keys, &self.common.answers, totals));
        Ok(credentials.publish_port)
    }

    async fn pillar(&mut self, req: &mut Link) -> Result<(), Ended> {
        let fresh = self.fresh()?;
        let payload = self.minion.ask_pillar(&fresh).ok_or(Ended::Unready)?;
        let answer = ask(req, payload).await?;
        let master = self.pinned.clone().ok_or(Ended::Unready)?;
        let identity = Arc::clone(&self.identity);
        let opened = rsa(move || {
            let (enc_algo, sig_algo, nonce) = (ENC_ALGO, SIG_ALGO, fresh.nonce);
            Waiting { key: &identity.key, master: &master, enc_algo, sig_algo, nonce }.open(&answer).map(|_| ())
        });
        Ok(opened.await??)
    }

    /// Serves both connections.
    async fn work(&mut self, mut req: Link, mut sub: Link) -> Result<std::convert::Infallible, Ended> {
        let mut due = Instant::now();
        loop {
            if self.minion.wants_keys() {
                self.authenticate(&mut req).await?;
            }
            let fresh = self.fresh()?;
            if let Some(payload) = self.minion.next_request(&fresh) {
                send(&req, payload)?;
                due = Instant::now() + PATIENCE;
            }
            let (common, minion) = (&self.common, &mut self.minion);
            tokio::select! {
                incoming = req.recv() => if let Some(payload) = last_frame(incoming?) {
                    let now = common.clock.now();
                    common.count(|totals| minion.answered(now, &payload, totals));
                },
                incoming = sub.recv() => if let Some(payload) = last_frame(incoming?) {
                    common.count(|totals| minion.published(&payload, &common.answers, totals));
                },
                Some(burst) = self.bursts.recv(), if minion.has_room() => minion.fire(burst, &common.answers),
                () = sleep_until(due), if minion.is_asking() => return Err(Ended::Late),
            }
        }
    }

    fn fresh(&self) -> Result<Fresh, Ended> {
        let iv: [u8; IV_LEN] = random()?;
        let Now { unix_ms, .. } = self.common.clock.now();
        Ok(Fresh { nonce: Nonce::from_random(random()?), iv, unix_s: unix_ms / 1_000 })
    }
}

/// Returns an error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Does what takes a processor a while on the threads that are for it.
async fn rsa<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Ended::Unready)
}

fn send(req: &Link, payload: Vec<u8>) -> Result<(), Ended> {
    // One request is under way at most, so the queue is empty.
    Ok(req.sender().try_send([Bytes::new(), payload.into()]).map_err(|_| LinkClosed::Local)?)
}

/// Sends one request and waits for its answer.
async fn ask(req: &mut Link, payload: Vec<u8>) -> Result<Bytes, Ended> {
    send(req, payload)?;
    let answer = async {
        loop {
            if let Some(payload) = last_frame(req.recv().await?) {
                return Ok(payload);
            }
        }
    };
    timeout(PATIENCE, answer).await.map_err(|_| Ended::Late)?
}

/// Returns the payload of a message: what stands before it is an empty frame, or a topic.
fn last_frame(incoming: Incoming) -> Option<Bytes> {
    match incoming {
        Incoming::Message(frames) => frames.into_iter().next_back(),
        Incoming::Subscribe(_) | Incoming::Unsubscribe(_) => None,
    }
}

fn random<const N: usize>() -> Result<[u8; N], Ended> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Ended::Unready)?;
    Ok(bytes)
}
