//! Peers that do not play by the rules cost themselves something, and nobody else.

use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};
use transport::{
    ConnectMechanism, HandshakeLimits, Incoming, Limits, Link, LinkClosed, Listener, ListenerConfig, SocketType,
    connect,
};

use crate::common::{
    PATIENCE, READY, config, curve, drive, echo, greeting, half_sent_message, listen, message, pair, raw_dealer, soon,
    text, to, until_closed,
};

/// Answers that an honest peer must get while another one misbehaves.
const ROUNDS: usize = 200;

/// Asks and is answered, again and again.
async fn converse(link: &mut Link) {
    for round in 0..ROUNDS {
        let question = Bytes::from(format!("question {round}"));
        link.sender().try_send(question.clone()).unwrap();
        assert_eq!(message(link).await, [question]);
    }
}

/// Two honest peers, one of each mechanism.
async fn honest(listener: &Listener) -> [Link; 2] {
    let connected = [ConnectMechanism::Null, curve()].map(|mechanism| to(listener, SocketType::Dealer, mechanism));
    let [null, curve] = connected.each_ref().map(connect);
    [soon(null).await.unwrap().link, soon(curve).await.unwrap().link]
}

#[tokio::test]
async fn a_frame_of_a_tebibyte_closes_and_takes_no_memory() {
    let listener = listen(config(SocketType::Router));
    let addr = listener.local_addr();
    let mut honest = honest(&listener).await;
    let stats = listener.stats();
    let _serving = echo(listener);
    let tebibyte = [&[2u8][..], &(1u64 << 40).to_be_bytes()].concat();
    let sealed = [&tebibyte[..], b"\x07MESSAGE"].concat();
    for after in [&b""[..], &greeting("NULL"), &[&greeting("NULL"), READY].concat(), &greeting("CURVE")] {
        for frame in [&tebibyte, &sealed, &[&[6u8][..], &u64::MAX.to_be_bytes()].concat()] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(&[after, frame].concat()).await.unwrap();
            // Closed, politely or with a reset.
            let _ = until_closed(&mut stream).await;
        }
    }
    for link in &mut honest {
        converse(link).await;
    }
    assert_eq!(stats.timed_out(), 0, "each was refused for what it sent");
}

#[tokio::test]
async fn a_byte_at_a_time_does_not_stretch_a_handshake() {
    let handshakes = HandshakeLimits { deadline: Duration::from_millis(400), ..HandshakeLimits::default() };
    let listener = listen(ListenerConfig { handshakes, ..config(SocketType::Router) });
    let mut pace = interval(Duration::from_millis(20));
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    // Each byte is a sign of life; all of them together would take two seconds.
    for byte in [&greeting("NULL"), READY].concat() {
        pace.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    let _ = until_closed(&mut stream).await;
    assert_eq!((listener.stats().timed_out(), listener.stats().established()), (1, 0));
}

#[tokio::test]
async fn a_byte_at_a_time_inside_a_frame_delays_nobody() {
    let listener = listen(config(SocketType::Router));
    let mut honest = honest(&listener).await;
    let mut slow = raw_dealer(&listener).await;
    let _serving = echo(listener);
    let mut pace = interval(Duration::from_millis(5));
    let dripping = async {
        for byte in [&[0u8, 100][..], &[7; 100]].concat() {
            pace.tick().await;
            slow.write_all(&[byte]).await.unwrap();
        }
    };
    let [null, curve] = &mut honest;
    tokio::join!(dripping, converse(null), converse(curve));
}

/// The peer asks and asks, and takes no answer: its queue fills, then it is closed. Nobody waits for it.
#[tokio::test]
async fn a_requester_that_never_reads_blocks_nobody() {
    let listener = listen(config(SocketType::Router));
    let mut honest = honest(&listener).await;
    let mut greedy = raw_dealer(&listener).await;
    let serving = echo(listener);
    let asking = async {
        let questions = [&[0u8, 200][..], &[7; 200]].concat().repeat(1_000);
        while greedy.write_all(&questions).await.is_ok() {}
    };
    let [null, curve] = &mut honest;
    tokio::join!(soon(asking), converse(null), converse(curve));
    assert_eq!(serving.full(), 1, "the greedy one, and it alone");
}

/// The peer sends what needs no answer, as fast as the line takes it.
#[tokio::test]
async fn a_flood_delays_nobody() {
    let mut listener = listen(config(SocketType::Router));
    let mut flood = raw_dealer(&listener).await;
    let flooded = soon(listener.accept()).await.link;
    let _sink = drive_silently(flooded);
    let mut honest = honest(&listener).await;
    let _serving = echo(listener);
    let flooding = tokio::spawn(async move {
        let messages = [&[0u8, 200][..], &[7; 200]].concat().repeat(1_000);
        while flood.write_all(&messages).await.is_ok() {}
    });
    let [null, curve] = &mut honest;
    tokio::join!(converse(null), converse(curve));
    assert!(!flooding.is_finished(), "the flood goes on");
    flooding.abort();
}

/// Drives a link and keeps nothing of what comes.
fn drive_silently(mut link: Link) -> tokio::task::JoinHandle<LinkClosed> {
    tokio::spawn(async move {
        loop {
            if let Err(closed) = link.recv().await {
                return closed;
            }
        }
    })
}

#[tokio::test]
async fn subscriptions_are_handed_on_and_not_kept() {
    let mut listener = listen(config(SocketType::Pub));
    let wanted = to(&listener, SocketType::Sub, ConnectMechanism::Null);
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let sender = client.link.sender();
    let client = drive(client.link);
    let asking = tokio::spawn(async move {
        for number in 0..20_000u32 {
            sender.send([Bytes::from(format!("\u{1}topic {number}"))]).await.unwrap();
        }
        // Nobody needs 64 KiB to say what to hear about.
        sender.send([Bytes::from(vec![1; 70_000])]).await.unwrap();
    });
    for number in 0..20_000 {
        let topic = Bytes::from(format!("topic {number}"));
        assert_eq!(soon(server.link.recv()).await, Ok(Incoming::Subscribe(topic)));
    }
    assert!(matches!(soon(server.link.recv()).await, Err(LinkClosed::Protocol(_))));
    drop(server);
    soon(asking).await.unwrap();
    soon(client).await.unwrap();
}

#[tokio::test]
async fn one_identity_twice_is_two_peers() {
    let mut listener = listen(config(SocketType::Router));
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut wanted = to(&listener, SocketType::Dealer, mechanism);
        wanted.identity = text("web1");
        let (mut first, mut first_here) = pair(&mut listener, &wanted).await;
        let (mut second, mut second_here) = pair(&mut listener, &wanted).await;
        assert_eq!(first_here.info.identity, second_here.info.identity);
        assert_ne!(first_here.info.conn, second_here.info.conn);
        for (here, there, say) in
            [(&mut second_here, &mut second, "to the second"), (&mut first_here, &mut first, "to the first")]
        {
            here.link.sender().try_send(text(say)).unwrap();
            here.link.flush(PATIENCE).await.unwrap();
            assert_eq!(message(&mut there.link).await, [text(say)]);
        }
    }
}

#[tokio::test]
async fn established_peers_take_no_place_of_their_address() {
    let handshakes = HandshakeLimits { per_address: 2, total: 3, ..HandshakeLimits::default() };
    let mut listener = listen(ListenerConfig { handshakes, ..config(SocketType::Router) });
    let wanted = to(&listener, SocketType::Dealer, ConnectMechanism::Null);
    let mut established = Vec::new();
    for _ in 0..10 {
        established.push(pair(&mut listener, &wanted).await);
    }
    let mut halves = Vec::new();
    for _ in 0..2 {
        halves.push(TcpStream::connect(listener.local_addr()).await.unwrap());
    }
    let mut third = TcpStream::connect(listener.local_addr()).await.unwrap();
    let _ = until_closed(&mut third).await;
    assert_eq!((listener.stats().established(), listener.stats().crowded_out()), (10, 1));
}

#[tokio::test]
async fn a_silent_server_is_noticed_by_its_client() {
    for mechanism in [ConnectMechanism::Null, curve()] {
        let mut listener = listen(config(SocketType::Router));
        let wanted = to(&listener, SocketType::Dealer, mechanism);
        let (mut client, server) = pair(&mut listener, &wanted).await;
        tokio::time::pause();
        let began = Instant::now();
        assert_eq!(client.link.recv().await, Err(LinkClosed::Silent));
        let silent = began.elapsed();
        assert!((Duration::from_secs(44)..Duration::from_secs(47)).contains(&silent), "{silent:?}");
        tokio::time::resume();
        drop(server);
    }
}

/// A message that never ends is held within its limit, and only while its link lives.
#[tokio::test]
async fn an_endless_message_ends_at_its_limit() {
    let limits = Limits { max_message_null: 1 << 20, max_frames: usize::MAX, ..Limits::default() };
    let mut listener = listen(ListenerConfig { limits, ..config(SocketType::Router) });
    let mut stream = raw_dealer(&listener).await;
    let link = drive(soon(listener.accept()).await.link);
    let frames = [1u8, 0].repeat(10_000);
    while stream.write_all(&frames).await.is_ok() {}
    let (seen, closed) = soon(link).await.unwrap();
    assert!(seen.is_empty() && matches!(closed, LinkClosed::Protocol(_)), "{closed:?}");
    // Announced lengths are judged before a byte of the body has come.
    let mut stream = half_sent_message(&listener).await;
    let link = drive(soon(listener.accept()).await.link);
    assert!(matches!(soon(link).await.unwrap().1, LinkClosed::Protocol(_)));
    let _ = until_closed(&mut stream).await;
}
