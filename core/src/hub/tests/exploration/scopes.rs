//! What is explored, and how much of it there is.

use super::*;
use crate::explore::explore_by_replay;

fn explore(name: &str, budget: Budget, states: usize) {
    explore_by_replay(name, || Explored::new(budget)).is_all(name, states);
}

/// One event, one new token and one revocation, where tokens live short enough to expire.
const TOKENS: Budget = Budget { events: 1, refreshes: 1, revocations: 1, life: Duration::from_secs(60), ..NOTHING };

/// Two users, one device each: both come, are told of an event, and one of them is lost.
#[test]
fn a_few_orders_of_coming_in_and_being_lost() {
    let few = Budget { devices: [1, 1], connects: 2, events: 1, losses: 1, generations: 1, ..NOTHING };
    explore("hub_small", few, 317);
}

/// One device comes again while its old socket stands.
#[test]
fn a_few_orders_of_taking_over_a_half_open_socket() {
    let few = Budget { devices: [1, 0], in_at_start: [1, 0], connects: 1, halves: 1, events: 1, ..NOTHING };
    explore("hub_takeover_small", few, 33);
}

/// One device is told of an event and that the server restarts.
#[test]
fn a_few_orders_of_draining() {
    let few = Budget { devices: [1, 0], in_at_start: [1, 0], events: 1, waits: 1, drains: 1, ..NOTHING };
    explore("hub_drain_small", few, 88);
}

/// Two users, two devices each: all come.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_coming_in_and_sending() {
    let arrivals = Budget { connects: 4, events: 2, generations: 1, ..NOTHING };
    explore("hub_arrivals", arrivals, 36_715);
}

/// Two devices of one user and one of another: two sockets break, and two come.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_losing_resuming_and_sending() {
    let resumes = Budget { in_at_start: [2, 1], devices: [2, 1], connects: 2, losses: 2, events: 3, ..NOTHING };
    explore("hub_resume", resumes, 13_441);
}

/// The same where a device may come back too late for what it has missed.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_losing_resuming_and_sending_where_the_log_is_short() {
    let resumes =
        Budget { in_at_start: [2, 0], devices: [2, 0], connects: 2, losses: 2, events: 3, log_entries: 1, ..NOTHING };
    explore("hub_short_log", resumes, 6_094);
}

/// Sockets break without the server's notice, and their devices come again while the old sockets stand.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_taking_over_half_open_sockets() {
    let takeovers = Budget {
        in_at_start: [2, 1],
        devices: [2, 1],
        connects: 2,
        halves: 2,
        events: 2,
        generations: 3,
        per_user: 2,
        ..NOTHING
    };
    explore("hub_takeover", takeovers, 19_648);
}

/// One device, and time enough for its first token to expire and for its second.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_refreshing_revoking_and_expiring() {
    let tokens = Budget { in_at_start: [1, 0], devices: [1, 0], generations: 1, waits: 2, ..TOKENS };
    explore("hub_tokens", tokens, 20_539);
}

/// One device whose socket breaks, and which may come back after its token was revoked or has expired.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_coming_back_with_a_token_that_was_revoked_or_has_expired() {
    let tokens = Budget { in_at_start: [1, 0], devices: [1, 0], connects: 1, losses: 1, waits: 1, ..TOKENS };
    explore("hub_tokens_come_back", tokens, 15_532);
}

/// Two devices of one user: what is revoked for one is not for the other, unless all is.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_refreshing_revoking_and_expiring_of_two_devices() {
    let tokens = Budget { in_at_start: [2, 0], devices: [2, 0], generations: 1, waits: 1, ..TOKENS };
    explore("hub_tokens_of_two", tokens, 96_891);
}

/// Two devices of one user and one of another, of which one comes, one is lost and all are drained, until the end.
#[test]
#[ignore = "takes minutes without optimisation"]
fn every_order_of_draining() {
    let drains = Budget {
        in_at_start: [1, 1],
        devices: [2, 1],
        connects: 1,
        losses: 1,
        events: 1,
        waits: 1,
        drains: 1,
        ..NOTHING
    };
    explore("hub_drain", drains, 71_769);
}
