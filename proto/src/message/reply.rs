//! `reply`: the answer to a request, or why there is none.

use super::{BadLoad, Fields};
use crate::map;
use crate::msgpack;
use crate::value::Value;

/// What a peer may learn of a failure: a code and a short reason, never internals (native-wire.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The load is not what it claims to be.
    BadLoad,
    /// Come back later.
    Busy,
    /// The master failed.
    Internal,
    /// The session is in limbo.
    NotAccepted,
    /// What was asked for does not exist.
    NotFound,
    /// The minion may not do this.
    Refused,
    /// A limit is exceeded.
    TooLarge,
    /// The command is not one of the wire's.
    UnknownCmd,
}

impl ErrorCode {
    const ALL: [ErrorCode; 8] = [
        ErrorCode::BadLoad,
        ErrorCode::Busy,
        ErrorCode::Internal,
        ErrorCode::NotAccepted,
        ErrorCode::NotFound,
        ErrorCode::Refused,
        ErrorCode::TooLarge,
        ErrorCode::UnknownCmd,
    ];

    /// Returns the name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            ErrorCode::BadLoad => "bad_load",
            ErrorCode::Busy => "busy",
            ErrorCode::Internal => "internal",
            ErrorCode::NotAccepted => "not_accepted",
            ErrorCode::NotFound => "not_found",
            ErrorCode::Refused => "refused",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::UnknownCmd => "unknown_cmd",
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The request that is answered.
    pub seq: u64,
    /// The answer, or a code and a short reason.
    pub result: Result<Value, (ErrorCode, String)>,
}

impl Reply {
    pub(super) fn from_fields(fields: &Fields<'_>) -> Result<Reply, BadLoad> {
        let seq = fields.u64("seq")?;
        let Some(error) = fields.map("error")? else {
            return Ok(Reply { seq, result: Ok(fields.value("reply")?.unwrap_or_default()) });
        };
        let error = Value::Map(error);
        let text = |name| error.get(name).and_then(Value::as_str).unwrap_or_default();
        // A code of a later version is still a failure.
        let code = ErrorCode::ALL.into_iter().find(|code| code.name() == text("code")).unwrap_or(ErrorCode::Internal);
        Ok(Reply { seq, result: Err((code, text("reason").to_owned())) })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        msgpack::encode_map(&match &self.result {
            Ok(reply) => map! { "cmd" => "reply", "seq" => self.seq, "reply" => reply.clone() },
            Err((code, reason)) => {
                let error = map! { "code" => code.name(), "reason" => reason.as_str() };
                map! { "cmd" => "reply", "seq" => self.seq, "error" => error }
            }
        })
    }
}
