//! The command's side of the socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::value::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire::{self, Answer, MAX_MESSAGE, MAX_REQUEST, Request};
use super::{LocalError, SOCKET_NAME};
use crate::config::Config;
use crate::executor::Done;
use crate::local_bus::LocalEvent;

/// How long a call may take, the daemon's own deadline and a margin.
const CALL_DEADLINE: Duration = Duration::from_secs(70);
/// How long the daemon may take to take a listener in.
const LISTEN_DEADLINE: Duration = Duration::from_secs(10);

/// Has the daemon run a function.
pub async fn call(config: &Config, fun: &str, arg: &[Value]) -> Result<Done, LocalError> {
    let path = path(config);
    let mut stream = connect(config).await?;
    let request = Request::Call { fun: fun.to_owned(), arg: arg.to_vec() };
    match timeout(CALL_DEADLINE, ask(&mut stream, &request))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    {
        Ok(Answer::Done(done)) => Ok(done),
        Ok(Answer::Refused(why)) => Err(LocalError::Refused(why)),
        Ok(_) => Err(LocalError::Broken { path, source: io::ErrorKind::InvalidData.into() }),
        Err(source) => Err(LocalError::Broken { path, source }),
    }
}

/// Listens to the daemon's local bus.
#[derive(Debug)]
pub struct Follower {
    stream: UnixStream,
    path: PathBuf,
}

/// What a listener gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Followed {
    /// An event.
    Event(LocalEvent),
    /// So many events were lost because this listener was too slow.
    Missed(u64),
}

impl Follower {
    /// Begins to listen to the events whose tag matches this glob. Every event that is fired after this returns is seen.
    pub async fn begin(config: &Config, tag: &str) -> Result<Follower, LocalError> {
        let mut follower = Follower { stream: connect(config).await?, path: path(config) };
        let request = Request::Events { tag: tag.to_owned() };
        let asked = timeout(LISTEN_DEADLINE, ask(&mut follower.stream, &request)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Answer::Listening) => Ok(follower),
            Ok(Answer::Refused(why)) => Err(LocalError::Refused(why)),
            Ok(_) => Err(follower.broken(io::ErrorKind::InvalidData.into())),
            Err(source) => Err(follower.broken(source)),
        }
    }

    /// Returns what comes next; fails when the daemon ends.
    pub async fn next(&mut self) -> Result<Followed, LocalError> {
        match answer(&mut self.stream).await {
            Ok(Answer::Event(event)) => Ok(Followed::Event(event)),
            Ok(Answer::Missed(count)) => Ok(Followed::Missed(count)),
            Ok(_) => Err(self.broken(io::ErrorKind::InvalidData.into())),
            Err(source) => Err(self.broken(source)),
        }
    }

    fn broken(&self, source: io::Error) -> LocalError {
        LocalError::Broken { path: self.path.clone(), source }
    }
}

fn path(config: &Config) -> PathBuf {
    config.sock_dir.join(SOCKET_NAME)
}

async fn connect(config: &Config) -> Result<UnixStream, LocalError> {
    let path = path(config);
    UnixStream::connect(&path).await.map_err(|source| refused(path, &config.folder, source))
}

fn refused(path: PathBuf, folder: &Path, source: io::Error) -> LocalError {
    match source.kind() {
        // A path that is too long for a socket has none at its end either.
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::InvalidInput => {
            LocalError::NoDaemon { path, folder: folder.to_owned() }
        }
        io::ErrorKind::PermissionDenied => LocalError::NotPermitted { path },
        _ => LocalError::Broken { path, source },
    }
}

async fn ask(stream: &mut UnixStream, request: &Request) -> io::Result<Answer> {
    wire::write(stream, &request.encode(), MAX_REQUEST).await?;
    answer(stream).await
}

async fn answer(stream: &mut UnixStream) -> io::Result<Answer> {
    let map = wire::read(stream, MAX_MESSAGE).await?;
    Answer::decode(map).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
