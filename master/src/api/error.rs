//! Answers that are refusals: `{"error": {"code": …, "message": …}}` with the status that fits.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::command::CommandError;

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    /// What went wrong.
    pub(super) error: ErrorView,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ErrorView {
    /// `busy`, `internal`, `invalid`, `no_match`, `not_found`, `not_permitted`.
    pub(super) code: String,
    /// A sentence that names the remedy where there is one.
    pub(super) message: String,
}

/// A request that was not carried out.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    /// The request itself is wrong.
    pub(super) fn invalid(message: impl Into<String>) -> ApiError {
        ApiError { status: StatusCode::BAD_REQUEST, code: "invalid", message: message.into() }
    }

    /// The body is larger than allowed.
    pub(super) fn too_large(limit: usize) -> ApiError {
        let message = format!("the request body is larger than {limit} bytes");
        ApiError { status: StatusCode::PAYLOAD_TOO_LARGE, code: "invalid", message }
    }

    /// The master answered with something this endpoint does not know.
    pub(super) fn unexpected() -> ApiError {
        CommandError::Internal("the master gave an answer of the wrong kind".to_owned()).into()
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> ApiError {
        let (status, code) = match error {
            CommandError::Busy(_) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            CommandError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            CommandError::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            CommandError::NoMatch => (StatusCode::NOT_FOUND, "no_match"),
            CommandError::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            CommandError::NotPermitted { .. } => (StatusCode::FORBIDDEN, "not_permitted"),
        };
        ApiError { status, code, message: error.to_string() }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorView { code: self.code.to_owned(), message: self.message };
        (self.status, Json(ErrorBody { error })).into_response()
    }
}

/// Answers a path that is not there.
pub(super) async fn no_route() -> ApiError {
    let message = "there is no such path; the API's paths begin with /v1/".to_owned();
    ApiError { status: StatusCode::NOT_FOUND, code: "not_found", message }
}

/// Answers a path that is there for another method.
pub(super) async fn no_method() -> ApiError {
    let message = "this path does not take that method".to_owned();
    ApiError { status: StatusCode::METHOD_NOT_ALLOWED, code: "invalid", message }
}
