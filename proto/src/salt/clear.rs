//! Clear commands of local clients on the request port, and their replies (salt-wire.md §6): `salt`, `salt-api`,
//! `LocalClient`. Nothing of a command is proven; its credentials are judged where rights are.

use std::fmt;

use zeroize::Zeroizing;

use super::msgpack;
use crate::ids::{Jid, MinionId};
use crate::map;
use crate::value::{Map, MapExt, Value};

/// What a local client shows of who it is. Compared where the key files are, in constant time.
pub enum Credentials {
    /// An external authentication.
    Eauth {
        /// The backend.
        eauth: String,
        /// The user.
        username: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// A key file of this host, and who it says it is.
    Key {
        /// The text of the file.
        key: Zeroizing<String>,
        /// The user, `sudo_<name>` among them.
        user: Option<String>,
    },
    /// Nothing.
    None,
    /// A token of an external authentication.
    Token(Zeroizing<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::Eauth { .. } => "Eauth(..)",
            Credentials::Key { .. } => "Key(..)",
            Credentials::None => "None",
            Credentials::Token(_) => "Token(..)",
        })
    }
}

/// The fields that credentials are made of; no handler sees them.
const SECRETS: [&str; 5] = ["key", "token", "eauth", "username", "password"];

impl Credentials {
    /// Takes the credentials out of a load; a token goes before a user and password, and those before a key.
    fn take(load: &mut Map) -> Credentials {
        let [key, token, eauth, username, password] = SECRETS.map(|name| match load.take(name) {
            Some(Value::Str(text)) => Some(text),
            _ => None,
        });
        let (key, token, password) = (key.map(Zeroizing::new), token.map(Zeroizing::new), password.map(Zeroizing::new));
        match (token, eauth, key) {
            (Some(token), _, _) => Credentials::Token(token),
            (None, Some(eauth), _) => Credentials::Eauth {
                eauth,
                username: username.unwrap_or_default(),
                password: password.unwrap_or_default(),
            },
            (None, None, Some(key)) => Credentials::Key { key, user: load.text("user").map(str::to_owned) },
            (None, None, None) => Credentials::None,
        }
    }
}

/// A job to be published.
pub struct PublishCommand {
    /// Who asks.
    pub credentials: Credentials,
    /// The target: text, or a list.
    pub tgt: Value,
    /// The type of the target; `glob` if it is not said.
    pub tgt_type: String,
    /// The function: text, or a list for a multi-function job.
    pub fun: Value,
    /// The arguments.
    pub arg: Vec<Value>,
    /// The returners, joined by commas.
    pub ret: String,
    /// The jid that the caller has chosen.
    pub jid: Option<String>,
    /// How many seconds a syndic may take to pass it on; sent where `order_masters` is on.
    pub to: Option<u64>,
    /// The user that the caller says it is.
    pub user: Option<String>,
    /// Options: `delimiter`, `metadata`…
    pub kwargs: Map,
}

impl fmt::Debug for PublishCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and options may hold secrets.
        write!(f, "PublishCommand {{ fun: {:?}, tgt: {:?}, credentials: {:?} }}", self.fun, self.tgt, self.credentials)
    }
}

/// A command in the clear.
pub enum ClearCommand {
    /// `_auth`: what [`super::auth::AuthRequest`] reads.
    Auth(Map),
    /// `get_token`: the token is missing if it was not given.
    GetToken(Option<Zeroizing<String>>),
    /// `mk_token`.
    MakeToken(Credentials),
    /// `ping`: comes back as it is.
    Ping(Map),
    /// `publish`.
    Publish(Box<PublishCommand>),
    /// `runner`.
    Runner {
        /// Who asks.
        credentials: Credentials,
        /// The function.
        fun: String,
        /// Its arguments.
        kwarg: Map,
    },
    /// No command, one that does not exist, or one that lacks a field: answered with an empty map.
    Unknown,
    /// `wheel`: all other fields are arguments.
    Wheel {
        /// Who asks.
        credentials: Credentials,
        /// The function.
        fun: String,
        /// Its arguments.
        kwarg: Map,
    },
}

impl fmt::Debug for ClearCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClearCommand::Auth(_) => f.write_str("Auth(..)"),
            ClearCommand::GetToken(_) => f.write_str("GetToken(..)"),
            ClearCommand::MakeToken(credentials) => write!(f, "MakeToken({credentials:?})"),
            ClearCommand::Ping(_) => f.write_str("Ping(..)"),
            ClearCommand::Publish(publish) => publish.fmt(f),
            ClearCommand::Runner { credentials, fun, .. } => write!(f, "Runner({fun:?}, {credentials:?})"),
            ClearCommand::Unknown => f.write_str("Unknown"),
            ClearCommand::Wheel { credentials, fun, .. } => write!(f, "Wheel({fun:?}, {credentials:?})"),
        }
    }
}

impl ClearCommand {
    /// Reads a clear load.
    pub fn decode(mut load: Map) -> ClearCommand {
        let cmd = load.text("cmd").unwrap_or_default().to_owned();
        match cmd.as_str() {
            "_auth" => ClearCommand::Auth(load),
            "get_token" => ClearCommand::GetToken(load.text("token").map(|token| Zeroizing::new(token.to_owned()))),
            "mk_token" => ClearCommand::MakeToken(Credentials::take(&mut load)),
            "ping" => ClearCommand::Ping(load),
            "publish" => publish(load).map_or(ClearCommand::Unknown, ClearCommand::Publish),
            "runner" => runner(load).unwrap_or(ClearCommand::Unknown),
            "wheel" => wheel(load).unwrap_or(ClearCommand::Unknown),
            _ => ClearCommand::Unknown,
        }
    }
}

fn publish(mut load: Map) -> Option<Box<PublishCommand>> {
    let mut kwargs = match load.take("kwargs") {
        Some(Value::Map(kwargs)) => kwargs,
        _ => Map::new(),
    };
    // A user's credentials stand among the options, and go before the key file's.
    let credentials = match Credentials::take(&mut kwargs) {
        Credentials::None => Credentials::take(&mut load),
        of_user => of_user,
    };
    let arg = match load.take("arg") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(items)) => items,
        Some(one) => vec![one],
    };
    let text = |load: &Map, name: &str| load.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Box::new(PublishCommand {
        credentials,
        tgt_type: text(&load, "tgt_type").unwrap_or_else(|| "glob".to_owned()),
        ret: text(&load, "ret").unwrap_or_default(),
        jid: text(&load, "jid"),
        to: load.at("to").and_then(Value::as_u64),
        user: text(&load, "user"),
        tgt: load.take("tgt")?,
        fun: load.take("fun")?,
        arg,
        kwargs,
    }))
}

fn runner(mut load: Map) -> Option<ClearCommand> {
    let credentials = Credentials::take(&mut load);
    let kwarg = load.at("kwarg").and_then(Value::as_map).cloned().unwrap_or_default();
    Some(ClearCommand::Runner { credentials, fun: load.text("fun")?.to_owned(), kwarg })
}

fn wheel(mut load: Map) -> Option<ClearCommand> {
    let credentials = Credentials::take(&mut load);
    load.take("cmd");
    let Some(Value::Str(fun)) = load.take("fun") else { return None };
    // Salt's master takes `user` for an argument of the function and fails; here it says who asks, as in a runner.
    load.take("user");
    Some(ClearCommand::Wheel { credentials, fun, kwarg: load })
}

/// Why a local client is refused. Which credential was wrong, or what of it, is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearError {
    /// `publish`: not known.
    Authentication,
    /// `publish`: known, but without the right.
    Authorization,
    /// `runner`, `wheel`: the external authentication failed.
    Eauth,
    /// `runner`, `wheel`: the token is not known.
    Token,
    /// `runner`, `wheel`: the key is not the user's.
    User,
}

impl ClearError {
    fn value(self) -> Value {
        let failure = |kind: &str| format!("Authentication failure of type \"{kind}\" occurred");
        let (name, message) = match self {
            ClearError::Authentication => ("AuthenticationError", "Authentication error occurred.".to_owned()),
            ClearError::Authorization => ("AuthorizationError", "Authorization error occurred.".to_owned()),
            ClearError::Eauth => ("EauthAuthenticationError", failure("eauth")),
            ClearError::Token => ("TokenAuthenticationError", failure("token")),
            ClearError::User => ("UserAuthenticationError", failure("user")),
        };
        Value::Map(map! { "error" => map! { "name" => name, "message" => message } })
    }
}

/// The reply to a clear command.
#[derive(Debug)]
pub enum ClearReply {
    /// A wheel function has run, or a token was found or made: this map.
    Done(Map),
    /// There is no such command.
    Empty,
    /// Refused.
    Error(ClearError),
    /// Nobody matches the target.
    NoMatch {
        /// What the client prints.
        error: String,
    },
    /// `mk_token` without success.
    NoToken,
    /// The job is published.
    Published {
        /// Its jid.
        jid: Jid,
        /// Who is expected to return.
        minions: Vec<MinionId>,
        /// Who of the listed is not known.
        missing: Vec<MinionId>,
    },
    /// A runner has begun; its return is an event.
    Started {
        /// The tag of its events.
        tag: String,
        /// Its jid.
        jid: Jid,
    },
    /// `get_token` without a token.
    TokenMissing,
}

impl ClearReply {
    /// Encodes the reply.
    pub fn encode(&self) -> Vec<u8> {
        let ids = |ids: &[MinionId]| ids.iter().map(Value::from).collect::<Vec<_>>();
        let clear = |load: Map| Value::Map(map! { "enc" => "clear", "load" => load });
        msgpack::encode(&match self {
            ClearReply::Done(map) => Value::Map(map.clone()),
            ClearReply::Empty => Value::Map(Map::new()),
            ClearReply::Error(error) => error.value(),
            ClearReply::NoMatch { error } => {
                let nobody = Value::List(Vec::new());
                clear(map! { "jid" => Value::Null, "minions" => nobody, "error" => error.as_str() })
            }
            ClearReply::NoToken => Value::from(""),
            ClearReply::Published { jid, minions, missing } => {
                clear(map! { "jid" => jid, "minions" => ids(minions), "missing" => ids(missing) })
            }
            ClearReply::Started { tag, jid } => Value::Map(map! { "tag" => tag.as_str(), "jid" => jid }),
            ClearReply::TokenMissing => Value::Bool(false),
        })
    }
}
