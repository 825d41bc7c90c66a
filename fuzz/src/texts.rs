//! Frames of the protocol.

use trunkline_core::protocol::ClientFrame;
use trunkline_core::protocol::legacy::{Context, Decoded, decode};
use trunkline_core::time::UnixTime;

/// A client's frame in any text. What parses says the same once it is encoded and parsed again; what does not gets an
/// answer of bounded size. The same text as a legacy client's comes to a frame that parses, or to such an answer.
pub fn client_frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    legacy(text);
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

fn legacy(text: &str) {
    match decode(text, &mut Context::new("ann"), UnixTime::from_secs(1)) {
        Decoded::Frame(frame) => {
            let encoded = frame.encode();
            let parsed = ClientFrame::parse(&encoded).expect("what a legacy frame comes to parses");
            assert_eq!(parsed.frame.encode(), encoded);
        }
        Decoded::Answer(answer) | Decoded::Leave(answer) => {
            assert!(answer.len() < 1_024, "an answer does not grow with what it is about");
            serde_json::from_str::<serde::de::IgnoredAny>(&answer).expect("an answer is JSON");
        }
        Decoded::Nothing => {}
    }
}
