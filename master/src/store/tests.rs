//! What `store` promises, tested on a log with some segments.

use std::os::unix::fs::PermissionsExt as _;

use proto::map;
use proto::tag::Tag;
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::bus::{self, Bus, BusConfig};

const EVENTS: u64 = 300;

fn files(folder: &Path) -> Files {
    let databases = ["jobs.db", "cursors.db", "reactor.db"].map(|name| folder.join(name)).to_vec();
    let retention = Retention { age: None, bytes: None };
    Files { events: folder.join("events"), databases, pki_dir: folder.join("pki"), retention }
}

/// Writes a log of some segments, a database with a cursor, and a key.
async fn scene() -> (TempDir, Files) {
    scene_of(1_000).await
}

/// As [`scene`], of events with so many bytes.
async fn scene_of(bytes: usize) -> (TempDir, Files) {
    let folder = TempDir::new().unwrap();
    let files = files(folder.path());
    let config = BusConfig { segment_bytes: 100_000, ..BusConfig::new(&files.events) };
    let (bus, task) = Bus::open(config).unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(task.run(stopped));
    for n in 0..EVENTS {
        let tag = Tag::parse(if n % 3 == 0 { "a/b" } else { "c/d" }).unwrap();
        bus.fire(tag, &map! { "n" => n, "text" => "x".repeat(bytes) }).await.unwrap();
    }
    stop.send_replace(true);
    running.await.unwrap().unwrap();
    let jobs = Connection::open(&files.databases[0]).unwrap();
    jobs.execute_batch("CREATE TABLE cursor (next INTEGER); INSERT INTO cursor VALUES (300)").unwrap();
    fs::create_dir(&files.pki_dir).unwrap();
    fs::write(files.pki_dir.join("master.pem"), "secret").unwrap();
    fs::set_permissions(files.pki_dir.join("master.pem"), fs::Permissions::from_mode(0o400)).unwrap();
    (folder, files)
}

fn exported(files: &Files, patterns: &[&str]) -> Vec<u64> {
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    let mut offsets = Vec::new();
    export(files, &patterns, &mut |event| {
        offsets.push(event.offset);
        Ok(())
    })
    .unwrap();
    offsets
}

fn faults(files: &Files) -> Vec<String> {
    let findings = check(files, &mut |_| {}).unwrap();
    findings.into_iter().filter(|finding| !finding.ok).map(|finding| finding.detail).collect()
}

#[tokio::test]
async fn a_backup_restores_to_the_same_store() {
    let (_folder, files) = scene().await;
    assert_eq!(faults(&files), Vec::<String>::new());
    let all: Vec<u64> = (1..=EVENTS).collect();
    assert_eq!(exported(&files, &[]), all);
    assert_eq!(exported(&files, &["a/*"]).len(), 100);

    let place = TempDir::new().unwrap();
    let to = place.path().join("backup");
    let done = backup(&files, &to, &mut |_| {}).unwrap();
    assert!(done.segments > 2 && done.head == EVENTS, "{done:?}");
    assert!(matches!(backup(&files, &to, &mut |_| {}), Err(StoreError::NotEmpty(_))));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&to), mode(&to.join("pki/master.pem")), mode(&to.join("jobs.db"))), (0o700, 0o400, 0o600));

    let new = TempDir::new().unwrap();
    let restored = self::files(new.path());
    let none = restore(&restored, new.path(), restore::Occupied::Refuse, &mut |_| {});
    assert!(matches!(none, Err(StoreError::NoBackup(_))));
    restore(&restored, &to, restore::Occupied::Refuse, &mut |_| {}).unwrap();
    assert_eq!((exported(&restored, &[]), faults(&restored)), (all.clone(), Vec::new()));
    assert_eq!(mode(&restored.pki_dir.join("master.pem")), 0o400);
    // It is a log that a master goes on with.
    assert_eq!(Bus::open(BusConfig::new(&restored.events)).unwrap().0.head(), EVENTS);

    let again = restore(&restored, &to, restore::Occupied::Refuse, &mut |_| {});
    assert!(matches!(again, Err(StoreError::Occupied(_))));
    let forced = restore(&restored, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap();
    assert!(forced.aside.iter().all(|path| path.exists()) && forced.aside.len() >= 3, "{forced:?}");
    assert_eq!(exported(&restored, &[]), all);
    let held = bus::hold(&restored.events).unwrap();
    let running = restore(&restored, &to, restore::Occupied::MoveAside, &mut |_| {});
    assert!(matches!(running, Err(StoreError::Log(OpenError::InUse { .. }))), "{running:?}");
    drop(held);
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_told_and_can_be_finished() {
    let (_folder, files) = scene().await;
    let place = TempDir::new().unwrap();
    let to = place.path().join("backup");
    backup(&files, &to, &mut |_| {}).unwrap();
    let cut = |at: &str| {
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            restore(&files, &to, restore::Occupied::MoveAside, &mut |doing| {
                assert!(!(doing.starts_with("restoring") && doing.ends_with(at)), "the process ends here");
            })
        }));
        assert!(cut.is_err());
    };
    for at in ["events", "jobs.db", "pki"] {
        cut(at);
        let refused = Bus::open(BusConfig::new(&files.events)).map(drop).unwrap_err().to_string();
        let remedy = format!("halite store restore {} --force", to.canonicalize().unwrap().display());
        assert!(refused.contains(&remedy), "{refused}");
        assert!(compact(&files, &mut |_| {}).is_err());
        assert!(faults(&files).iter().any(|fault| fault.contains(&remedy)), "{:?}", faults(&files));
        let refused = backup(&files, &place.path().join("another"), &mut |_| {});
        assert!(matches!(refused, Err(StoreError::Log(OpenError::Restoring { .. }))), "{refused:?}");
    }
    restore(&files, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap();
    assert_eq!(exported(&files, &[]), (1..=EVENTS).collect::<Vec<_>>());
    assert_eq!(Bus::open(BusConfig::new(&files.events)).unwrap().0.head(), EVENTS);
}

#[tokio::test]
async fn a_restore_that_cannot_copy_leaves_everything_as_it_was() {
    let (folder, files) = scene().await;
    let to = folder.path().join("backup");
    backup(&files, &to, &mut |_| {}).unwrap();
    // Left by another attempt.
    fs::create_dir(files.databases[2].with_extension("db.restoring")).unwrap();
    let failed = restore(&files, &to, restore::Occupied::MoveAside, &mut |doing| {
        if doing.ends_with("pki") {
            fs::remove_dir_all(to.join("pki")).unwrap();
        }
    });
    assert!(matches!(failed, Err(StoreError::File { .. })), "{failed:?}");
    assert_eq!((exported(&files, &[]).len() as u64, faults(&files)), (EVENTS, Vec::new()));
    assert_eq!(Bus::open(BusConfig::new(&files.events)).unwrap().0.head(), EVENTS);
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".restoring")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn damage_and_missing_segments_are_named() {
    let (_folder, files) = scene().await;
    let segments = bus::files(&files.events).unwrap();
    let (second, path) = &segments[1];
    let bytes = fs::read(path).unwrap();
    let mut broken = bytes.clone();
    broken[20_000..60_000].fill(0xff);
    fs::write(path, broken).unwrap();
    assert_eq!(faults(&files).len(), 1, "{:?}", faults(&files));
    // What is readable is saved: of this segment, and all behind it.
    let mut saved = Vec::new();
    let done = export(&files, &[], &mut |event| {
        saved.push(event.offset);
        Ok(())
    });
    let done = done.unwrap();
    let behind = segments[2].0;
    assert_eq!((done.lost.len(), &done.lost[0].path), (1, path));
    assert_eq!((done.events, done.events + done.lost[0].events), (saved.len() as u64, EVENTS));
    assert!(saved.ends_with(&(behind..=EVENTS).collect::<Vec<_>>()), "{saved:?}");
    assert!(saved.iter().any(|offset| (*second..behind).contains(offset)), "{saved:?}");
    assert!(saved.is_sorted() && done.lost[0].events < behind - second);
    fs::remove_file(path).unwrap();
    let missing = faults(&files);
    assert!(missing.len() == 1 && missing[0].starts_with(&format!("the events {second} to ")), "{missing:?}");
    fs::write(path, bytes).unwrap();
    let jobs = Connection::open(&files.databases[0]).unwrap();
    jobs.execute_batch("UPDATE cursor SET next = 999").unwrap();
    assert!(faults(&files)[0].contains("beyond the log"), "{:?}", faults(&files));
}

#[tokio::test]
async fn a_backup_is_not_made_in_what_it_copies_nor_restored_out_of_it() {
    let (folder, files) = scene().await;
    for inside in [files.pki_dir.join("deep/backup"), files.events.clone(), folder.path().join("pki/../events/b")] {
        let refused = backup(&files, &inside, &mut |_| {});
        assert!(matches!(refused, Err(StoreError::Within { .. })), "{refused:?}");
    }
    assert!(fs::read_dir(&files.pki_dir).unwrap().count() == 1, "nothing was made");
    let inside = files.events.join("kept");
    backup(&files, &folder.path().join("elsewhere"), &mut |_| {}).unwrap();
    fs::rename(folder.path().join("elsewhere"), &inside).unwrap();
    let refused = restore(&files, &inside, restore::Occupied::MoveAside, &mut |_| {});
    assert!(matches!(refused, Err(StoreError::Within { .. })), "{refused:?}");
    assert!(inside.join(MANIFEST).exists() && files.events.exists());
}

#[tokio::test]
async fn a_backup_that_has_lost_a_segment_replaces_nothing() {
    let (folder, files) = scene().await;
    let to = folder.path().join("backup");
    backup(&files, &to, &mut |_| {}).unwrap();
    let copies = bus::files(&to.join("events")).unwrap();
    let refused = |lost: &Path| {
        let bytes = fs::read(lost).unwrap();
        fs::remove_file(lost).unwrap();
        let refused = restore(&files, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap_err();
        assert!(matches!(refused, StoreError::Incomplete { .. }), "{refused:?}");
        fs::write(lost, bytes).unwrap();
    };
    refused(&copies[1].1);
    refused(&copies.last().unwrap().1);
    assert_eq!(exported(&files, &[]).len() as u64, EVENTS);
    restore(&files, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap();
}

#[tokio::test]
async fn damage_does_not_keep_the_rest_from_being_backed_up() {
    let (folder, files) = scene().await;
    let segments = bus::files(&files.events).unwrap();
    let (garbage, empty) = (&segments[0].1, &segments[1].1);
    fs::write(garbage, vec![b'x'; 8_192]).unwrap();
    fs::write(empty, "").unwrap();
    fs::write(&files.databases[0], vec![b'x'; 8_192]).unwrap();
    let to = folder.path().join("backup");
    let done = backup(&files, &to, &mut |_| {}).unwrap();
    assert_eq!((done.damaged, done.left_out), (vec![garbage.clone(), empty.clone()], vec![files.databases[0].clone()]));
    assert_eq!((done.segments, done.head), (segments.len(), EVENTS));
    assert_eq!(fs::read(to.join("events").join(garbage.file_name().unwrap())).unwrap(), vec![b'x'; 8_192]);
    restore(&files, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap();
    assert_eq!(exported(&files, &[]), (segments[2].0..=EVENTS).collect::<Vec<_>>());
    assert!(!files.databases[0].exists());
    // The one that is written cannot be taken as it is.
    let newest = &bus::files(&files.events).unwrap().pop().unwrap().1;
    fs::write(newest, vec![b'x'; 8_192]).unwrap();
    assert!(matches!(backup(&files, &folder.path().join("other"), &mut |_| {}), Err(StoreError::Database { .. })));
}

#[tokio::test]
async fn damage_that_looks_like_a_full_disk_is_named_as_what_it_is() {
    // Larger than a page: what is overwritten are numbers of pages, and SQLite takes some for a file that is too large.
    let (folder, files) = scene_of(15_000).await;
    let path = bus::files(&files.events).unwrap()[0].1.clone();
    // As a segment is while somebody reads it: it is copied as a database.
    Connection::open(&path).unwrap().pragma_update(None, "journal_mode", "WAL").unwrap();
    assert!(!bus::is_plain(&path));
    let mut bytes = fs::read(&path).unwrap();
    bytes[20_000..40_000].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let done = backup(&files, &folder.path().join("backup"), &mut |_| {}).unwrap();
    assert_eq!(done.damaged, [path]);
}

#[tokio::test]
async fn damage_that_a_copy_does_not_meet_is_named_all_the_same() {
    let (folder, files) = scene().await;
    compact(&files, &mut |_| {}).unwrap();
    let segments = bus::files(&files.events).unwrap();
    let (rows, holes) = (&segments[0].1, &segments[1].1);
    assert!(bus::is_plain(rows) && bus::is_plain(holes), "they are copied byte for byte");
    let mut bytes = fs::read(rows).unwrap();
    bytes[20_000..60_000].fill(0xff);
    fs::write(rows, &bytes).unwrap();
    let db = Connection::open(holes).unwrap();
    db.execute("DELETE FROM events WHERE offset = ?1", [segments[1].0 as i64 + 1]).unwrap();
    drop(db);
    let to = folder.path().join("backup");
    let done = backup(&files, &to, &mut |_| {}).unwrap();
    assert_eq!((done.damaged, done.head), (vec![rows.clone(), holes.clone()], EVENTS));
    assert_eq!(fs::read(to.join("events").join(rows.file_name().unwrap())).unwrap(), bytes);
    restore(&files, &to, restore::Occupied::MoveAside, &mut |_| {}).unwrap();
    assert!(exported(&files, &[]).ends_with(&(segments[2].0..=EVENTS).collect::<Vec<_>>()));
}

#[tokio::test]
async fn an_export_says_what_is_missing() {
    let (_folder, files) = scene().await;
    let segments = bus::files(&files.events).unwrap();
    fs::remove_file(&segments[1].1).unwrap();
    let rows = Connection::open(&segments[2].1).unwrap();
    rows.execute("DELETE FROM events WHERE offset = ?1", [segments[2].0 as i64 + 1]).unwrap();
    drop(rows);
    let done = export(&files, &[], &mut |_| Ok(())).unwrap();
    let lost: Vec<(&Path, u64, bool)> =
        done.lost.iter().map(|lost| (lost.path.as_path(), lost.events, lost.error.is_some())).collect();
    let gone = segments[2].0 - segments[1].0;
    assert_eq!(lost, [(segments[0].1.as_path(), gone, false), (segments[2].1.as_path(), 1, false)]);
    assert_eq!(done.events, EVENTS - gone - 1);
}

#[tokio::test]
async fn compacting_applies_retention_and_seals_the_rest() {
    let (_folder, mut files) = scene().await;
    fs::remove_file(&files.databases[0]).unwrap();
    files.retention.bytes = Some(250_000);
    let before = bus::files(&files.events).unwrap();
    let done = compact(&files, &mut |_| {}).unwrap();
    let after = bus::files(&files.events).unwrap();
    assert_eq!((done.deleted, done.jobs), (before.len() - after.len(), 0));
    assert!(done.deleted > 0 && after.len() > 1, "{done:?}");
    assert!(after[..after.len() - 1].iter().all(|(_, path)| bus::is_plain(path)));
    assert_eq!(exported(&files, &[]), (after[0].0..=EVENTS).collect::<Vec<_>>());
    let held = bus::hold(&files.events).unwrap();
    assert!(matches!(compact(&files, &mut |_| {}), Err(StoreError::Log(OpenError::InUse { .. }))));
    drop(held);
}
