//! Plain HTTP by hand: one request a connection, and the whole answer.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use crate::wire::{STEP, read_to_end, tcp, within};

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// `null` where it is empty, a text where it is no JSON.
    pub body: Value,
}

/// Sends a request with these headers beside `Host` and `Content-Length`.
///
/// # Panics
/// When there is no whole answer in time.
pub async fn request(addr: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let mut stream = tcp(addr).await;
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("{line} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\n{more}\r\n", body.len());
    let sent = async {
        stream.write_all(head.as_bytes()).await?;
        // A server that has refused the request may close before it has all of it.
        let _ = stream.write_all(body).await;
        std::io::Result::Ok(())
    };
    within("a request to leave", STEP, sent).await.expect("the request leaves");
    let answer = read_to_end(&mut stream, "the answer to a request", STEP).await;
    parse(&String::from_utf8(answer).expect("the answer is text"))
}

fn parse(answer: &str) -> Response {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer:?}"));
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.get(9..12)).and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Response {
        status: status.unwrap_or_else(|| panic!("no status: {head}")),
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect(),
        body: match body {
            "" => Value::Null,
            other => serde_json::from_str(other).unwrap_or_else(|_| other.into()),
        },
    }
}
