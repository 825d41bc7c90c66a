//! HTTP answers of a refused upgrade.

use super::Answer;

/// Why an upgrade is refused, as a whole HTTP answer. The texts are fixed: nothing of the request is echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: the request breaks HTTP or RFC 6455; the text says how.
    #[error("{0}")]
    BadRequest(&'static str),
    /// 401: no credentials in the `Authorization` header, or none that hold.
    #[error("no valid credentials: send a bearer token")]
    Unauthorized,
    /// 403: verified or not, this origin or user may not come in.
    #[error("not allowed here: ask the operator for access")]
    Forbidden,
    /// 404: no such path.
    #[error("nothing is here: check the path")]
    NotFound,
    /// 405: the method is not GET.
    #[error("a WebSocket starts with GET: use that method")]
    MethodNotAllowed,
    /// 426: no WebSocket was asked for, or another version of it.
    #[error("this address speaks WebSocket version 13: connect with a WebSocket client")]
    UpgradeRequired,
    /// 431: the head is over `handshake_bytes` or `handshake_headers`.
    #[error("the request's head is too large: send fewer or shorter headers")]
    HeaderTooLarge,
    /// 503: no room now, or not yet the key that tells whether the token holds.
    #[error("not now: try again in {retry_after_secs} s")]
    Unavailable {
        /// Seconds, as `Retry-After` says them.
        retry_after_secs: u32,
    },
}

impl Refusal {
    /// The HTTP status code.
    pub const fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::UpgradeRequired => 426,
            Self::HeaderTooLarge => 431,
            Self::Unavailable { .. } => 503,
        }
    }

    /// The answer, after which the connection closes.
    pub fn answer(&self) -> Answer {
        let mut headers = vec![
            ("Content-Type", "text/plain; charset=utf-8".to_owned()),
            ("Connection", self.connection().to_owned()),
        ];
        headers.extend(self.extra_headers());
        Answer { status: self.status(), phrase: self.phrase(), headers, body: format!("{self}\n") }
    }

    /// The same as the bytes of a whole HTTP/1.1 answer.
    pub fn response(&self) -> Vec<u8> {
        self.answer().encode()
    }

    const fn phrase(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::UpgradeRequired => "Upgrade Required",
            Self::HeaderTooLarge => "Request Header Fields Too Large",
            Self::Unavailable { .. } => "Service Unavailable",
        }
    }

    /// Whoever sends `Upgrade` names it in `Connection`: RFC 9110 section 7.8.
    const fn connection(&self) -> &'static str {
        match self {
            Self::UpgradeRequired => "close, Upgrade",
            Self::BadRequest(_)
            | Self::Unauthorized
            | Self::Forbidden
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::HeaderTooLarge
            | Self::Unavailable { .. } => "close",
        }
    }

    /// What RFC 9110 (401: 11.6.1, 405: 10.2.1, 426: 15.5.22, 503: 10.2.3) and RFC 6455 section 4.4 ask for.
    fn extra_headers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Unauthorized => vec![("WWW-Authenticate", "Bearer".into())],
            Self::MethodNotAllowed => vec![("Allow", "GET".into())],
            Self::UpgradeRequired => vec![("Upgrade", "websocket".into()), ("Sec-WebSocket-Version", "13".into())],
            Self::Unavailable { retry_after_secs } => vec![("Retry-After", retry_after_secs.to_string())],
            Self::BadRequest(_) | Self::Forbidden | Self::NotFound | Self::HeaderTooLarge => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Refusal; 8] = [
        Refusal::BadRequest("why"),
        Refusal::Unauthorized,
        Refusal::Forbidden,
        Refusal::NotFound,
        Refusal::MethodNotAllowed,
        Refusal::UpgradeRequired,
        Refusal::HeaderTooLarge,
        Refusal::Unavailable { retry_after_secs: 7 },
    ];

    fn parsed(refusal: Refusal) -> (u16, Vec<(String, String)>, String) {
        let bytes = refusal.response();
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let len = response.parse(&bytes).unwrap().unwrap();
        let headers =
            response.headers.iter().map(|h| (h.name.to_string(), String::from_utf8(h.value.to_vec()).unwrap()));
        (response.code.unwrap(), headers.collect(), String::from_utf8(bytes[len..].to_vec()).unwrap())
    }

    #[test]
    fn every_refusal_is_a_whole_answer_with_a_one_line_body() {
        for refusal in ALL {
            let (status, headers, body) = parsed(refusal);
            assert_eq!(status, refusal.status());
            assert!(headers.contains(&("Content-Length".into(), body.len().to_string())), "{refusal:?}");
            assert!(headers.iter().any(|(name, value)| name == "Connection" && value.starts_with("close")));
            assert_eq!(body.lines().count(), 1);
            assert!(body.ends_with('\n'));
        }
    }

    #[test]
    fn the_headers_a_status_asks_for() {
        let expected = [
            (Refusal::Unauthorized, "WWW-Authenticate", "Bearer"),
            (Refusal::MethodNotAllowed, "Allow", "GET"),
            (Refusal::UpgradeRequired, "Upgrade", "websocket"),
            (Refusal::UpgradeRequired, "Sec-WebSocket-Version", "13"),
            (Refusal::UpgradeRequired, "Connection", "close, Upgrade"),
            (Refusal::Unavailable { retry_after_secs: 7 }, "Retry-After", "7"),
        ];
        for (refusal, name, value) in expected {
            assert!(parsed(refusal).1.contains(&(name.into(), value.into())), "{refusal:?} {name}");
        }
    }
}
