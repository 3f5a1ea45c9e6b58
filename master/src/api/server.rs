//! Connections to the API and their limits.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::readers::Readers;
use super::{Api, Ask, routes, stopped};
use crate::unix::Peer;

/// The most connections at once; further ones wait in the kernel's queue. An operator's command needs two.
const MAX_CONNECTIONS: usize = 512;

/// How long a peer may take to send the head of a request, or stay silent between two.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The most header lines of a request.
const MAX_HEADERS: usize = 64;

/// The longest head of a request, in bytes: room for `MAX_TAGS` long tags in its first line.
const MAX_HEAD: usize = 64 * 1024;

/// How long requests may go on when the master stops.
const GRACE: Duration = Duration::from_secs(3);

/// The pause after the system refused a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the API until `shutdown` is ready, then lets running requests end, for a moment.
pub async fn serve<A: Ask>(listener: UnixListener, door: A, shutdown: impl Future<Output = ()> + Send) {
    let (stop, stopping) = watch::channel(false);
    let router = routes(Api { door, readers: Readers::default(), stopping: stopping.clone() });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (stream, slot) = accept(&listener, &slots) => {
                connections.spawn(connection(stream, router.clone(), stopping.clone(), slot));
            }
        }
    }
    drop(listener);
    stop.send_replace(true);
    let ended = tokio::time::timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(left = connections.len(), "API requests were still running when the master stopped");
    }
}

/// Waits for a free slot, then for a connection.
async fn accept(listener: &UnixListener, slots: &Arc<Semaphore>) -> (UnixStream, OwnedSemaphorePermit) {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, slot),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection to the API");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection until it ends or the master stops.
async fn connection(
    stream: UnixStream,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    // Off the async threads: the name of a user may have to be fetched from far away.
    let identified = tokio::task::spawn_blocking(move || Peer::of(&stream).map(|peer| (peer, stream))).await;
    let Ok(Ok((peer, stream))) = identified else {
        tracing::warn!("the kernel does not say who connected to the API");
        return;
    };
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = stopped(&mut stopping) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection ended early");
    }
}
