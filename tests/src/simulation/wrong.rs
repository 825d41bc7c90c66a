//! What can be wrong beside the network: a server that breaks its word, so that every oracle is seen to find what it is for.

use std::time::Duration;

use trunkline_core::limits::Limits;

use super::world::{RESTART, World};

/// What is wrong from now on. Where it is about one device or back end, the operation says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The server begins anew, with bounds that are far wider than those it is held to.
    Lax,
    /// It begins anew, and ends tokens before their leeway is over.
    Hasty,
    /// It begins anew with the calendar of the very first.
    Yesterday,
    /// Its housekeeper sleeps for ever.
    NoHousekeeper,
    /// Its next revocation comes to nothing.
    Unheard,
    /// A run that is open is forgotten by its agent, and nobody is told.
    Orphan,
    /// Something panics.
    Panic,
    /// The task of a device's socket is never run again.
    Asleep,
    /// It is run again and again.
    Restless,
    /// What a device's socket has held is never given back.
    Leak,
    /// A device's socket that closes begins a second life.
    Reborn,
    /// A device's client forgets how often it has failed.
    Forgetful,
    /// No socket opens for a device any more.
    Unreachable,
    /// The server's end of a back end's connection is gone, and the back end knows nothing of it.
    Severed,
}

/// How much wider bounds are.
const FACTOR: u32 = 1_000;

impl World {
    pub(super) fn go_wrong(&mut self, at: u8, wrong: Wrong) {
        match wrong {
            Wrong::Lax => {
                let mut limits = self.limits.clone();
                limits.total_log_bytes *= FACTOR as usize;
                for time in [
                    &mut limits.handshake_deadline,
                    &mut limits.hello_deadline,
                    &mut limits.token_leeway,
                    &mut limits.drain_deadline,
                ] {
                    *time *= FACTOR;
                }
                self.restart_as(&limits);
            }
            Wrong::Hasty => {
                let limits = Limits { token_leeway: Duration::ZERO, ..self.limits.clone() };
                self.restart_as(&limits);
            }
            Wrong::Yesterday => self.begin_again(),
            Wrong::NoHousekeeper => self.server.stop_keeping(),
            Wrong::Unheard => self.server.is_deaf = true,
            Wrong::Orphan => self.agents.forget(),
            Wrong::Panic => panic!("as it was told to"),
            Wrong::Asleep | Wrong::Restless | Wrong::Leak | Wrong::Reborn => {
                let Some(line) = self.device(at).line.clone() else { return };
                if let Some(socket) = self.server.sockets.get_mut(&line.number) {
                    socket.seen.wrong.set(Some(wrong));
                    socket.wake();
                }
            }
            Wrong::Forgetful => {
                let ctx = self.ctx.clone();
                self.device(at).start_over(&ctx);
            }
            Wrong::Unreachable => self.device(at).unreachable = true,
            Wrong::Severed => {
                let at = usize::from(at) % self.producers.len();
                if let Some(line) = self.producers[at].line().cloned() {
                    self.server.forget(line.number, &line);
                }
            }
        }
    }

    fn begin_again(&mut self) {
        let passed = (self.ctx.clock.at() + RESTART).as_micros();
        self.ctx.clock.skew_by(-i64::try_from(passed).unwrap_or(i64::MAX));
        self.restart();
    }
}
