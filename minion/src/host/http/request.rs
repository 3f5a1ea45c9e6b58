//! A request of any method with the limits of `host/http.rs`, for those who name address and headers themselves.

use std::time::Duration;

use rustls::RootCertStore;
use ureq::http::{Method, Request};

use super::{Answer, HttpError, agent};

/// The most that is read of an answer.
const MAX_BODY: u64 = 8 << 20;

/// What to ask.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The address.
    pub url: String,
    /// The method, in capitals.
    pub method: String,
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// What is sent.
    pub body: Vec<u8>,
    /// How long the whole exchange may take; the usual limit if it is nothing.
    pub timeout: Option<Duration>,
}

/// Asks a server and returns the answer, whatever its status, with its headers. Redirections are not followed.
pub fn query(query: Query) -> Result<(Answer, Vec<(String, String)>), HttpError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let asked = |error: ureq::Error| HttpError::Request(Box::new(error));
    let bad = |error: ureq::http::Error| asked(ureq::Error::from(error));
    let method = Method::from_bytes(query.method.as_bytes()).map_err(|error| bad(error.into()))?;
    let mut request = Request::builder().method(method).uri(&query.url);
    for (name, value) in &query.headers {
        request = request.header(name, value);
    }
    let request = request.body(query.body).map_err(bad)?;
    let agent = agent(roots)?;
    let timeout = query.timeout.unwrap_or(super::TIMEOUT);
    let config = agent.configure_request(request).timeout_global(Some(timeout)).allow_non_standard_methods(true);
    let mut response = agent.run(config.build()).map_err(asked)?;
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = response.body_mut().with_config().limit(MAX_BODY).read_to_vec();
    let body = body.map_err(|error| HttpError::Answer(Box::new(error)))?;
    Ok((Answer { status: response.status().as_u16(), body }, headers))
}
