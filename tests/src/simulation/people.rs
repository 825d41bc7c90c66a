//! What people do with their devices, and what is done about their tokens.

use std::time::Duration;

use trunkline_core::client::Reconnecting;
use trunkline_core::id::{FrameId, TokenId};
use trunkline_core::protocol::{ClientFrame, RevokeTarget, RunRef, Token};
use trunkline_core::time::Clock as _;

use super::cast;
use super::counters::Counted;
use super::device::{Device, Request, Supply};
use super::truth::RunTruth;
use super::world::World;

impl Supply {
    /// Tokens live for so many seconds from now on.
    pub(super) fn live(&mut self, seconds: u8) {
        self.life = Duration::from_secs(u64::from(seconds).max(1));
    }
}

impl World {
    fn ask(&mut self, device: u8, number: u64, what: Request, frame: impl FnOnce(FrameId) -> ClientFrame) {
        let Ok(id) = FrameId::new(&number.to_string()) else { return };
        let now = self.ctx.clock.now();
        if self.device(device).request(now, number, what, frame(id)) {
            self.count(Counted::Asked);
        }
    }

    pub(super) fn message(&mut self, device: u8, thread: u8) {
        let thread = 1 + thread % (cast::THREADS - 1);
        let Some(thread_id) = cast::thread(thread) else { return };
        let (number, user) = (self.truth.number(), self.device(device).view.user);
        self.truth.messages.insert(number, (user, thread));
        let content = format!("m{number}");
        self.ask(device, number, Request::Message, |id| ClientFrame::UserMessage {
            id,
            key: None,
            thread_id,
            content,
            metadata: None,
        });
    }

    pub(super) fn command(&mut self, device: u8) {
        let number = self.truth.number();
        self.ask(device, number, Request::Command, |id| ClientFrame::Command {
            id,
            name: "do".into(),
            args: None,
            key: None,
        });
    }

    pub(super) fn cancel(&mut self, device: u8) {
        let (number, user) = (self.truth.number(), self.device(device).view.user);
        let open = |run: &&RunTruth| run.user == user && !run.over && !run.gone;
        let Some(run) = self.truth.runs.iter().find(open).and_then(|run| run.id) else { return };
        self.ask(device, number, Request::Cancel, |id| ClientFrame::CancelRun { id, target: RunRef::Id(run) });
    }

    pub(super) fn approve(&mut self, device: u8) {
        let (number, user) = (self.truth.number(), self.device(device).view.user);
        let Some(at) = self.truth.approvals.iter().position(|(whose, ..)| *whose == user) else { return };
        let Some((_, _, approval_id)) = self.truth.approvals.remove(at) else { return };
        self.ask(device, number, Request::Approve, |id| ClientFrame::Approve {
            id,
            approval_id,
            decision: "yes".into(),
            data: None,
        });
    }

    pub(super) fn follow(&mut self, device: u8, topic: u8) {
        let Some(topic) = self.topic_of(device, topic) else { return };
        let number = self.truth.number();
        let name = cast::topic_name(topic);
        let frame = |id| ClientFrame::Subscribe { id, topic: name, resume: None };
        self.ask(device, number, Request::Follow, frame);
    }

    pub(super) fn unfollow(&mut self, device: u8, topic: u8) {
        let Some(topic) = self.topic_of(device, topic) else { return };
        let number = self.truth.number();
        let name = cast::topic_name(topic);
        self.ask(device, number, Request::Leave(topic), |id| ClientFrame::Unsubscribe { id, topic: name });
    }

    /// A topic of the device's tenant.
    fn topic_of(&mut self, device: u8, topic: u8) -> Option<usize> {
        let tenant = cast::USERS[self.device(device).view.user].0;
        let mine: Vec<_> = (0..cast::TOPICS.len()).filter(|topic| cast::TOPICS[*topic].0 == tenant).collect();
        mine.get(usize::from(topic) % mine.len().max(1)).copied()
    }

    pub(super) fn issuer_up(&mut self) {
        self.supply.up = true;
        self.devices.iter().for_each(|device| device.flag.set());
    }

    pub(super) fn refresh(&mut self, device: u8) {
        let (now, life, ctx) = (self.ctx.clock.now(), self.supply.life, self.ctx.clone());
        let device = self.device(device);
        if !device.gone {
            let token = Token::new(&device.issue(&ctx, life));
            Reconnecting::refresh(&mut device.client, now, token);
            device.flag.set();
        }
    }

    pub(super) fn revoke_token(&mut self, device: u8) {
        let (id, user) = (self.device(device).token.0, self.device(device).view.user);
        let Ok(token) = TokenId::new(&format!("j{id}")) else { return };
        self.ctx.issuer.revoke(id);
        self.revoke(user, &RevokeTarget::Token(token), |_, shown| shown == Some(id));
    }

    pub(super) fn revoke_session(&mut self, device: u8) {
        let (user, session) = (self.device(device).view.user, self.device(device).session);
        let Some(session) = session else { return };
        self.revoke(user, &RevokeTarget::Session(session), |device, _| device.session == Some(session));
    }

    pub(super) fn revoke_user(&mut self, user: u8) {
        let user = usize::from(user) % cast::PEOPLE;
        if self.ctx.clock.is_ahead() {
            // By the server's calendar it would concern all tokens of the next hour.
            return;
        }
        self.ctx.issuer.revoke_all(user, self.ctx.clock.now().unix);
        let is_skewed = self.ctx.clock.is_skewed();
        self.revoke(user, &RevokeTarget::All, |_, _| !is_skewed);
    }

    /// Revokes, after which the devices that are meant get nothing more of what is appended from now on.
    fn revoke(&mut self, user: usize, target: &RevokeTarget, means: impl Fn(&Device, Option<u64>) -> bool) {
        let is_deaf = std::mem::take(&mut self.server.is_deaf);
        let closed = if is_deaf { 0 } else { self.server.hub.revoke(self.ctx.issuer.user(user), target, None) };
        let head = self.truth.users[user].head;
        let mut meant = 0;
        for device in self.devices.iter_mut().filter(|device| device.view.user == user) {
            let socket = device.line.as_ref().and_then(|line| self.server.sockets.get(&line.number));
            let Some(socket) = socket.filter(|socket| socket.seen.user.get().is_some()) else { continue };
            let shown = socket.seen.tokens.borrow().last().copied();
            if means(device, shown) {
                meant += 1;
                device.limit = head;
            }
        }
        // A connection may stand on another token than the one that it has shown last.
        let rule = matches!(target, RevokeTarget::All | RevokeTarget::Session(_));
        self.ctx.hold(!rule || closed >= meant, "R95", || format!("{closed} of {meant} were closed by a revocation"));
    }
}
