//! Write an adapter: what a runtime brings, and what it never has to know.
//!
//! An adapter moves bytes and waits. It decides nothing: it matches on no state, keeps no connections, and reads no frame. It
//! brings four things and a loop.
//!
//! 1. A [`Clock`](crate::time::Clock) and an [`Entropy`](crate::id::Entropy) of the system, for [`Hub::new`](crate::hub::Hub::new).
//! 2. A [`Transport`](crate::drive::Transport): read, write and end the sending side of one socket, by polling. The bytes of a
//!    write that is pending stay the first ones of the next call, so a runtime that owns buffers may go on with its copy.
//! 3. A [`Timer`](crate::drive::Timer) that fires at a moment of the hub's clock.
//! 4. An accept loop: [`Hub::session_from`](crate::hub::Hub::session_from) for each socket, in the order in which they come, and
//!    a task that polls its [`Driver`](crate::drive::Driver) to its end. Who finds no room is sent
//!    [`Rejected::response`](crate::hub::Rejected::response). After the driver, what
//!    [`Session::take_handoff`](crate::hub::Session::take_handoff) has is a request for somebody else; without a web stack drop it.
//! 5. [`Housekeeper::run_until`](crate::hub::Housekeeper::run_until) beside that, which keeps house, and drains at the shutdown.
//!    What is accepted meanwhile is told that there is no room.
//!
//! # Many sockets in one task
//!
//! A task for each socket is right, and all that most need. Where an event goes to many at once, it costs a wake-up and a timer for
//! each of them; a [`Crew`](crate::crew::Crew) has one for all. Make one for each thread, drive it in a task of its own, seat each
//! socket with [`Sockets::serve_in`](crate::serve::Sockets::serve_in), and give the requests that come out of it to tasks of their own.
//! It lets others have their turn by itself: where a runtime bounds what a task does, take its task out of that, or sockets that are ready
//! look as if they were not.
//!
//! # What goes wrong
//!
//! - A waker must wake from any thread: effects of other users come by it, while nothing comes from the socket.
//! - A write that is buffered elsewhere hides that a peer takes nothing. Answer `Pending` until the system has the bytes.
//! - A full listener must not spin: wait when `accept` fails.
//! - Small frames must leave at once: set `TCP_NODELAY`. And little may lie in the system's own buffer, or nobody is seen to be slow: set
//!   `TCP_NOTSENT_LOWAT` where there is one, to [`MAX_UNSENT_BYTES`](crate::serve::MAX_UNSENT_BYTES).
//! - A read that is pending fires its waker once there is something. In a crew nothing else makes anybody read.
//! - A task that is cancelled drops its session, and with it its place in the hub. Nothing else is to be undone.
//!
//! The conformance suite in `tests/` takes the address of any server: run it against yours.
//!
//! # A whole one
//!
//! For compio, whose operations own their buffers. It is an example in `tests/`, which is held to the same checks as the others.
//!
//! ```ignore
#![doc = include_str!("../../../tests/examples/compio/adapter.rs")]
//! ```
//!
//! Without any runtime, [`Machine`](crate::drive::Machine) is driven by hand: `core/examples/threads.rs` has two threads for each
//! socket, `core/examples/poll_loop.rs` one for all.
