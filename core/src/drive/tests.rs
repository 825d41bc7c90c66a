//! One machine and one socket, a poll at a time.

use std::time::Duration;

use super::*;

/// One whose time has come, as long as it is not set again.
struct Elapsed;

impl Timer for Elapsed {
    fn reset(self: Pin<&mut Self>, _at: Timestamp) {}

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[test]
fn what_has_fired_does_not_fire_again_for_a_deadline_that_is_never() {
    let (mut alarm, mut cx) = (Alarm::new(Elapsed), Context::from_waker(Waker::noop()));
    assert!(alarm.fires(&mut cx, Timestamp::ZERO + Duration::from_secs(1)));
    assert!(!alarm.fires(&mut cx, Timestamp::MAX));
    assert!(alarm.fires(&mut cx, Timestamp::ZERO + Duration::from_secs(2)));
}

/// It takes one byte at a time, and none once it has as many as this.
struct Narrow(usize);

impl Transport for Narrow {
    fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, _bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = self.0.min(1);
        self.0 -= n;
        Poll::Ready(Ok(n))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_stream_that_takes_nothing_more_is_broken_and_loses_no_byte_in_silence() {
    let mut cx = Context::from_waker(Waker::noop());
    for (room, whole) in [(3, true), (2, false)] {
        let outcome = std::pin::pin!(write_all(&mut Narrow(room), b"abc")).poll(&mut cx);
        assert!(matches!(outcome, Poll::Ready(written) if written.is_ok() == whole), "room for {room}");
    }
}

/// It has one byte to say, counts the rounds, and says whether more may come of a write.
struct Curt {
    rest: &'static [u8],
    rounds: usize,
    goes_on: bool,
}

impl Machine for Curt {
    fn poll_ready(&mut self, _now: Now, _waker: &Waker) {
        self.rounds += 1;
    }

    fn handle_bytes(&mut self, _now: Now, _bytes: &[u8]) {}

    fn handle_eof(&mut self, _now: Now) {}

    fn handle_broken(&mut self, _now: Now) {}

    fn handle_timeout(&mut self, _now: Now) {}

    fn poll_timeout(&self) -> Option<Timestamp> {
        None
    }

    fn transmit(&self) -> &[u8] {
        self.rest
    }

    fn advance(&mut self, _now: Now, n: usize) {
        self.rest = &self.rest[n..];
    }

    fn goes_on_when_written(&self) -> bool {
        self.goes_on
    }

    fn wants_read(&self) -> bool {
        true
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// A clock that stands still.
struct Still;

impl Clock for Still {
    fn now(&self) -> Now {
        Now::default()
    }
}

#[test]
fn a_write_is_followed_by_another_round_only_where_more_may_come_of_it() {
    let mut cx = Context::from_waker(Waker::noop());
    for (goes_on, rounds) in [(true, 2), (false, 1)] {
        let machine = Curt { rest: b"!", rounds: 0, goes_on };
        let mut driver = Driver::new(machine, Narrow(1), Elapsed, Still);
        assert!(Pin::new(&mut driver).poll(&mut cx).is_pending());
        let (machine, _) = driver.parts.as_ref().unwrap();
        assert_eq!((machine.rest, machine.rounds), (&b""[..], rounds));
    }
}
