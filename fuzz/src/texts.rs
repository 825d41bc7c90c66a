//! Texts: frames of the protocol, tokens.

use std::sync::LazyLock;
use std::time::Duration;

use trunkline_core::auth::{ClaimRules, Hs256, NewToken, TokenVerifier};
use trunkline_core::id::UserId;
use trunkline_core::protocol::ClientFrame;
use trunkline_core::time::UnixTime;

/// A client's frame in any text. What parses says the same once it is encoded and parsed again; what does not gets an
/// answer of bounded size.
pub fn client_frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match ClientFrame::parse(text) {
        Ok(parsed) => {
            let encoded = parsed.frame.encode();
            let again = ClientFrame::parse(&encoded).expect("what was encoded parses").frame;
            assert_eq!((again.type_name(), again.id()), (parsed.frame.type_name(), parsed.frame.id()));
            assert_eq!(again.encode(), encoded);
            serde_json::from_str::<serde::de::IgnoredAny>(&encoded).expect("a frame is JSON");
        }
        Err(error) => assert!(error.message.len() < 512, "an error does not grow with what it is about"),
    }
}

/// A token in any text: only the one that was issued is accepted, in its one spelling and in its time.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let verdict = KEYS.verify(text, NOW);
    assert_eq!(verdict.is_ok(), text == GOOD.as_str());
    assert!(KEYS.verify(text, NOW + 2 * TTL).is_err());
}

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const TTL: Duration = Duration::from_secs(3600);

static KEYS: LazyLock<Hs256> = LazyLock::new(|| {
    Hs256::new(b"the secret of the fuzz target, and of nothing else", ClaimRules::default()).expect("it is long enough")
});

static GOOD: LazyLock<String> = LazyLock::new(|| {
    let user = UserId::new(Some("acme"), "ann").expect("a user");
    let claims = NewToken { user: &user, issued_at: NOW, ttl: TTL, scope: "topic:news", token_id: Some("t-1") };
    KEYS.issue(&claims).expect("a good token")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_named_good_is_the_good_token() {
        assert_eq!(include_str!("../seeds/token/good"), GOOD.as_str());
    }
}
