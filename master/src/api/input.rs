//! Request bodies and the master's answers, as JSON. A body is JSON whatever its content type says: `curl -d` works.

use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use super::caller::Who;
use super::error::ApiError;
use super::{Api, Ask, MAX_BODY};
use crate::command::{Command, CommandError, Reply};

/// How long the master may take for one answer. Longer than any part needs, so that only a stuck one is cut off.
pub(super) const ASK_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a peer may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A request body.
pub(super) struct Input<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Input<T>, ApiError> {
        // What is announced as too large is refused before it is read.
        if request.body().size_hint().lower() > MAX_BODY as u64 {
            return Err(ApiError::too_large(MAX_BODY));
        }
        let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, state)).await;
        let body = body.map_err(|_| ApiError::invalid("the request body did not come in time"))?;
        let body = body.map_err(|_| ApiError::too_large(MAX_BODY))?;
        // An endpoint without required fields takes no body at all.
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        let input = serde_json::from_slice(text);
        input.map(Input).map_err(|error| ApiError::invalid(format!("the request body is not right: {error}")))
    }
}

impl<A: Ask> Api<A> {
    /// Asks at the door, for so long.
    pub(super) async fn ask(&self, who: Who, command: Command) -> Result<Reply, ApiError> {
        let answer = tokio::time::timeout(ASK_TIMEOUT, self.door.ask(who.0, command)).await;
        let late = || CommandError::Busy(format!("the master did not answer within {} s", ASK_TIMEOUT.as_secs()));
        Ok(answer.map_err(|_| late())??)
    }

    /// Asks for something that is shown as it is.
    pub(super) async fn show(&self, who: Who, command: Command) -> Result<Json<serde_json::Value>, ApiError> {
        match self.ask(who, command).await? {
            Reply::Done => Ok(Json(serde_json::Value::Null)),
            Reply::Value(value) => Ok(Json(value.to_json())),
            _ => Err(ApiError::unexpected()),
        }
    }
}
