//! One HTTP or HTTPS request from this host, with limits on time and size.
//!
//! HTTPS trusts the certificate authorities that Mozilla does (`webpki-roots`), with rustls over ring.

use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use thiserror::Error;
use ureq::Agent;
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};

pub mod request;

/// The whole request, name lookup included, is over after this.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most that is read of an answer.
const MAX_ANSWER: u64 = 256 << 10;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer. None of the texts repeats what was sent.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The TLS library refuses its configuration.
    #[error("set up TLS")]
    Tls(#[source] rustls::Error),
    /// The request failed, or took too long.
    #[error("ask the server: {}", reason(.0))]
    Request(Box<ureq::Error>),
    /// The answer failed, took too long, or is too large.
    #[error("read the answer: {}", reason(.0))]
    Answer(Box<ureq::Error>),
}

/// Returns what went wrong in words that hold neither address nor header.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "bad address".to_owned(),
        ureq::Error::BodyExceedsLimit(limit) => format!("larger than {limit} bytes"),
        ureq::Error::ConnectionFailed => "connection failed".to_owned(),
        ureq::Error::HostNotFound => "host not found".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Rustls(error) => error.to_string(),
        ureq::Error::StatusCode(status) => format!("status {status}"),
        ureq::Error::Timeout(_) => "too slow".to_owned(),
        _ => "bad exchange".to_owned(),
    }
}

/// Posts a form, with a token in the header `Authorization`, and returns the answer whatever its status.
/// Redirections are not followed: the token is for the configured server alone.
pub fn post_form(url: &str, bearer: &str, form: &[(&str, &str)]) -> Result<Answer, HttpError> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    send(&agent(roots)?, url, bearer, form)
}

fn send(agent: &Agent, url: &str, bearer: &str, form: &[(&str, &str)]) -> Result<Answer, HttpError> {
    let asked = |error| HttpError::Request(Box::new(error));
    let request = agent.post(url).header("Authorization", format!("Bearer {bearer}"));
    let mut response = request.send_form(form.iter().copied()).map_err(asked)?;
    let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    let body = body.map_err(|error| HttpError::Answer(Box::new(error)))?;
    Ok(Answer { status: response.status().as_u16(), body })
}

fn agent(roots: RootCertStore) -> Result<Agent, HttpError> {
    let config = Config::builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_response_header_size(64 << 10)
        .user_agent(concat!("halite-minion/", env!("CARGO_PKG_VERSION")))
        .build();
    let connector =
        ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(TlsConnector::new(roots)?);
    Ok(Agent::with_parts(config, connector, DefaultResolver::default()))
}

/// Wraps connections to `https` addresses in TLS. ureq's own connector would need roots that are whole certificates;
/// `webpki-roots` has trust anchors.
#[derive(Debug)]
struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    fn new(roots: RootCertStore) -> Result<TlsConnector, HttpError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.map_err(HttpError::Tls)?.with_root_certificates(roots).with_no_client_auth();
        Ok(TlsConnector { config: Arc::new(config) })
    }
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = ServerName::try_from(host).map_err(|_| ureq::Error::Tls("bad server name"))?.to_owned();
        let mut conn = ClientConnection::new(Arc::clone(&self.config), name)?;
        let mut sock = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        sock.set_timeout(details.timeout);
        conn.complete_io(&mut sock)?;
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(TlsTransport { buffers, stream: StreamOwned { conn, sock } })))
    }
}

/// A connection within TLS.
struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        self.stream.write_all(output)?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let input = self.buffers.input_append_buf();
        let amount = self.stream.read(input)?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
