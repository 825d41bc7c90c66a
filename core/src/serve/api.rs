//! The operations of back ends and operators over a raw stream: HTTP/1.1 for servers that have no web stack beside them.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use super::{say, within};
use crate::api::{Answer, Head, MAX_BODY_BYTES};
use crate::codec::upgrade::{Head as Parsed, HeadScanner, Refusal, Request, parse_head};
use crate::drive::{Timer, Transport, write_all};
use crate::hub::Hub;
use crate::time::Clock as _;

/// How long a request may take from its first byte to its last.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// How much of a body that nobody wants is read all the same, in bytes: its sender may hear nothing before it is through.
const MAX_IGNORED_BYTES: usize = 4 * MAX_BODY_BYTES;
/// RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Answers one request, as [`Hub::api`] does, and ends the connection: within 30 s and a second
/// more for the peer to hear it. A body comes with its length; one in chunks is answered with 411.
pub async fn serve_api<T, K>(hub: &Hub, mut transport: T, mut timer: K)
where
    T: Transport + Unpin,
    K: Timer + Unpin,
{
    let deadline = hub.now().at + EXCHANGE_DEADLINE;
    if let Some(Some(answer)) = within(&mut timer, deadline, exchange(hub, &mut transport)).await {
        say(&answer, MAX_IGNORED_BYTES, transport, timer, hub).await;
    }
}

/// What a request is to be answered with; `None` where the peer is gone before it is whole.
async fn exchange<T: Transport + Unpin>(hub: &Hub, transport: &mut T) -> Option<Vec<u8>> {
    let (mut bytes, mut scanner) = (Vec::new(), HeadScanner::default());
    let head = loop {
        match scanner.scan(&bytes, hub.limits()) {
            Ok(Some(length)) => break length,
            Ok(None) => read(transport, &mut bytes).await?,
            Err(refusal) => return Some(refusal.response()),
        }
    };
    let body = bytes.split_off(head);
    let request = match parse_head(&bytes, hub.limits()) {
        Ok(Parsed::Complete { request, .. }) => request,
        Ok(Parsed::Incomplete) => return Some(Refusal::BadRequest("the request is not whole").response()),
        Err(refusal) => return Some(refusal.response()),
    };
    Some(match respond(hub, transport, &request, body).await? {
        Ok(answer) => written(&answer, request.method() == "HEAD"),
        Err(refusal) => refusal,
    })
}

/// The answer, or the bytes of a refusal.
async fn respond<T: Transport + Unpin>(
    hub: &Hub,
    transport: &mut T,
    request: &Request<'_>,
    mut body: Vec<u8>,
) -> Option<Result<Answer, Vec<u8>>> {
    let length = match content_length(request) {
        Ok(length) => length,
        Err(refusal) => return Some(Err(refusal)),
    };
    let authorization: Vec<_> = request.headers("authorization").collect();
    let mut kinds = request.headers("content-type").map(std::str::from_utf8);
    let content_type = kinds.next().and_then(Result::ok).filter(|_| kinds.next().is_none());
    let asked = Head { method: request.method(), path: request.path(), authorization: &authorization, content_type };
    let call = match hub.api(&asked) {
        Ok(call) => call,
        Err(refusal) => return Some(Ok(refusal)),
    };
    if !call.has_body() {
        return Some(Ok(call.answer(&[])));
    }
    if length > MAX_BODY_BYTES {
        return Some(Ok(Answer::too_large()));
    }
    if body.len() < length && request.headers("expect").any(|value| value.eq_ignore_ascii_case(b"100-continue")) {
        write_all(transport, CONTINUE).await.ok()?;
    }
    while body.len() < length {
        read(transport, &mut body).await?;
    }
    Some(Ok(call.answer(body.get(..length).unwrap_or_default())))
}

/// RFC 9112 section 6.3: one length, or none.
fn content_length(request: &Request<'_>) -> Result<usize, Vec<u8>> {
    if request.headers("transfer-encoding").next().is_some() {
        let refusal = "HTTP/1.1 411 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return Err(refusal.into());
    }
    let mut lengths = request.headers("content-length");
    let Some(length) = lengths.next() else { return Ok(0) };
    let digits = std::str::from_utf8(length).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    // What is too long for a number is too long for a body.
    let length = digits.filter(|text| !text.is_empty()).map(|text| text.parse().unwrap_or(usize::MAX));
    match (length, lengths.next()) {
        (Some(length), None) => Ok(length),
        (Some(_) | None, _) => Err(Refusal::BadRequest("the body has no one length").response()),
    }
}

fn written(answer: &Answer, head_only: bool) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} \r\n", answer.status);
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += &format!("content-length: {}\r\nconnection: close\r\n\r\n", answer.body.len());
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(if head_only { &[] } else { &answer.body });
    bytes
}

/// Some more of what the peer sends; `None` at its end.
async fn read<T: Transport + Unpin>(transport: &mut T, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buf = [0; 1024];
    let n = poll_fn(|cx| Pin::new(&mut *transport).poll_read(cx, &mut buf)).await.ok()?;
    bytes.extend_from_slice(buf.get(..n)?);
    (n > 0).then_some(())
}
