//! Everything that is not `/ws`: the pages, the operations of back ends and operators, and in development mode the door that
//! lets people in by name.

use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use trunkline_core::client::js;
use trunkline_core::hub::Hub;
use trunkline_tokio::{Rewound, Web};

use crate::page;

/// How long a request's line and headers may take, the bytes already read included.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// How long request and answer may take together; everything served here is small.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// A request's line and headers, in bytes.
const MAX_HEADER_BYTES: usize = 16 << 10;
/// The body of a log-in, in bytes.
const MAX_LOGIN_BYTES: usize = 4 << 10;

const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-cache"),
];

/// Makes a token for a name, or says why the name is none.
pub(crate) type Login = Arc<dyn Fn(&str, Option<LoginScope>) -> Result<LoggedIn, String> + Send + Sync>;

/// What a log-in by name may ask for beside being somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LoginScope {
    /// The operators' page.
    Admin,
}

impl LoginScope {
    /// As a token says it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

/// What the page gets for a name. `Debug` shows no token.
#[derive(Serialize)]
pub(crate) struct LoggedIn {
    pub(crate) token: String,
    /// Seconds.
    pub(crate) expires_in: u64,
}

impl std::fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoggedIn").field("expires_in", &self.expires_in).finish_non_exhaustive()
    }
}

/// The door of development mode.
#[derive(Clone)]
pub(crate) struct DevDoor {
    /// Where the server listens, on loopback: no request for another host or port is for this server.
    pub(crate) listen: SocketAddr,
    /// Over TLS: no plain page is this server's.
    pub(crate) secure: bool,
    pub(crate) agent: bool,
    pub(crate) login: Login,
}

/// Without a door the development routes do not exist. What has no route here is the operations'.
pub(crate) fn router(hub: Hub, door: Option<DevDoor>) -> Router {
    let mut router = Router::new().fallback(trunkline_tokio::axum::operation).with_state(hub);
    for file in page::FILES {
        router = router.route(file.path, get(|| asset(file.media_type, file.text)));
    }
    for file in js::FILES {
        router = router.route(&format!("/{}", file.name), get(move || asset(file.media_type, file.text)));
    }
    if let Some(door) = door {
        router = router.merge(dev_routes(door));
    }
    router.layer(middleware::map_response(harden))
}

async fn asset(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], text)
}

async fn harden(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        // An answer may say more strictly what caches may do.
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

fn dev_routes(door: DevDoor) -> Router {
    Router::new()
        .route("/dev/info", get(dev_info))
        .route("/dev/login", post(dev_login))
        .route_layer(middleware::from_fn_with_state(door.clone(), guard))
        .layer(DefaultBodyLimit::max(MAX_LOGIN_BYTES))
        .with_state(door)
}

async fn dev_info(State(door): State<DevDoor>) -> Json<serde_json::Value> {
    Json(json!({"dev": true, "agent": door.agent, "version": env!("CARGO_PKG_VERSION")}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    user: String,
    scope: Option<LoginScope>,
}

async fn dev_login(State(door): State<DevDoor>, headers: HeaderMap, body: Bytes) -> Response {
    // A page elsewhere can post a form or plain text here without asking; JSON it cannot.
    if !is_json(&headers) {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content-type must be application/json");
    }
    let Ok(request) = serde_json::from_slice::<LoginRequest>(&body) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "the body must be {\"user\": NAME}, with \"scope\": \"admin\" for an operator",
        );
    };
    match (door.login)(&request.user, request.scope) {
        Ok(logged_in) => Json(logged_in).into_response(),
        Err(problem) => refuse(StatusCode::BAD_REQUEST, &problem),
    }
}

fn refuse(status: StatusCode, problem: &str) -> Response {
    (status, Json(json!({"error": problem}))).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = only(headers, &header::CONTENT_TYPE).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Lets through what the server's own page, or a tool on this machine, asks of this very address.
///
/// A name that somebody points at 127.0.0.1 (DNS rebinding) is not a loopback name, and a page elsewhere has another origin.
async fn guard(State(door): State<DevDoor>, request: Request, next: Next) -> Response {
    match check_address(request.headers(), &door) {
        Ok(()) => next.run(request).await,
        Err(problem) => refuse(StatusCode::FORBIDDEN, problem),
    }
}

fn check_address(headers: &HeaderMap, door: &DevDoor) -> Result<(), &'static str> {
    let host = only(headers, &header::HOST).ok_or("one Host header is needed")?;
    if !is_own(host, door) {
        return Err("the Host is not this server's loopback address");
    }
    if headers.contains_key(header::ORIGIN) {
        let origin = only(headers, &header::ORIGIN)
            .and_then(|origin| origin.strip_prefix(if door.secure { "https://" } else { "http://" }));
        if !origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host)) {
            return Err("the request comes from another origin");
        }
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Err("the request comes from another site");
    }
    Ok(())
}

/// The header's value when it is there exactly once, and text.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_own(host: &str, door: &DevDoor) -> bool {
    let (name, with_port) = match host.rsplit_once(':') {
        // The last colon of a bare `[::1]` is inside the brackets.
        Some((name, digits)) if !digits.ends_with(']') => (name, digits.parse().ok()),
        _ => (host, Some(if door.secure { 443 } else { 80 })),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let loopback = name.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    loopback && with_port == Some(door.listen.port())
}

/// What the library hands every request to that is not for the endpoint.
#[derive(Clone)]
pub(crate) struct Site(pub(crate) Router);

impl Web for Site {
    async fn serve<S>(&self, stream: Rewound<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve_connection(self.0.clone(), stream).await;
    }
}

/// Answers one request on `stream` and ends with it.
///
/// One, because a proxy that reused the connection could send a `/ws` on it that the manager never sees. A handler that
/// panics costs its own connection and nothing else.
async fn serve_connection<S>(router: Router, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_buf_size(MAX_HEADER_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut exchange = pin!(exchange);
    let contained = std::future::poll_fn(|cx| {
        // The connection is dropped after a panic, so nobody sees what it may have left half done.
        match catch_unwind(AssertUnwindSafe(|| exchange.as_mut().poll(cx))) {
            Ok(poll) => poll.map(|outcome| outcome.map_err(|error| error.to_string())),
            Err(_) => Poll::Ready(Err("the handler panicked".to_owned())),
        }
    });
    match tokio::time::timeout(EXCHANGE_DEADLINE, contained).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error, "an HTTP exchange failed"),
        Err(_) => tracing::debug!("an HTTP exchange took too long"),
    }
}

#[cfg(test)]
mod tests;
