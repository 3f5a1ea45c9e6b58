//! `/v1/run`: run a function on the master. The answer is `{"return": …}`.

use axum::Json;
use axum::extract::State;
use proto::value::{Map, Value};
use serde::{Deserialize, Serialize};

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::{Api, Ask};
use crate::command::Command;

/// A runner's call, as it is posted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The function: `event.send`.
    pub fun: String,
    /// Positional arguments. Default: none.
    #[serde(default)]
    pub arg: Vec<serde_json::Value>,
    /// Keyword arguments. Default: none.
    #[serde(default)]
    pub kwarg: serde_json::Map<String, serde_json::Value>,
}

/// What a runner returned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunReturn {
    /// Anything.
    pub r#return: serde_json::Value,
}

pub(super) async fn run<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Input(request): Input<RunRequest>,
) -> Result<Json<RunReturn>, ApiError> {
    let arg = request.arg.iter().map(Value::from_json).collect();
    let kwarg: Map =
        request.kwarg.iter().map(|(name, value)| (Value::from(name.as_str()), Value::from_json(value))).collect();
    let Json(value) = api.show(who, Command::Run { fun: request.fun, arg, kwarg, jid: None }).await?;
    Ok(Json(RunReturn { r#return: value }))
}
