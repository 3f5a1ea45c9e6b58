//! `/v1/events`: read as server-sent events, fire.
//!
//! Every event is one `data:` line with one JSON document, `{"tag":…,"offset":…,"durable":…,"data":{…}}`, and has its
//! offset as `id:`. A reader that comes back with `Last-Event-ID` goes on behind it. With `until` the answer ends: `head` is
//! the newest event there was when it was asked for, a stamp means the events before it.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event as Frame, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use proto::value::{Map, Value};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::readers::Reading;
use super::{Api, Ask, EventStream, stopped};
use crate::bus::{Event, EventQuery, Since};
use crate::command::{Command, CommandError, Reply};

/// How often a quiet stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The header that tells the last offset of a reading with an end.
pub(super) const UNTIL_HEADER: &str = "x-halite-until";

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
    /// The reader's name: it goes on where it was the last time, and only else at `since`.
    cursor: Option<String>,
}

/// Where a reader stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Head,
    Offset(u64),
    Stamp(i64),
}

impl Wish {
    fn parse(pairs: &[(String, String)], last_event_id: Option<&str>) -> Result<Wish, ApiError> {
        let mut wish = Wish { tags: Vec::new(), since: Since::Now, seen: None, until: None, cursor: None };
        for (name, value) in pairs {
            match name.as_str() {
                "tag" => wish.tags.push(value.clone()),
                "since" => wish.since = parse_since(value)?,
                "cursor" => wish.cursor = Some(value.clone()),
                "until" => wish.until = Some(parse_until(value)?),
                other => return Err(ApiError::invalid(format!("unknown parameter {other:?}"))),
            }
        }
        if wish.tags.len() > MAX_TAGS {
            return Err(ApiError::invalid(format!("at most {MAX_TAGS} tags can be given")));
        }
        if let Some(seen) = last_event_id.and_then(|id| id.parse::<u64>().ok()) {
            wish.since = Since::Offset(seen.saturating_add(1));
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
    parse_stamp(text)
        .map(Since::Stamp)
        .ok_or_else(|| ApiError::invalid(format!("since is now, start, an offset or an RFC 3339 stamp; not {text:?}")))
}

fn parse_until(text: &str) -> Result<Until, ApiError> {
    if text == "head" {
        return Ok(Until::Head);
    }
    if let Ok(offset) = text.parse() {
        return Ok(Until::Offset(offset));
    }
    parse_stamp(text)
        .map(Until::Stamp)
        .ok_or_else(|| ApiError::invalid(format!("until is head, an offset or an RFC 3339 stamp; not {text:?}")))
}

/// Reads a stamp as microseconds since 1970.
fn parse_stamp(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok()
}

pub(super) async fn stream<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, ApiError> {
    let mut wish = Wish::parse(&pairs, headers.get("last-event-id").and_then(|id| id.to_str().ok()))?;
    let until = match wish.until {
        None => None,
        Some(Until::Offset(offset)) => Some(known(offset, head(&api, Who(who.0.clone())).await?)?),
        Some(Until::Head) => Some(head(&api, Who(who.0.clone())).await?),
        Some(Until::Stamp(stamp_us)) => Some(last_before(&api, Who(who.0.clone()), stamp_us).await?),
    };
    // A reader that comes back says where it was, whatever it says of a beginning.
    if wish.cursor.is_none() && wish.seen.is_none() {
        forwards(wish.since, wish.until, until)?;
        if let Since::Stamp(stamp_us) = wish.since {
            begun(&api, Who(who.0.clone()), stamp_us).await?;
        }
    }
    let reading = match &wish.cursor {
        Some(name) => Some(api.readers.begin(name).await?),
        None => None,
    };
    if let Some(name) = wish.cursor.take().filter(|_| wish.seen.is_none()) {
        wish.since = Since::Offset(take_up(&api, Who(who.0.clone()), name, wish.since).await?);
    }
    let events = api.door.events(who.0, EventQuery { tags: wish.tags, since: wish.since, until }).await?;
    let feed = Feed { events, seen: wish.seen, stopping: api.stopping, _reading: reading };
    let frames = futures_util::stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(frame(&event)), feed))
    });
    let stream = Sse::new(frames).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("alive"));
    Ok((until.map(|until| [(UNTIL_HEADER, until.to_string())]), stream).into_response())
}

/// Refuses a reading that ends before it begins: an empty answer would look like one.
fn forwards(since: Since, until: Option<Until>, resolved: Option<u64>) -> Result<(), ApiError> {
    let text = match (since, until, resolved) {
        (Since::Offset(since), Some(Until::Head), Some(head)) if since > head.saturating_add(1) => {
            format!("since is {since}, and the newest event is {head}: was the log replaced?")
        }
        (Since::Offset(since), Some(Until::Offset(until)), _) if since > until => {
            format!("until, {until}, lies before since, {since}")
        }
        (Since::Stamp(since), Some(Until::Stamp(until)), _) if since > until => {
            "until lies before since: the earlier moment is the beginning, and of two spans the longer one".to_owned()
        }
        (Since::Now, Some(Until::Offset(_) | Until::Stamp(_)), _) => "until lies before since, which is now".to_owned(),
        _ => return Ok(()),
    };
    Err(ApiError::invalid(text))
}

/// Refuses a beginning that is yet to come. A clock that was set back has made events that lie ahead of it.
async fn begun<A: Ask>(api: &Api<A>, who: Who, stamp_us: i64) -> Result<(), ApiError> {
    if !is_future(stamp_us) {
        return Ok(());
    }
    let head = head(api, Who(who.0.clone())).await?;
    if offset_at(api, who, stamp_us).await? <= head {
        return Ok(());
    }
    Err(ApiError::invalid("since lies in the future; leave it out to see what comes from now on"))
}

fn is_future(stamp_us: i64) -> bool {
    OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000 < i128::from(stamp_us)
}

/// Refuses an end that may never come.
fn known(until: u64, head: u64) -> Result<u64, ApiError> {
    if until <= head {
        return Ok(until);
    }
    let text = format!("until is {until}, and the newest event is {head}; leave it out to go on with new events");
    Err(ApiError::invalid(text))
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

/// Returns where a named reader goes on; one that is new begins as it says.
async fn take_up<A: Ask>(api: &Api<A>, who: Who, name: String, since: Since) -> Result<u64, ApiError> {
    let start = match since {
        Since::Now => None,
        Since::Offset(offset) => Some(offset),
        // The oldest there is: a new reader has missed nothing.
        Since::Start => Some(offset_at(api, Who(who.0.clone()), i64::MIN).await?),
        Since::Stamp(stamp_us) => Some(offset_at(api, Who(who.0.clone()), stamp_us).await?),
    };
    offset(api.ask(who, Command::CursorTakeUp { name, start }).await?)
}

async fn offset_at<A: Ask>(api: &Api<A>, who: Who, stamp_us: i64) -> Result<u64, ApiError> {
    offset(api.ask(who, Command::OffsetAt(stamp_us)).await?)
}

fn offset(reply: Reply) -> Result<u64, ApiError> {
    match reply {
        Reply::Value(Value::Int(offset)) => Ok(u64::try_from(offset).unwrap_or(u64::MAX)),
        _ => Err(ApiError::unexpected()),
    }
}

pub(super) async fn stats<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::EventStats).await
}

/// Returns the offset of the last event before a moment.
async fn last_before<A: Ask>(api: &Api<A>, who: Who, stamp_us: i64) -> Result<u64, ApiError> {
    if is_future(stamp_us) {
        return Err(ApiError::invalid("until lies in the future; leave it out to go on with new events"));
    }
    Ok(offset_at(api, who, stamp_us).await?.saturating_sub(1))
}

fn frame(event: &Event) -> Frame {
    let text = serde_json::to_string(&EventView::from(event)).expect("a view has text keys only");
    Frame::default().id(event.offset.to_string()).data(text)
}

/// A reader's way through the events.
struct Feed {
    events: EventStream,
    seen: Option<u64>,
    stopping: watch::Receiver<bool>,
    /// Held as long as the answer goes on.
    _reading: Option<Reading>,
}

impl Feed {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = tokio::select! {
                event = self.events.next() => event?,
                () = stopped(&mut self.stopping) => return None,
            };
            if self.seen.is_none_or(|seen| event.offset > seen) {
                return Some(event);
            }
        }
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
