//! Our sockets against those of the crate `zeromq`, mechanism NULL, in both directions.

use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use tokio::time::timeout;
use transport::{Backoff, ConnectConfig, ConnectMechanism, Dealer, Incoming, Link, LinkState, SocketType, connect};
use zeromq::{
    DealerSocket, PubSocket, RepSocket, ReqSocket, RouterSocket, Socket, SocketRecv, SocketSend, SubSocket, XPubSocket,
    ZmqMessage,
};

use crate::common::{PATIENCE, config, listen, message, soon, text};

/// How long a publisher that tells us nothing about its subscribers is given before it repeats itself.
const AGAIN: Duration = Duration::from_millis(50);

fn frames(parts: &[&'static str]) -> ZmqMessage {
    ZmqMessage::try_from(parts.iter().map(|part| text(part)).collect::<Vec<_>>()).unwrap()
}

async fn heard(socket: &mut impl SocketRecv) -> Vec<Bytes> {
    soon(socket.recv()).await.unwrap().into_vec()
}

/// Binds a socket of the crate, and returns what our connector needs to reach it.
async fn bound(socket: &mut impl Socket, ours: SocketType) -> ConnectConfig {
    let endpoint = socket.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let mut config = ConnectConfig::new(endpoint.trim_start_matches("tcp://"), ours, ConnectMechanism::Null);
    config.identity = text("ours");
    config
}

async fn send(link: &mut Link, parts: &[&'static str]) {
    link.sender().try_send(parts.iter().map(|part| text(part)).collect::<Vec<_>>()).unwrap();
    link.flush(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn its_dealer_and_req_talk_to_our_router() {
    let mut listener = listen(config(SocketType::Router));
    let address = format!("tcp://{}", listener.local_addr());
    let mut dealer = DealerSocket::new();
    dealer.connect(&address).await.unwrap();
    let mut peer = soon(listener.accept()).await;
    assert_eq!(peer.info.socket_type, SocketType::Dealer);
    for round in 0..3 {
        dealer.send(frames(&["question", "", "part"])).await.unwrap();
        assert_eq!(message(&mut peer.link).await, ["question", "", "part"], "{round}");
        send(&mut peer.link, &["answer", "part"]).await;
        assert_eq!(heard(&mut dealer).await, ["answer", "part"]);
    }

    let mut req = ReqSocket::new();
    req.connect(&address).await.unwrap();
    let mut peer = soon(listener.accept()).await;
    assert_eq!(peer.info.socket_type, SocketType::Req);
    for round in ["one", "two"] {
        req.send(frames(&[round])).await.unwrap();
        assert_eq!(message(&mut peer.link).await, ["", round]);
        send(&mut peer.link, &["", round]).await;
        assert_eq!(heard(&mut req).await, [round]);
    }
}

#[tokio::test]
async fn its_sub_hears_our_pub() {
    let mut listener = listen(config(SocketType::Pub));
    let mut sub = SubSocket::new();
    sub.connect(&format!("tcp://{}", listener.local_addr())).await.unwrap();
    let mut peer = soon(listener.accept()).await;
    sub.subscribe("m/web1").await.unwrap();
    assert_eq!(soon(peer.link.recv()).await, Ok(Incoming::Subscribe(text("m/web1"))));
    let big = Bytes::from(vec![7; 300_000]);
    transport::publish([peer.link.sender()], [text("m/web1"), big.clone()]);
    // A message larger than the socket's buffers is only written while both sides are served.
    let (flushed, received) = tokio::join!(peer.link.flush(PATIENCE), heard(&mut sub));
    assert_eq!((flushed, &received[..]), (Ok(()), &[text("m/web1"), big][..]));
    sub.unsubscribe("m/web1").await.unwrap();
    assert_eq!(soon(peer.link.recv()).await, Ok(Incoming::Unsubscribe(text("m/web1"))));
}

#[tokio::test]
async fn our_dealer_and_req_talk_to_its_router_and_rep() {
    let mut router = RouterSocket::new();
    let mut dealer = connect(&bound(&mut router, SocketType::Dealer).await).await.unwrap().link;
    send(&mut dealer, &["question", "part"]).await;
    assert_eq!(heard(&mut router).await, ["ours", "question", "part"]);
    router.send(frames(&["ours", "answer"])).await.unwrap();
    assert_eq!(message(&mut dealer).await, ["answer"]);

    let mut rep = RepSocket::new();
    let mut req = connect(&bound(&mut rep, SocketType::Req).await).await.unwrap().link;
    for round in ["one", "two"] {
        send(&mut req, &["", round]).await;
        assert_eq!(heard(&mut rep).await, [round]);
        rep.send(frames(&[round])).await.unwrap();
        assert_eq!(message(&mut req).await, ["", round]);
    }
}

#[tokio::test]
async fn our_sub_hears_its_pub() {
    let mut publisher = PubSocket::new();
    let mut sub = connect(&bound(&mut publisher, SocketType::Sub).await).await.unwrap().link;
    sub.subscribe(b"news").unwrap();
    let hearing = tokio::spawn(async move { message(&mut sub).await });
    soon(async {
        while !hearing.is_finished() {
            publisher.send(frames(&["other", "unheard"])).await.unwrap();
            publisher.send(frames(&["news", "heard"])).await.unwrap();
            let _ = timeout(AGAIN, std::future::pending::<()>()).await;
        }
    })
    .await;
    assert_eq!(hearing.await.unwrap(), ["news", "heard"]);
}

#[tokio::test]
async fn its_xpub_sees_our_subscriptions() {
    let mut publisher = XPubSocket::new();
    let mut sub = connect(&bound(&mut publisher, SocketType::Sub).await).await.unwrap().link;
    sub.subscribe(b"news").unwrap();
    sub.flush(PATIENCE).await.unwrap();
    assert_eq!(heard(&mut publisher).await, ["\u{1}news"]);
    publisher.send(frames(&["news", "heard"])).await.unwrap();
    assert_eq!(message(&mut sub).await, ["news", "heard"]);
    sub.unsubscribe(b"news").unwrap();
    sub.flush(PATIENCE).await.unwrap();
    assert_eq!(heard(&mut publisher).await, ["\0news"]);
}

/// The crate's DEALER never comes back; ours does.
#[tokio::test]
async fn our_dealer_returns_to_its_restarted_router() {
    let mut router = RouterSocket::new();
    let wanted = bound(&mut router, SocketType::Dealer).await;
    let address = format!("tcp://{}", wanted.addr);
    let quick = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(50) };
    let mut dealer = Dealer::spawn(wanted, quick);
    dealer.send(text("first")).await.unwrap();
    assert_eq!(heard(&mut router).await, ["ours", "first"]);
    assert!(router.close().await.is_empty());
    assert!(soon(dealer.wait_for(LinkState::Down)).await);
    let mut router = RouterSocket::new();
    router.bind(&address).await.unwrap();
    assert!(soon(dealer.wait_for(LinkState::Connected)).await);
    dealer.send(text("second")).await.unwrap();
    assert_eq!(heard(&mut router).await, ["ours", "second"]);
}
