//! Batches that one read has brought, and messages that come too slowly to be waited for. The clock is paused: it
//! moves on when nobody has anything to do.

use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};
use transport::{Incoming, Limits, Link, LinkClosed, Listener, ListenerConfig, SocketType};

use crate::common::{READY, config, greeting, listen, raw_dealer, soon};

/// Longer than a message may stand still, and than any honest one takes here.
const SLOW_PATIENCE: Duration = Duration::from_secs(1_000);

fn roomy() -> Listener {
    let limits = Limits { max_message_null: 1 << 20, ..Limits::default() };
    listen(ListenerConfig { limits, ..config(SocketType::Router) })
}

/// Returns a NULL peer by hand, and our end of it.
async fn raw_pair(listener: &mut Listener) -> (TcpStream, Link) {
    let stream = raw_dealer(listener).await;
    (stream, soon(listener.accept()).await.link)
}

/// Waits for what becomes of a link while its peer writes one of the pieces each `pause`, and reads what it is sent.
async fn outcome(link: &mut Link, stream: TcpStream, pieces: Vec<Vec<u8>>, pause: Duration) -> (Duration, Received) {
    tokio::time::pause();
    let began = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    let reading = tokio::spawn(async move {
        let mut scrap = [0; 512];
        while reader.read(&mut scrap).await.is_ok_and(|read| read > 0) {}
    });
    let writing = tokio::spawn(async move {
        let mut pace = interval(pause);
        for piece in pieces {
            pace.tick().await;
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        // The peer stays, and is alive, whatever it has to say.
        loop {
            pace.tick().await;
            if writer.write_all(&[4, 7, 4, b'P', b'I', b'N', b'G', 0, 0]).await.is_err() {
                return;
            }
        }
    });
    let received = timeout(SLOW_PATIENCE, link.recv()).await.expect("neither a message nor an end");
    let took = began.elapsed();
    tokio::time::resume();
    reading.abort();
    writing.abort();
    (took, received)
}

type Received = Result<Incoming, LinkClosed>;

#[tokio::test]
async fn a_byte_a_second_is_not_waited_for() {
    let mut listener = roomy();
    let (stream, mut link) = raw_pair(&mut listener).await;
    let drops = [&[2u8][..], &500_000u64.to_be_bytes(), &[7; 500]].concat().chunks(1).map(<[u8]>::to_vec).collect();
    let (took, received) = outcome(&mut link, stream, drops, Duration::from_secs(1)).await;
    assert_eq!(received, Err(LinkClosed::Stalled));
    assert!((Duration::from_secs(60)..Duration::from_secs(65)).contains(&took), "{took:?}");
    assert_eq!(link.recv().await, Err(LinkClosed::Stalled), "it stays ended");
}

/// Other frames between those of a message are a sign of life, but the message does not get on by them.
#[tokio::test]
async fn pings_do_not_keep_half_a_message() {
    let mut listener = roomy();
    let (stream, mut link) = raw_pair(&mut listener).await;
    let half = vec![[&[1u8, 200][..], &[7; 200]].concat()];
    let (took, received) = outcome(&mut link, stream, half, Duration::from_secs(5)).await;
    assert_eq!(received, Err(LinkClosed::Stalled));
    assert!(took < Duration::from_secs(75), "{took:?}");
}

/// 400 bytes a second: slower than any line, but it gets on.
#[tokio::test]
async fn a_slow_honest_message_arrives_whole() {
    let mut listener = roomy();
    let (stream, mut link) = raw_pair(&mut listener).await;
    let body = vec![7; 100_000];
    let wire = [&[2u8][..], &(body.len() as u64).to_be_bytes(), &body].concat();
    let pieces = wire.chunks(400).map(<[u8]>::to_vec).collect();
    let (took, received) = outcome(&mut link, stream, pieces, Duration::from_secs(1)).await;
    assert_eq!(received, Ok(Incoming::Message(vec![Bytes::from(body)])));
    assert!(took > Duration::from_secs(240), "{took:?}");
}

/// No message of these is large enough to show progress, and there is always half of one.
#[tokio::test]
async fn many_small_messages_are_no_stalled_one() {
    let mut listener = roomy();
    let (mut stream, mut link) = raw_pair(&mut listener).await;
    tokio::time::pause();
    stream.write_all(b"\x00\x02h").await.unwrap();
    let mut pace = interval(Duration::from_secs(10));
    for _ in 0..20 {
        pace.tick().await;
        stream.write_all(b"i\x00\x02h").await.unwrap();
        assert_eq!(link.recv().await, Ok(Incoming::Message(vec![Bytes::from_static(b"hi")])));
    }
}

/// It is we who do not read: a pause of any length is not held against the peer.
#[tokio::test]
async fn a_pause_of_ours_stalls_nobody() {
    let mut listener = roomy();
    let (mut stream, mut link) = raw_pair(&mut listener).await;
    stream.write_all(b"\x00\x02h").await.unwrap();
    assert!(timeout(Duration::from_millis(50), link.recv()).await.is_err(), "half of it is read");
    tokio::time::pause();
    assert!(timeout(Duration::from_secs(300), link.recv_paused()).await.is_err());
    assert!(timeout(Duration::from_secs(10), link.recv()).await.is_err(), "it has all the time again");
    stream.write_all(b"i").await.unwrap();
    assert_eq!(link.recv().await, Ok(Incoming::Message(vec![Bytes::from_static(b"hi")])));
}

#[tokio::test]
async fn what_one_read_has_brought_is_one_batch() {
    let mut listener = roomy();
    let (mut stream, mut link) = raw_pair(&mut listener).await;
    assert_eq!(link.recv_ready(), None, "nothing is waited for");
    let messages: Vec<u8> = (0..100u8).flat_map(|number| [0, 1, number]).collect();
    stream.write_all(&messages).await.unwrap();
    let mut seen = vec![soon(link.recv()).await.unwrap()];
    // The kernel may give it in parts, which nobody promises not to happen.
    while seen.len() < 100 {
        match link.recv_ready() {
            Some(next) => seen.push(next),
            None => seen.push(soon(link.recv()).await.unwrap()),
        }
    }
    let expected: Vec<_> = (0..100u8).map(|number| Incoming::Message(vec![Bytes::from(vec![number])])).collect();
    assert_eq!(seen, expected);
    assert_eq!(link.recv_ready(), None);
}

/// What is wrong shows after what came before it, and is not forgotten on the way.
#[tokio::test]
async fn a_batch_ends_before_the_fault_in_it() {
    let mut listener = roomy();
    let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
    // All in one write: the messages are there when the handshake is done.
    let reserved = [0xff, 0xff];
    stream.write_all(&[&greeting("NULL"), READY, b"\x00\x01a\x00\x01b", &reserved].concat()).await.unwrap();
    let mut link = soon(listener.accept()).await.link;
    let message = |body: &'static [u8]| Incoming::Message(vec![Bytes::from_static(body)]);
    assert_eq!(soon(link.recv()).await, Ok(message(b"a")));
    assert_eq!(soon(link.recv()).await, Ok(message(b"b")));
    assert_eq!(link.recv_ready(), None);
    assert!(link.sender().is_closed());
    for _ in 0..2 {
        assert!(matches!(soon(link.recv()).await, Err(LinkClosed::Protocol(_))));
        assert_eq!(link.recv_ready(), None);
    }
}
