//! A thousand log in at once, and nobody who is in has to wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use halite_tests::Fleet;
use proto::ids::MinionId;
use proto::map;
use proto::salt::Nonce;
use proto::salt::auth::{Applicant, AuthAnswer, Credentials, Trust};
use proto::salt::request::{Asker, Fresh, Token, open_reply};
use proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use proto::value::{Map, Value};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::task::JoinSet;
use transport::{ConnectConfig, ConnectMechanism, Incoming, Link, SocketType};

/// How many log in at once.
const STORM: usize = 1_000;
/// How many returns an established minion sends meanwhile.
const RETURNS: usize = 50;
/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A minion made of bare sockets.
struct Minion {
    id: MinionId,
    key: PrivateKey,
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

async fn connect(address: &str) -> Link {
    let config = ConnectConfig::new(address, SocketType::Req, ConnectMechanism::Null);
    transport::connect(&config).await.unwrap().link
}

async fn exchange(link: &mut Link, payload: Vec<u8>) -> Bytes {
    link.sender().try_send(Bytes::from(payload)).unwrap();
    match tokio::time::timeout(PATIENCE, link.recv()).await.expect("the master answers") {
        Ok(Incoming::Message(frames)) => frames.last().cloned().unwrap(),
        other => panic!("{other:?}"),
    }
}

impl Minion {
    fn new(id: &str) -> Minion {
        Minion { id: MinionId::parse(id).unwrap(), key: PrivateKey::generate(2_048).unwrap() }
    }

    /// Logs in on a connection of its own.
    async fn log_in(&self, link: &mut Link) -> Credentials {
        let trust = Trust::default();
        let applicant = Applicant {
            id: &self.id,
            key: &self.key,
            enc_algo: EncAlgo::OaepSha1,
            sig_algo: SigAlgo::Pkcs1v15Sha1,
            autosign_grains: None,
            trust: &trust,
        };
        let (attempt, payload) = applicant.ask(random(), random::<56>().into()).unwrap();
        match applicant.judge(&attempt, &exchange(link, payload).await).unwrap() {
            AuthAnswer::Accepted(credentials) => credentials.into_inner(),
            AuthAnswer::Standing { standing, .. } => panic!("{standing:?}"),
        }
    }

    /// Makes what a login costs the master its private key.
    fn request(&self) -> Vec<u8> {
        let trust = Trust::default();
        let applicant = Applicant {
            id: &self.id,
            key: &self.key,
            enc_algo: EncAlgo::OaepSha1,
            sig_algo: SigAlgo::Pkcs1v15Sha1,
            autosign_grains: None,
            trust: &trust,
        };
        applicant.ask(random(), random::<56>().into()).unwrap().1
    }
}

/// An established minion returns a job; returns how long the answer took.
async fn ret(minion: &Minion, link: &mut Link, credentials: &Credentials, at: usize) -> Duration {
    let asker = Asker {
        id: minion.id.clone(),
        token: Token::new(&minion.key),
        enc_algo: EncAlgo::OaepSha1,
        sig_algo: SigAlgo::Pkcs1v15Sha1,
    };
    let load: Map = map! { "cmd" => "_return", "jid" => format!("202601010000000000{at:02}"), "fun" => "f",
    "fun_args" => Value::List(vec![]), "return" => at, "retcode" => 0, "success" => true };
    let nonce = Nonce::from_random(random());
    let payload = asker.seal(&credentials.session, &Fresh { nonce, iv: random(), unix_s: 0 }, load);
    let sent = Instant::now();
    let reply = exchange(link, payload).await;
    let took = sent.elapsed();
    assert_eq!(open_reply(&credentials.session, &nonce, &reply).unwrap().into_inner(), Value::Null);
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_storm_delays_no_return_of_an_established_minion() {
    let fleet = Fleet::new().master_config("salt_listener: true").start();
    let address = format!("127.0.0.1:{}", fleet.site.ports().unwrap().1);
    let (minion, stranger) = (Minion::new("web1"), Arc::new(Minion::new("storm")));
    let mut link = connect(&address).await;
    let credentials = minion.log_in(&mut link).await;
    stranger.log_in(&mut connect(&address).await).await;
    let calm = ret(&minion, &mut link, &credentials, 0).await;
    let mut links = Vec::with_capacity(STORM);
    for _ in 0..STORM {
        links.push((connect(&address).await, stranger.request()));
    }
    let answered = Arc::new(AtomicUsize::new(0));
    let mut storm = JoinSet::new();
    for (mut link, payload) in links {
        let answered = Arc::clone(&answered);
        storm.spawn(async move {
            exchange(&mut link, payload).await;
            answered.fetch_add(1, Ordering::SeqCst);
        });
    }
    // The storm has begun, and is under way at each return.
    while answered.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let (mut took, mut overtaken_by) = (Vec::new(), Vec::new());
    for at in 1..=RETURNS {
        let before = answered.load(Ordering::SeqCst);
        took.push(ret(&minion, &mut link, &credentials, at).await);
        overtaken_by.push(answered.load(Ordering::SeqCst) - before);
    }
    let at_end = answered.load(Ordering::SeqCst);
    assert!(at_end < STORM, "the storm was over before the last return: nothing is shown");
    while let Some(done) = storm.join_next().await {
        done.unwrap();
    }
    assert_eq!(answered.load(Ordering::SeqCst), STORM, "everybody who logs in is answered");
    assert_eq!(fleet.events("salt/job/*/ret/web1").len(), RETURNS + 1);
    took.sort();
    overtaken_by.sort_unstable();
    let ms = |took: Duration| took.as_secs_f64() * 1_000.0;
    let line = format!(
        "login storm of {STORM}: {RETURNS} returns of an established minion answered while {at_end} logins were; ms: calm \
         {:.1}, median {:.1}, longest {:.1}; logins answered during one return: median {}, most {}\n",
        ms(calm),
        ms(took[RETURNS / 2]),
        ms(took[RETURNS - 1]),
        overtaken_by[RETURNS / 2],
        overtaken_by[RETURNS - 1],
    );
    use std::io::Write as _;
    // Without a standard error there is nobody to tell.
    let _ = std::io::stderr().write_all(line.as_bytes());
}
