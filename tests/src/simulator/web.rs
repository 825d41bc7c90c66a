//! What is no WebSocket: the HTTP API, one request a connection.

use std::future::poll_fn;

use trunkline_core::api::{Answer, Head};
use trunkline_core::codec::upgrade::Refusal;
use trunkline_core::hub::Hub;

use super::pipe::Side;
use crate::conformance::net::{Pipe as _, write_all};

/// Answers the request that begins with these bytes.
pub(super) async fn answer(hub: &Hub, mut bytes: Vec<u8>, side: &mut Side) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        let mut some = [0; 4096];
        match poll_fn(|cx| side.poll_read(cx, &mut some)).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(some.get(..read).unwrap_or_default()),
            Ok(_) | Err(_) => return,
        }
    }
    let answer = respond(hub, &head, bytes.get(end..end + length).unwrap_or_default());
    // The peer may be gone: there is nobody to tell.
    let _ = write_all(side, &answer).await;
}

fn respond(hub: &Hub, head: &str, body: &[u8]) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !path.starts_with("/v1/") && path != "/openapi.json" {
        return Refusal::NotFound.response();
    }
    let authorization: Vec<_> = header(head, "authorization").into_iter().map(str::as_bytes).collect();
    let head = Head { method, path, authorization: &authorization, content_type: header(head, "content-type") };
    let Answer { status, headers, body } = match hub.api(&head) {
        Ok(call) => call.answer(body),
        Err(refusal) => refusal,
    };
    let mut answer = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    for (name, value) in headers {
        answer += &format!("{name}: {value}\r\n");
    }
    [answer.as_bytes(), b"\r\n", &body].concat()
}

/// The first header of this name.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}
