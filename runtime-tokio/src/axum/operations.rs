//! The operations of back ends: the core answers, and this reads bodies for it, of whoever it lets in.

use std::future::poll_fn;
use std::pin::Pin;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{StatusCode, request};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use hyper::body::Body as _;
use trunkline_core::api::{Answer, Head, MAX_BODY_BYTES};
use trunkline_core::hub::Hub;

/// How much of a body that nobody wants is read all the same, in bytes: a socket that is closed over unread bytes is reset, and
/// its peer may never see the answer.
const MAX_IGNORED_BYTES: usize = 4 * MAX_BODY_BYTES;

/// The operations over HTTP, `/v1/…`, and their description, `/openapi.json`, as `core/PROTOCOL.md` has them.
pub fn operations<S: Clone + Send + Sync + 'static>(hub: Hub) -> Router<S> {
    Router::new().route("/v1/{*path}", any(operation)).route("/openapi.json", any(operation)).with_state(hub)
}

/// The handler of all of them, such as for a fallback: what is no operation is answered with 404.
pub async fn operation(State(hub): State<Hub>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let answer = match with_head(&parts, |head| hub.api(head)) {
        Ok(call) if call.has_body() => match whole(&mut body).await {
            Ok(bytes) => call.answer(&bytes),
            Err(Cut::TooLarge) => Answer::too_large(),
            // Half of a request is none, and nobody is there to read an answer.
            Err(Cut::Broken) => return StatusCode::BAD_REQUEST.into_response(),
        },
        Ok(call) => call.answer(&[]),
        Err(refusal) => refusal,
    };
    // Who waits for a word before the body is told by the answer not to send it.
    if !parts.headers.contains_key(header::EXPECT) {
        ignore(body).await;
    }
    respond(answer)
}

fn with_head<R>(parts: &request::Parts, ask: impl FnOnce(&Head<'_>) -> R) -> R {
    let authorization: Vec<_> =
        parts.headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    let mut content_types = parts.headers.get_all(header::CONTENT_TYPE).iter();
    let content_type = content_types.next().and_then(|kind| kind.to_str().ok());
    // Of two none counts.
    let content_type = content_type.filter(|_| content_types.next().is_none());
    ask(&Head { method: parts.method.as_str(), path: parts.uri.path(), authorization: &authorization, content_type })
}

/// Why there is no whole body.
enum Cut {
    TooLarge,
    Broken,
}

async fn whole(body: &mut Body) -> Result<Vec<u8>, Cut> {
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(Cut::TooLarge);
    }
    // Grown as it comes: what is announced costs nothing.
    let mut bytes = Vec::new();
    while let Some(data) = next(body).await {
        let data = data.map_err(|_| Cut::Broken)?;
        if bytes.len() + data.len() > MAX_BODY_BYTES {
            return Err(Cut::TooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

async fn ignore(mut body: Body) {
    let mut ignored = 0;
    while ignored < MAX_IGNORED_BYTES
        && let Some(Ok(data)) = next(&mut body).await
    {
        ignored += data.len();
    }
}

/// The next piece, until the end.
async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

fn respond(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
