//! `/v1/keys`: list; accept, reject, delete, show fingerprints.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use proto::ids::MinionId;
use serde::{Deserialize, Serialize};

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::{Api, Ask};
use crate::command::{Command, KeyFingers, KeyLists, KeyPems, KeySelection, Reply};

/// Which keys an operator means, as it is posted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyRequest {
    /// Ids or shell-style patterns.
    pub r#match: Vec<String>,
    /// Accepted keys count too (reject). Default: false.
    pub include_accepted: bool,
    /// Denied keys count too. Default: false.
    pub include_denied: bool,
    /// Rejected keys count too. Default: false.
    pub include_rejected: bool,
    /// Only tell what would change. Default: false.
    pub dry_run: bool,
}

/// Key ids by state: all of them, or those that were changed (or would be), by the state they were in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysView {
    /// Accepted.
    pub accepted: Vec<String>,
    /// Denied.
    pub denied: Vec<String>,
    /// Pending.
    pub pending: Vec<String>,
    /// Rejected.
    pub rejected: Vec<String>,
    /// Those of them that have an RSA key: they speak Salt's wire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub salt: Vec<String>,
}

/// Fingerprints, or whole keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingersView {
    /// The master's own files and their fingerprints.
    pub local: BTreeMap<String, String>,
    /// By state directory (`minions`, `minions_pre`…): ids, each with its fingerprint or key.
    pub keys: BTreeMap<String, BTreeMap<String, String>>,
}

impl From<KeyLists> for KeysView {
    fn from(lists: KeyLists) -> KeysView {
        let names = |ids: Vec<MinionId>| ids.iter().map(ToString::to_string).collect();
        KeysView {
            accepted: names(lists.accepted),
            denied: names(lists.denied),
            pending: names(lists.pending),
            rejected: names(lists.rejected),
            salt: names(lists.salt),
        }
    }
}

impl From<KeyFingers> for FingersView {
    fn from(fingers: KeyFingers) -> FingersView {
        FingersView { local: fingers.local.into_iter().collect(), keys: by_state(fingers.keys) }
    }
}

impl From<KeyPems> for FingersView {
    fn from(pems: KeyPems) -> FingersView {
        FingersView { local: BTreeMap::new(), keys: by_state(pems.keys) }
    }
}

fn by_state(keys: Vec<(&'static str, MinionId, String)>) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut states: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for (state, id, text) in keys {
        states.entry(state.to_owned()).or_default().insert(id.to_string(), text);
    }
    states
}

impl From<KeyRequest> for KeySelection {
    fn from(request: KeyRequest) -> KeySelection {
        KeySelection {
            globs: request.r#match,
            include_rejected: request.include_rejected,
            include_denied: request.include_denied,
            include_accepted: request.include_accepted,
            dry_run: request.dry_run,
        }
    }
}

pub(super) async fn list<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<KeysView>, ApiError> {
    match api.ask(who, Command::KeyList).await? {
        Reply::Keys(lists) => Ok(Json(lists.into())),
        _ => Err(ApiError::unexpected()),
    }
}

pub(super) async fn act<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Path(action): Path<String>,
    Input(request): Input<KeyRequest>,
) -> Result<Response, ApiError> {
    if request.r#match.is_empty() {
        return Err(ApiError::invalid("`match` names no key; use [\"*\"] for all"));
    }
    let selection = KeySelection::from(request);
    let command = match action.as_str() {
        "accept" => Command::KeyAccept(selection),
        "delete" => Command::KeyDelete(selection),
        "finger" => Command::KeyFinger(selection),
        "print" => Command::KeyPrint(selection),
        "reject" => Command::KeyReject(selection),
        other => {
            return Err(ApiError::invalid(format!(
                "keys can be accepted, deleted, fingered, printed, rejected; not {other:?}"
            )));
        }
    };
    match api.ask(who, command).await? {
        Reply::KeyFingers(fingers) => Ok(Json(FingersView::from(fingers)).into_response()),
        Reply::KeyPems(pems) => Ok(Json(FingersView::from(pems)).into_response()),
        Reply::Keys(lists) => Ok(Json(KeysView::from(lists)).into_response()),
        _ => Err(ApiError::unexpected()),
    }
}
