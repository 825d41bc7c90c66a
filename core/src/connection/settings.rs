//! What connections of one hub have in common.

use crate::admission::TrustedProxies;
use crate::auth::Access;
use crate::codec::deflate::Deflate;
use crate::limits::Limits;

/// What all connections of a hub share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bounds.
    pub limits: Limits,
    /// The path of the WebSocket endpoint, as in `/ws`. Every other request is handed over.
    pub endpoint: String,
    /// From where it may be opened.
    pub access: Access,
    /// Whether clients that offer `jwt-auth` alone get the legacy profile.
    pub legacy_profile: bool,
    /// Whose word about a client's address is believed.
    pub proxies: TrustedProxies,
    /// What messages are compressed with, from [`Limits::deflate_from`] bytes on.
    pub deflate: Deflate,
}

/// Stream events are added up to this many unsent bytes: enough for one full write, little to hold per slow reader.
pub(super) const HIGH_WATER: usize = 32 << 10;

impl Settings {
    /// Beyond these unsent bytes nothing is read: what events may take, one that overshoots, and the control frames.
    pub(super) const fn read_gate(&self) -> usize {
        HIGH_WATER + self.limits.event_bytes + self.limits.control_bytes
    }
}
