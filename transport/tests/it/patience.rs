//! What one read has brought is one batch.

use bytes::Bytes;
use halite_transport as transport;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use transport::{Incoming, Limits, Link, LinkClosed, Listener, ListenerConfig, SocketType};

use crate::common::{READY, config, greeting, listen, raw_dealer, soon};

fn roomy() -> Listener {
    let limits = Limits { max_message_null: 1 << 20, ..Limits::default() };
    listen(ListenerConfig { limits, ..config(SocketType::Router) })
}

/// Returns a NULL peer by hand, and our end of it.
async fn raw_pair(listener: &mut Listener) -> (TcpStream, Link) {
    let stream = raw_dealer(listener).await;
    (stream, soon(listener.accept()).await.link)
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
