//! What Salt's tools ask in the clear (salt-wire.md §6): `publish`, `runner`, `wheel`, `mk_token`, `get_token`.
//!
//! A command counts if it comes from an address of this host (or one that `clear_commands_from` names) and shows the key
//! of local clients. It then becomes a [`Command`] like any other: rights are judged, and the bus is told, at the door. Who
//! is refused hears what Salt says to a wrong key, wherever the reason lies.
//!
//! There is no external authentication, so there are no tokens: `mk_token` fails, as Salt's does for a wrong password.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use proto::ids::{Jid, MinionId};
use proto::map;
use proto::salt::clear::{ClearCommand, ClearError, ClearReply, Credentials, PublishCommand};
use proto::tag::Tag;
use proto::target::ipcidr::Cidr;
use proto::value::{Map, MapExt as _, Value};
use tokio::sync::Semaphore;

use super::events::EventSockets;
use super::files::SaltFiles;
use super::local_key::LocalKey;
use crate::command::{Caller, Command, CommandError, Origin, PublishRequest, Published, Reply, TargetText};
use crate::runners::Ask;

/// The longest name of a user that a command may say.
const MAX_USER: usize = 64;
/// What a command line puts before the user who became root.
const SUDO: &str = "sudo_";
/// What Salt takes away from the arguments of a runner or wheel function: they are for the client.
const CLIENT_KEYWORDS: [&str; 9] =
    ["client", "eauth", "full_return", "username", "password", "print_event", "token", "__jid__", "__user__"];
/// What a client may add to the publication, for Salt minions (salt-wire.md §4.2).
const OPTIONS: [&str; 5] = ["executor_opts", "module_executors", "ret_config", "ret_kwargs", "start_event"];
/// How long a reply waits for the files that a tool reads next. A disk that takes longer costs the tool its output, not
/// the job.
const FILES_DEADLINE: Duration = Duration::from_secs(5);

/// How many runner functions run at once for Salt's tools; who asks for more waits for the reply.
const MAX_RUNS: usize = 64;
/// How often the log names refused commands, at most: anybody who reaches the port can send them.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What clear commands need of the master.
pub struct ClearParts {
    /// The way in.
    pub door: Arc<dyn Ask>,
    /// What local clients show.
    pub key: LocalKey,
    /// The name of the user that the master runs as.
    pub own_user: String,
    /// Networks besides the host's own addresses (`clear_commands_from`).
    pub from: Vec<Cidr>,
    /// Where tools wait for events.
    pub events: EventSockets,
    /// Where tools read files; none with `salt_files: false`.
    pub files: Option<SaltFiles>,
}

/// Who may send commands in the clear, and where they go.
pub struct ClearCommands {
    parts: ClearParts,
    runs: Arc<Semaphore>,
    refusals: Mutex<Refusals>,
}

/// How many commands were refused, and when the log last said so.
#[derive(Debug, Default)]
struct Refusals {
    told: Option<Instant>,
    since: u64,
}

impl std::fmt::Debug for ClearCommands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClearCommands").field("from", &self.parts.from).finish_non_exhaustive()
    }
}

impl ClearCommands {
    /// Takes the parts.
    pub fn new(parts: ClearParts) -> ClearCommands {
        ClearCommands { parts, runs: Arc::new(Semaphore::new(MAX_RUNS)), refusals: Mutex::default() }
    }

    /// Returns the files that tools read; none with `salt_files: false`.
    pub fn files(&self) -> Option<&SaltFiles> {
        self.parts.files.as_ref()
    }

    /// Answers a command of a peer. `_auth` and `ping` are none of ours: they are answered with nothing.
    pub async fn answer(&self, addr: IpAddr, command: ClearCommand) -> ClearReply {
        match command {
            ClearCommand::GetToken(None) => ClearReply::TokenMissing,
            ClearCommand::MakeToken(_) => ClearReply::NoToken,
            ClearCommand::Publish(command) => self.publish(addr, *command).await,
            ClearCommand::Runner { credentials, fun, kwarg } => self.runner(addr, &credentials, fun, kwarg).await,
            ClearCommand::Wheel { credentials, fun, kwarg } => self.wheel(addr, &credentials, fun, kwarg).await,
            // Without external authentication no token is known.
            ClearCommand::Auth(_) | ClearCommand::GetToken(Some(_)) | ClearCommand::Ping(_) | ClearCommand::Unknown => {
                ClearReply::Empty
            }
        }
    }

    /// Judges who asks; `said` is the user that a command names beside its credentials.
    fn caller(&self, addr: IpAddr, credentials: &Credentials, said: Option<&str>) -> Option<Caller> {
        let refused = |why: &str| {
            self.tell_refusal(addr, why);
            None
        };
        let addr = addr.to_canonical();
        if !self.is_from_here(addr) {
            return refused("it does not come from this host; clear_commands_from can name more addresses");
        }
        let Credentials::Key { key, user } = credentials else {
            return refused("it shows no key of local clients");
        };
        if !self.parts.key.is(key) {
            return refused("its key is not the one in cachedir");
        }
        let user = user.as_deref().or(said).unwrap_or(&self.parts.own_user);
        // With another name Salt asks for that user's own key, which exists with publisher_acl.
        let known = user == self.parts.own_user || user == "root" || user.strip_prefix(SUDO).is_some_and(is_user_name);
        if !known {
            return refused("it names a user who has no key here");
        }
        Some(Caller { user: user.to_owned(), origin: Origin::SaltClient { addr } })
    }

    fn tell_refusal(&self, addr: IpAddr, why: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.since += 1;
        if refusals.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            let commands = std::mem::take(&mut refusals.since);
            refusals.told = Some(Instant::now());
            tracing::warn!(%addr, commands, why, "a command of one of Salt's tools was refused");
        }
    }

    fn is_from_here(&self, addr: IpAddr) -> bool {
        addr.is_loopback() || self.parts.from.iter().any(|network| network.contains(addr)) || is_own(addr)
    }

    async fn publish(&self, addr: IpAddr, command: PublishCommand) -> ClearReply {
        let Some(caller) = self.caller(addr, &command.credentials, command.user.as_deref()) else {
            return ClearReply::Error(ClearError::Authentication);
        };
        let tgt = command.tgt.clone();
        let load = load(&caller, &command);
        let request = match publish_request(command) {
            Ok(request) => request,
            Err(error) => return ClearReply::NoMatch { error },
        };
        // The tool has connected to the event socket already: what returns from now on must reach it.
        self.parts.events.settle().await;
        match self.parts.door.ask(caller.clone(), Command::Publish(request)).await {
            Ok(Reply::Published(published)) => self.published(caller, published, load).await,
            Ok(_) => ClearReply::Empty,
            Err(CommandError::NotPermitted { .. }) => ClearReply::Error(ClearError::Authorization),
            Err(CommandError::NoMatch) => {
                let error = format!("Master could not resolve minions for target {}", shown(&tgt));
                ClearReply::NoMatch { error }
            }
            Err(error) => ClearReply::NoMatch { error: error.to_string() },
        }
    }

    async fn published(&self, caller: Caller, published: Published, mut load: Map) -> ClearReply {
        let was_before = published.was_before();
        let Published { jid, mut minions, missing, .. } = published;
        if was_before {
            // The jid was the client's choice, and the job is there already: the request came twice.
            minions = self.recipients(caller, &jid).await;
        } else if let Some(files) = &self.parts.files {
            load.set("jid", &jid);
            let saved = files.save_load(jid.clone(), load, minions.clone());
            match tokio::time::timeout(FILES_DEADLINE, saved).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(%jid, error, "Salt's tools will not find the job");
                }
                Err(_) => tracing::error!(%jid, "Salt's tools will not find the job: the disk is too slow"),
            }
        }
        let missing = missing.iter().filter_map(|id| MinionId::parse(id).ok()).collect();
        ClearReply::Published { jid, minions, missing }
    }

    async fn recipients(&self, caller: Caller, jid: &Jid) -> Vec<MinionId> {
        let Ok(Reply::Value(job)) = self.parts.door.ask(caller, Command::JobShow(jid.clone())).await else {
            return Vec::new();
        };
        let ids = job.get("Minions").and_then(Value::as_list).unwrap_or_default();
        ids.iter().filter_map(|id| MinionId::parse(id.as_str()?).ok()).collect()
    }

    async fn runner(&self, addr: IpAddr, credentials: &Credentials, fun: String, kwarg: Map) -> ClearReply {
        let Some(caller) = self.caller(addr, credentials, None) else { return ClearReply::Error(failure(credentials)) };
        let Ok(jid) = self.parts.door.new_jid().await else { return ClearReply::Empty };
        let (arg, kwarg) = arguments(kwarg);
        self.parts.events.settle().await;
        let door = Arc::clone(&self.parts.door);
        let command = Command::Run { fun, arg, kwarg, jid: Some(jid.clone()) };
        let turn = Arc::clone(&self.runs).acquire_owned().await;
        // The client waits for the event of the return; that a function fails is told there.
        tokio::spawn(async move {
            drop(door.ask(caller, command).await);
            drop(turn);
        });
        let tag = tag("run", &jid);
        ClearReply::Started { tag, jid }
    }

    async fn wheel(&self, addr: IpAddr, credentials: &Credentials, fun: String, kwarg: Map) -> ClearReply {
        let Some(caller) = self.caller(addr, credentials, None) else { return ClearReply::Error(failure(credentials)) };
        let Ok(jid) = self.parts.door.new_jid().await else { return ClearReply::Empty };
        let (arg, kwarg) = arguments(kwarg);
        let tag = tag("wheel", &jid);
        let mut data = map! { "fun" => format!("wheel.{fun}"), "jid" => &jid, "tag" => tag.as_str(),
        "user" => caller.user.as_str() };
        let command = Command::Wheel { fun: fun.clone(), arg, kwarg, jid: Some(jid) };
        match self.parts.door.ask(caller, command).await {
            Ok(reply) => {
                let value = match reply {
                    Reply::Value(value) => value,
                    _ => Value::Null,
                };
                data.set("return", value);
                data.set("success", true);
            }
            Err(error) => {
                data.set("return", format!("Exception occurred in wheel {fun}: {error}"));
                data.set("success", false);
            }
        }
        ClearReply::Done(map! { "tag" => tag, "data" => data })
    }
}

/// Returns the tag under which the events of a function on the master come: that of `new` without its last part.
fn tag(room: &str, jid: &Jid) -> String {
    let new = Tag::run_new(room, jid);
    new.as_str().strip_suffix("/new").unwrap_or(new.as_str()).to_owned()
}

/// Tells which credential was not good enough, as Salt does for runners and the wheel.
fn failure(credentials: &Credentials) -> ClearError {
    match credentials {
        Credentials::Eauth { .. } => ClearError::Eauth,
        Credentials::Key { .. } | Credentials::None => ClearError::User,
        Credentials::Token(_) => ClearError::Token,
    }
}

fn is_user_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$' | '\\');
    (1..=MAX_USER).contains(&name.len()) && name.chars().all(good)
}

/// Tells whether an address is one of this host's.
fn is_own(addr: IpAddr) -> bool {
    let Ok(mut interfaces) = nix::ifaddrs::getifaddrs() else { return false };
    interfaces.any(|interface| {
        let Some(address) = interface.address else { return false };
        match addr {
            IpAddr::V4(addr) => address.as_sockaddr_in().is_some_and(|own| own.ip() == addr),
            IpAddr::V6(addr) => address.as_sockaddr_in6().is_some_and(|own| own.ip() == addr),
        }
    })
}

/// Returns a target as Python prints it into a text.
fn shown(tgt: &Value) -> String {
    match tgt {
        Value::Str(text) => text.clone(),
        other => render::python::repr(other),
    }
}

/// Returns the load that is stored for Salt's tools: what was sent, without its key (salt-wire.md §8.2).
fn load(caller: &Caller, command: &PublishCommand) -> Map {
    map! {
        "cmd" => "publish", "tgt" => command.tgt.clone(), "fun" => command.fun.clone(), "arg" => command.arg.clone(),
        "tgt_type" => command.tgt_type.as_str(), "ret" => command.ret.as_str(), "jid" => "",
        "kwargs" => command.kwargs.clone(), "user" => caller.user.as_str(),
    }
}

fn publish_request(command: PublishCommand) -> Result<PublishRequest, String> {
    let jid = command.jid.map(|jid| Jid::parse(&jid).map_err(|error| error.to_string())).transpose()?;
    let mut kwargs = command.kwargs;
    let to = command.to.map(|to| ("to".into(), to.into()));
    let mut target = TargetText::new(command.tgt, Some(&command.tgt_type));
    target.delimiter = kwargs.text("delimiter").filter(|text| *text != proto::target::DELIMITER).map(str::to_owned);
    Ok(PublishRequest {
        target,
        fun: command.fun,
        arg: command.arg,
        ret: command.ret,
        jid,
        ttl: None,
        metadata: kwargs.take("metadata").filter(|metadata| !metadata.is_null()),
        options: OPTIONS.iter().filter_map(|name| Some((Value::from(*name), kwargs.take(name)?))).chain(to).collect(),
    })
}

/// Takes the arguments of a function on the master apart: a client names them `arg` and `kwarg`, or all by name.
fn arguments(mut low: Map) -> (Vec<Value>, Map) {
    match (low.at("arg"), low.at("kwarg")) {
        (Some(Value::List(_)), Some(Value::Map(_))) => {
            let arg = low.take("arg").and_then(|arg| arg.as_list().map(<[Value]>::to_vec)).unwrap_or_default();
            let kwarg = low.take("kwarg").and_then(|kwarg| kwarg.as_map().cloned()).unwrap_or_default();
            (arg, kwarg)
        }
        _ => {
            CLIENT_KEYWORDS.iter().for_each(|name| drop(low.take(name)));
            (Vec::new(), low)
        }
    }
}

#[cfg(test)]
mod tests;
