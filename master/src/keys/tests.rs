//! What `keys` promises, tested.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;

struct Running {
    folder: TempDir,
    keys: Keys,
    changes: broadcast::Receiver<KeyChange>,
    _stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    fn start() -> Running {
        Running::with(TempDir::new().unwrap(), |config| config)
    }

    fn with(folder: TempDir, adjust: impl FnOnce(KeysConfig) -> KeysConfig) -> Running {
        let (keys, task) = Keys::open(adjust(KeysConfig::new(folder.path().join("pki")))).unwrap();
        let (stop, stopped) = watch::channel(false);
        let changes = keys.watch_changes();
        Running { folder, keys, changes, _stop: stop, task: tokio::spawn(task.run(stopped)) }
    }

    fn path(&self, folder: &str, name: &str) -> PathBuf {
        self.folder.path().join("pki").join(folder).join(name)
    }

    /// Tells which folders hold a file of this name.
    fn on_disk(&self, name: &str) -> Vec<&'static str> {
        let folders = KeyState::ALL.map(KeyState::folder);
        folders.into_iter().filter(|folder| self.path(folder, name).exists()).collect()
    }

    async fn change(&mut self) -> KeyChange {
        let change = tokio::time::timeout(Duration::from_secs(20), self.changes.recv()).await;
        change.expect("a change in time").expect("a running store")
    }

    async fn judge(&self, name: &str, n: u8) -> SessionState {
        self.keys.judge(&id(name), &key(n), None).await.state
    }
}

fn id(text: &str) -> MinionId {
    MinionId::parse(text).unwrap()
}

fn key(n: u8) -> PublicKey {
    PublicKey::X25519([n; 32])
}

fn pem(n: u8) -> String {
    format!("{}\n", key(n).to_pem())
}

fn selection(glob: &str) -> KeySelection {
    KeySelection {
        globs: vec![glob.to_owned()],
        include_rejected: false,
        include_denied: false,
        include_accepted: false,
        dry_run: false,
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_key_goes_through_the_folders_of_salt() {
    let mut running = Running::start();
    let web1 = id("web1");
    let judgement = running.keys.judge(&web1, &key(1), None).await;
    assert_eq!(judgement, Judgement { state: SessionState::Pending, changed: true, reason: None });
    assert!(!running.keys.judge(&web1, &key(1), None).await.changed);
    assert_eq!(running.on_disk("web1"), ["minions_pre"]);
    assert_eq!(fs::read_to_string(running.path("minions_pre", "web1")).unwrap(), pem(1));
    assert_eq!(running.change().await.to, Some(KeyState::Pending));

    let dry = running.keys.accept(KeySelection { dry_run: true, ..selection("web*") }).await.unwrap();
    assert_eq!((dry.pending, running.on_disk("web1")), (vec![web1.clone()], vec!["minions_pre"]));
    let done = running.keys.accept(selection("web*")).await.unwrap();
    assert_eq!(done, KeyLists { pending: vec![web1.clone()], ..KeyLists::default() });
    assert_eq!(running.on_disk("web1"), ["minions"]);
    let change = running.change().await;
    assert_eq!((change.from, change.to), (Some(KeyState::Pending), Some(KeyState::Accepted)));
    assert_eq!(running.judge("web1", 1).await, SessionState::Accepted);
    assert_eq!(running.keys.id_of(&[1; 32]), std::slice::from_ref(&web1));
    assert_eq!(
        (running.keys.key_of(&web1), &*running.keys.accepted_ids()),
        (Some(key(1)), std::slice::from_ref(&web1))
    );

    let refused = running.keys.judge(&web1, &key(2), None).await;
    assert_eq!(
        (refused.state, refused.reason.as_deref()),
        (SessionState::Denied, Some("another key is known for this id"))
    );
    assert_eq!(running.on_disk("web1"), ["minions", "minions_denied"]);
    assert_eq!(fs::read_to_string(running.path("minions_denied", "web1")).unwrap(), pem(2));

    running.keys.reject(KeySelection { include_accepted: true, ..selection("web1") }).await.unwrap();
    assert_eq!(running.on_disk("web1"), ["minions_denied", "minions_rejected"]);
    assert!(running.keys.id_of(&[1; 32]).is_empty() && running.keys.accepted_ids().is_empty());
    let deleted = running.keys.delete(selection("*")).await.unwrap();
    assert_eq!((deleted.rejected.len(), deleted.denied.len()), (1, 1));
    assert!(running.on_disk("web1").is_empty());
    assert_eq!(running.keys.list().await, KeyLists::default());
}

#[tokio::test]
async fn a_store_is_read_again_after_a_restart() {
    let running = Running::with(TempDir::new().unwrap(), |config| KeysConfig { auto_accept: true, ..config });
    assert_eq!(running.judge("web1", 1).await, SessionState::Accepted);
    let public = running.keys.master_pair().public;
    let Running { folder, keys, _stop, task, .. } = running;
    _stop.send_replace(true);
    task.await.unwrap().unwrap();
    assert_eq!(keys.judge(&id("web1"), &key(1), None).await.state, SessionState::Full);

    let running = Running::with(folder, |config| config);
    assert_eq!(running.judge("web1", 1).await, SessionState::Accepted);
    assert_eq!(running.judge("web2", 1).await, SessionState::Denied);
    assert_eq!(running.on_disk("web2"), ["minions_denied"]);
    assert_eq!(running.keys.master_pair().public, public);
}

#[tokio::test]
async fn files_moved_by_hand_count() {
    let mut running = Running::start();
    running.judge("web1", 1).await;
    running.change().await;
    fs::rename(running.path("minions_pre", "web1"), running.path("minions", "web1")).unwrap();
    // A move may be seen as one change or, half-way, as two.
    while running.change().await.to != Some(KeyState::Accepted) {}
    assert_eq!(running.judge("web1", 1).await, SessionState::Accepted);
    fs::remove_file(running.path("minions", "web1")).unwrap();
    assert_eq!(
        running.change().await,
        KeyChange { id: id("web1"), key: key(1), from: Some(KeyState::Accepted), to: None }
    );
    fs::write(running.path("minions", "web2"), pem(2)).unwrap();
    let change = running.change().await;
    assert_eq!((change.id, change.from, change.to), (id("web2"), None, Some(KeyState::Accepted)));
    assert_eq!(running.keys.id_of(&[2; 32]), [id("web2")]);
}

#[tokio::test]
async fn a_key_that_is_moved_in_two_steps_is_not_pending_anew_between_them() {
    let mut running = Running::start();
    running.judge("web1", 1).await;
    running.change().await;
    // As `salt-key` of 3008 does.
    fs::remove_file(running.path("minions_pre", "web1")).unwrap();
    fs::write(running.path("minions", "web1"), pem(1)).unwrap();
    let change = running.change().await;
    assert_eq!((change.from, change.to), (Some(KeyState::Pending), Some(KeyState::Accepted)));
    assert_eq!(running.judge("web1", 1).await, SessionState::Accepted);
}

#[tokio::test]
async fn files_that_are_no_keys_are_ignored() {
    let running = Running::start();
    let write = |name: &str, text: &str| fs::write(running.path("minions", name), text).unwrap();
    write(".hidden", &pem(1));
    write("bad\\name", &pem(2));
    write("large", &format!("{}{}", pem(3), "x".repeat(20_000)));
    write("text", "hello");
    write("good", &pem(4));
    std::os::unix::fs::symlink(running.path("minions", "good"), running.path("minions", "link")).unwrap();
    fs::create_dir(running.path("minions", "folder")).unwrap();
    running.keys.rescan().await.unwrap();
    assert_eq!(running.keys.list().await, KeyLists { accepted: vec![id("good")], ..KeyLists::default() });
    fs::remove_file(running.path("minions", "good")).unwrap();
    running.keys.rescan().await.unwrap();
    assert_eq!(running.keys.list().await, KeyLists::default());
}

#[tokio::test]
async fn what_was_hidden_does_not_come_back_after_a_delete() {
    let running = Running::start();
    for folder in ["minions", "minions_pre", "minions_rejected"] {
        fs::write(running.path(folder, "web1"), pem(1)).unwrap();
    }
    running.keys.rescan().await.unwrap();
    assert_eq!(running.keys.list().await.rejected, [id("web1")]);
    running.keys.delete(selection("web1")).await.unwrap();
    running.keys.rescan().await.unwrap();
    assert_eq!((running.keys.list().await, running.on_disk("web1")), (KeyLists::default(), vec![]));
}

#[tokio::test]
async fn a_thousand_wait_and_no_more() {
    let running = Running::start();
    for n in 0..1_000u32 {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let judgement = running.keys.judge(&id(&format!("m{n}")), &PublicKey::X25519(bytes), None).await;
        assert_eq!(judgement.state, SessionState::Pending);
    }
    let judgement = running.keys.judge(&id("late"), &key(1), None).await;
    assert_eq!((judgement.state, judgement.changed), (SessionState::Full, false));
    assert!(running.on_disk("late").is_empty());
    assert_eq!(running.keys.accept(selection("m*")).await.unwrap().pending.len(), 1_000);
    assert_eq!(running.keys.accepted_ids().len(), 1_000);
    assert_eq!(running.judge("late", 1).await, SessionState::Pending);
}

#[tokio::test]
async fn an_operator_is_told_of_a_shared_key() {
    let running = Running::start();
    running.judge("web1", 1).await;
    running.judge("web2", 1).await;
    assert_eq!(running.keys.accept(selection("*")).await.unwrap().pending, [id("web1")]);
    let error = running.keys.accept(selection("*")).await.unwrap_err();
    assert!(error.to_string().contains("the same key is accepted as web1"), "{error}");
}

#[tokio::test]
async fn fingerprints_are_told_for_keys_and_for_the_master() {
    let running = Running::start();
    running.judge("web1", 1).await;
    let fingers = running.keys.finger(selection("*")).await;
    assert_eq!(fingers.keys, [("minions_pre", id("web1"), key(1).fingerprint().as_str().to_owned())]);
    let text = fs::read_to_string(running.path("", "halite_master.pub")).unwrap();
    let expected = proto::keys::fingerprint(&text).as_str().to_owned();
    assert_eq!(fingers.local, [("halite_master.pub".to_owned(), expected)]);
    assert!(running.keys.finger(selection("web*")).await.local.is_empty());
}

#[tokio::test]
async fn nobody_else_can_read_what_is_secret() {
    let running = Running::start();
    running.judge("web1", 1).await;
    assert_eq!(mode(&running.path("", "")), 0o700);
    for folder in KeyState::ALL.map(KeyState::folder) {
        assert_eq!(mode(&running.path(folder, "")), 0o700);
    }
    assert_eq!(mode(&running.path("", "halite_master.pem")), 0o400);
    assert_eq!(mode(&running.path("", "halite_master.pub")), 0o644);
    assert_eq!(mode(&running.path("minions_pre", "web1")), 0o644);
    let left: Vec<_> = fs::read_dir(running.path("", "")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "no temporary file is left: {left:?}");
}

#[test]
fn the_masters_pair_is_never_replaced() {
    let folder = TempDir::new().unwrap();
    let open = || Keys::open(KeysConfig::new(folder.path())).map(|(keys, _)| keys.master_pair());
    let problem = || match open() {
        Err(OpenError::Pair(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    };
    let (private, public) = (folder.path().join("halite_master.pem"), folder.path().join("halite_master.pub"));
    let pair = open().unwrap();
    assert_eq!(proto::keys::public_of(pair.secret()), pair.public);
    let text = fs::read_to_string(&private).unwrap();

    fs::remove_file(&public).unwrap();
    assert_eq!(open().unwrap().public, pair.public);
    assert_eq!(mode(&public), 0o644);
    fs::write(&public, pem(9)).unwrap();
    assert!(matches!(problem(), PairError::Mismatch { .. }));
    fs::write(&public, "x").unwrap();
    assert!(matches!(problem(), PairError::Damaged { path, .. } if path == public));
    fs::remove_file(&private).unwrap();
    assert!(matches!(problem(), PairError::Missing { .. }));
    fs::remove_file(&public).unwrap();

    fs::write(&private, "").unwrap();
    let error = problem();
    assert!(matches!(error, PairError::Damaged { .. }));
    assert!(error.to_string().contains("halite_master.pem") && error.to_string().contains("restore it from a backup"));
    assert_eq!(fs::read_to_string(&private).unwrap(), "", "it was left alone");
    fs::write(&private, [0xff, 0xfe]).unwrap();
    assert!(matches!(problem(), PairError::Damaged { .. }));
    fs::write(&private, &text).unwrap();
    fs::set_permissions(&private, Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(problem(), PairError::Exposed { .. }));
    fs::set_permissions(&private, Permissions::from_mode(0o400)).unwrap();
    assert_eq!(open().unwrap().public, pair.public);
}

#[test]
fn ten_thousand_keys_are_read() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("minions")).unwrap();
    for n in 0..10_000u32 {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        fs::write(folder.path().join(format!("minions/m{n}")), PublicKey::X25519(bytes).to_pem()).unwrap();
    }
    let began = std::time::Instant::now();
    let (keys, _task) = Keys::open(KeysConfig::new(folder.path())).unwrap();
    assert_eq!(keys.accepted_ids().len(), 10_000);
    println!("10,000 keys in {:?}", began.elapsed());
}
