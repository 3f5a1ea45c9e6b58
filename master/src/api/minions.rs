//! `/v1/minions`: accepted minions with their presence.

use axum::Json;
use axum::extract::State;

use super::caller::Who;
use super::error::ApiError;
use super::{Api, Ask};
use crate::command::Command;

pub(super) async fn list<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::Minions).await
}
