//! The way in: a token, or a name at the door of a server in development mode.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::endpoint::Server;
use crate::config::read_bounded;
use crate::{Fault, printable};

/// How long logging in may take, the connection included.
const DEADLINE: Duration = Duration::from_secs(5);
/// The answer's line and headers, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// The answer's body, in bytes.
const MAX_BODY_BYTES: usize = 16 << 10;
/// How much of the server's reason is repeated, in characters.
const MAX_REASON_CHARS: usize = 200;

/// What the person has to come in with.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A token, the only one there is.
    Token(String),
    /// A file that holds the token, and a newer one later.
    File(PathBuf),
    /// A name, which a server in development mode makes a token for.
    Name(String),
}

impl Credentials {
    /// Whether another token may come of them.
    pub(crate) const fn are_renewable(&self) -> bool {
        match self {
            Self::Token(_) => false,
            Self::File(_) | Self::Name(_) => true,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Name(name) => f.debug_tuple("Name").field(name).finish(),
        }
    }
}

/// Why there is no token for a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// The same again would be refused again.
    Refused(String),
    /// No answer, or none that says anything.
    Failed(String),
}

/// The token without the white space around it, if it can be one.
pub(crate) fn checked(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| token.to_owned())
}

/// What the credentials come to now.
pub(crate) async fn obtain(server: &Server, credentials: &Credentials) -> Result<String, LoginError> {
    match credentials {
        Credentials::Token(token) => Ok(token.clone()),
        Credentials::File(path) => read_token(path).map_err(|fault| LoginError::Failed(fault.message)),
        Credentials::Name(user) => log_in(server, user).await,
    }
}

/// The token that a file holds.
pub(crate) fn read_token(path: &Path) -> Result<String, Fault> {
    let refuse = |problem: &str| Fault::usage(format!("--token-file {}: {problem}", path.display()));
    let bytes = read_bounded(path).map_err(|problem| refuse(&problem))?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))?;
    checked(&text).ok_or_else(|| refuse("the token is empty, or holds characters that no token has"))
}

/// A token for `user`, from the door of development mode at the endpoint's host and port.
pub(crate) async fn log_in(server: &Server, user: &str) -> Result<String, LoginError> {
    let at = printable(server.endpoint.authority());
    let answer = tokio::time::timeout(DEADLINE, ask(server, user))
        .await
        .unwrap_or_else(|_| Err(format!("cannot log in at {at}: no answer in {} s", DEADLINE.as_secs())));
    let (status, body) = answer.map_err(LoginError::Failed)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status == StatusCode::NOT_FOUND {
        return Err(LoginError::Refused(format!(
            "the server at {at} is not in development mode, which alone lets people in by name: pass --token-file or \
             --token, or set TRUNKLINE_TOKEN"
        )));
    }
    if status == StatusCode::OK {
        let token = body["token"].as_str().and_then(checked);
        return token.ok_or_else(|| LoginError::Failed(format!("{at} answered the log-in without a token")));
    }
    let reason: String =
        body["error"].as_str().unwrap_or("it does not say why").chars().take(MAX_REASON_CHARS).collect();
    let why = format!("{at} refused the log-in with status {}: {}", status.as_u16(), printable(&reason));
    Err(if status.is_server_error() { LoginError::Failed(why) } else { LoginError::Refused(why) })
}

async fn ask(server: &Server, user: &str) -> Result<(StatusCode, Bytes), String> {
    let at = printable(server.endpoint.authority());
    let fault = |error: &dyn fmt::Display| format!("cannot log in at {at}: {error}");
    let stream = TokioIo::new(server.open().await?);
    let request = Request::post("/dev/login")
        .header(header::HOST, server.endpoint.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"user": user}).to_string()))
        .map_err(|error| fault(&error))?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(MAX_HEADER_BYTES).handshake(stream).await.map_err(|error| fault(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| fault(&error))?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), MAX_BODY_BYTES).await.map_err(|error| fault(&error))?;
        Ok((status, body))
    };
    let mut exchange = pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // What came before the connection's end is still read.
        _ = connection => exchange.await,
    }
}
