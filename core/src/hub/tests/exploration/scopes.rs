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

#[test]
#[ignore = "takes a minute without optimisation"]
fn every_order_of_losing_resuming_and_sending_where_the_log_is_short() {
    let resumes =
        Budget { in_at_start: [2, 0], devices: [2, 0], connects: 2, losses: 2, events: 3, log_entries: 1, ..NOTHING };
    explore("hub_short_log", resumes, 4_518);
}
