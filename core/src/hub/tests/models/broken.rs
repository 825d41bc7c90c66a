//! The hub, broken on purpose.

use std::sync::Arc as Shared;

use crate::auth::Grant;
use crate::hub::levels::tell;
use crate::hub::registry::ProducerName;
use crate::hub::{Hub, Mail, deadline, deliver};
use crate::id::ConnectionId;
use crate::level::LevelNotice;
use crate::manager::{Credential, Manager, Tokens};
use crate::sync::Wakers;
use crate::sync::faults::{Fault, is_on};
use crate::time::{Clock, Now};

impl Hub {
    /// The shard is another's between the look and the change: what that one has done is lost.
    pub(in crate::hub) fn on_a_copy_of_the_shard<R>(
        &self,
        shard: usize,
        operation: impl FnOnce(&mut Manager<Mail>, Now) -> R,
    ) -> R {
        let mut copy = self.inner.shards[shard].lock().clone();
        let before = deadline(&copy);
        let result = operation(&mut copy, self.now());
        let (mut wakers, mut asks) = (Wakers::default(), Vec::new());
        while let Some(output) = copy.poll_output() {
            deliver(output, &mut wakers, &mut asks);
        }
        if deadline(&copy) < before {
            wakers.push(self.inner.rearm.mark());
        }
        if is_on(Fault::WakesTooEarly) {
            std::mem::take(&mut wakers).wake();
        }
        *self.inner.shards[shard].lock() = copy;
        wakers.wake();
        asks.into_iter().for_each(|(ask, again)| self.ask(ask, again));
        result
    }

    /// What is revoked between the look and the change is found nowhere.
    pub(in crate::hub) fn retoken_after_the_look(
        &self,
        name: &ProducerName,
        connection: ConnectionId,
        grant: &Grant,
        lasts_longer: bool,
    ) -> bool {
        let holds = !self.is_revoked(grant, None);
        let change = |tokens: &Tokens| tokens.refreshed(&Credential::of(grant), lasts_longer);
        holds && self.inner.producers.lock().retoken(name, connection, change).is_some()
    }

    /// Another change may be told between this one's being known and its being told.
    pub(in crate::hub) fn tell_producers_late(&self, notice: &Shared<LevelNotice>) {
        let mut wakers = Wakers::default();
        let producers = self.inner.producers.lock().set_level(notice);
        producers.into_iter().for_each(|mail| tell(mail, notice, &mut wakers));
        wakers.wake();
    }
}
