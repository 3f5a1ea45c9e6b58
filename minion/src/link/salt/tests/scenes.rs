//! What happens between a minion and a Salt master, scene by scene.

use super::*;

#[tokio::test]
async fn an_accepted_minion_takes_jobs_sends_events_and_asks() {
    let mut master = Master::new();
    let mut minion = minion(&master);
    let mut req = master.req().await;
    let first = master.accept(&mut req).await;
    assert_eq!((first.id.as_str(), first.token), ("m1", None), "there is no key to seal a token for yet");
    let (sub, topics) = master.sub(1).await;
    assert_eq!(topics, [Bytes::new()]);
    minion.up(1).await;
    assert_eq!(pinned(minion.folder.path()).unwrap().as_ref(), Some(master.key.public()));
    let sent = minion.send("t/1");
    let request = req.request(&master, &minion).await;
    assert_eq!(tags(&request), ["t/1"]);
    let load = &request.get().load;
    assert!(load.at("ts").is_some() && load.text("id") == Some("m1"));
    assert!(!sent.is_finished(), "it is the master's only when the master has answered");
    req.reply(&master, &request, Value::Null);
    must(sent).await.unwrap().unwrap();
    let asked = minion.ask("_file_envs", Map::new());
    let request = req.request(&master, &minion).await;
    assert_eq!(request.get().load.text("cmd"), Some("_file_envs"));
    req.reply(&master, &request, vec!["base"]);
    assert_eq!(must(asked).await.unwrap(), Ok(vec!["base"].into()));
    sub.try_send(master.publication(1, job(JID, "*"))).unwrap();
    let job = must(minion.jobs.recv()).await.unwrap();
    assert_eq!((job.jid.as_str(), job.load.text("fun")), (JID, Some("test.ping")));
}

#[tokio::test]
async fn a_pillar_is_opened_from_its_double_envelope() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let asked = minion.ask("_pillar", map! { "grains" => Map::new(), "ver" => "2" });
    let request = req.request(&master, &minion).await;
    let key = own(minion.folder.path(), 2048).unwrap();
    let one_time = OneTimeKey(crypticle(77));
    let pillar = Value::from(map! { "role" => "web" });
    req.send(pillar::reply(&request, master.key, key.public(), (&one_time, [3; 16]), &pillar).unwrap());
    assert_eq!(must(asked).await.unwrap(), Ok(pillar));
}

#[tokio::test]
async fn a_pillar_that_another_key_signed_is_refused() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let asked = minion.ask("_pillar", map! { "grains" => Map::new(), "ver" => "2" });
    let key = own(minion.folder.path(), 2048).unwrap();
    // The first is answered by new keys, the second is believed to be the answer.
    for again in [true, false] {
        let request = req.request(&master, &minion).await;
        let one_time = OneTimeKey(crypticle(77));
        let forged = map! { "role" => "forged" }.into();
        req.send(pillar::reply(&request, master_key(1), key.public(), (&one_time, [3; 16]), &forged).unwrap());
        if again {
            master.accept(&mut req).await;
        }
    }
    let refused = must(asked).await.unwrap();
    assert!(matches!(&refused, Err(AskError::Refused(why)) if why.contains("signed")), "{refused:?}");
}

#[tokio::test]
async fn a_minion_that_is_pending_rejected_or_one_too_many_stays_and_asks_again() {
    let mut master = Master::new();
    let minion = minion(&master);
    let mut req = master.req().await;
    let states = [
        (Standing::Pending, SessionState::Pending),
        (Standing::Rejected, SessionState::Rejected),
        (Standing::Full, SessionState::Full),
    ];
    for (standing, state) in states {
        let request = req.auth().await;
        req.send(request.stand(master.key, standing));
        minion.until(|status| matches!(status, LinkStatus::Limbo { state: told, .. } if *told == state)).await;
    }
    assert!(pinned(minion.folder.path()).unwrap().is_none(), "nobody has proven to be the master");
    master.accept(&mut req).await;
    let _sub = master.sub(1).await;
    minion.up(1).await;
}

#[tokio::test]
async fn a_known_master_has_to_open_the_token() {
    let mut master = Master::new();
    let folder = folder();
    std::fs::write(pin_path(folder.path()), master.key.public().pem()).unwrap();
    let target = target(&master, folder.path());
    let minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    let mut request = req.auth().await;
    assert!(request.token.is_some());
    // A master that leaves the token out has not shown that it holds the key.
    request.token = None;
    req.send(master.answer_of(&request));
    minion.down("token").await;
}

#[tokio::test]
async fn a_changed_master_key_is_refused_and_the_pin_stays() {
    let mut master = Master::new();
    let folder = folder();
    std::fs::write(pin_path(folder.path()), master_key(1).public().pem()).unwrap();
    let target = target(&master, folder.path());
    let minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    master.accept(&mut req).await;
    minion.down("changed").await;
    assert_eq!(pinned(minion.folder.path()).unwrap().as_ref(), Some(master_key(1).public()));
}

#[tokio::test]
async fn a_standing_that_the_pinned_key_did_not_sign_is_not_believed() {
    let mut master = Master::new();
    let folder = folder();
    std::fs::write(pin_path(folder.path()), master.key.public().pem()).unwrap();
    let target = target(&master, folder.path());
    let minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    let request = req.auth().await;
    req.send(request.stand(master_key(1), Standing::Rejected));
    minion.down("not signed").await;
}

#[tokio::test]
async fn an_answer_to_another_request_is_not_believed() {
    let mut master = Master::new();
    let minion = minion(&master);
    let mut req = master.req().await;
    let mut request = req.auth().await;
    request.nonce = proto::salt::Nonce::from_random([7; 16]);
    req.send(master.answer_of(&request));
    minion.down("another request").await;
    assert!(pinned(minion.folder.path()).unwrap().is_none());
    master.accept(&mut req).await;
    let _sub = master.sub(1).await;
    minion.up(1).await;
}

#[tokio::test]
async fn a_master_without_the_demanded_fingerprint_is_refused_before_it_is_pinned() {
    let mut master = Master::new();
    let folder = folder();
    let mut target = target(&master, folder.path());
    target.finger = Some(master_key(1).public().fingerprint());
    let minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    master.accept(&mut req).await;
    minion.down("master_finger").await;
    assert!(pinned(minion.folder.path()).unwrap().is_none());
}

#[tokio::test]
async fn a_signing_key_vouches_for_a_new_master_key() {
    let mut master = Master::new();
    let folder = folder();
    std::fs::write(pin_path(folder.path()), master_key(1).public().pem()).unwrap();
    std::fs::write(folder.path().join("master_sign.pub"), master_key(2).public().pem()).unwrap();
    let mut target = target(&master, folder.path());
    target.sign_key = Some("master_sign".into());
    let minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    // Without a signature it is refused, and nothing is replaced.
    master.accept(&mut req).await;
    minion.down("signature over the master's key").await;
    assert_eq!(pinned(minion.folder.path()).unwrap().as_ref(), Some(master_key(1).public()));
    master.pub_sig = Some(master_key(2));
    // The token is sealed for the old key; a master that does not hold it cannot send it back.
    let mut request = req.auth().await;
    request.token = None;
    req.send(master.answer_of(&request));
    minion.down("token").await;
}

#[tokio::test]
async fn truncated_and_foreign_answers_are_refused_and_the_minion_goes_on() {
    let mut master = Master::new();
    let minion = minion(&master);
    let mut req = master.req().await;
    let request = req.auth().await;
    let whole = master.answer_of(&request);
    req.send(whole[..whole.len() / 2].to_vec());
    minion.down("msgpack").await;
    req.auth().await;
    req.send(BareReply::BadLoad.encode());
    minion.down("bare answer").await;
    req.auth().await;
    req.send(Vec::new());
    minion.down("msgpack").await;
    master.accept(&mut req).await;
    let _sub = master.sub(1).await;
    minion.up(1).await;
}

#[tokio::test]
async fn a_rotated_shared_key_costs_no_job() {
    let mut master = Master::new();
    let mut minion = minion(&master);
    let (mut req, sub) = master.open().await;
    minion.up(1).await;
    sub.try_send(master.publication(5, job(JID, "*"))).unwrap();
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), JID);
    // The serial begins anew with the key.
    (master.shared, master.session) = (2, 102);
    sub.try_send(master.publication(1, job("20261120235232821626", "*"))).unwrap();
    let again = master.accept(&mut req).await;
    assert!(again.token.is_some(), "the master is known by now");
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), "20261120235232821626");
}

#[tokio::test]
async fn a_replayed_publication_is_heard_once_even_after_a_new_authentication_under_the_same_key() {
    let mut master = Master::new();
    let mut minion = minion(&master);
    let (mut req, sub) = master.open().await;
    minion.up(1).await;
    let first = master.publication(5, job(JID, "*"));
    for _ in 0..3 {
        sub.try_send(first.clone()).unwrap();
    }
    sub.try_send(Bytes::from(publish::seal(&SharedKey(crypticle(99)), [1; 16], job(JID, "*"), 9, None))).unwrap();
    master.accept(&mut req).await;
    sub.try_send(first).unwrap();
    sub.try_send(master.publication(6, job("20261120235232821626", "*"))).unwrap();
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), JID);
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), "20261120235232821626");
}

#[tokio::test]
async fn where_publications_must_be_signed_others_are_dropped() {
    let mut master = Master::new();
    let folder = folder();
    let mut target = target(&master, folder.path());
    target.signed_publications = true;
    let mut minion = minion_with(folder, target, Kind::Daemon);
    let (_req, sub) = master.open().await;
    minion.up(1).await;
    sub.try_send(master.publication(5, job(JID, "*"))).unwrap();
    let algo = minion.target.sig_algo;
    let signed = |by, serial, jid| {
        Bytes::from(publish::seal(&master.shared(), [1; 16], job(jid, "*"), serial, Some((by, algo))))
    };
    sub.try_send(signed(master_key(1), 6, JID)).unwrap();
    sub.try_send(signed(master.key, 7, "20261120235232821626")).unwrap();
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), "20261120235232821626");
}

#[tokio::test]
async fn with_topics_only_ours_and_the_broadcasts_are_taken() {
    let mut master = Master::new();
    let folder = folder();
    let mut target = target(&master, folder.path());
    target.filtering = true;
    let id = target.id.clone();
    let mut minion = minion_with(folder, target, Kind::Daemon);
    let mut req = master.req().await;
    master.accept(&mut req).await;
    let (sub, topics) = master.sub(2).await;
    let own_topic = Bytes::from(publish::topic(&id));
    assert_eq!(topics, [Bytes::from_static(b"broadcast"), own_topic.clone()]);
    let send = |topic: Bytes, serial, jid| {
        sub.try_send([topic, master.publication(serial, job(jid, "*"))]).unwrap();
    };
    // Both topics get the same publication; a third is another minion's.
    send(Bytes::from(format!("{}0", publish::topic(&id))), 1, "20261120235232821620");
    send(own_topic, 2, JID);
    send(Bytes::from_static(b"broadcast"), 3, "20261120235232821626");
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), JID);
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), "20261120235232821626");
}

#[tokio::test]
async fn a_session_key_that_the_master_replaced_is_renewed_and_nothing_is_lost() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let sent = minion.send("t/1");
    req.payload().await;
    master.session = 103;
    req.send(BareReply::BadLoad.encode());
    master.accept(&mut req).await;
    let request = req.request(&master, &minion).await;
    assert_eq!(tags(&request), ["t/1"]);
    req.reply(&master, &request, Value::Null);
    must(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_question_that_the_master_answers_with_bare_texts_fails_with_the_reason() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let asked = minion.ask("_mine_get", Map::new());
    req.payload().await;
    req.send(BareReply::Exception.encode());
    master.accept(&mut req).await;
    req.payload().await;
    req.send(BareReply::Exception.encode());
    let refused = must(asked).await.unwrap();
    assert!(matches!(&refused, Err(AskError::Refused(why)) if why.contains("bare answer")), "{refused:?}");
}

#[tokio::test]
async fn a_load_that_the_master_never_takes_does_not_block_the_others_for_ever() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let jid = Jid::parse(JID).unwrap();
    let ret = map! { "cmd" => "_return", "return" => true, "jid" => JID, "fun" => "test.ping", "retcode" => 0 };
    minion.link.put_return(jid, ret).await.unwrap();
    let mut refusals = 0;
    let sent = minion.send("t/1");
    let request = loop {
        let payload = req.payload().await;
        let Ok(envelope) = Envelope::decode(&payload) else { panic!("an envelope") };
        match envelope {
            Envelope::Clear(load) => req.send(master.answer_of(&AuthRequest::decode(&load).unwrap())),
            Envelope::Aes(sealed) => {
                let key = own(minion.folder.path(), 2048).unwrap();
                let request = sealed.open(&master.session(), key.public(), Ttl::Off).unwrap();
                if request.get().load.text("cmd") == Some("_minion_event") {
                    break request;
                }
                refusals += 1;
                req.send(BareReply::Exception.encode());
            }
        }
    };
    assert_eq!(refusals, 5);
    assert_eq!(tags(&request), ["t/1"]);
    req.reply(&master, &request, Value::Null);
    must(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_master_that_was_restarted_gets_what_it_had_not_answered() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, sub) = master.open().await;
    minion.up(1).await;
    let sent = minion.send("t/1");
    req.payload().await;
    // It goes without an answer, and comes back with new keys.
    req.sender.close();
    sub.close();
    drop((req, sub));
    (master.shared, master.session) = (3, 104);
    let mut req = master.req().await;
    master.accept(&mut req).await;
    let _sub = master.sub(1).await;
    loop {
        let payload = req.payload().await;
        match Envelope::decode(&payload).unwrap() {
            Envelope::Clear(load) => req.send(master.answer_of(&AuthRequest::decode(&load).unwrap())),
            Envelope::Aes(sealed) => {
                let key = own(minion.folder.path(), 2048).unwrap();
                let request = sealed.open(&master.session(), key.public(), Ttl::Off).unwrap();
                assert_eq!(tags(&request), ["t/1"]);
                req.reply(&master, &request, Value::Null);
                break;
            }
        }
    }
    must(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_sends_its_return_and_hears_nothing() {
    let mut master = Master::new();
    let folder = folder();
    let target = target(&master, folder.path());
    let minion = minion_with(folder, target, Kind::Call);
    let mut req = master.req().await;
    master.accept(&mut req).await;
    minion.until(|status| matches!(status, LinkStatus::Up { .. })).await;
    let load = map! { "cmd" => "_return", "jid" => "req", "return" => true, "retcode" => 0, "fun" => "test.ping" };
    let link = minion.link.clone();
    let sent = tokio::spawn(async move { link.send_return(load).await });
    let request = req.request(&master, &minion).await;
    let load = &request.get().load;
    assert_eq!((load.text("cmd"), load.text("jid"), load.text("id")), (Some("_return"), Some("req"), Some("m1")));
    req.reply(&master, &request, Value::Null);
    must(sent).await.unwrap().unwrap();
}

#[tokio::test]
async fn truncated_publications_are_dropped_and_cost_no_authentication() {
    let mut master = Master::new();
    let mut minion = minion(&master);
    let (mut req, sub) = master.open().await;
    minion.up(1).await;
    let whole = master.publication(1, job(JID, "*"));
    for cut in (0..whole.len()).step_by(5) {
        sub.try_send(whole.slice(..cut)).unwrap();
    }
    sub.try_send(whole).unwrap();
    assert_eq!(must(minion.jobs.recv()).await.unwrap().jid.as_str(), JID);
    assert!(req.incoming.try_recv().is_err(), "nothing was asked of the master");
}

#[tokio::test]
async fn a_truncated_reply_is_no_answer() {
    let mut master = Master::new();
    let minion = minion(&master);
    let (mut req, _sub) = master.open().await;
    minion.up(1).await;
    let asked = minion.ask("_file_envs", Map::new());
    let request = req.request(&master, &minion).await;
    let reply = request.reply(&master.session(), [9; 16], &vec!["base"].into());
    req.send(reply[..reply.len() - 1].to_vec());
    master.accept(&mut req).await;
    let request = req.request(&master, &minion).await;
    req.reply(&master, &request, vec!["base"]);
    assert_eq!(must(asked).await.unwrap(), Ok(vec!["base"].into()));
}
