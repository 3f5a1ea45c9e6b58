//! What `reactor/outbox` promises, tested.

use super::*;

fn entry(index: u32) -> Entry {
    let given = map! { "tgt" => "m1", "order" => 5, "args" => vec![Value::from(map! { "a" => Value::Null })] };
    let chunk = Chunk {
        id: "a".into(),
        sls: "/x.sls".into(),
        rule: "a/*".into(),
        state: "local".into(),
        fun: "test.ping".into(),
        given,
    };
    let jid = Some(Jid::at(i64::from(index) * 1_000));
    Entry { n: 0, key: format!("7.{index}"), tag: "a/b".into(), depth: index, jid, chunk }
}

#[test]
fn a_new_outbox_starts_at_the_head_and_an_old_one_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reactor/reactor.db");
    let mut outbox = Outbox::open(&path, 41).unwrap();
    assert_eq!(outbox.cursor().unwrap(), 41);
    outbox.store_cursor(50).unwrap();
    drop(outbox);
    assert_eq!(Outbox::open(&path, 60).unwrap().cursor().unwrap(), 50);
}

#[test]
fn what_is_unfinished_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reactor.db");
    let mut outbox = Outbox::open(&path, 0).unwrap();
    let mut entries = [entry(1), entry(2), entry(3)];
    outbox.plan(7, &mut entries).unwrap();
    outbox.done(entries[1].n).unwrap();
    drop(outbox);
    let outbox = Outbox::open(&path, 0).unwrap();
    assert_eq!(outbox.cursor().unwrap(), 7);
    assert_eq!(outbox.unfinished().unwrap(), [entries[0].clone(), entries[2].clone()]);
    let causes = entries.map(|entry| (entry.jid.unwrap().to_string(), entry.depth));
    assert_eq!(outbox.causes().unwrap(), causes);
}

#[test]
fn a_newer_outbox_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reactor.db");
    drop(Outbox::open(&path, 0).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    assert!(matches!(Outbox::open(&path, 0), Err(OpenError::Newer { found: 2, .. })));
}
