//! The legacy profile: the frames that clients of the legacy managers speak, as a pair of pure functions beside the native
//! ones. `core/LEGACY.md` is the specification in words.
//!
//! A client gets it that offers the subprotocol `jwt-auth` and not `trunkline.v1`. [`decode`] reads what it sends as native
//! frames, [`encode`] writes native frames as it reads them. Nothing else of the server knows of it: state, order, limits and
//! checks are those of every connection.
//!
//! ```
//! use trunkline_core::protocol::ClientFrame;
//! use trunkline_core::protocol::legacy::{Context, Decoded, decode};
//! use trunkline_core::time::UnixTime;
//! let mut ann = Context::new("ann");
//! let text = r#"{"type": "chat", "thread_id": "t-1", "message_id": "m-1", "payload": {"content": "what is 2*(3+4)?"}}"#;
//! let Decoded::Frame(frame) = decode(text, &mut ann, UnixTime::from_secs(1)) else { panic!("a frame") };
//! let ClientFrame::UserMessage { key, content, .. } = *frame else { panic!("a message") };
//! assert_eq!((key.unwrap().as_str(), content.as_str()), ("m-1", "what is 2*(3+4)?"));
//! ```

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{DEFAULT_THREAD, Decoded, decode};
pub use encode::{GOLDEN_PATH_EVENTS, encode, untranslatable};

use crate::id::FrameId;

/// What the profile knows of one connection.
#[derive(Clone, Debug)]
pub struct Context {
    /// The subject of the verified token.
    user_id: Box<str>,
    /// How many requests without a `message_id` have been given one.
    named: u64,
}

impl Context {
    /// A connection of this user, the subject of a verified token.
    pub fn new(user_id: &str) -> Self {
        Self { user_id: user_id.into(), named: 0 }
    }

    /// A name for a request that came without one.
    fn name(&mut self) -> FrameId {
        self.named = self.named.wrapping_add(1);
        // Digits and letters, far below the longest id.
        FrameId::new(&format!("legacy-{}", self.named)).expect("a short text without control characters")
    }
}
