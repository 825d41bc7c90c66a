//! The phases of a connection, each with the data that only it has.

use std::fmt;

use super::live::Live;
use super::wire::Closing;
use crate::auth::Grant;
use crate::auth::carrier::{Carrier, Extracted};
use crate::codec::upgrade::{HeadScanner, Refusal, Upgrade};
use crate::limits::Limits;
use crate::protocol::Hello;

pub(super) enum Phase {
    /// The upgrade request comes in.
    Head(Box<HeadBuffer>),
    /// The head that a proxy has passed on is whole; its client needs a place.
    Reserving(Vec<u8>),
    /// Its token is being verified, before the answer.
    VerifyUpgrade(Box<Upgrading>),
    /// Upgraded; the first frame is due.
    AwaitHello(Box<Greeting>),
    /// The first frame's token is being verified.
    VerifyHello(Box<Said>),
    /// Verified; the hub decides.
    Attaching(Box<Entering>),
    /// In.
    Live(Live),
    /// A close or a refusal is on its way.
    Closing(Closing),
    /// Not for us: the bytes so far.
    Handoff(Vec<u8>),
    /// Over.
    Closed,
}

/// The name of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PhaseName {
    /// The upgrade request comes in.
    Head,
    /// The client behind a proxy needs a place.
    Reserving,
    /// Its token is being verified.
    VerifyUpgrade,
    /// The first frame is due.
    AwaitHello,
    /// The first frame's token is being verified.
    VerifyHello,
    /// The hub decides.
    Attaching,
    /// In.
    Live,
    /// A close or a refusal is on its way.
    Closing,
    /// Handed over to the web stack.
    Handoff,
    /// Over.
    Closed,
}

impl Phase {
    pub(super) const fn name(&self) -> PhaseName {
        match self {
            Self::Head(_) => PhaseName::Head,
            Self::Reserving(_) => PhaseName::Reserving,
            Self::VerifyUpgrade(_) => PhaseName::VerifyUpgrade,
            Self::AwaitHello(_) => PhaseName::AwaitHello,
            Self::VerifyHello(_) => PhaseName::VerifyHello,
            Self::Attaching(_) => PhaseName::Attaching,
            Self::Live(_) => PhaseName::Live,
            Self::Closing(_) => PhaseName::Closing,
            Self::Handoff(_) => PhaseName::Handoff,
            Self::Closed => PhaseName::Closed,
        }
    }
}

/// Shows where it stands: what it holds are tokens and requests.
impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name().fmt(f)
    }
}

#[derive(Default)]
pub(super) struct HeadBuffer {
    bytes: Vec<u8>,
    scanner: HeadScanner,
    /// A trusted proxy has opened the socket.
    pub(super) proxied: bool,
}

impl HeadBuffer {
    /// Takes bytes up to the end of the head, and answers how many it took, and the head once it is whole.
    pub(super) fn take(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, Option<Vec<u8>>), Refusal> {
        let before = self.bytes.len();
        // One byte more than may be: enough to see that it is too much.
        let room = (limits.handshake_bytes + 1).saturating_sub(before).min(bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let Some(len) = self.scanner.scan(&self.bytes, limits)? else { return Ok((room, None)) };
        self.bytes.truncate(len);
        Ok((len.saturating_sub(before), Some(std::mem::take(&mut self.bytes))))
    }

    /// Bytes of heap that it holds.
    pub(super) const fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// A good upgrade request whose token is being verified.
#[derive(Debug)]
pub(super) struct Upgrading {
    pub(super) upgrade: Upgrade,
    pub(super) carried: Extracted,
    pub(super) carrier: Carrier,
    /// What stands for the `hello` of a client of the legacy profile.
    pub(super) legacy: Option<Box<Hello>>,
}

/// What is known before the first frame.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) carried: Extracted,
    pub(super) grant: Option<Grant>,
}

/// A first frame whose token is being verified.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) hello: Hello,
    /// Who it says it is from, where it does.
    pub(super) user_id: Option<String>,
}

/// Who is let in.
#[derive(Debug)]
pub(super) struct Entering {
    pub(super) grant: Grant,
    pub(super) profile: Profile,
}

/// Which frames the client reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Profile {
    #[default]
    Native,
    /// Those of the legacy managers.
    Legacy,
}
