//! What crosses the socket: maps in msgpack, each behind its length (four bytes, big endian). One request a connection; a call
//! has one answer, a listener gets events until it goes.

use std::io;
use std::time::Duration;

use proto::map;
use proto::msgpack;
use proto::value::{Map, MapExt, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::executor::Done;
use crate::local_bus::LocalEvent;

/// The largest message: a return of the largest size fits. A larger one closes the connection.
pub(super) const MAX_MESSAGE: usize = 5 << 20;
/// The largest request. What is asked is small: a name, options, an event's data.
pub(super) const MAX_REQUEST: usize = 256 << 10;
/// How long one message may take to be written: who does not read is dropped.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// Run a function.
    Call { fun: String, arg: Vec<Value> },
    /// Send the events of the local bus whose tag matches, from now on.
    Events { tag: String },
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    /// The function has ended.
    Done(Done),
    /// An event.
    Event(LocalEvent),
    /// From here on no event is left out.
    Listening,
    /// So many events were lost because the listener was too slow.
    Missed(u64),
    /// The daemon does not do it.
    Refused(String),
}

impl Request {
    pub(super) fn encode(&self) -> Map {
        match self {
            Request::Call { fun, arg } => map! { "do" => "call", "fun" => fun.as_str(), "arg" => arg.clone() },
            Request::Events { tag } => map! { "do" => "events", "tag" => tag.as_str() },
        }
    }

    pub(super) fn decode(map: &Map) -> Option<Request> {
        match map.text("do")? {
            "call" => Some(Request::Call { fun: map.text("fun")?.to_owned(), arg: map.at("arg")?.as_list()?.to_vec() }),
            "events" => Some(Request::Events { tag: map.text("tag")?.to_owned() }),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn encode(self) -> Map {
        match self {
            Answer::Done(Done { ret, retcode, success, out }) => {
                let done = map! { "ret" => ret, "retcode" => retcode, "success" => success, "out" => out };
                map! { "done" => done }
            }
            Answer::Event(LocalEvent { tag, data }) => map! { "tag" => tag, "data" => data },
            Answer::Listening => map! { "listening" => true },
            Answer::Missed(count) => map! { "missed" => count },
            Answer::Refused(why) => map! { "refused" => why },
        }
    }

    pub(super) fn decode(mut map: Map) -> Option<Answer> {
        if let Some(Value::Map(mut done)) = map.take("done") {
            let out = done.text("out").map(str::to_owned);
            let mut part = |name| done.take(name);
            return Some(Answer::Done(Done {
                ret: part("ret")?,
                retcode: part("retcode")?,
                success: part("success")?,
                out,
            }));
        }
        if let Some(why) = map.text("refused") {
            return Some(Answer::Refused(why.to_owned()));
        }
        if let Some(count) = map.at("missed") {
            return Some(Answer::Missed(count.as_int().and_then(|count| u64::try_from(count).ok())?));
        }
        if map.at("listening").is_some() {
            return Some(Answer::Listening);
        }
        match (map.take("tag"), map.take("data")) {
            (Some(Value::Str(tag)), Some(Value::Map(data))) => Some(Answer::Event(LocalEvent { tag, data })),
            _ => None,
        }
    }
}

/// Reads one message of at most `limit` bytes.
pub(super) async fn read(stream: &mut UnixStream, limit: usize) -> io::Result<Map> {
    let length = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of more than {limit} bytes")));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    msgpack::decode_map(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one message.
pub(super) async fn write(stream: &mut UnixStream, map: &Map, limit: usize) -> io::Result<()> {
    let bytes = msgpack::encode_map(map);
    let length = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= limit);
    let too_large = || io::Error::new(io::ErrorKind::InvalidInput, format!("a message of more than {limit} bytes"));
    let length = length.ok_or_else(too_large)?;
    let written = async {
        stream.write_u32(length).await?;
        stream.write_all(&bytes).await
    };
    timeout(WRITE_DEADLINE, written).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let arg = vec![Value::from("x"), map! { "n" => 1 }.into()];
        for request in [Request::Call { fun: "event.fire".into(), arg }, Request::Events { tag: "a/*".into() }] {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        let event = LocalEvent { tag: "a/b".into(), data: map! { "missed" => 1, "done" => 2 } };
        for answer in [
            Answer::Done(Done::with_retcode(map! { "a" => 1 }.into(), 0, Some("nested".into()))),
            Answer::Done(Done::with_retcode(Value::Null, 1, None)),
            Answer::Event(event),
            Answer::Listening,
            Answer::Missed(7),
            Answer::Refused("no".into()),
        ] {
            assert_eq!(Answer::decode(answer.clone().encode()), Some(answer));
        }
        assert_eq!(Request::decode(&map! { "do" => "dance" }), None);
        assert_eq!(Answer::decode(map! { "tag" => 1 }), None);
    }

    #[tokio::test]
    async fn a_message_too_large_is_refused_unread() {
        let (mut here, mut there) = UnixStream::pair().unwrap();
        let large = map! { "x" => "y".repeat(100) };
        assert!(write(&mut here, &large, 50).await.is_err());
        write(&mut here, &large, 200).await.unwrap();
        assert!(read(&mut there, 50).await.unwrap_err().to_string().contains("more than 50 bytes"));
        let (mut here, mut there) = UnixStream::pair().unwrap();
        here.write_all(&[0, 0, 0, 1, 0xc1]).await.unwrap();
        assert!(read(&mut there, 50).await.is_err());
    }
}
