//! The client of the API that the command line uses: one connection per request, typed answers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use tokio::net::UnixStream;

use super::caller::USER_HEADER;
use super::cursors::CursorRequest;
use super::error::ErrorBody;
use super::events::{EventView, FireRequest, UNTIL_HEADER};
use super::input::ASK_TIMEOUT;
use super::jobs::{JobPublished, JobRequest, JobsFilter};
use super::keys::{FingersView, KeyRequest, KeysView};
use super::run::{RunRequest, RunReturn};

/// How long to wait for the head of an answer: a little longer than the master gives itself.
const REPLY_TIMEOUT: Duration = ASK_TIMEOUT.saturating_add(Duration::from_secs(5));

/// The longest answer that is read whole: a list of many jobs.
const MAX_REPLY: usize = 512 * 1024 * 1024;

/// The longest single event that is read: a return of the largest allowed size, as JSON.
const MAX_FRAME: usize = 256 * 1024 * 1024;

/// Why the master's API did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The socket is there but not for this user.
    #[error(
        "not permitted to use {socket}: run this as root, as the master's user or as a member of its group",
        socket = .0.display()
    )]
    Denied(PathBuf),
    /// The connection broke.
    #[error("the connection to the master at {socket} broke: {cause}", socket = socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        cause: String,
    },
    /// The master refused, or failed.
    #[error("{message}")]
    Refused {
        /// `busy`, `internal`, `invalid`, `no_match`, `not_found`, `not_permitted`.
        code: String,
        /// A sentence that names the remedy where there is one.
        message: String,
    },
    /// Nobody answers at the socket.
    #[error("cannot reach the master at {socket}", socket = socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A client of one master's API.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    user: Option<String>,
}

impl Client {
    /// Makes a client; nothing is opened yet.
    pub fn new(socket: PathBuf) -> Client {
        Client { socket, user: None }
    }

    /// Acts in the name of this user. The master believes it only of root and of its own user.
    pub fn acting_for(mut self, user: Option<String>) -> Client {
        self.user = user;
        self
    }

    /// Returns the socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Publishes a job.
    pub async fn publish(&self, job: &JobRequest) -> Result<JobPublished, ClientError> {
        self.post("/v1/jobs", job).await
    }

    /// Lists jobs.
    pub async fn jobs(&self, filter: &JobsFilter) -> Result<Json, ClientError> {
        let limit = filter.limit.map(|limit| limit.to_string());
        let pairs = [("fun", filter.fun.as_ref()), ("tgt", filter.tgt.as_ref()), ("limit", limit.as_ref())];
        let pairs: Vec<_> = pairs.into_iter().filter_map(|(name, value)| Some((name, value?.as_str()))).collect();
        self.get(&with_query("/v1/jobs", &pairs)).await
    }

    /// Shows one job.
    pub async fn job(&self, jid: &str) -> Result<Json, ClientError> {
        self.get(&format!("/v1/jobs/{}", escape(jid))).await
    }

    /// Shows the jobs that somebody still owes a return.
    pub async fn jobs_active(&self) -> Result<Json, ClientError> {
        self.get("/v1/jobs/active").await
    }

    /// Lists keys by state.
    pub async fn keys(&self) -> Result<KeysView, ClientError> {
        self.get("/v1/keys").await
    }

    /// Accepts, rejects or deletes keys.
    pub async fn change_keys(&self, action: &str, request: &KeyRequest) -> Result<KeysView, ClientError> {
        self.post(&format!("/v1/keys/{}", escape(action)), request).await
    }

    /// Shows keys as PEM texts.
    pub async fn pems(&self, request: &KeyRequest) -> Result<FingersView, ClientError> {
        self.post("/v1/keys/print", request).await
    }

    /// Shows fingerprints.
    pub async fn fingers(&self, request: &KeyRequest) -> Result<FingersView, ClientError> {
        self.post("/v1/keys/finger", request).await
    }

    /// Lists accepted minions.
    pub async fn minions(&self) -> Result<Json, ClientError> {
        self.get("/v1/minions").await
    }

    /// Runs a function on the master.
    pub async fn run(&self, request: &RunRequest) -> Result<Json, ClientError> {
        let answer: RunReturn = self.post("/v1/run", request).await?;
        Ok(answer.r#return)
    }

    /// Shows the reactor's rules, and what became of their events.
    pub async fn reactor(&self) -> Result<Json, ClientError> {
        self.get("/v1/reactor").await
    }

    /// Shows what an event would set off.
    pub async fn reactor_test(&self, request: &FireRequest) -> Result<Json, ClientError> {
        self.post("/v1/reactor/test", request).await
    }

    /// Fires an event.
    pub async fn fire(&self, request: &FireRequest) -> Result<Json, ClientError> {
        self.post("/v1/events", request).await
    }

    /// Has the configuration read again.
    pub async fn reload(&self) -> Result<Json, ClientError> {
        self.post("/v1/reload", &serde_json::json!({})).await
    }

    /// Has retention applied and the store shrunk.
    pub async fn compact(&self) -> Result<Json, ClientError> {
        self.post("/v1/store/compact", &serde_json::json!({})).await
    }

    /// Shows the daemon's state.
    pub async fn status(&self) -> Result<Json, ClientError> {
        self.get("/v1/status").await
    }

    /// Reads events. `since` and `until` are as in the API; without `until` there is no end.
    pub async fn events(&self, tags: &[String], since: &str, until: Option<&str>) -> Result<Events, ClientError> {
        self.events_of(tags, since, until, None).await
    }

    /// As [`Client::events`], for a reader with a name: it goes on behind its cursor, and only else at `since`.
    pub async fn events_of(
        &self,
        tags: &[String],
        since: &str,
        until: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Events, ClientError> {
        let mut pairs: Vec<_> = tags.iter().map(|tag| ("tag", tag.as_str())).collect();
        pairs.push(("since", since));
        pairs.extend(until.map(|until| ("until", until)));
        pairs.extend(cursor.map(|cursor| ("cursor", cursor)));
        let response = self.send(Method::GET, &with_query("/v1/events", &pairs), None).await?;
        let until = response.headers().get(UNTIL_HEADER).and_then(|until| until.to_str().ok()?.parse().ok());
        Ok(Events { body: response.into_body(), until, socket: self.socket.clone(), buffer: Vec::new(), searched: 0 })
    }

    /// Tells what the log consists of.
    pub async fn event_stats(&self) -> Result<Json, ClientError> {
        self.get("/v1/events/stats").await
    }

    /// Lists the cursors.
    pub async fn cursors(&self) -> Result<Json, ClientError> {
        self.get("/v1/cursors").await
    }

    /// Moves a cursor behind this event.
    pub async fn advance_cursor(&self, name: &str, offset: u64) -> Result<Json, ClientError> {
        self.post(&format!("/v1/cursors/{}", escape(name)), &CursorRequest { offset }).await
    }

    /// Forgets a cursor.
    pub async fn delete_cursor(&self, name: &str) -> Result<Json, ClientError> {
        let response = self.send(Method::DELETE, &format!("/v1/cursors/{}", escape(name)), None).await?;
        self.decode(&self.collect(response.into_body()).await?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let response = self.send(Method::GET, path, None).await?;
        self.decode(&self.collect(response.into_body()).await?)
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        let response = self.send(Method::POST, path, Some(body)).await?;
        self.decode(&self.collect(response.into_body()).await?)
    }

    /// Sends a request and returns the answer, if it is not a refusal.
    async fn send(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.not_connected(source))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Ends by itself when the answer has been read or dropped.
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "halite");
        if let Some(user) = &self.user {
            request = request.header(USER_HEADER, user);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = Full::new(Bytes::from(body.unwrap_or_default()));
        let request = request.body(body).map_err(|error| self.broken(error))?;
        let answer = tokio::time::timeout(REPLY_TIMEOUT, sender.send_request(request)).await;
        let response = answer.map_err(|_| self.broken("no answer in time"))?.map_err(|error| self.broken(error))?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    async fn refusal(&self, response: Response<Incoming>) -> ClientError {
        let status = response.status();
        let body = match self.collect(response.into_body()).await {
            Ok(body) => body,
            Err(error) => return error,
        };
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(ErrorBody { error }) => ClientError::Refused { code: error.code, message: error.message },
            Err(_) => ClientError::Refused { code: code_of(status).to_owned(), message: format!("status {status}") },
        }
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        let limited = http_body_util::Limited::new(body, MAX_REPLY);
        Ok(limited.collect().await.map_err(|error| self.broken(error))?.to_bytes())
    }

    fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.broken(format!("an answer that is not understood: {error}")))
    }

    fn not_connected(&self, source: io::Error) -> ClientError {
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.socket.clone()),
            _ => ClientError::Unreachable { socket: self.socket.clone(), source },
        }
    }

    fn broken(&self, cause: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), cause: cause.to_string() }
    }
}

fn code_of(status: StatusCode) -> &'static str {
    if status.is_client_error() { "invalid" } else { "internal" }
}

fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut uri = path.to_owned();
    for (at, (name, value)) in pairs.iter().enumerate() {
        uri.push(if at == 0 { '?' } else { '&' });
        uri.push_str(name);
        uri.push('=');
        uri.push_str(&escape(value));
    }
    uri
}

/// Escapes text for a URI (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    use std::fmt::Write as _;
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Events as they arrive.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    until: Option<u64>,
    socket: PathBuf,
    /// What has arrived and is not yet a whole frame.
    buffer: Vec<u8>,
    /// How much of it is known to hold no frame's end.
    searched: usize,
}

impl Events {
    /// Returns the last offset of a reading that has an end.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Returns the next event, or nothing when the master has ended the stream. Loses nothing when dropped half-way.
    pub async fn next(&mut self) -> Result<Option<EventView>, ClientError> {
        loop {
            while let Some(frame) = self.take_frame() {
                if let Some(event) = self.decode(&frame)? {
                    return Ok(Some(event));
                }
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Ok(frame)) => self.buffer.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(self.broken(error)),
            }
            if self.buffer.len() > MAX_FRAME {
                return Err(self.broken("an event that is too large"));
            }
        }
    }

    /// Takes what is before the next blank line.
    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let from = self.searched.saturating_sub(1);
        let Some(at) = self.buffer[from..].windows(2).position(|pair| pair == b"\n\n") else {
            self.searched = self.buffer.len();
            return None;
        };
        let rest = self.buffer.split_off(from + at + 2);
        self.searched = 0;
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    fn decode(&self, frame: &[u8]) -> Result<Option<EventView>, ClientError> {
        let data = frame.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"));
        let decoded = data.map(serde_json::from_slice).transpose();
        decoded.map_err(|error| self.broken(format!("an event that is not understood: {error}")))
    }

    fn broken(&self, cause: impl ToString) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), cause: cause.to_string() }
    }
}
