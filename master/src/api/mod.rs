//! The API: HTTP/1.1 with JSON and server-sent events on the UNIX socket `sock_dir/api.sock` (design §8).
//!
//! A request becomes a [`Command`] from the [`Caller`] that the kernel names, passes the one door, and its answer
//! becomes a view. Nothing is decided here. One file per noun; beside them: `socket` (the file), `server` (connections
//! and their limits), `caller` (who is at the other end), `error` (answers that are refusals), `input` (bodies), and
//! [`client`], which the command line uses.
//!
//! ```text
//! POST /v1/jobs {tgt,tgt_type,delimiter,fun,arg,ret,ttl_s,metadata,jid}    GET /v1/jobs?fun=&tgt=&limit=    GET /v1/jobs/{active|jid}
//! GET  /v1/events?tag=GLOB&since=now|start|OFFSET|STAMP&until=head|OFFSET|STAMP&cursor=NAME
//! POST /v1/events {tag,data}    GET /v1/events/stats
//! GET  /v1/cursors    POST /v1/cursors/{name} {offset}    DELETE /v1/cursors/{name}
//! GET  /v1/keys    POST /v1/keys/{accept|reject|delete|finger|print} {match,include_*,dry_run}
//! GET  /v1/minions    POST /v1/run {fun,arg,kwarg}
//! GET  /v1/reactor    POST /v1/reactor/test {tag,data}    POST /v1/reload    GET /v1/status    POST /v1/store/compact
//! ```

mod caller;
pub mod client;
mod cursors;
mod error;
pub mod events;
mod input;
pub mod jobs;
pub mod keys;
mod minions;
mod reactor;
mod readers;
pub mod run;
mod server;
mod socket;
mod status;
#[cfg(test)]
mod tests;

use std::pin::Pin;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use futures_util::Stream;
use tokio::sync::watch;

use crate::bus::{Event, EventQuery};
use crate::command::{Caller, Command, CommandError, Door, Reply};

pub use server::serve;
pub use socket::{SOCKET_NAME, bind};

/// The longest request body: a job whose arguments hold a file of some megabytes still fits.
const MAX_BODY: usize = 8 * 1024 * 1024;

/// Events as they come to one reader.
pub type EventStream = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// What the handlers need of the door, so that they can be tested without a master behind it.
pub trait Ask: Clone + Send + Sync + 'static {
    /// Asks for anything but events.
    fn ask(&self, caller: Caller, command: Command) -> impl Future<Output = Result<Reply, CommandError>> + Send;

    /// Asks for events.
    fn events(
        &self,
        caller: Caller,
        query: EventQuery,
    ) -> impl Future<Output = Result<EventStream, CommandError>> + Send;
}

impl Ask for Door {
    async fn ask(&self, caller: Caller, command: Command) -> Result<Reply, CommandError> {
        Door::ask(self, caller, command).await
    }

    async fn events(&self, caller: Caller, query: EventQuery) -> Result<EventStream, CommandError> {
        match Door::ask(self, caller, Command::Events(query)).await? {
            Reply::Events(subscription) => {
                let next = |mut subscription: Box<crate::bus::Subscription>| async move {
                    subscription.next().await.map(|event| (event, subscription))
                };
                Ok(Box::pin(futures_util::stream::unfold(subscription, next)))
            }
            _ => Err(CommandError::Internal("the master gave no events".to_owned())),
        }
    }
}

/// What every handler is given.
#[derive(Clone)]
struct Api<A> {
    door: A,
    /// Who reads behind a cursor.
    readers: readers::Readers,
    /// Becomes true when the master stops: endless answers end.
    stopping: watch::Receiver<bool>,
}

/// Waits until the master stops.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that nobody is left to stop us: the server has gone.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Returns the routes, one line per noun.
fn routes<A: Ask>(api: Api<A>) -> Router {
    Router::new()
        .route("/v1/cursors", get(cursors::list::<A>))
        .route("/v1/cursors/{name}", post(cursors::advance::<A>).delete(cursors::delete::<A>))
        .route("/v1/events/stats", get(events::stats::<A>))
        .route("/v1/events", get(events::stream::<A>).post(events::fire::<A>))
        .route("/v1/jobs", get(jobs::list::<A>).post(jobs::publish::<A>))
        .route("/v1/jobs/active", get(jobs::active::<A>))
        .route("/v1/jobs/{jid}", get(jobs::show::<A>))
        .route("/v1/keys", get(keys::list::<A>))
        .route("/v1/keys/{action}", post(keys::act::<A>))
        .route("/v1/minions", get(minions::list::<A>))
        .route("/v1/reactor", get(reactor::list::<A>))
        .route("/v1/reactor/test", post(reactor::test::<A>))
        .route("/v1/reload", post(status::reload::<A>))
        .route("/v1/run", post(run::run::<A>))
        .route("/v1/store/compact", post(status::compact::<A>))
        .route("/v1/status", get(status::show::<A>))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}
