//! Which jobs are too old to be kept, and how they go: some rows at a time, so that nobody waits for it.
//!
//! A jid is the moment at which its job was published, so jids sort by age. A job that may still be caught up is kept
//! whatever its age. Doing this again changes nothing, and it needs no hint about what has changed.

use std::time::Duration;

use proto::ids::Jid;
use rusqlite::{OptionalExtension as _, Transaction, params};

/// How often expired jobs are looked for.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// How soon again while there are more: returns that come in meanwhile have the cache to themselves most of the time.
pub(super) const AGAIN: Duration = Duration::from_millis(500);
/// How many rows of a table go at a time: some milliseconds of work.
const ROWS: usize = 5_000;

/// Whether there is more to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    More,
    Nothing,
}

/// Returns the first jid that is young enough at this moment; none if all are kept.
pub(super) fn oldest_kept(keep: Option<Duration>, now_us: i64) -> Option<Jid> {
    let keep_us = i64::try_from(keep?.as_micros()).ok()?;
    Some(Jid::at(now_us.checked_sub(keep_us).filter(|oldest| *oldest > 0)?))
}

/// Tells whether an event of this job is no longer taken in: it is older, and not to be caught up.
pub(super) fn is_expired(tx: &Transaction<'_>, jid: &str, oldest: Option<&Jid>) -> rusqlite::Result<bool> {
    if oldest.is_none_or(|oldest| jid >= oldest.as_str()) {
        return Ok(false);
    }
    let live =
        tx.prepare_cached("SELECT 1 FROM live WHERE jid = ?1")?.query_row(params![jid], |_| Ok(())).optional()?;
    Ok(live.is_none())
}

/// Forgets jobs that are older than this one, returns first: a job is there as long as anything of it.
pub(super) fn forget(tx: &Transaction<'_>, oldest: &Jid, now_ms: i64) -> rusqlite::Result<Left> {
    tx.execute("DELETE FROM live WHERE expires_ms <= ?1", params![now_ms])?;
    for table in ["returns", "recipients"] {
        let sql = format!(
            "DELETE FROM {table} WHERE (jid, id) IN (SELECT jid, id FROM {table}
             WHERE jid < ?1 AND jid NOT IN (SELECT jid FROM live) LIMIT {ROWS})"
        );
        if tx.execute(&sql, params![oldest.as_str()])? == ROWS {
            return Ok(Left::More);
        }
    }
    let sql = format!(
        "DELETE FROM jobs WHERE jid IN (SELECT jid FROM jobs
         WHERE jid < ?1 AND jid NOT IN (SELECT jid FROM live) LIMIT {ROWS})"
    );
    let forgotten = tx.execute(&sql, params![oldest.as_str()])?;
    Ok(if forgotten == ROWS { Left::More } else { Left::Nothing })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proto::map;
    use proto::msgpack;
    use proto::tag::Tag;
    use proto::value::Map;

    use super::super::cache::JobCache;
    use super::*;
    use crate::bus::Event;

    const OLD: &str = "20261120235232821625";
    const YOUNG: &str = "20261121235232821625";
    const OLDEST: &str = "20261121000000000000";

    fn jid(text: &str) -> Jid {
        Jid::parse(text).unwrap()
    }

    fn event(tag: &str, data: &Map) -> Event {
        Event {
            offset: 1,
            tag: Tag::parse(tag).unwrap(),
            stamp_us: 0,
            data: msgpack::encode_map(data).into(),
            durable: true,
        }
    }

    /// What the log says of a job with so many returns.
    fn job(jid: &str, returns: usize) -> Vec<Event> {
        let ids: Vec<String> = (0..returns).map(|number| format!("m{number}")).collect();
        let ret = |id: &String| event(&format!("salt/job/{jid}/ret/{id}"), &map! { "return" => true });
        let new = event(&format!("salt/job/{jid}/new"), &map! { "fun" => "test.ping", "minions" => ids.clone() });
        std::iter::once(new).chain(ids.iter().map(ret)).collect()
    }

    fn cache(folder: &Path) -> JobCache {
        JobCache::open(&folder.join("jobs.db")).unwrap()
    }

    fn has(cache: &JobCache, text: &str) -> bool {
        cache.show(&jid(text)).unwrap().is_some()
    }

    #[test]
    fn expired_jobs_go_and_the_log_does_not_bring_them_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = cache(folder.path());
        let log: Vec<Event> = [job(OLD, 2), job(YOUNG, 2)].concat();
        cache.take_in(&log, None).unwrap();
        assert!(has(&cache, OLD) && has(&cache, YOUNG));
        assert_eq!(cache.expire(&jid(OLDEST), 0).unwrap(), Left::Nothing);
        assert_eq!(cache.expire(&jid(OLDEST), 0).unwrap(), Left::Nothing, "again changes nothing");
        assert!(!has(&cache, OLD) && has(&cache, YOUNG));
        cache.take_in(&log, Some(&jid(OLDEST))).unwrap();
        assert!(!has(&cache, OLD) && has(&cache, YOUNG));
    }

    #[test]
    fn a_job_that_may_still_be_caught_up_is_kept_and_takes_returns() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = cache(folder.path());
        cache.take_in(&job(OLD, 0), None).unwrap();
        cache.remember(&jid(OLD), 1, 500).unwrap();
        cache.expire(&jid(OLDEST), 499).unwrap();
        cache
            .take_in(&[event(&format!("salt/job/{OLD}/ret/m1"), &map! { "return" => 7 })], Some(&jid(OLDEST)))
            .unwrap();
        let shown = cache.show(&jid(OLD)).unwrap().unwrap();
        assert!(format!("{shown:?}").contains("m1"), "{shown:?}");
        cache.expire(&jid(OLDEST), 500).unwrap();
        assert!(!has(&cache, OLD));
    }

    #[test]
    fn a_large_job_goes_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = cache(folder.path());
        cache.take_in(&job(OLD, ROWS + 1), None).unwrap();
        assert_eq!(cache.expire(&jid(OLDEST), 0).unwrap(), Left::More);
        assert!(has(&cache, OLD), "its returns first");
        while cache.expire(&jid(OLDEST), 0).unwrap() == Left::More {}
        assert!(!has(&cache, OLD));
    }

    #[test]
    fn jobs_are_kept_for_a_time_or_for_ever() {
        let now_us = 1_795_218_752_821_625;
        let kept = oldest_kept(Some(Duration::from_secs(3_600)), now_us);
        assert_eq!(kept.map(|jid| jid.to_string()), Some("20261120225232821625".to_owned()));
        assert_eq!(oldest_kept(None, now_us), None);
        assert_eq!(oldest_kept(Some(Duration::from_secs(3_600)), 5), None, "a clock that was never set");
    }
}
