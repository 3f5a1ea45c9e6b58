//! The fallback source: the kernel's process connector says that a pid has run execve, `/proc` says the rest.
//!
//! It is lossy by nature: a process that is gone before `/proc` is read leaves nothing, the path is that of the
//! program found rather than the one asked for, and an execve that failed is not seen. Layouts:
//! include/uapi/linux/{netlink, connector,cn_proc}.h.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, NetlinkAddr, bind, recvfrom, sendto, setsockopt, sockopt},
};

use super::{assemble::Seen, record, session::Process};
use crate::host::kernel;

/// Room for events in the kernel, some ten thousand. What finds it full is lost; the kernel says so, not how many.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;

/// How long the kernel may take to confirm the subscription; it does so at once or never.
const CONFIRM: Duration = Duration::from_secs(1);

/// Messages read in one go.
const BATCH: usize = 1024;

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const PROC_EVENT_NONE: u32 = 0;
const PROC_EVENT_EXEC: u32 = 2;
const NLMSG_DONE: u16 = 3;

/// Bytes of the netlink header and of the connector's.
const NETLINK_HEADER: usize = 16;
const CONNECTOR_HEADER: usize = 20;

/// The process connector could not be listened to.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectorError {
    #[error("join the process connector's group")]
    Bind(#[source] io::Error),
    #[error("read the process connector's answer")]
    Confirm(#[source] io::Error),
    #[error("subscribe to the process connector")]
    Refused(#[source] io::Error),
    #[error("hear from the process connector (it is silent inside a container)")]
    Silent,
    #[error("open a connector socket")]
    Socket(#[source] io::Error),
}

/// A subscription to the process connector.
#[derive(Debug)]
pub(super) struct Connector {
    socket: OwnedFd,
    drops: u64,
}

/// What a message says that matters here.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    /// The answer to a subscription, an error number or zero.
    Confirmed(u32),
    Exec {
        pid: u32,
        time_ns: u64,
    },
    Other,
}

impl Connector {
    /// Subscribes, and waits until the kernel has said whether it will send.
    pub(super) fn open() -> Result<Connector, ConnectorError> {
        let socket = kernel::connector_socket().map_err(ConnectorError::Socket)?;
        // Without the privilege the default size stays, and losses are counted all the same.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES);
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, CN_IDX_PROC))
            .map_err(|errno| ConnectorError::Bind(errno.into()))?;
        let request = subscription();
        sendto(socket.as_raw_fd(), &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(|errno| ConnectorError::Refused(errno.into()))?;
        let mut connector = Connector { socket, drops: 0 };
        connector.confirm()?;
        Ok(connector)
    }

    /// Returns the commands of people's sessions that can be had without waiting.
    pub(super) fn take(&mut self) -> io::Result<Vec<Seen>> {
        let mut seen = Vec::new();
        for message in self.receive()? {
            let Message::Exec { pid, time_ns } = message else { continue };
            match Process::read(pid) {
                Some(process) if process.is_of_a_person() => seen.push(command(pid, time_ns, process)),
                Some(_) => {}
                None => self.drops += 1,
            }
        }
        Ok(seen)
    }

    /// Returns at least how many commands were lost: those gone before they were read, and one per overrun.
    pub(super) fn drops(&self) -> u64 {
        self.drops
    }

    fn confirm(&mut self) -> Result<(), ConnectorError> {
        let deadline = Instant::now() + CONFIRM;
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            kernel::wait_readable(self.socket.as_fd(), left).map_err(ConnectorError::Confirm)?;
            for message in self.receive().map_err(ConnectorError::Confirm)? {
                match message {
                    Message::Confirmed(0) => return Ok(()),
                    Message::Confirmed(errno) => {
                        let errno = io::Error::from_raw_os_error(errno.cast_signed());
                        return Err(ConnectorError::Refused(errno));
                    }
                    Message::Exec { .. } | Message::Other => {}
                }
            }
        }
        Err(ConnectorError::Silent)
    }

    fn receive(&mut self) -> io::Result<Vec<Message>> {
        let mut messages = Vec::new();
        let mut buffer = [0; 1024];
        for _ in 0..BATCH {
            match recvfrom::<NetlinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // Any process may send here; only the kernel does so as number 0.
                Ok((len, Some(from))) if from.pid() == 0 => messages.extend(parse(&buffer[..len])),
                Ok(_) => {}
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => self.drops += 1,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(messages)
    }
}

impl AsFd for Connector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn command(pid: u32, time_ns: u64, process: Process) -> Seen {
    let args = record::strings(&process.cmdline).into_iter().map(<[u8]>::to_vec).collect();
    Seen {
        time_ns,
        pid,
        ppid: process.ppid,
        sid: process.sid,
        uid: process.uid,
        loginuid: process.loginuid,
        tty: process.tty,
        cwd: process.cwd,
        path: process.exe,
        args,
        truncated: false,
    }
}

/// A request to send every process event to this socket.
fn subscription() -> Vec<u8> {
    let total = NETLINK_HEADER + CONNECTOR_HEADER + 4;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend(u32::try_from(total).expect("forty bytes").to_ne_bytes());
    bytes.extend(NLMSG_DONE.to_ne_bytes());
    bytes.extend([0; 10]); // flags, sequence, sender
    bytes.extend(CN_IDX_PROC.to_ne_bytes());
    bytes.extend(CN_VAL_PROC.to_ne_bytes());
    bytes.extend([0; 8]); // sequence, acknowledgement
    bytes.extend(4_u16.to_ne_bytes());
    bytes.extend([0; 2]); // flags
    bytes.extend(PROC_CN_MCAST_LISTEN.to_ne_bytes());
    bytes
}

/// Reads one message; nothing if it is not the process connector's.
fn parse(bytes: &[u8]) -> Option<Message> {
    let connector = bytes.get(NETLINK_HEADER..)?;
    if number(connector, 0)? != CN_IDX_PROC || number(connector, 4)? != CN_VAL_PROC {
        return None;
    }
    let event = connector.get(CONNECTOR_HEADER..)?;
    let time_ns = u64::from_ne_bytes(*event.get(8..)?.first_chunk()?);
    match number(event, 0)? {
        PROC_EVENT_NONE => Some(Message::Confirmed(number(event, 16)?)),
        // The thread first, then its process.
        PROC_EVENT_EXEC => Some(Message::Exec { pid: number(event, 20)?, time_ns }),
        _ => Some(Message::Other),
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(what: u32, data: [u32; 2]) -> Vec<u8> {
        let mut bytes = subscription();
        bytes.truncate(NETLINK_HEADER + CONNECTOR_HEADER);
        bytes.extend(what.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(99_u64.to_ne_bytes());
        bytes.extend(data.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    #[test]
    fn events_are_read_and_cut_ones_are_nothing() {
        let bytes = event(PROC_EVENT_EXEC, [8, 7]);
        assert_eq!(parse(&bytes), Some(Message::Exec { pid: 7, time_ns: 99 }));
        assert_eq!(parse(&event(PROC_EVENT_NONE, [1, 0])), Some(Message::Confirmed(1)));
        assert_eq!(parse(&event(1, [1, 0])), Some(Message::Other));
        for len in 0..bytes.len() {
            assert_eq!(parse(&bytes[..len]), None);
        }
    }
}
