//! Frames of the protocol.

use trunkline_core::protocol::ClientFrame;

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
