//! `/v1/status`, `/v1/reload` and `/v1/store/compact`: the daemon itself.

use axum::Json;
use axum::extract::State;

use super::caller::Who;
use super::error::ApiError;
use super::{Api, Ask};
use crate::command::Command;

pub(super) async fn show<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::Status).await
}

pub(super) async fn reload<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::Reload).await
}

pub(super) async fn compact<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::Compact).await
}
