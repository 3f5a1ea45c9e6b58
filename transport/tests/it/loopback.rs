//! Our sockets against each other, and against peers that do not play by the rules.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use halite_transport as transport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use transport::{
    Backoff, BindError, ConnectConfig, ConnectMechanism, Dealer, HandshakeLimits, Heartbeat, Incoming, Limits, Link,
    LinkClosed, LinkState, Listener, ListenerConfig, Mechanism, NullPolicy, QueueLimits, ReadBudget, SendError,
    SocketType, Subscriber, connect, publish,
};

use crate::common::{
    PATIENCE, config, curve, drive, greeting, half_sent_message, keys, listen, message, pair, soon, text, to,
    until_closed,
};

#[tokio::test]
async fn one_router_serves_both_mechanisms() {
    let mut listener = listen(config(SocketType::Router));
    for (mechanism, proven) in
        [(ConnectMechanism::Null, Mechanism::Null), (curve(), Mechanism::Curve { key: keys(2).public() })]
    {
        let mut wanted = to(&listener, SocketType::Dealer, mechanism);
        wanted.identity = text("web1");
        wanted.properties = vec![("X-minion".to_owned(), text("web1"))];
        let (mut client, mut server) = pair(&mut listener, &wanted).await;
        assert_eq!((server.info.mechanism, &server.info.identity[..]), (proven, &b"web1"[..]));
        assert_eq!(server.info.property("X-Minion"), Some(&text("web1")));
        assert_eq!(client.info.socket_type, SocketType::Router);
        assert_ne!(client.info.conn, server.info.conn);

        client.link.sender().try_send([text("question"), text("part")]).unwrap();
        client.link.flush(PATIENCE).await.unwrap();
        assert_eq!(message(&mut server.link).await, [text("question"), text("part")]);
        server.link.sender().try_send(text("answer")).unwrap();
        server.link.flush(PATIENCE).await.unwrap();
        assert_eq!(message(&mut client.link).await, [text("answer")]);
        drop(client);
        assert_eq!(soon(server.link.recv()).await, Err(LinkClosed::Peer));
        assert_eq!(soon(server.link.recv()).await, Err(LinkClosed::Peer));
        assert_eq!(server.link.sender().try_send(text("late")), Err(SendError::Closed));
    }
}

#[tokio::test]
async fn large_messages_cross_while_both_sides_drive() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let sender = client.link.sender();
    let client = drive(client.link);
    let big = Bytes::from((0..5_000_000u32).map(|n| n as u8).collect::<Vec<_>>());
    sender.send([text("big"), big.clone()]).await.unwrap();
    assert_eq!(message(&mut server.link).await, [text("big"), big.clone()]);
    server.link.sender().try_send(big.clone()).unwrap();
    server.link.flush(PATIENCE).await.unwrap();
    drop(server);
    let (seen, closed) = soon(client).await.unwrap();
    assert_eq!((seen, closed), (vec![Incoming::Message(vec![big])], LinkClosed::Peer));
}

#[tokio::test]
async fn publications_reach_all_and_a_slow_peer_is_named() {
    let queue = QueueLimits { messages: 4, ..QueueLimits::default() };
    let mut listener = listen(ListenerConfig { queue, ..config(SocketType::Pub) });
    let (mut servers, mut clients) = (Vec::new(), Vec::new());
    for mechanism in [ConnectMechanism::Null, curve(), ConnectMechanism::Null] {
        let wanted = to(&listener, SocketType::Sub, mechanism);
        let (mut client, mut server) = pair(&mut listener, &wanted).await;
        client.link.subscribe(b"m/").unwrap();
        client.link.flush(PATIENCE).await.unwrap();
        assert_eq!(soon(server.link.recv()).await, Ok(Incoming::Subscribe(text("m/"))));
        servers.push(server.link);
        clients.push(client.link);
    }
    let senders: Vec<_> = servers.iter().map(Link::sender).collect();
    for round in 0..5 {
        let published = publish(&senders, [text("m/web1"), text("load")]);
        // Nobody drives the last one: its queue fills.
        let slow = if round < 4 { vec![] } else { vec![senders[2].conn()] };
        assert_eq!((published.full, published.closed), (slow, vec![]));
        for at in 0..2 {
            servers[at].flush(PATIENCE).await.unwrap();
            assert_eq!(message(&mut clients[at]).await, [text("m/web1"), text("load")]);
        }
    }
    senders[2].close();
    assert_eq!(soon(servers[2].recv()).await, Err(LinkClosed::Local));
    assert_eq!(publish(&senders, text("x")).closed, [senders[2].conn()]);
}

#[tokio::test]
async fn a_paused_link_makes_the_sender_wait_and_loses_nothing() {
    let queue = QueueLimits { messages: 10, bytes: 1 << 20 };
    let mut listener = listen(ListenerConfig {
        limits: Limits { max_message_null: 1 << 20, ..Limits::default() },
        ..config(SocketType::Router)
    });
    let mut wanted = to(&listener, SocketType::Dealer, ConnectMechanism::Null);
    wanted.queue = queue;
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let sender = client.link.sender();
    let client = drive(client.link);
    let mut sent = 0usize;
    // Enough for every socket buffer on the way.
    let filling = async {
        loop {
            let full = timeout(Duration::from_millis(300), sender.send(Bytes::from(vec![sent as u8; 100_000]))).await;
            if full.is_err() {
                return sent;
            }
            sent += 1;
        }
    };
    let sent = tokio::select! {
        closed = server.link.recv_paused() => panic!("{closed}"),
        sent = soon(filling) => sent,
    };
    assert_eq!(sender.try_send(text("one more")), Err(SendError::Full));
    for at in 0..sent {
        assert_eq!(message(&mut server.link).await, [Bytes::from(vec![at as u8; 100_000])], "{at} of {sent}");
    }
    drop(server);
    soon(client).await.unwrap();
}

#[tokio::test]
async fn recv_may_be_cancelled_at_any_time() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let sender = client.link.sender();
    let client = drive(client.link);
    let sending = tokio::spawn(async move {
        for number in 0..500u32 {
            sender.send([Bytes::copy_from_slice(&number.to_be_bytes()), Bytes::from(vec![1; 3_000])]).await.unwrap();
        }
    });
    let mut next = 0u32;
    while next < 500 {
        tokio::select! {
            biased;
            incoming = server.link.recv() => {
                let Ok(Incoming::Message(frames)) = incoming else { panic!("{incoming:?}") };
                assert_eq!(frames[0][..], next.to_be_bytes());
                next += 1;
            }
            () = tokio::task::yield_now() => {}
        }
    }
    soon(sending).await.unwrap();
    drop(server);
    soon(client).await.unwrap();
}

#[tokio::test]
async fn a_silent_peer_is_pinged_then_dead() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (client, mut server) = pair(&mut listener, &wanted).await;
    // The client's link is not driven, so it answers nothing.
    tokio::time::pause();
    let began = Instant::now();
    assert_eq!(server.link.recv().await, Err(LinkClosed::Silent));
    let silent = began.elapsed();
    assert!((Duration::from_secs(44)..Duration::from_secs(47)).contains(&silent), "{silent:?}");
    drop(client);
}

#[tokio::test]
async fn a_heartbeat_that_is_changed_counts_at_once() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (client, mut server) = pair(&mut listener, &wanted).await;
    tokio::time::pause();
    let began = Instant::now();
    server.link.set_heartbeat(Heartbeat { interval: Duration::from_secs(1), timeout: Duration::from_secs(3) });
    assert_eq!(server.link.recv().await, Err(LinkClosed::Silent));
    let silent = began.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(5)).contains(&silent), "{silent:?}");
    drop(client);
}

#[tokio::test]
async fn two_driven_links_outlive_any_silence() {
    tokio::join!(outlive_silence(ConnectMechanism::Null), outlive_silence(curve()));
}

async fn outlive_silence(mechanism: ConnectMechanism) {
    // Patient enough for a busy machine: fifty PINGs would have to be late.
    let heartbeat = Heartbeat { interval: Duration::from_millis(40), timeout: Duration::from_secs(2) };
    let mut listener = listen(ListenerConfig { heartbeat, ..config(SocketType::Router) });
    let wanted = ConnectConfig { heartbeat, ..to(&listener, SocketType::Dealer, mechanism) };
    let (client, mut server) = pair(&mut listener, &wanted).await;
    let client = drive(client.link);
    let quiet = timeout(Duration::from_secs(3), server.link.recv()).await;
    assert!(quiet.is_err(), "the link ended: {quiet:?}");
    assert!(server.link.sender().last_seen().elapsed() < heartbeat.timeout);
    drop(server);
    assert!(matches!(soon(client).await.unwrap().1, LinkClosed::Peer | LinkClosed::Io(_)));
}

#[tokio::test]
async fn a_ping_on_request_shows_life() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (client, server) = pair(&mut listener, &wanted).await;
    let client = drive(client.link);
    let sender = server.link.sender();
    let server = drive(server.link);
    let before = sender.last_seen();
    soon(async {
        while sender.last_seen() == before {
            sender.ping();
            tokio::task::yield_now().await;
        }
    })
    .await;
    sender.close();
    assert_eq!(soon(server).await.unwrap().1, LinkClosed::Local);
    // Answers that nobody read any more turn the close into a reset.
    assert!(matches!(soon(client).await.unwrap().1, LinkClosed::Peer | LinkClosed::Io(_)));
}

#[tokio::test]
async fn a_last_answer_arrives_although_input_is_left_unread() {
    let mut listener = listen(config(SocketType::Router));
    let wanted = to(&listener, SocketType::Dealer, ConnectMechanism::Null);
    for _ in 0..20 {
        let (mut client, server) = pair(&mut listener, &wanted).await;
        client.link.sender().try_send(text("unread")).unwrap();
        client.link.flush(PATIENCE).await.unwrap();
        server.link.sender().try_send(text("last answer")).unwrap();
        let finishing = tokio::spawn(server.link.finish(PATIENCE));
        assert_eq!(message(&mut client.link).await, [text("last answer")]);
        assert_eq!(soon(client.link.recv()).await, Err(LinkClosed::Peer));
        drop(client);
        assert_eq!(soon(finishing).await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn strangers_are_bounded_in_time_and_number() {
    let handshakes =
        HandshakeLimits { deadline: Duration::from_millis(300), per_address: 3, ..HandshakeLimits::default() };
    let mut listener = listen(ListenerConfig { handshakes, ..config(SocketType::Router) });
    let mut mute = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        let mut head = [0; 11];
        soon(stream.read_exact(&mut head)).await.unwrap();
        assert_eq!((head[0], head[9], head[10]), (0xff, 0x7f, 3));
        mute.push(stream);
    }
    let mut fourth = TcpStream::connect(listener.local_addr()).await.unwrap();
    assert_eq!(until_closed(&mut fourth).await.unwrap_or(0), 0, "the fourth is closed without a greeting");
    for stream in &mut mute {
        until_closed(stream).await.unwrap();
    }
    let stats = listener.stats();
    assert_eq!((stats.timed_out(), stats.crowded_out(), stats.established()), (3, 1, 0));
    let wanted = to(&listener, SocketType::Dealer, curve());
    pair(&mut listener, &wanted).await;
    assert_eq!(stats.established(), 1);
}

#[tokio::test]
async fn a_full_waiting_room_makes_room_by_age() {
    let handshakes = HandshakeLimits { total: 2, stale: Duration::from_millis(50), ..HandshakeLimits::default() };
    let mut listener = listen(ListenerConfig { handshakes, ..config(SocketType::Router) });
    let mut mute = Vec::new();
    for _ in 0..4 {
        mute.push(TcpStream::connect(listener.local_addr()).await.unwrap());
    }
    let wanted = to(&listener, SocketType::Dealer, curve());
    pair(&mut listener, &wanted).await;
    assert!(listener.stats().crowded_out() >= 3);
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    let mut listener = listen(ListenerConfig { null: NullPolicy::Refuse, ..config(SocketType::Router) });
    let wanted = to(&listener, SocketType::Dealer, curve());
    let (mut client, server) = pair(&mut listener, &wanted).await;
    let sender = server.link.sender();
    let _server = drive(server.link);
    let greeting = greeting("CURVE");
    let tebibyte = [&[2u8][..], &(1u64 << 40).to_be_bytes()].concat();
    let null = [&greeting[..12], b"NULL\0", &greeting[17..]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 200], &[&greeting[..], &tebibyte].concat(), &null] {
        let mut stream = TcpStream::connect(listener.local_addr()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        // Closed, politely or with a reset.
        let _ = until_closed(&mut stream).await;
    }
    soon(async {
        while listener.stats().refused() < 4 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    sender.try_send(text("still here")).unwrap();
    assert_eq!(message(&mut client.link).await, [text("still here")]);
}

#[tokio::test]
async fn binding_twice_names_address_and_remedy() {
    let listener = listen(config(SocketType::Pub));
    let addr = listener.local_addr();
    let error = Listener::bind(addr, config(SocketType::Pub)).err().unwrap();
    assert!(matches!(error, BindError::PortInUse(at) if at == addr));
    let shown = error.to_string();
    assert!(
        shown.contains(&addr.to_string()) && shown.contains("port in use") && shown.contains("ss -ltnp"),
        "{shown}"
    );
    listener.close().await;
    assert!(Listener::bind(addr, config(SocketType::Pub)).is_ok(), "close frees the port");
}

#[tokio::test]
async fn connect_says_what_failed() {
    let listener = listen(ListenerConfig { null: NullPolicy::Refuse, ..config(SocketType::Router) });
    let null = to(&listener, SocketType::Dealer, ConnectMechanism::Null);
    assert!(matches!(connect(&null).await, Err(transport::ConnectError::Handshake { .. })));
    let key = ConnectMechanism::Curve { server_key: keys(9).public(), keys: keys(2) };
    let wrong = to(&listener, SocketType::Dealer, key);
    let Err(transport::ConnectError::Handshake { source, .. }) = connect(&wrong).await else { panic!("connected") };
    assert!(source.to_string().contains("check the server's key"), "{source}");
    let nobody = ConnectConfig::new(listener.local_addr().to_string(), SocketType::Dealer, curve());
    listener.close().await;
    assert!(matches!(connect(&nobody).await, Err(transport::ConnectError::Tcp { .. })));
    let nameless = ConnectConfig::new("no.such.host.invalid:1", SocketType::Dealer, curve());
    assert!(matches!(connect(&nameless).await, Err(transport::ConnectError::Resolve { .. })));
}

#[tokio::test]
async fn wrappers_come_back_and_subscribe_again() {
    let quick = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20) };
    let mut router = listen(config(SocketType::Router));
    let mut publisher = listen(config(SocketType::Pub));
    let mut dealer = Dealer::spawn(to(&router, SocketType::Dealer, curve()), quick);
    let mut sub = Subscriber::spawn(to(&publisher, SocketType::Sub, curve()), quick);
    sub.subscribe("topic").await.unwrap();
    for round in 0..3 {
        let mut to_dealer = soon(router.accept()).await.link;
        let mut to_sub = soon(publisher.accept()).await.link;
        assert_eq!(soon(to_sub.recv()).await, Ok(Incoming::Subscribe(text("topic"))));
        dealer.send(text("question")).await.unwrap();
        assert_eq!(message(&mut to_dealer).await, [text("question")], "{round}");
        to_dealer.sender().try_send(text("answer")).unwrap();
        to_sub.sender().try_send(text("topic news")).unwrap();
        to_dealer.flush(PATIENCE).await.unwrap();
        to_sub.flush(PATIENCE).await.unwrap();
        assert_eq!(soon(dealer.recv()).await, Some(vec![text("answer")]));
        assert_eq!(soon(sub.recv()).await, Some(vec![text("topic news")]));
        let ports = (router.local_addr(), publisher.local_addr());
        drop((to_dealer, to_sub));
        assert!(soon(dealer.wait_for(LinkState::Down)).await);
        router.close().await;
        publisher.close().await;
        router = Listener::bind(ports.0, config(SocketType::Router)).unwrap();
        publisher = Listener::bind(ports.1, config(SocketType::Pub)).unwrap();
    }
}

#[tokio::test]
async fn incomplete_messages_share_one_budget_and_the_oldest_goes() {
    let limits = Limits { max_message_null: 10 << 20, ..Limits::default() };
    // Room for two of the four below, whose buffers have up to twice what is in them; never for all four.
    let budget = ReadBudget::new(1_200_000);
    let mut listener = listen(ListenerConfig { limits, budget: Arc::clone(&budget), ..config(SocketType::Router) });
    let (mut streams, mut links) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let mut stream = half_sent_message(&listener).await;
        let link = soon(listener.accept()).await.link;
        links.push(drive(link));
        // The next one begins only when this one's bytes have been counted: their ages shall be known.
        let before = budget.used();
        stream.write_all(&vec![0; 300_000]).await.unwrap();
        if streams.len() < 2 {
            soon(async {
                while budget.used() < before + 300_000 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        }
        streams.push(stream);
    }
    let (_, closed) = soon(links.remove(0)).await.unwrap();
    assert_eq!(closed, LinkClosed::CrowdedOut);
    assert!(!links[2].is_finished(), "the youngest stays");
    drop(streams);
    for link in links {
        soon(link).await.unwrap();
    }
    assert_eq!(budget.used(), 0);
}
