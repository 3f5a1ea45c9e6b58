//! The state machine of one connection: bytes in, events and bytes out.
//!
//! ```text
//!            64 bytes           NULL: READY
//! Greeting ------------> Null ------------------------------> Traffic(Null)
//!     |                  CurveServer: HELLO, then INITIATE --> Traffic(Curve)
//!     +----------------> CurveClient: WELCOME, then READY ---> Traffic(Curve)
//! any refusal, in any state ---------------------------------> Closed
//! ```
//!
//! Nothing but the handshake is sent before the peer's READY has arrived, and never an ERROR: it would end a libzmq peer
//! for good. A closed session stays closed.

mod config;

use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use zeroize::Zeroizing;

use super::command::{self, Command};
use super::frame::{self, FRAME_OVERHEAD, Header, Limits};
use super::greeting::{self, AsServer, GREETING_LEN, HEAD_LEN, MechanismName};
use super::mechanism::curve::{self, Channel};
use super::mechanism::{ConnectMechanism, Mechanism, NullPolicy, null};
use super::message::Multipart;
use super::metadata::Metadata;
use super::outbox::Outbox;
use super::socket_type::SocketType;

pub use self::config::{ClientConfig, CloseReason, ServerConfig};

/// Random bytes that a session needs: two keys and two nonces.
pub const SEED_LEN: usize = 96;
/// Answers waiting to be written; a peer that pings and never reads gets no more of them.
const MAX_WAITING_PONGS: u8 = 8;
/// Even when a message has used up its limit, a command of this size may come between its frames.
const COMMAND_ROOM: usize = 512;
/// Received frames up to this size are copied, so that a small one never keeps a large read buffer alive.
const COPY_MAX: usize = 16 * 1024;

/// Who the peer is, after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerReady {
    /// The mechanism, and what it proved.
    pub mechanism: Mechanism,
    /// What the peer says about itself.
    pub metadata: Metadata,
}

/// What a peer did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A complete message.
    Message(Vec<Bytes>),
    /// The peer has answered a PING.
    Pong,
    /// The handshake is done.
    Ready(Box<PeerReady>),
    /// A subscription to all topics with this prefix. Only on PUB.
    Subscribe(Bytes),
    /// The end of such a subscription. Only on PUB.
    Unsubscribe(Bytes),
}

/// A message was given to a session that is not ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the session is not in its traffic state")]
pub struct NotReady;

enum Half {
    Client(Arc<ClientConfig>),
    Server(Arc<ServerConfig>),
}

enum State {
    Closed,
    CurveClient(Box<curve::ClientHandshake>),
    CurveServer(Box<curve::ServerHandshake>),
    Greeting(Box<Zeroizing<[u8; SEED_LEN]>>),
    Null,
    Traffic(Traffic),
}

enum Traffic {
    Curve(Box<Channel>),
    Null,
}

enum Step {
    Event(Event),
    NeedMore,
    Next,
}

/// Where a frame stands in its message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Inner,
    Last,
}

impl From<bool> for Place {
    fn from(has_more: bool) -> Self {
        if has_more { Place::Inner } else { Place::Last }
    }
}

/// One connection.
pub struct Session {
    half: Half,
    state: State,
    out: Outbox,
    frames: Vec<Bytes>,
    frames_cost: usize,
    waiting_pongs: u8,
    /// A limit of this one session, below those of the configuration.
    message_cap: usize,
}

impl Session {
    /// Returns a listening half. Its first 11 bytes are ready to be sent.
    pub fn server(config: Arc<ServerConfig>, seed: [u8; SEED_LEN]) -> Session {
        let head = greeting::encode(MechanismName::Null, AsServer::No);
        Session::new(Half::Server(config), seed, &head[..HEAD_LEN])
    }

    /// Returns a connecting half. Its greeting is ready to be sent.
    pub fn client(config: Arc<ClientConfig>, seed: [u8; SEED_LEN]) -> Session {
        let greeting = greeting::encode(config.mechanism.name(), AsServer::No);
        Session::new(Half::Client(config), seed, &greeting)
    }

    fn new(half: Half, seed: [u8; SEED_LEN], first: &[u8]) -> Session {
        let mut out = Outbox::default();
        out.push(Bytes::copy_from_slice(first));
        let state = State::Greeting(Box::new(Zeroizing::new(seed)));
        Session { half, state, out, frames: Vec::new(), frames_cost: 0, waiting_pongs: 0, message_cap: usize::MAX }
    }

    /// Takes bytes from the front of `input` up to the next event. `None`: more bytes are needed.
    pub fn handle(&mut self, input: &mut BytesMut) -> Result<Option<Event>, CloseReason> {
        loop {
            match self.step(input) {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::NeedMore) => return Ok(None),
                Ok(Step::Next) => {}
                Err(reason) => {
                    self.state = State::Closed;
                    self.frames = Vec::new();
                    return Err(reason);
                }
            }
        }
    }

    /// Queues a message.
    pub fn send(&mut self, message: &Multipart) -> Result<(), NotReady> {
        match &mut self.state {
            State::Traffic(Traffic::Null) => message.encoded().iter().for_each(|chunk| self.out.push(chunk.clone())),
            State::Traffic(Traffic::Curve(channel)) => {
                self.out.push(channel.seal_message(message).map_err(|_| NotReady)?);
            }
            _ => return Err(NotReady),
        }
        Ok(())
    }

    /// Queues a PING.
    pub fn ping(&mut self) -> Result<(), NotReady> {
        self.send_command(command::ping_body())
    }

    /// Returns how many bytes wait to be written.
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// Returns how many chunks wait to be written.
    pub fn out_chunks(&self) -> usize {
        self.out.chunks()
    }

    /// Fills `slices` with the first chunks that wait. Returns how many were filled.
    pub fn fill_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.out.fill(slices)
    }

    /// Forgets `count` bytes: they were written.
    pub fn advance_out(&mut self, count: usize) {
        self.out.advance(count);
        if self.out.len() == 0 {
            self.waiting_pongs = 0;
        }
    }

    /// Returns what the frames of an incomplete message cost so far.
    pub fn incomplete(&self) -> usize {
        self.frames_cost
    }

    /// Bounds the messages of this peer further than the configuration does; `usize::MAX` lifts that.
    pub fn limit_messages(&mut self, bytes: usize) {
        self.message_cap = bytes;
    }

    /// Tells whether the handshake is done and the session open.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Traffic(_))
    }

    /// Tells whether the next [`handle`](Self::handle), given so many bytes, may have to agree on keys, which takes a
    /// thousand times as long as anything else here.
    pub fn may_compute(&self, input_len: usize) -> bool {
        match self.state {
            State::CurveClient(_) | State::CurveServer(_) => true,
            State::Greeting(_) => input_len > GREETING_LEN,
            State::Closed | State::Null | State::Traffic(_) => false,
        }
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Step, CloseReason> {
        match self.state {
            State::Closed => return Err(CloseReason::Closed),
            State::Greeting(_) => return self.step_greeting(input),
            _ => {}
        }
        let Some(header) = frame::decode_header(input, self.frame_limit())? else { return Ok(Step::NeedMore) };
        if input.len() < header.total() {
            return Ok(Step::NeedMore);
        }
        if matches!(self.state, State::Traffic(Traffic::Null)) && !header.is_command() {
            return self.take_frame(header.has_more().into(), take_body(input, header));
        }
        let step = self.step_frame(header, &input[header.body_at..header.total()]);
        input.advance(header.total());
        step
    }

    fn step_frame(&mut self, header: Header, body: &[u8]) -> Result<Step, CloseReason> {
        match &mut self.state {
            State::Traffic(Traffic::Curve(channel)) => {
                if header.has_more() || !body.starts_with(b"\x07MESSAGE") {
                    return Err(CloseReason::Unsealed);
                }
                let (flags, payload) = channel.open(body)?;
                self.step_opened(flags, payload)
            }
            State::Traffic(Traffic::Null) => self.step_command(body),
            _ if !header.is_command() => Err(CloseReason::Unexpected),
            _ => self.step_handshake(body),
        }
    }

    fn step_greeting(&mut self, input: &mut BytesMut) -> Result<Step, CloseReason> {
        let Some(theirs) = greeting::decode(input)? else { return Ok(Step::NeedMore) };
        input.advance(GREETING_LEN);
        let State::Greeting(seed) = std::mem::replace(&mut self.state, State::Closed) else {
            return Err(CloseReason::Closed);
        };
        self.state = match &self.half {
            Half::Client(config) => greet_server(config, &seed, theirs, &mut self.out)?,
            Half::Server(config) => greet_client(config, *seed, theirs, &mut self.out)?,
        };
        Ok(Step::Next)
    }

    fn step_handshake(&mut self, body: &[u8]) -> Result<Step, CloseReason> {
        if let Ok(Command::Error(reason)) = command::decode(body) {
            return Err(CloseReason::PeerError(String::from_utf8_lossy(reason).into_owned()));
        }
        let own = self.half.metadata();
        let done = match &mut self.state {
            State::CurveClient(handshake) => {
                let (answer, done) = handshake.handle(body, &own)?;
                answer.into_iter().for_each(|frame| self.out.push(frame));
                done
            }
            State::CurveServer(handshake) => {
                let (answer, done) = handshake.handle(body, &own)?;
                self.check_peer(done.as_ref().map(|done| &done.metadata))?;
                self.out.push(answer);
                done
            }
            _ => return self.step_null_ready(body),
        };
        let Some(done) = done else { return Ok(Step::Next) };
        let traffic = Traffic::Curve(Box::new(done.channel));
        self.become_ready(Mechanism::Curve { key: done.key }, done.metadata, traffic)
    }

    fn step_null_ready(&mut self, body: &[u8]) -> Result<Step, CloseReason> {
        let Command::Ready(data) = command::decode(body)? else { return Err(CloseReason::Unexpected) };
        self.become_ready(Mechanism::Null, Metadata::decode(data)?, Traffic::Null)
    }

    fn become_ready(
        &mut self,
        mechanism: Mechanism,
        metadata: Metadata,
        traffic: Traffic,
    ) -> Result<Step, CloseReason> {
        self.check_peer(Some(&metadata))?;
        self.state = State::Traffic(traffic);
        Ok(Step::Event(Event::Ready(Box::new(PeerReady { mechanism, metadata }))))
    }

    /// Refuses a socket type that ours cannot talk to; a CURVE server does so before its READY.
    fn check_peer(&self, metadata: Option<&Metadata>) -> Result<(), CloseReason> {
        let ours = self.half.socket();
        match metadata.map(|metadata| metadata.socket_type) {
            Some(theirs) if !ours.accepts(theirs) => Err(CloseReason::SocketType { ours, theirs }),
            _ => Ok(()),
        }
    }

    fn step_opened(&mut self, flags: u8, payload: Bytes) -> Result<Step, CloseReason> {
        if flags & curve::SEALED_COMMAND != 0 {
            return self.step_command(&payload);
        }
        self.take_frame((flags & curve::SEALED_MORE != 0).into(), payload)
    }

    fn step_command(&mut self, body: &[u8]) -> Result<Step, CloseReason> {
        let subscriptions = self.half.socket().takes_subscriptions();
        Ok(match command::decode(body)? {
            Command::Cancel(topic) if subscriptions => Step::Event(Event::Unsubscribe(Bytes::copy_from_slice(topic))),
            Command::Subscribe(topic) if subscriptions => Step::Event(Event::Subscribe(Bytes::copy_from_slice(topic))),
            Command::Error(reason) => {
                return Err(CloseReason::PeerError(String::from_utf8_lossy(reason).into_owned()));
            }
            Command::Ping(context) => {
                self.answer_ping(context);
                Step::Next
            }
            Command::Pong => Step::Event(Event::Pong),
            _ => Step::Next,
        })
    }

    fn answer_ping(&mut self, context: &[u8]) {
        if self.waiting_pongs < MAX_WAITING_PONGS && self.send_command(&command::pong_body(context)).is_ok() {
            self.waiting_pongs += 1;
        }
    }

    fn send_command(&mut self, body: &[u8]) -> Result<(), NotReady> {
        let frame = match &mut self.state {
            State::Traffic(Traffic::Curve(channel)) => channel.seal_command(body).map_err(|_| NotReady)?,
            State::Traffic(Traffic::Null) => command::encode(body),
            _ => return Err(NotReady),
        };
        self.out.push(frame);
        Ok(())
    }

    /// Adds a frame to the message under way, and returns the message when it is complete.
    fn take_frame(&mut self, place: Place, frame: Bytes) -> Result<Step, CloseReason> {
        let (max_message, max_frames) = (self.message_limit(), self.half.limits().max_frames);
        self.frames_cost += frame.len() + FRAME_OVERHEAD;
        if self.frames_cost > max_message {
            return Err(CloseReason::MessageTooLarge(max_message));
        }
        if self.frames.len() >= max_frames {
            return Err(CloseReason::TooManyFrames(max_frames));
        }
        if place == Place::Last {
            // Most messages have one frame; room for four would be allocated for it otherwise.
            self.frames.reserve_exact(1);
        }
        self.frames.push(frame);
        if place == Place::Inner {
            return Ok(Step::Next);
        }
        self.frames_cost = 0;
        let frames = std::mem::take(&mut self.frames);
        if self.half.socket().takes_subscriptions() {
            Ok(read_subscription(&frames))
        } else {
            Ok(Step::Event(Event::Message(frames)))
        }
    }

    /// Returns the limit of a message in this state. Nobody needs a long message to subscribe.
    fn message_limit(&self) -> usize {
        let limits = self.half.limits();
        let limit = match self.state {
            State::Traffic(Traffic::Curve(_)) => limits.max_message,
            _ => limits.max_message_null,
        };
        let limit = limit.min(self.message_cap);
        if self.half.socket().takes_subscriptions() { limit.min(limits.max_frame_before_ready) } else { limit }
    }

    /// Returns the limit of the next frame's body.
    fn frame_limit(&self) -> usize {
        match self.state {
            State::Traffic(_) => {
                let left = self.message_limit().saturating_sub(self.frames_cost + FRAME_OVERHEAD);
                left.max(COMMAND_ROOM) + curve::SEAL_OVERHEAD
            }
            _ => self.half.limits().max_frame_before_ready,
        }
    }
}

impl Half {
    fn socket(&self) -> SocketType {
        match self {
            Half::Client(config) => config.socket,
            Half::Server(config) => config.socket,
        }
    }

    fn limits(&self) -> &Limits {
        match self {
            Half::Client(config) => &config.limits,
            Half::Server(config) => &config.limits,
        }
    }

    fn metadata(&self) -> Metadata {
        let (identity, properties) = match self {
            Half::Client(config) => (config.identity.clone(), config.properties.clone()),
            Half::Server(_) => (Bytes::new(), Vec::new()),
        };
        Metadata { socket_type: self.socket(), identity, properties }
    }
}

/// Takes a frame's body out of the read buffer.
fn take_body(input: &mut BytesMut, header: Header) -> Bytes {
    if header.body_len <= COPY_MAX {
        let body = Bytes::copy_from_slice(&input[header.body_at..header.total()]);
        input.advance(header.total());
        return body;
    }
    input.advance(header.body_at);
    input.split_to(header.body_len).freeze()
}

/// Reads `01 topic` and `00 topic`. An XSUB's other messages are nobody's.
fn read_subscription(frames: &[Bytes]) -> Step {
    match frames {
        [frame] if frame.first() == Some(&1) => Step::Event(Event::Subscribe(frame.slice(1..))),
        [frame] if frame.first() == Some(&0) => Step::Event(Event::Unsubscribe(frame.slice(1..))),
        _ => Step::Next,
    }
}

/// Goes on after the server's greeting.
fn greet_server(
    config: &Arc<ClientConfig>,
    seed: &[u8; SEED_LEN],
    theirs: MechanismName,
    out: &mut Outbox,
) -> Result<State, CloseReason> {
    if theirs != config.mechanism.name() {
        return Err(CloseReason::MechanismMismatch);
    }
    match &config.mechanism {
        ConnectMechanism::Curve { server_key, keys } => {
            let (handshake, hello) = curve::ClientHandshake::new(*server_key, Arc::clone(keys), seed)?;
            out.push(hello);
            Ok(State::CurveClient(Box::new(handshake)))
        }
        ConnectMechanism::Null => {
            out.push(null::ready(&Half::Client(Arc::clone(config)).metadata()));
            Ok(State::Null)
        }
    }
}

/// Goes on after the client's greeting: echoes its mechanism, if it is allowed.
fn greet_client(
    config: &Arc<ServerConfig>,
    seed: Zeroizing<[u8; SEED_LEN]>,
    theirs: MechanismName,
    out: &mut Outbox,
) -> Result<State, CloseReason> {
    let as_server = if theirs == MechanismName::Curve { AsServer::Yes } else { AsServer::No };
    let rest = Bytes::copy_from_slice(&greeting::encode(theirs, as_server)[HEAD_LEN..]);
    match (theirs, &config.curve) {
        (MechanismName::Curve, Some(keys)) => {
            out.push(rest);
            Ok(State::CurveServer(Box::new(curve::ServerHandshake::new(Arc::clone(keys), seed))))
        }
        (MechanismName::Null, _) if config.null == NullPolicy::Allow => {
            out.push(rest);
            out.push(null::ready(&Half::Server(Arc::clone(config)).metadata()));
            Ok(State::Null)
        }
        _ => Err(CloseReason::MechanismRefused),
    }
}

#[cfg(test)]
mod tests;
