//! `/v1/cursors`: where readers of the log are that come back.

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::{Api, Ask};
use crate::command::Command;

/// How far a reader has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CursorRequest {
    /// The last event it has dealt with.
    pub(super) offset: u64,
}

pub(super) async fn list<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::CursorList).await
}

pub(super) async fn advance<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Path(name): Path<String>,
    Input(request): Input<CursorRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::CursorAdvance { name, offset: request.offset }).await
}

pub(super) async fn delete<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Path(name): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::CursorDelete(name)).await
}
