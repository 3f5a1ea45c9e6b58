//! The swarm on Salt's wire: minions as a Salt master knows them, so that the same load drives a Salt master and ours.
//!
//! ```text
//! Firer ── bursts ──▶ Driver (a task each): SaltMinion (rules) + REQ + SUB ──▶ Totals
//! ```
//! Reading order: [`minion`] (one minion, pure), [`drive`] (its connections), [`fire`] (who fires what), [`keys`].
//!
//! What a real minion of Salt's does and these do not: a process for each job, some hundred grains, `_register_resources`,
//! signed publications (Salt's own default is not to look). A lost connection begins a whole new start.

mod drive;
mod fire;
mod keys;
mod minion;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use proto::ids::MinionId;
use proto::salt::request::{Asker, Token};
use proto::salt::rsa::{EncAlgo, SigAlgo};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};

use self::drive::{Common, Driver, Identity};
use self::fire::{Firer, MAX_BURSTS, Mailbox, Up};
use self::keys::Cache;
use self::minion::SaltMinion;
use super::Orders;
use super::minion::{Answers, Now};
use super::options::Options;
use super::tally::Totals;

/// How keys are sealed for a minion: Salt's default.
const ENC_ALGO: EncAlgo = EncAlgo::OaepSha1;
/// How answers are signed for a minion: Salt's default.
const SIG_ALGO: SigAlgo = SigAlgo::Pkcs1v15Sha1;
/// Threads for RSA: what all minions together may take of the processors for it.
pub(super) const RSA_THREADS: usize = 2;

/// The time since the start of a swarm.
#[derive(Debug, Clone, Copy)]
struct Clock {
    started: Instant,
}

impl Clock {
    fn now(self) -> Now {
        let at = Instant::now();
        let us = u64::try_from((at - self.started).as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { at, us, unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// The keys of all minions, made or read before the clock starts.
pub(super) struct Fleet {
    identities: Vec<Identity>,
    cache: Cache,
}

impl Fleet {
    /// Makes or reads the keys.
    pub(super) fn prepare(options: &Options) -> anyhow::Result<Fleet> {
        let id = |number: usize| {
            let id = format!("{}{number}", options.prefix);
            MinionId::parse(&id).with_context(|| format!("{id:?} cannot be an id; change --prefix"))
        };
        let ids = (1..=options.minions).map(id).collect::<anyhow::Result<Vec<_>>>()?;
        let cache = Cache::open(options.keys.as_deref()).context("failed to open the keys")?;
        let pairs = cache.pairs(&ids).context("failed to make the keys")?;
        let identities = ids.into_iter().zip(pairs).map(|(id, key)| Identity { id, key }).collect();
        Ok(Fleet { identities, cache })
    }

    /// Starts all minions.
    pub(super) fn start(
        self,
        options: &Options,
        runtime: &Runtime,
        orders: watch::Receiver<Orders>,
        (totals, started): (Arc<Mutex<Totals>>, Instant),
    ) -> anyhow::Result<()> {
        let pinned = self.cache.master().context("failed to read the master's key")?;
        let common = Arc::new(Common {
            address: options.address().context("--master is needed")?.clone(),
            answers: Answers::new(&options.answer, options.beacon_size),
            totals,
            clock: Clock { started },
            starting: Semaphore::new(options.connecting.max(1)),
            cache: self.cache,
        });
        let mut mailboxes = Vec::new();
        for (number, identity) in self.identities.into_iter().enumerate() {
            let (sender, bursts) = mpsc::channel(MAX_BURSTS);
            let up = Up::default();
            mailboxes.push(Mailbox { up: up.clone(), bursts: sender });
            let begin = match options.connect_rate > 0.0 {
                true => started + Duration::from_secs_f64(number as f64 / options.connect_rate),
                false => started,
            };
            let (common, pinned, number) = (Arc::clone(&common), pinned.clone(), number as u64);
            runtime.spawn(async move {
                // The token is a private operation: not for this thread.
                let made = tokio::task::spawn_blocking(move || (Token::new(&identity.key), identity)).await;
                let Ok((token, identity)) = made else { return };
                let asker = Asker { id: identity.id.clone(), token, enc_algo: ENC_ALGO, sig_algo: SIG_ALGO };
                let (minion, identity) = (SaltMinion::new(asker), Arc::new(identity));
                Driver { common, identity, minion, bursts, up, pinned, number }.run(begin.into()).await;
            });
        }
        runtime.spawn(Firer::new(mailboxes, common, options.burst).run(orders));
        Ok(())
    }
}
