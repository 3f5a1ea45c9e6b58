//! Segments that are damaged, emptied or gone.

use super::*;

/// Breaks a file from this page on.
fn damage(path: &Path, page: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let from = (page * 4_096).min(bytes.len());
    bytes[from..].fill(0xff);
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_behind_what_is_damaged_or_missing_and_is_told() {
    let folder = TempDir::new().unwrap();
    let config = BusConfig { segment_bytes: 64 * 1024, ..config(&folder) };
    let running = Running::start(config.clone());
    let head = fill(&running, 8).await;
    sealed(&running.bus);
    let segments: Vec<(u64, u64)> = running.bus.segments().iter().map(|one| (one.first, one.last)).collect();
    running.stop().await;
    let path = |at: usize| segments::path(&config.path, segments[at].0);
    // Rows, the file as such, all of it, and the file itself; each has a sound one behind it.
    damage(&path(1), 6);
    damage(&path(3), 0);
    std::fs::write(path(4), "").unwrap();
    std::fs::remove_file(path(6)).unwrap();

    let running = Running::start(config);
    assert_eq!(running.bus.head(), head);
    for tags in [&[][..], &["common/*"], &["nothing/here"]] {
        let bounded = EventQuery { until: Some(head), ..query(tags, Since::Start) };
        let mut subscription = running.bus.subscribe(bounded);
        let (mut next, mut gaps) = (1, Vec::new());
        let mut events = Vec::new();
        while let Some(event) = tokio::time::timeout(Duration::from_secs(60), subscription.next()).await.unwrap() {
            events.push(event);
        }
        for event in &events {
            if event.tag.as_str() == "halite/bus/gap" {
                let data = event.map().unwrap();
                let number = |name: &str| data.at(name).and_then(Value::as_u64).unwrap();
                assert!(!event.durable && number("first") >= next && number("last") == event.offset, "{data:?}");
                gaps.push((number("first"), number("last"), data.text("reason").unwrap().to_owned()));
            }
            next = event.offset + 1;
        }
        let covered = gaps.iter().map(|(first, last, _)| last - first + 1).sum::<u64>();
        if tags.is_empty() {
            let durable = events.iter().filter(|event| event.durable).count() as u64;
            assert_eq!(durable + covered, head, "{gaps:?}");
        }
        let reason = |at: usize| {
            let (first, last) = segments[at];
            gaps.iter().filter(|gap| gap.0 >= first && gap.1 <= last).map(|gap| gap.2.as_str()).collect::<Vec<_>>()
        };
        assert!(
            gaps.iter().any(|gap| gap.0 <= segments[3].0 && gap.1 >= segments[3].1 && gap.2 == "damaged"),
            "{gaps:?}"
        );
        assert_eq!((reason(4), reason(6)), (vec!["damaged"], vec!["missing"]), "{gaps:?}");
        assert!(!reason(1).is_empty() && reason(0).is_empty() && reason(7).is_empty(), "{gaps:?}");
    }
    // Finding a moment and counting do not stumble either.
    assert!(running.bus.offset_at(i64::MAX).await.is_some_and(|offset| offset == head + 1));
    assert!(running.bus.offset_at(1).await.is_some_and(|offset| offset == 1));
    assert!(running.bus.survey().await.is_some_and(|survey| survey.events > 0 && survey.events < head));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_active_segment_that_has_lost_its_content_is_not_begun_anew() {
    let folder = TempDir::new().unwrap();
    let config = BusConfig { segment_bytes: 64 * 1024, ..config(&folder) };
    let running = Running::start(config.clone());
    fill(&running, 2).await;
    let active = segments::path(&config.path, running.bus.segments().last().unwrap().first);
    running.stop().await;
    let good = std::fs::read(&active).unwrap();
    std::fs::write(&active, "").unwrap();
    let (error, text) = refused(&config.path);
    assert!(matches!(error, OpenError::Damaged { .. }) && text.contains("offsets would be given out twice"), "{text}");
    assert_eq!(std::fs::metadata(&active).unwrap().len(), 0, "nothing is written into it");
    // With tables, and without what was before it.
    drop(Log::open(&active, 0).unwrap());
    assert!(matches!(refused(&config.path).0, OpenError::Damaged { .. }));
    std::fs::write(&active, good).unwrap();
    assert!(Bus::open(config).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_complete_segment_that_stays_unreadable_is_given_up() {
    let folder = TempDir::new().unwrap();
    let config = BusConfig { segment_bytes: 64 * 1024, ..config(&folder) };
    let running = Running::start(config.clone());
    let head = fill(&running, 3).await;
    let (first, last) = running.bus.segments().get(1).map(|one| (one.first, one.last)).unwrap();
    running.stop().await;
    // What cannot be opened now might be opened in a moment.
    let path = segments::path(&config.path, first);
    let away = folder.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    std::fs::create_dir(&path).unwrap();

    let running = Running::start(config);
    let mut reader = running.bus.subscribe(EventQuery { until: Some(head), ..query(&[], Since::Offset(first)) });
    let gap = read(&mut reader, 1).await.remove(0).map().unwrap();
    let number = |name: &str| gap.at(name).and_then(Value::as_u64);
    assert_eq!((number("first"), number("last"), gap.text("reason")), (Some(first), Some(last), Some("damaged")));
    assert_eq!(offsets(&read(&mut reader, 1).await), [last + 1]);
    // Another reader hopes for itself.
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    assert_eq!(all(&running.bus, &[], Since::Offset(first), 1).await, [first]);
    running.stop().await;
}
