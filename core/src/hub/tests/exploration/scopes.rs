//! What is explored, and how much of it there is.

use super::*;
use crate::explore::explore_by_replay;

fn explore(name: &str, budget: Budget, states: usize) {
    explore_by_replay(name, || Explored::new(budget)).is_all(name, states);
}

/// Two users, one device each: both come, are told of an event, and one of them is lost.
#[test]
fn a_few_orders_of_coming_in_and_being_lost() {
    let few = Budget { devices: [1, 1], connects: 2, events: 1, losses: 1, generations: 1, ..NOTHING };
    explore("hub_small", few, 317);
}
