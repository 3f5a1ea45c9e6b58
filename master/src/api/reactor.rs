//! `/v1/reactor`: the rules with what became of their events, and what an event would set off.

use axum::Json;
use axum::extract::State;

use super::caller::Who;
use super::error::ApiError;
use super::events::FireRequest;
use super::input::Input;
use super::{Api, Ask};
use crate::command::Command;

pub(super) async fn list<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::ReactorShow).await
}

pub(super) async fn test<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Input(request): Input<FireRequest>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let (tag, data) = request.into_parts();
    api.show(who, Command::ReactorTest { tag, data }).await
}
