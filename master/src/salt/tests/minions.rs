//! What a minion may, and gets.

use proto::salt::auth::AuthRefused;
use proto::salt::pillar::Waiting;

use super::*;
use crate::jobs::{Membership, Verdict};

#[tokio::test]
async fn a_key_goes_through_every_state() {
    let master = Master::start().await;
    let mut minion = Minion::connect(&master, "web1", 1).await;
    assert_eq!(minion.auth().await, Auth::Stands(Standing::Pending));
    master.act("reject", "web1").await;
    assert_eq!(minion.auth().await, Auth::Stands(Standing::Rejected));
    master.act("accept", "web1").await;
    assert_eq!(minion.auth().await, Auth::Accepted);
    let mut other = Minion::connect(&master, "web1", 2).await;
    assert_eq!(other.auth().await, Auth::Stands(Standing::Rejected), "the id has another key");
    let mut copy = Minion::connect(&master, "web2", 1).await;
    assert_eq!(copy.auth().await, Auth::Stands(Standing::Rejected), "the key has another id");
    master.act("delete", "web1").await;
    assert_eq!(minion.auth().await, Auth::Stands(Standing::Pending));
    let told = master.event("salt/auth").await;
    assert_eq!((told.text("act"), told.at("result")), (Some("pend"), Some(&true.into())));
    assert_eq!(told.text("pub"), Some(rsa(1).public().pem()));
    let lists = master.keys.list().await;
    assert_eq!(lists.salt.iter().map(MinionId::as_str).collect::<Vec<_>>(), ["web1", "web2"]);
}

#[tokio::test]
async fn a_minion_that_lost_its_rights_is_not_heard_and_the_shared_key_is_replaced() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    assert_eq!(minion.request(map! { "cmd" => "_master_tops", "opts" => Map::new() }).await, Map::new().into());
    let file = master.dir.path().join("sessions/web1");
    assert!(file.exists());
    let before = std::fs::read(master.dir.path().join("salt_aes_key")).unwrap();
    master.act("delete", "web1").await;
    let (_, payload) = minion.seal(map! { "cmd" => "_return", "jid" => "req", "return" => true });
    let answer = minion.ask(payload).await.unwrap();
    assert_eq!(proto::salt::msgpack::decode(&answer), Ok("bad load".into()));
    let rotated = master.event("key").await;
    assert_eq!(rotated.at("rotate_aes_key"), Some(&true.into()));
    assert_ne!(std::fs::read(master.dir.path().join("salt_aes_key")).unwrap(), before);
    assert!(!file.exists(), "its session key is gone too");
}

#[tokio::test]
async fn a_job_goes_out_signed_and_its_return_is_logged_once() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let mut sub = ear(&master).await;
    let published = master.publish("web*").await;
    assert!(published.down.is_empty(), "nobody knows yet whether it is there");
    let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("nothing was published") };
    let credentials = minion.credentials.take().unwrap();
    let mut ear = Ear::new(credentials.shared, Some(rsa(0).public().clone()));
    let load = ear.open(&frames[0]).unwrap().into_inner();
    assert_eq!((load.text("fun"), load.text("jid")), (Some("test.ping"), Some(published.jid.as_str())));
    assert_eq!(minion.auth().await, Auth::Accepted);
    let ret = map! { "cmd" => "_return", "jid" => &published.jid, "fun" => "test.ping", "fun_args" => Value::List(vec![]),
    "return" => true, "retcode" => 0, "success" => true };
    for _ in 0..2 {
        assert_eq!(minion.request(ret.clone()).await, Value::Null);
    }
    let tag = format!("salt/job/{}/ret/web1", published.jid);
    assert_eq!(master.count(&tag).await, 1);
    let told = master.event(&tag).await;
    assert_eq!((told.text("cmd"), told.text("id"), told.at("unexpected")), (Some("_return"), Some("web1"), None));
}

#[tokio::test]
async fn a_job_that_is_published_and_waited_for_is_answered_as_salts_master_answers_it() {
    let master = Master::start().await;
    let mut web = Minion::accepted(&master, "web1", 1).await;
    let mut db = Minion::accepted(&master, "db1", 2).await;
    let load = |tgt: &str, more: Map| {
        let mut load = map! { "cmd" => "minion_publish", "fun" => "test.ping", "arg" => Value::List(vec![]), "tgt" => tgt,
        "tgt_type" => "glob", "ret" => "" };
        load.extend(more);
        load
    };
    let (refused, stumbled) = (Value::from(Map::new()), Value::from(""));
    assert_eq!(db.request(load("*", Map::new())).await, refused, "peer does not name it");
    assert_eq!(web.request(load("*", map! { "fun" => "cmd.run" })).await, refused, "peer does not name the function");
    assert_eq!(web.request(load("*", map! { "tmo" => "soon" })).await, refused);
    assert_eq!(web.request(load("*", map! { "timeout" => Value::Null })).await, stumbled);
    assert_eq!(web.request(load("none", map! { "tgt_type" => "nodegroup" })).await, refused, "there is no such group");
    assert_eq!(web.request(load("ghost*", Map::new())).await, stumbled, "it matches nobody");
    let published = |tags: Vec<String>| tags.iter().filter(|tag| tag.ends_with("/new")).count();
    assert_eq!(published(master.tags().await), 0);
    assert_eq!(web.request(load("*", map! { "tmo" => "5", "form" => "full" })).await, stumbled);
    assert_eq!(published(master.tags().await), 1, "the job is out");
}

#[tokio::test]
async fn returns_of_others_and_of_unknown_jobs_stand_apart() {
    let master = Master::start().await;
    let mut web = Minion::accepted(&master, "web1", 1).await;
    let mut db = Minion::accepted(&master, "db1", 2).await;
    let jid = master.publish("web1").await.jid;
    let ret = |jid: &str| map! { "cmd" => "_return", "jid" => jid, "fun" => "f", "return" => 1, "id" => "web1" };
    assert_eq!(db.request(ret(jid.as_str())).await, Value::Null);
    let unexpected = master.event(&format!("salt/job/{jid}/ret/db1")).await;
    assert_eq!((unexpected.text("id"), unexpected.at("unexpected")), (Some("db1"), Some(&true.into())));
    assert_eq!(web.request(ret("20260101000000000000")).await, Value::Null);
    master.event("salt/job/20260101000000000000/ret/web1").await;
    assert_eq!(web.request(ret("req")).await, Value::Null);
    let tags = master.tags().await;
    let alone = tags.iter().filter(|tag| tag.ends_with("/ret/web1") && !tag.contains("20260101000000000000"));
    let alone: Vec<&String> = alone.collect();
    assert!(alone.len() == 1 && !alone[0].contains(jid.as_str()), "{alone:?}");
}

#[tokio::test]
async fn pillar_tells_grains_and_comes_in_its_own_boxes() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let load = map! { "cmd" => "_pillar", "grains" => map! { "os" => "Debian" }, "saltenv" => "base", "ver" => "2" };
    let (nonce, payload) = minion.seal(load);
    let reply = minion.ask(payload).await.unwrap();
    let master_key = rsa(0).public().clone();
    let waiting = Waiting {
        key: &minion.key,
        master: &master_key,
        enc_algo: EncAlgo::OaepSha1,
        sig_algo: SigAlgo::Pkcs1v15Sha1,
        nonce,
    };
    assert_eq!(waiting.open(&reply).unwrap().into_inner(), Map::new().into());
    let target = TargetText { tgt: "os:Debian".into(), tgt_type: "grain".into(), delimiter: None };
    assert!(master.jobs.grains(target).await.unwrap().at("web1").is_some());
    assert_eq!(master.event("minion/refresh/web1").await.text("Minion data cache refresh"), Some("web1"));
}

#[tokio::test]
async fn keys_and_serials_survive_a_restart() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let serial = master.salt.inner.secrets.serial().unwrap();
    let dir = master.end().await;
    let master = Master::start_with(dir, |_| {}).await;
    assert!(master.salt.inner.secrets.serial().unwrap() > serial);
    minion.link = connect(&master.requests, SocketType::Req).await;
    let opts = minion.request(map! { "cmd" => "_master_opts", "env_only" => true }).await;
    assert_eq!(opts.as_map().unwrap().at("file_roots"), Some(&map! { "base" => Value::List(vec![]) }.into()));
}

#[tokio::test]
async fn a_hello_is_answered_with_the_rsa_key_that_vouches() {
    let master = Master::start().await;
    let mut link = connect(&master.requests, SocketType::Dealer).await;
    let answer = exchange(&mut link, HelloRequest::current().encode()).await.unwrap();
    let hello = HelloReply::decode(&answer).unwrap();
    let proof = hello.rsa.expect("a master with a Salt listener shows its RSA key");
    assert_eq!(proof.rsa_pub, rsa(0).public().pem());
    upgrade::judge_master(rsa(0).public(), &hello.key, &proof.sig).unwrap();
    // What Salt's minions are told as `master_finger`.
    let selection = KeySelection {
        globs: vec!["master.pub".into()],
        include_rejected: false,
        include_denied: false,
        include_accepted: false,
        dry_run: false,
    };
    let finger = rsa(0).public().fingerprint().as_str().to_owned();
    assert_eq!(master.keys.finger(selection).await.local, [("master.pub".to_owned(), finger)]);
}

#[tokio::test]
async fn a_login_storm_delays_no_return_of_an_established_minion() {
    const STORM: usize = 1_000;
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let mut stranger = Minion::connect(&master, "storm", 2).await;
    assert_eq!(stranger.auth().await, Auth::Stands(Standing::Pending));
    master.act("accept", "storm").await;
    // Each of them costs the master's private key: the same accepted minion, over and over, on connections of its own.
    let trust = Trust { pinned: Some(rsa(0).public().clone()), ..Trust::default() };
    let key = rsa(2);
    let applicant = Applicant {
        id: &stranger.id,
        key: &key,
        enc_algo: EncAlgo::OaepSha1,
        sig_algo: SigAlgo::Pkcs1v15Sha1,
        autosign_grains: None,
        trust: &trust,
    };
    let mut links = Vec::with_capacity(STORM);
    for _ in 0..STORM {
        let (_, payload) = applicant.ask(*random(), random()).unwrap();
        links.push((connect(&master.requests, SocketType::Req).await, payload));
    }
    let mut storm = tokio::task::JoinSet::new();
    for (mut link, payload) in links {
        storm.spawn(async move { exchange(&mut link, payload).await.is_some() });
    }
    // While they wait, returns go through: fewer logins are answered meanwhile than there are.
    for at in 0..10 {
        let jid = format!("2026010100000000000{at}");
        let ret = map! { "cmd" => "_return", "jid" => jid.as_str(), "fun" => "f", "return" => at };
        assert_eq!(minion.request(ret).await, Value::Null);
    }
    let answered = std::iter::from_fn(|| storm.try_join_next()).count();
    assert!(answered < STORM, "the storm was over before: nothing is shown");
    let mut all = answered;
    while let Some(answer) = storm.join_next().await {
        all += usize::from(answer.unwrap());
    }
    assert_eq!(all, STORM, "and everybody who logs in is answered");
}

#[tokio::test]
async fn under_topics_a_job_reaches_those_it_names() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let master = Master::start_with(dir, |config| config.filtering = true).await;
    let web = Minion::accepted(&master, "web1", 1).await;
    let _db = Minion::accepted(&master, "db1", 2).await;
    let mut sub = connect(&master.publications, SocketType::Sub).await;
    let topic = proto::salt::publish::topic(&web.id);
    for wanted in [proto::salt::publish::BROADCAST, &topic] {
        sub.subscribe(wanted.as_bytes()).unwrap();
    }
    let subscribers = &master.salt.inner.subscribers;
    tokio::select! { () = wait_for(|| subscribers.topics() == 2) => {}, heard = sub.recv() => panic!("{heard:?}") }
    master.publish("db1").await;
    master.publish("*").await;
    let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("nothing was published") };
    assert_eq!((frames.len(), &frames[0][..]), (2, topic.as_bytes()));
    let mut ear = Ear::new(web.credentials.unwrap().shared, None);
    assert_eq!(ear.open(&frames[1]).unwrap().into_inner().text("tgt"), Some("*"), "the job for db1 went to db1 alone");
}

/// Returns a subscription to everything that is published on the Salt wire.
async fn ear(master: &Master) -> Link {
    let mut sub = connect(&master.publications, SocketType::Sub).await;
    sub.subscribe(b"").unwrap();
    let subscribers = &master.salt.inner.subscribers;
    tokio::select! { () = wait_for(|| subscribers.topics() == 1) => {}, heard = sub.recv() => panic!("{heard:?}") }
    sub
}

#[tokio::test]
async fn a_job_goes_out_on_the_salt_wire_only_if_a_salt_minion_can_match_it() {
    let master = Master::start().await;
    let native = MinionId::parse("native").unwrap();
    master.keys.judge(&native, &proto::keys::PublicKey::X25519([7; 32]), None).await;
    master.act("accept", "native").await;
    let debian = Bytes::from(msgpack::encode_map(&map! { "os" => "Debian" }));
    master.salt.inner.parts.registry.set_grains(&native, &debian);
    let mut told = Minion::accepted(&master, "told", 1).await;
    let grains = map! { "os" => "Alpine" };
    let (_, payload) = told.seal(map! { "cmd" => "_pillar", "grains" => grains, "saltenv" => "base", "ver" => "2" });
    told.ask(payload).await.unwrap();
    let mut sub = ear(&master).await;
    let publish = async |tgt_type: &str, tgt: &str, arg: Vec<Value>| {
        let target = TargetText { tgt: tgt.into(), tgt_type: tgt_type.into(), delimiter: None };
        let request = PublishRequest { target, arg, ..master.ping("*") };
        master.jobs.publish("root", request).await.unwrap()
    };
    let secret = || vec![Value::from("secret")];
    // Nobody on the Salt wire can match: the id, or what the one minion has told, rules it out.
    for (tgt_type, tgt) in [("glob", "native"), ("list", "native"), ("grain", "os:Debian")] {
        let published = publish(tgt_type, tgt, secret()).await;
        assert_eq!((published.minions, published.exposed), (vec![native.clone()], vec![]), "{tgt}");
    }
    let silent = Minion::accepted(&master, "silent", 2).await;
    // The last of these is the first that goes out.
    publish("compound", "G@os:Debian and not silent", secret()).await;
    let crossing = publish("grain", "os:Debian", secret()).await;
    assert_eq!((&crossing.minions, &crossing.exposed), (&vec![native.clone()], &vec![silent.id.clone()]));
    let bare = publish("grain", "os:Debian", Vec::new()).await;
    assert_eq!(bare.exposed, vec![], "there is nothing to read");
    let mixed = publish("glob", "*", secret()).await;
    assert_eq!((mixed.minions.len(), mixed.exposed), (3, vec![]), "Salt minions are meant");
    let mut ear = Ear::new(silent.credentials.unwrap().shared, None);
    for expected in [crossing.jid, bare.jid, mixed.jid] {
        let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("nothing was published") };
        assert_eq!(ear.open(&frames[0]).unwrap().into_inner().text("jid"), Some(expected.as_str()));
    }
}

#[tokio::test]
async fn a_second_key_vouches_for_the_masters() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let signature = PubKeySignature::Key { name: "master_sign".to_owned(), passphrase: None };
    let master = Master::start_with(dir, |config| config.pub_sig = Some(signature)).await;
    let pki = master.dir.path().join("pki");
    let signer = std::fs::read_to_string(pki.join("master_sign.pub")).unwrap();
    let mut minion = Minion::connect(&master, "web1", 1).await;
    minion.trust.signer = Some(proto::salt::rsa::PublicKey::from_pem(&signer).unwrap());
    minion.auth().await;
    master.act("accept", "web1").await;
    assert_eq!(minion.auth().await, Auth::Accepted);
    master.salt.inner.secrets.rotate().unwrap();
    assert_eq!(minion.auth().await, Auth::Accepted, "after a new shared key too");
    minion.trust.signer = Some(rsa(2).public().clone());
    let applicant = Applicant {
        id: &minion.id,
        key: &minion.key,
        enc_algo: EncAlgo::OaepSha1,
        sig_algo: SigAlgo::Pkcs1v15Sha1,
        autosign_grains: None,
        trust: &minion.trust,
    };
    let (attempt, payload) = applicant.ask(*random(), random()).unwrap();
    let answer = exchange(&mut minion.link, payload).await.unwrap();
    assert_eq!(applicant.judge(&attempt, &answer).err(), Some(AuthRefused::PubSig), "another key did not sign it");
    let same = crate::salt::vouch::open(&master.salt.inner.config, &master.keys).unwrap();
    assert!(same.is_some() && std::fs::read_to_string(pki.join("master_sign.pub")).unwrap() == signer, "it is kept");
}

#[tokio::test]
async fn a_signature_that_is_not_there_is_named() {
    let master = Master::start().await;
    let config = SaltConfig {
        pub_sig: Some(PubKeySignature::File("m_pubkey_signature".to_owned())),
        ..config(master.dir.path(), 4505)
    };
    let missing = crate::salt::vouch::open(&config, &master.keys).unwrap_err();
    assert!(missing.to_string().contains("pki/m_pubkey_signature"), "{missing}");
    std::fs::write(master.dir.path().join("pki/m_pubkey_signature"), "c2ln\n").unwrap();
    assert!(crate::salt::vouch::open(&config, &master.keys).unwrap().is_some());
}

#[tokio::test]
async fn a_failed_state_is_told_besides_the_return() {
    let master = Master::start().await;
    let mut minion = Minion::accepted(&master, "web1", 1).await;
    let jid = master.publish("*").await.jid;
    let states = map! { "file_|-a_|-/a_|-managed" => map! { "result" => false, "name" => "/a" } };
    let ret = map! { "cmd" => "_return", "jid" => &jid, "fun" => "state.sls", "fun_args" => vec!["web"], "return" => states,
    "retcode" => 2, "success" => false };
    minion.request(ret.clone()).await;
    minion.request(ret).await;
    let told = master.event(&format!("salt/job/{jid}/sub/web1/error/state.sls")).await;
    assert_eq!((told.text("return"), told.text("name")), (Some("Error: file.managed"), Some("/a")));
    assert_eq!(master.count("file.managed").await, 1, "a return counts once, and so do its failures");
}

/// Salt 3008's `salt -b` publishes part after part under one jid.
#[tokio::test]
async fn a_batch_is_one_job_that_goes_out_part_by_part() {
    let master = Master::start().await;
    let first = Minion::accepted(&master, "first", 1).await;
    let second = Minion::accepted(&master, "second", 2).await;
    let mut sub = ear(&master).await;
    let jid = master.jobs.allocate().await.unwrap();
    let publish = async |fun: &str, ids: &[&str]| {
        let target = TargetText::new(ids.to_vec().into(), None);
        let request = PublishRequest { target, fun: fun.into(), jid: Some(jid.clone()), ..master.ping("*") };
        master.jobs.publish("root", request).await.unwrap().minions
    };
    assert_eq!(publish("test.ping", &["first"]).await, std::slice::from_ref(&first.id));
    assert_eq!(publish("test.ping", &["first"]).await, [], "the same again is the same job");
    assert_eq!(publish("test.version", &["second"]).await, [], "another job needs another jid");
    assert_eq!(publish("test.ping", &["first", "second"]).await, std::slice::from_ref(&second.id));
    let last = master.publish("*").await.jid;
    let mut ear = Ear::new(first.credentials.unwrap().shared, None);
    for (expected, means) in [(&jid, "first"), (&jid, "first,second"), (&last, "*")] {
        let Ok(Incoming::Message(frames)) = sub.recv().await else { panic!("nothing was published") };
        let heard = ear.open(&frames[0]).unwrap().into_inner();
        let tgt = heard.at("tgt").map(|tgt| match tgt.as_list() {
            Some(ids) => ids.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            None => tgt.as_str().unwrap_or_default().to_owned(),
        });
        assert_eq!((heard.text("jid"), tgt.as_deref()), (Some(expected.as_str()), Some(means)));
    }
    // Who comes back for it gets one publication that means all.
    let both = Value::from(vec!["first", "second"]);
    for id in [&first.id, &second.id] {
        let (_, owed) = master.jobs.since(id).await.unwrap();
        let part = owed.iter().find(|publish| publish.jid == jid).unwrap();
        assert_eq!(part.load.at("tgt"), Some(&both));
        let verdict = master.jobs.admit(id, jid.as_str(), Membership::Itself).await.unwrap();
        assert_eq!(verdict, Verdict::Accept(jid.clone()));
    }
    let shown = master.jobs.show(jid).await.unwrap().unwrap();
    assert_eq!((shown.at("Minions"), shown.at("Target")), (Some(&both), Some(&both)));
}
