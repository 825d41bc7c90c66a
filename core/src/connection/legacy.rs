//! A connection of the legacy profile: the one place where legacy text and native frames meet.

use super::Connection;
use super::phase::Phase;
use crate::error::CloseReason;
use crate::protocol::ServerFrame;
use crate::protocol::legacy::{Decoded, decode, encode, untranslatable};
use crate::time::Now;

impl Connection {
    /// Whether it is in, and speaks the legacy frames.
    pub(super) fn is_legacy(&self) -> bool {
        matches!(&self.phase, Phase::Live(live) if live.is_legacy())
    }

    /// One text of a live legacy client, whose rate is checked.
    pub(super) fn legacy_text(&mut self, now: Now, text: &str) {
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(context) = live.legacy() else { return };
        match decode(text, context, now.unix) {
            Decoded::Frame(frame) => self.frame(now, *frame),
            Decoded::Answer(answer) => self.wire.text(now.at, &[answer.as_bytes()]),
            Decoded::Leave(answer) => {
                self.wire.text(now.at, &[answer.as_bytes()]);
                self.close(now, CloseReason::Normal);
            }
            Decoded::Nothing => {}
        }
    }

    /// Adds a frame in the legacy form.
    pub(super) fn send_legacy(&mut self, now: Now, frame: &ServerFrame) {
        let Phase::Live(live) = &mut self.phase else { return };
        let Some(context) = live.legacy() else { return };
        self.wire.text(now.at, &[encode(frame, context, now.unix).as_bytes()]);
    }

    /// The same for one that is encoded for everybody.
    pub(super) fn translate(&mut self, now: Now, parts: &[&[u8]]) {
        let bytes = parts.concat();
        match std::str::from_utf8(&bytes).ok().and_then(|text| ServerFrame::parse(text).ok()) {
            Some(frame) => self.send_legacy(now, &frame),
            // An application's payload can nest deeper than frames are read.
            None => self.wire.text(now.at, &[untranslatable(now.unix).as_bytes()]),
        }
    }
}
