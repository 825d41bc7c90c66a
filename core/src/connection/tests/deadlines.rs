//! Deadlines: each at its limit and not a microsecond before, and none that a slow peer can put off.

use std::time::Duration;

use super::harness::{Stage, TTL, after, at, at_stage, bearer, close_code, flush, fresh, hello, live, request};
use crate::connection::{Connection, PhaseName, TimerKind};
use crate::error::CloseReason;
use crate::limits::Limits;

const MICRO: Duration = Duration::from_micros(1);

/// Every period another one, so that none is taken for another.
fn limits() -> Limits {
    Limits {
        handshake_deadline: Duration::from_secs(11),
        hello_deadline: Duration::from_secs(6),
        heartbeat_interval: Duration::from_secs(26),
        heartbeat_timeout: Duration::from_secs(9),
        close_deadline: Duration::from_secs(4),
        write_stall: Duration::from_secs(91),
        ..Limits::default()
    }
}

/// Nothing happens a microsecond before, and `kind` is what happens then.
fn assert_fires(c: &mut Connection, limit: Duration, kind: TimerKind) {
    let due = after(at(0), limit);
    assert_eq!(c.poll_timeout(), Some((due.at, kind)));
    let before = (c.phase(), c.transmit().to_vec());
    c.handle_timeout(after(at(0), limit - MICRO));
    assert_eq!((c.phase(), c.transmit().to_vec(), c.poll_timeout()), (before.0, before.1, Some((due.at, kind))));
    c.handle_timeout(due);
    assert_ne!(c.poll_timeout(), Some((due.at, kind)), "a deadline is disarmed when it fires");
}

#[test]
fn every_phase_ends_at_its_limit_and_not_before() {
    let all = limits();
    let closing = [Stage::ClosingSent, Stage::ClosingAnswered, Stage::ClosingDeaf, Stage::ClosingHttp];
    let cases = [
        (Stage::Head, all.handshake_deadline, TimerKind::Handshake, PhaseName::Closed),
        (Stage::Reserving, all.handshake_deadline, TimerKind::Handshake, PhaseName::Closed),
        (Stage::VerifyUpgrade, all.handshake_deadline, TimerKind::Handshake, PhaseName::Closed),
        (Stage::AwaitHello, all.hello_deadline, TimerKind::Hello, PhaseName::Closing),
        (Stage::VerifyHello, all.hello_deadline, TimerKind::Hello, PhaseName::Closing),
        (Stage::Attaching, all.hello_deadline, TimerKind::Hello, PhaseName::Closing),
        (Stage::Live, all.heartbeat_interval, TimerKind::Ping, PhaseName::Live),
    ];
    let closing = closing.map(|stage| (stage, all.close_deadline, TimerKind::Close, PhaseName::Closed));
    for (stage, limit, kind, next) in cases.into_iter().chain(closing) {
        let mut c = at_stage(stage, all.clone());
        assert_fires(&mut c, limit, kind);
        assert_eq!(c.phase(), next, "{stage:?}");
        if kind == TimerKind::Hello {
            assert_eq!((close_code(&c), c.close_reason()), (Some(4040), Some(CloseReason::HelloTimeout)));
        }
    }
}

#[test]
fn every_deadline_of_a_live_connection_closes_with_its_code_at_its_limit() {
    let far = Limits { heartbeat_interval: TTL * 2, ..limits() };
    let idle = Duration::from_secs(40);
    type Prepare = fn(&mut Connection);
    let drain: Prepare = |c| c.drain_by(at(7_000_000).at);
    // The client is told before, and its socket takes that.
    let told: Prepare = |c| {
        let notice = after(at(0), TTL - limits().auth_notice);
        assert_fires(c, TTL - limits().auth_notice, TimerKind::AuthNotice);
        flush(c, notice);
    };
    let cases: [(Limits, Prepare, Duration, TimerKind, u16); 3] = [
        (Limits { idle_deadline: Some(idle), ..far.clone() }, |_| {}, idle, TimerKind::Idle, 4003),
        (far.clone(), told, TTL + far.token_leeway, TimerKind::TokenExpiry, 4200),
        (far.clone(), drain, Duration::from_secs(7), TimerKind::Drain, 1012),
    ];
    for (limits, prepare, limit, kind, code) in cases {
        let mut c = live(limits);
        prepare(&mut c);
        assert_fires(&mut c, limit, kind);
        assert_eq!(close_code(&c), Some(code), "{kind:?}");
    }
}

#[test]
fn the_earliest_of_several_drains_counts() {
    let mut c = live(limits());
    for micros in [9, 7, 8] {
        c.drain_by(at(micros).at);
    }
    assert_eq!(c.poll_timeout(), Some((at(7).at, TimerKind::Drain)));
}

#[test]
fn only_application_messages_put_the_idle_deadline_off() {
    let idle = Duration::from_secs(40);
    let far = Limits { heartbeat_interval: TTL, idle_deadline: Some(idle), ..Limits::default() };
    let mut c = live(far);
    c.handle_bytes(at(5), &super::harness::masked(crate::codec::frame::Opcode::Ping, b""));
    flush(&mut c, at(5));
    assert_eq!(c.poll_timeout(), Some((after(at(0), idle).at, TimerKind::Idle)));
    c.handle_bytes(at(6), &super::harness::text(r#"{"type":"ping"}"#));
    flush(&mut c, at(6));
    assert_eq!(c.poll_timeout(), Some((after(at(6), idle).at, TimerKind::Idle)));
}

#[test]
fn a_handshake_that_drips_in_ends_at_the_same_moment() {
    let mut c = fresh(limits());
    let due = c.poll_timeout();
    for (n, byte) in bearer().iter().enumerate().take(100) {
        c.handle_bytes(at(n as u64 * 1_000), &[*byte]);
        assert_eq!(c.poll_timeout(), due);
    }
    c.handle_timeout(after(at(0), limits().handshake_deadline));
    assert!(c.is_closed() && c.transmit().is_empty());
}

#[test]
fn a_hello_that_drips_in_ends_at_the_same_moment() {
    let mut c = at_stage(Stage::AwaitHello, limits());
    let due = c.poll_timeout();
    let drip = [super::harness::masked(crate::codec::frame::Opcode::Ping, b"x"), hello()].concat();
    for (n, byte) in drip.iter().enumerate().take(drip.len() - 1) {
        c.handle_bytes(at(n as u64 * 1_000), &[*byte]);
        flush(&mut c, at(n as u64 * 1_000));
        assert_eq!(c.poll_timeout(), due, "neither bytes nor pings put it off");
    }
}

#[test]
fn the_hello_deadline_runs_from_the_upgrade_on_and_covers_the_verification() {
    let mut c = fresh(limits());
    c.handle_bytes(at(2_000_000), &request(""));
    flush(&mut c, at(3_000_000));
    let due = Some((after(at(2_000_000), limits().hello_deadline).at, TimerKind::Hello));
    assert_eq!(c.poll_timeout(), due);
    c.handle_bytes(at(4_000_000), &hello());
    c.poll_event();
    assert_eq!((c.phase(), c.poll_timeout()), (PhaseName::VerifyHello, due));
    c.handle_verified(at(5_000_000), Ok(super::harness::grant()));
    c.poll_event();
    assert_eq!((c.phase(), c.poll_timeout()), (PhaseName::Attaching, due));
}

#[test]
fn a_call_long_after_several_deadlines_handles_them_all() {
    for stage in Stage::ALL {
        let mut c = at_stage(stage, limits());
        c.handle_timeout(after(at(0), TTL * 100));
        let over = c.poll_timeout().is_none_or(|(at_, _)| at_ > after(at(0), TTL * 100).at);
        assert!(over, "{stage:?}");
    }
}
