//! What `host/http` promises, tested.

use super::*;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// A certificate for `localhost` and 127.0.0.1 that vouches for itself, valid to 2126, and its key: for these tests alone.
const CERTIFICATE: &str = include_str!("test-cert.pem");
const KEY: &str = include_str!("test-key.pem");

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// Answers one request within TLS; returns the request's body.
fn serve_tls(stream: TcpStream) -> Option<String> {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("they fit");
    let conn = ServerConnection::new(Arc::new(config)).expect("a connection");
    let mut reader = BufReader::new(StreamOwned::new(conn, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).ok().filter(|count| *count > 0)?;
    }
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())?;
    let mut body: Vec<u8> = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone";
    reader.get_mut().write_all(answer).ok()?;
    String::from_utf8(body).ok()
}

#[test]
fn a_form_is_posted_within_tls() {
    let (listener, port) = listen();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate")).expect("a root");
    thread::scope(|scope| {
        let server = scope.spawn(|| serve_tls(listener.accept().expect("a connection").0));
        let url = format!("https://127.0.0.1:{port}/api");
        let answer = send(&agent(roots).expect("an agent"), &url, "token", &[("text", "a b")]).expect("an answer");
        assert_eq!(answer, Answer { status: 201, body: b"done".to_vec() });
        let body = server.join().expect("no panic").expect("a request");
        assert_eq!(body.replace("%20", "+"), "text=a+b");
    });
}

#[test]
fn an_unknown_authority_is_refused() {
    let (listener, port) = listen();
    thread::scope(|scope| {
        let server = scope.spawn(|| serve_tls(listener.accept().expect("a connection").0));
        let error = post_form(&format!("https://127.0.0.1:{port}/api"), "token", &[]).expect_err("not trusted");
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        assert_eq!(server.join().expect("no panic"), None);
    });
}

#[test]
fn a_server_without_tls_is_refused_over_https() {
    let (listener, port) = listen();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("still open");
        });
        assert!(post_form(&format!("https://127.0.0.1:{port}/"), "t", &[]).is_err());
    });
}

#[test]
fn a_redirection_is_not_followed() {
    let (listener, port) = listen();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                assert!(reader.read_line(&mut line).expect("a head") > 0);
            }
            let answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
            reader.get_mut().write_all(answer).expect("still open");
        });
        let answer = post_form(&format!("http://127.0.0.1:{port}/"), "t", &[]).expect("an answer");
        assert_eq!(answer.status, 302);
    });
}

#[test]
fn a_secret_is_in_no_error() {
    // Port 1 of this host: nobody listens.
    let error = post_form("http://127.0.0.1:1/x?token=secret-in-url", "secret-token", &[("text", "secret-text")]);
    let error = error.expect_err("nobody listens");
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret"), "{text}");
    assert!(error.to_string().starts_with("ask the server: "), "{error}");
}
