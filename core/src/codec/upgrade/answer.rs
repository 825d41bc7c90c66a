//! An HTTP answer in parts, for a socket as for a web stack.

use std::fmt::Write as _;

/// The answer to an upgrade: 101, or a refusal.
///
/// ```
/// use trunkline_core::codec::upgrade::Refusal;
/// let answer = Refusal::UpgradeRequired.answer();
/// assert_eq!((answer.status, &answer.headers[1]), (426, &("Connection", "close, Upgrade".to_owned())));
/// assert!(answer.encode().starts_with(b"HTTP/1.1 426 Upgrade Required\r\n"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// What the status is called.
    pub(super) phrase: &'static str,
    /// Each name once, without `Content-Length`: a web stack adds that itself.
    pub headers: Vec<(&'static str, String)>,
    /// Text of one line, or nothing.
    pub body: String,
}

impl Answer {
    /// Whether the stream that it goes out on is a WebSocket from then on.
    pub const fn is_upgrade(&self) -> bool {
        self.status == 101
    }

    /// The whole HTTP/1.1 answer, for a socket.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, self.phrase);
        // Writing to a string cannot fail.
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        if !self.is_upgrade() {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        text.into_bytes()
    }
}
