//! What becomes of a run while none of its user's devices is connected. Leaving appends no event: a run that nobody
//! watches is neither completed nor cancelled.

use std::collections::VecDeque;
use std::time::Duration;

use super::runs::OpenRun;
use super::user::User;
use super::{Control, Manager, Output};
use crate::id::{RunId, UserId};
use crate::time::Timestamp;

/// What a run does when the last device of its user leaves, or where it starts with none connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnDisconnect {
    /// It goes on.
    #[default]
    Continue,
    /// Its producer is asked to stop, by `disconnect`, unless a device comes back within this time. At the very moment
    /// of the deadline, whichever comes first counts; once asked, the request stands.
    CancelAfter(Duration),
    /// Its producer is told to pause, and to go on when a device comes back.
    Pause,
}

/// A time without devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct Absence {
    cancel_at: Option<Timestamp>,
}

/// Who asks for the end of a run whose user has left.
const BY_DISCONNECT: &str = "disconnect";

impl<H: Clone> OpenRun<H> {
    /// When the absence of its user ends the run.
    pub(super) fn cancel_at(&self) -> Option<Timestamp> {
        self.absence?.cancel_at
    }

    /// Keeps the run in step with whether a device is there; answers what its producer is told.
    pub(super) fn observe(&mut self, now: Timestamp, run: RunId, is_watched: bool) -> Option<Control> {
        if is_watched != self.absence.is_some() {
            return None;
        }
        let cancel_at = match self.on_disconnect {
            OnDisconnect::CancelAfter(grace) => Some(now + grace),
            OnDisconnect::Continue | OnDisconnect::Pause => None,
        };
        self.absence = (!is_watched).then_some(Absence { cancel_at });
        match self.on_disconnect {
            OnDisconnect::Continue | OnDisconnect::CancelAfter(_) => None,
            OnDisconnect::Pause if is_watched => Some(Control::Resumed { run }),
            OnDisconnect::Pause => Some(Control::Paused { run }),
        }
    }

    /// Whether its producer is to wait for a device.
    pub(super) fn is_paused(&self) -> bool {
        self.absence.is_some() && self.on_disconnect == OnDisconnect::Pause
    }

    /// What the producer is told when the grace is over.
    fn expire(&mut self, now: Timestamp, run: RunId) -> Option<Control> {
        let absence = self.absence.as_mut()?;
        absence.cancel_at.take_if(|at| *at <= now)?;
        Some(Control::CancelRequested { run, by: BY_DISCONNECT.into() })
    }
}

impl<H: Clone> User<H> {
    /// Tells the producers of the user's runs that a device has come, or that the last has left.
    pub(super) fn observe_devices(&mut self, now: Timestamp, outputs: &mut VecDeque<Output<H>>) {
        let is_watched = !self.channel.devices.is_empty();
        for (run, open) in &mut self.runs {
            let told = open.observe(now, *run, is_watched);
            outputs.extend(told.and_then(|control| open.tell(control)));
        }
    }
}

impl<H: Clone> Manager<H> {
    /// Asks for the end of the runs whose grace is over.
    pub(super) fn expire_absences(&mut self, now: Timestamp, id: &UserId) {
        let Some(user) = self.users.get_mut(id) else { return };
        for (run, open) in &mut user.runs {
            let told = open.expire(now, *run);
            self.outputs.extend(told.and_then(|control| open.tell(control)));
        }
    }
}
