//! RSA keys of a swarm on Salt's wire: one for each minion, since a master refuses a key that it knows under another id.
//! Making one takes a processor a while, so they are made on all processors and kept for the next run.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, anyhow, bail};
use proto::ids::MinionId;
use proto::salt::rsa::{PrivateKey, PublicKey};

/// The bits of a key: Salt's `keysize`.
const BITS: u32 = 2_048;
/// After how many new keys it is said how far it is.
const SAY_EVERY: usize = 50;

/// Where keys are kept between runs.
pub(super) struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// Opens the folder of RSA keys in a directory; without a directory they are gone with the process.
    pub(super) fn open(dir: Option<&Path>) -> anyhow::Result<Cache> {
        let dir = dir.map(|dir| dir.join("salt"));
        if let Some(dir) = &dir {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
            made.with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(Cache { dir })
    }

    /// Returns the keys of these minions, in their order. What is not there is made.
    pub(super) fn pairs(&self, ids: &[MinionId]) -> anyhow::Result<Vec<PrivateKey>> {
        let (next, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let worker = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(id) = ids.get(at) else { return Ok(done) };
                done.push((at, self.pair(id, &made, ids.len())?));
            }
        };
        let workers = thread::available_parallelism().map_or(1, usize::from);
        let mut pairs: Vec<(usize, PrivateKey)> = thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
            let joined = workers.into_iter().map(|worker| worker.join().map_err(|_| anyhow!("a thread panicked"))?);
            joined.collect::<anyhow::Result<Vec<_>>>()
        })?
        .into_iter()
        .flatten()
        .collect();
        pairs.sort_by_key(|(at, _)| *at);
        Ok(pairs.into_iter().map(|(_, pair)| pair).collect())
    }

    fn pair(&self, id: &MinionId, made: &AtomicUsize, all: usize) -> anyhow::Result<PrivateKey> {
        let path = self.dir.as_ref().map(|dir| dir.join(format!("{id}.pem")));
        if let Some(path) = path.as_ref().filter(|path| path.exists()) {
            let pem = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
            return PrivateKey::from_pem(&pem, None).with_context(|| format!("read {}", path.display()));
        }
        let pair = PrivateKey::generate(BITS).context("make an RSA key")?;
        if let Some(path) = path {
            keep(&path, pair.to_pem().as_bytes()).with_context(|| format!("write {}", path.display()))?;
        }
        let number = made.fetch_add(1, Ordering::Relaxed) + 1;
        if number.is_multiple_of(SAY_EVERY) {
            eprintln!("swarm: {number} RSA keys made, for {all} minions");
        }
        Ok(pair)
    }

    /// Returns the master's key, if an earlier run has seen it.
    pub(super) fn master(&self) -> anyhow::Result<Option<PublicKey>> {
        let Some(path) = self.master_path().filter(|path| path.exists()) else { return Ok(None) };
        let pem = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        PublicKey::from_pem(&pem).map(Some).with_context(|| format!("read {}", path.display()))
    }

    /// Keeps the master's key for the next run; another one than was kept before is refused.
    pub(super) fn pin(&self, key: &PublicKey) -> anyhow::Result<()> {
        match (self.master()?, self.master_path()) {
            (Some(pinned), _) if pinned == *key => Ok(()),
            (Some(_), Some(path)) => {
                bail!("the master's key is not the one in {}; remove it if that is right", path.display())
            }
            (None, Some(path)) => {
                fs::write(&path, format!("{}\n", key.pem())).with_context(|| format!("write {}", path.display()))
            }
            (_, None) => Ok(()),
        }
    }

    fn master_path(&self) -> Option<PathBuf> {
        // No minion's key can have this name: those end with another suffix.
        self.dir.as_ref().map(|dir| dir.join("minion_master.pub"))
    }
}

/// Writes a private file as a whole: a run that is interrupted leaves no half of a key.
fn keep(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_keys_are_the_same_fleet_and_each_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let ids = ["swarm-1", "swarm-2"].map(|id| MinionId::parse(id).unwrap());
        let publics = |cache: &Cache| {
            let pairs = cache.pairs(&ids).unwrap();
            pairs.iter().map(|pair| pair.public().pem().to_owned()).collect::<Vec<_>>()
        };
        let first = publics(&Cache::open(Some(dir.path())).unwrap());
        assert_ne!(first[0], first[1]);
        let cache = Cache::open(Some(dir.path())).unwrap();
        assert_eq!(publics(&cache), first);
        assert!(cache.master().unwrap().is_none());
        let [one, other] = [0, 1].map(|at| PublicKey::from_pem(&first[at]).unwrap());
        cache.pin(&one).unwrap();
        cache.pin(&one).unwrap();
        assert!(cache.pin(&other).is_err(), "another master is refused");
        assert_eq!(cache.master().unwrap(), Some(one));
    }

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        let path = dir.path().join("salt").join("swarm-1.pem");
        fs::write(&path, "no key").unwrap();
        let error = cache.pairs(&[MinionId::parse("swarm-1").unwrap()]).expect_err("a refusal");
        assert!(format!("{error:#}").contains("swarm-1.pem"), "{error:#}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "no key");
    }
}
