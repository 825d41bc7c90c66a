//! The task of a client, polled by hand on a runtime whose time stands still.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::client::{FixedToken, State};
use crate::drive::Timer;
use crate::id::{Entropy, ThreadId};
use crate::time::{Clock, Now, Timestamp};

thread_local! {
    static TASK: RefCell<Option<Task>> = const { RefCell::new(None) };
    static OPENED: Cell<u32> = const { Cell::new(0) };
    static DRAWN: Cell<u64> = const { Cell::new(1 << 60) };
}

/// No socket opens there.
struct Still;

struct Never;

impl Timer for Never {
    fn reset(self: Pin<&mut Self>, _at: Timestamp) {}

    fn poll_elapsed(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Now {
        Now::default()
    }
}

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) {
        DRAWN.set(DRAWN.get() + 1);
        out.iter_mut().zip(DRAWN.get().to_le_bytes().into_iter().cycle()).for_each(|(to, from)| *to = from);
    }
}

impl Runtime for Still {
    type Timer = Never;
    type Clock = Fixed;
    const TLS: bool = false;

    fn clock() -> Fixed {
        Fixed
    }

    fn timer(_clock: &Fixed) -> Never {
        Never
    }

    fn entropy() -> Arc<dyn Entropy> {
        Arc::new(Fixed)
    }

    fn open(_endpoint: &Endpoint) -> Opening {
        OPENED.set(OPENED.get() + 1);
        Box::pin(ready(Err(io::ErrorKind::ConnectionRefused.into())))
    }

    fn spawn(task: Task) {
        TASK.set(Some(task));
    }
}

fn run() {
    TASK.with_borrow_mut(|task| {
        let task = task.as_mut().expect("a client was begun").as_mut();
        assert!(task.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
}

#[test]
fn requests_that_wait_for_room_do_not_keep_the_client_from_trying_at_once() {
    let mut options = ClientOptions::new("ws://localhost/ws", FixedToken::new("aa.bb.cc")).unwrap();
    options.config.max_unanswered = 1;
    let client = AsyncClient::<Still>::connect(options).unwrap();
    run();
    assert!(matches!(client.state(), State::Waiting { .. }), "{:?}", client.state());
    let thread = ThreadId::new("t").unwrap();
    client.send(&thread, "taken").unwrap();
    client.send(&thread, "waits").unwrap();
    run();
    client.reconnect_now().unwrap();
    run();
    assert_eq!(OPENED.get(), 2);
}
