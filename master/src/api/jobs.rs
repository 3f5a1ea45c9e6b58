//! `/v1/jobs`: publish, list, show.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use proto::ids::Jid;
use proto::value::{Map, Value};
use serde::{Deserialize, Serialize};

use super::caller::Who;
use super::error::ApiError;
use super::input::Input;
use super::{Api, Ask};
use crate::command::{Command, JobsQuery, PublishRequest, Published, Reply, TargetText};

/// A job to publish, as it is posted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobRequest {
    /// The target: text or a list of ids.
    pub tgt: serde_json::Value,
    /// How to read it. Default: `glob`.
    #[serde(default = "glob")]
    pub tgt_type: String,
    /// What separates the parts of a grain target. Default: a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delimiter: Option<String>,
    /// The function, or a list of them.
    pub fun: serde_json::Value,
    /// Its arguments: keyword arguments as one object with `"__kwarg__": true` at the end. Default: none.
    #[serde(default)]
    pub arg: Vec<serde_json::Value>,
    /// Returners, joined by commas. Default: none.
    #[serde(default)]
    pub ret: String,
    /// For how many seconds a minion that is away may still come and take the job. Default: the master's `job_ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
    /// Passed through to minion and return. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
    /// The jid, where the caller has chosen one. Default: the master chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jid: Option<String>,
}

/// A job that was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobPublished {
    /// Its jid.
    pub jid: String,
    /// Who it is for.
    pub minions: Vec<String>,
    /// Listed ids that no accepted key has.
    pub missing: Vec<String>,
    /// Those of `minions` that are not connected.
    pub down: Vec<Down>,
    /// The offset of the job's first event: read its returns with `since=<offset>`.
    pub offset: u64,
    /// Salt minions that have told nothing of themselves and may match. For them alone the job, which is for native
    /// minions, went out on the Salt wire too, where every Salt minion can read its arguments. Absent where there are none,
    /// and for a job without arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exposed: Vec<String>,
    /// For how many seconds syndics may still name minions of theirs that the job is for, in events
    /// `halite/job/<jid>/syndic/<id>`; until then ids in `missing` may be such. Absent where no syndic heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syndic_wait_s: Option<u64>,
}

/// A minion that is not connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    /// Its id.
    pub id: String,
    /// For how many seconds; null if it was not seen since the master started.
    pub since_s: Option<u64>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobsFilter {
    /// Only jobs of functions that match this pattern.
    pub fun: Option<String>,
    /// Only jobs whose target matches this pattern.
    pub tgt: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

fn glob() -> String {
    "glob".to_owned()
}

impl JobRequest {
    fn into_command(self) -> Result<PublishRequest, ApiError> {
        let jid = self.jid.as_deref().map(parse_jid).transpose()?;
        Ok(PublishRequest {
            target: TargetText { tgt: Value::from_json(&self.tgt), tgt_type: self.tgt_type, delimiter: self.delimiter },
            fun: Value::from_json(&self.fun),
            arg: self.arg.iter().map(Value::from_json).collect(),
            ret: self.ret,
            jid,
            ttl: self.ttl_s.map(Duration::from_secs),
            metadata: self.metadata.as_ref().map(Value::from_json),
            options: Map::new(),
        })
    }
}

impl From<Published> for JobPublished {
    fn from(published: Published) -> JobPublished {
        JobPublished {
            jid: published.jid.to_string(),
            minions: published.minions.iter().map(ToString::to_string).collect(),
            missing: published.missing,
            down: published.down.into_iter().map(|(id, since_s)| Down { id: id.to_string(), since_s }).collect(),
            offset: published.offset,
            exposed: published.exposed.iter().map(ToString::to_string).collect(),
            syndic_wait_s: published.syndic_wait.map(|wait| wait.as_secs()),
        }
    }
}

fn parse_jid(text: &str) -> Result<Jid, ApiError> {
    Jid::parse(text).map_err(|error| ApiError::invalid(format!("{text:?} is not a job id: {error}")))
}

pub(super) async fn publish<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Input(request): Input<JobRequest>,
) -> Result<Json<JobPublished>, ApiError> {
    match api.ask(who, Command::Publish(request.into_command()?)).await? {
        Reply::Published(published) => Ok(Json(published.into())),
        _ => Err(ApiError::unexpected()),
    }
}

pub(super) async fn list<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    filter: Result<Query<JobsFilter>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    let Query(filter) = filter.map_err(|error| ApiError::invalid(error.body_text()))?;
    let query = JobsQuery { fun: filter.fun, tgt: filter.tgt, limit: filter.limit };
    api.show(who, Command::JobsList(query)).await
}

pub(super) async fn active<A: Ask>(State(api): State<Api<A>>, who: Who) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::JobsActive).await
}

pub(super) async fn show<A: Ask>(
    State(api): State<Api<A>>,
    who: Who,
    Path(jid): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    api.show(who, Command::JobShow(parse_jid(&jid)?)).await
}
