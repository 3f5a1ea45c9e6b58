//! What the Salt wire costs: RSA operations with 2048 bits, a box around 1 KiB, one whole request. Prints microseconds:
//! the median of some rounds, each a mean over many runs.
//!
//! `cargo bench -p halite-proto --bench salt`

use std::hint::black_box;
use std::time::{Duration, Instant};

use halite_proto::ids::MinionId;
use halite_proto::map;
use halite_proto::salt::Nonce;
use halite_proto::salt::crypticle::{Crypticle, KEY_LEN, SessionKey};
use halite_proto::salt::envelope::Envelope;
use halite_proto::salt::request::{Asker, Fresh, Token, Ttl};
use halite_proto::salt::rsa::{EncAlgo, PrivateKey, SigAlgo};
use zeroize::Zeroizing;

/// How many rounds the median is of.
const ROUNDS: usize = 9;
/// How long a round is run, at least.
const ROUND: Duration = Duration::from_millis(100);

fn main() {
    let key = private_key();
    let (message, small) = ([7_u8; 1300], [7_u8; 76]);
    let signature = key.sign(SigAlgo::Pkcs1v15Sha1, &message);
    let sealed = key.public().encrypt(EncAlgo::OaepSha1, &small).expect("76 bytes fit");
    let proof = key.seal_x931(b"salt").expect("4 bytes fit");
    report("sign PKCS1v15-SHA1", || key.sign(SigAlgo::Pkcs1v15Sha1, &message));
    report("decrypt OAEP-SHA1", || key.decrypt(EncAlgo::OaepSha1, &sealed));
    report("private X9.31", || key.seal_x931(b"salt"));
    report("verify PKCS1v15-SHA1", || key.public().verify(SigAlgo::Pkcs1v15Sha1, &message, &signature));
    report("encrypt OAEP-SHA1", || key.public().encrypt(EncAlgo::OaepSha1, &small));
    report("public X9.31", || key.public().open_x931(&proof));

    let box_key = crypticle();
    let load = [7_u8; 1024];
    let closed = box_key.seal_bytes([1; 16], &load);
    report("seal 1 KiB", || box_key.seal_bytes([1; 16], &load));
    report("open 1 KiB", || box_key.open_bytes(&closed));
    report("seal and open 1 KiB", || box_key.open_bytes(&box_key.seal_bytes([1; 16], &load)));
    requests(&key);
}

/// A return of 1 KiB: closed by the minion's half, opened by the master's.
fn requests(key: &PrivateKey) {
    let (id, session) = (MinionId::parse("web1").expect("an id"), SessionKey(crypticle()));
    let (enc_algo, sig_algo) = (EncAlgo::OaepSha1, SigAlgo::Pkcs1v15Sha1);
    let asker = Asker { id, token: Token::new(key), enc_algo, sig_algo };
    let fresh = Fresh { nonce: Nonce::from_random([1; 16]), iv: [2; 16], unix_s: 1 };
    let load = || map! { "cmd" => "_return", "jid" => "20260101000000000000", "return" => "x".repeat(1024) };
    let wire = asker.seal(&session, &fresh, load());
    report("seal a return", || asker.seal(&session, &fresh, load()));
    report("open a return", || match Envelope::decode(&wire) {
        Ok(Envelope::Aes(sealed)) => sealed.open(&session, key.public(), Ttl::Off).is_ok(),
        _ => false,
    });
}

fn crypticle() -> Crypticle {
    Crypticle::from_random(Zeroizing::new([7; KEY_LEN]))
}

fn private_key() -> PrivateKey {
    let keys = include_str!("../tests/data/salt/rsa_keys.json");
    let keys: serde_json::Value = serde_json::from_str(keys).expect("the file of vectors is JSON");
    let pem = keys["keys"]["master"]["private_pem"].as_str().expect("it holds the master's key");
    PrivateKey::from_pem(pem, None).expect("the key is one")
}

fn report<T>(name: &str, mut run: impl FnMut() -> T) {
    let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| round(&mut run)).collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name:<24} {:>9.2} us", rounds[ROUNDS / 2]);
}

/// Returns the mean of a round, in microseconds.
fn round<T>(run: &mut impl FnMut() -> T) -> f64 {
    let (start, mut runs) = (Instant::now(), 0_u32);
    while start.elapsed() < ROUND {
        (0..16).for_each(|_| drop(black_box(run())));
        runs += 16;
    }
    start.elapsed().as_secs_f64() * 1e6 / f64::from(runs)
}
