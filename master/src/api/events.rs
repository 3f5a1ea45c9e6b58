//! `/v1/events`: read as server-sent events, fire.
//!
//! Every event is one `data:` line with one JSON document, `{"tag":…,"offset":…,"durable":…,"data":{…}}`, and has its
//! offset as `id:`. A reader that comes back with `Last-Event-ID` goes on behind it. With `until=head` the answer ends
//! with the newest event there was when it was asked for.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use proto::target::glob::Glob;
use proto::value::{Map, Value};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::{Api, Ask, EventStream, stopped};
use crate::bus::{Event, EventQuery, Since};
use crate::command::{Command, CommandError, Reply};

/// How often a quiet stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How long a bounded reader waits for an event that retention may have deleted before it takes the end as reached.
const UNTIL_IDLE: Duration = Duration::from_secs(2);

/// The most tag patterns one reader may give.
const MAX_TAGS: usize = 64;

/// One event as readers get it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// Its tag.
    pub tag: String,
    /// Its place on the bus.
    pub offset: u64,
    /// Whether it is in the log.
    pub durable: bool,
    /// Its data, `_stamp` included; null if it cannot be decoded.
    pub data: serde_json::Value,
}

/// An event to fire (or to try on the reactor), as it is posted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FireRequest {
    /// Its tag.
    pub tag: String,
    /// Its data. Default: empty.
    #[serde(default)]
    pub data: serde_json::Map<String, serde_json::Value>,
}

impl FireRequest {
    pub(super) fn into_parts(self) -> (String, Map) {
        let data = self.data.iter().map(|(key, value)| (Value::from(key.as_str()), Value::from_json(value))).collect();
        (self.tag, data)
    }
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> EventView {
        let data = event.map().map_or(serde_json::Value::Null, |map| Value::Map(map).to_json());
        EventView { tag: event.tag.to_string(), offset: event.offset, durable: event.durable, data }
    }
}

/// What a reader asks for.
#[derive(Debug, PartialEq)]
struct Wish {
    tags: Vec<String>,
    since: Since,
    /// Events up to this offset were seen already.
    seen: Option<u64>,
    until: Option<Until>,
}

/// Where a reader stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Head,
    Offset(u64),
}

impl Wish {
    fn parse(pairs: &[(String, String)], last_event_id: Option<&str>) -> Result<Wish, ApiError> {
        let mut wish = Wish { tags: Vec::new(), since: Since::Now, seen: None, until: None };
        for (name, value) in pairs {
            match name.as_str() {
                "tag" => wish.tags.push(value.clone()),
                "since" => wish.since = parse_since(value)?,
                "until" => wish.until = Some(parse_until(value)?),
                other => return Err(ApiError::invalid(format!("unknown parameter {other:?}"))),
            }
        }
        if wish.tags.len() > MAX_TAGS {
            return Err(ApiError::invalid(format!("at most {MAX_TAGS} tags can be given")));
        }
        if let Some(seen) = last_event_id.and_then(|id| id.parse().ok()) {
            wish.since = Since::Offset(seen);
            wish.seen = Some(seen);
        }
        Ok(wish)
    }
}

fn parse_since(text: &str) -> Result<Since, ApiError> {
    match text {
        "now" => return Ok(Since::Now),
        "start" => return Ok(Since::Start),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Since::Offset(offset));
    }
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| ApiError::invalid(format!("since is now, start, an offset or an RFC 3339 stamp; not {text:?}")))?;
    let us = i64::try_from(moment.unix_timestamp_nanos() / 1_000);
    us.map(Since::Stamp).map_err(|_| ApiError::invalid("since is out of range"))
}

fn parse_until(text: &str) -> Result<Until, ApiError> {
    match text {
        "head" => Ok(Until::Head),
        _ => text.parse().map(Until::Offset).map_err(|_| ApiError::invalid("until is head or an offset")),
    }
}

pub(super) async fn stream<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let wish = Wish::parse(&pairs, headers.get("last-event-id").and_then(|id| id.to_str().ok()))?;
    let until = match wish.until {
        None => None,
        Some(Until::Offset(offset)) => Some(offset),
        Some(Until::Head) => Some(head(&api, Who(who.0.clone())).await?),
    };
    // A bounded reader must see every event to know where it is: it does its own matching.
    let (tags, globs) = match until {
        None => (wish.tags, Vec::new()),
        Some(_) => (Vec::new(), wish.tags.iter().map(|tag| Glob::new(tag)).collect()),
    };
    let events = api.door.events(who.0, EventQuery { tags, since: wish.since }).await?;
    let ended = until.is_some_and(|until| {
        is_beyond(wish.since, until) || (wish.since, wish.until) == (Since::Now, Some(Until::Head))
    });
    let feed = Feed { events, globs, seen: wish.seen, until, stopping: api.stopping, ended };
    let frames = futures_util::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(frame(&event)), feed))
    });
    Ok(Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive")).into_response())
}

/// Tells whether a reader that begins here has nothing to read up to `until`.
fn is_beyond(since: Since, until: u64) -> bool {
    match since {
        Since::Offset(offset) => offset > until,
        Since::Now | Since::Stamp(_) | Since::Start => until == 0,
    }
}

/// Returns the offset of the newest event, 0 if there is none.
async fn head<A: Ask>(api: &Api<A>, who: Who) -> Result<u64, ApiError> {
    match api.ask(who, Command::Status).await? {
        Reply::Value(status) => match status.get("head") {
            Some(head) => Ok(head.as_u64().unwrap_or(0)),
            None => Err(CommandError::Internal("the master does not tell the head of its log".to_owned()).into()),
        },
        _ => Err(ApiError::unexpected()),
    }
}

fn frame(event: &Event) -> Frame {
    let text = serde_json::to_string(&EventView::from(event)).expect("a view has text keys only");
    Frame::default().id(event.offset.to_string()).data(text)
}

/// A reader's way through the events.
struct Feed {
    events: EventStream,
    /// Patterns of a bounded reader; empty means all.
    globs: Vec<Glob>,
    seen: Option<u64>,
    until: Option<u64>,
    stopping: watch::Receiver<bool>,
    ended: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            let event = self.pull().await?;
            if self.until.is_some_and(|until| event.offset >= until) {
                self.ended = true;
            }
            let beyond = self.until.is_some_and(|until| event.offset > until);
            if !beyond && self.wants(&event) {
                return Some(event);
            }
        }
        None
    }

    async fn pull(&mut self) -> Option<Event> {
        let idle = match self.until {
            Some(_) => UNTIL_IDLE,
            None => Duration::MAX,
        };
        tokio::select! {
            event = tokio::time::timeout(idle, self.events.next()) => event.ok().flatten(),
            () = stopped(&mut self.stopping) => None,
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let new = self.seen.is_none_or(|seen| event.offset > seen);
        new && (self.globs.is_empty() || self.globs.iter().any(|glob| glob.matches(event.tag.as_str())))
    }
}

pub(super) async fn fire<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Input(request): Input<FireRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let (tag, data) = request.into_parts();
    api.show(who, Command::Fire { tag, data }).await
}
