//! Another user, with a sound client, who must not notice.

use std::sync::Arc;
use std::task::Waker;

use trunkline_core::client::{Client, ClientConfig, ClientEvent};
use trunkline_core::drive::Machine;
use trunkline_core::hub::Session;
use trunkline_core::id::FrameId;
use trunkline_core::protocol::{ClientFrame, EventBody, ServerFrame};

use super::world::{Counting, USERS, World};

pub(super) struct Bystander {
    session: Session,
    client: Client,
    /// How many events were published for it, and how many came.
    expected: usize,
    came: usize,
    pongs: usize,
}

/// Stands in what is for the bystander alone.
pub(super) const MARK: &str = "for the bystander alone";

impl Bystander {
    pub(super) fn welcomed(world: &World) -> Self {
        let config = ClientConfig {
            host: "localhost".into(),
            target: "/ws".into(),
            token: USERS.bystander_token.clone(),
            session: None,
            resume: None,
            threads: Vec::new(),
            producer: None,
            name: "bystander".into(),
        };
        let client = Client::new(world.now(), config, Arc::new(Counting::default())).expect("a sound request");
        let session = world.hub.session().expect("room");
        let mut bystander = Self { session, client, expected: 0, came: 0, pongs: 0 };
        bystander.pump(world);
        assert_eq!(bystander.session.user(), Some(&USERS.bystander));
        bystander
    }

    /// Moves bytes both ways until nothing moves.
    pub(super) fn pump(&mut self, world: &World) {
        let now = world.now();
        loop {
            self.session.poll_ready(now, Waker::noop());
            self.session.handle_timeout(now);
            self.client.handle_timeout(now);
            let down = self.session.transmit().to_vec();
            self.session.advance(now, down.len());
            self.client.handle_bytes(now, &down);
            let up = self.client.transmit().to_vec();
            self.client.advance(up.len());
            self.session.handle_bytes(now, &up);
            self.read();
            if up.is_empty() && down.is_empty() {
                break;
            }
        }
        assert_eq!((self.client.end(), self.session.close_reason()), (None, None), "its connection lives on");
        assert_eq!(self.came, self.expected);
    }

    /// Something is published for it, and it comes.
    pub(super) fn gets_its_own(&mut self, world: &World) {
        world.hub.publish(&USERS.bystander, None, "news", &MARK).expect("room in the log");
        self.expected += 1;
        self.pump(world);
    }

    pub(super) fn still_works(&mut self, world: &World) {
        self.gets_its_own(world);
        let pongs = self.pongs;
        self.client.send(&ClientFrame::Ping { id: FrameId::new("still there?").ok() });
        self.pump(world);
        assert_eq!(self.pongs, pongs + 1);
    }

    fn read(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Welcome(_) => {}
                ClientEvent::Event(event) => {
                    let EventBody::Custom { data, .. } = &event.body else {
                        panic!("an event of somebody else: {event:?}")
                    };
                    assert!(data.get().contains(MARK));
                    self.came += 1;
                }
                ClientEvent::Frame(frame) if matches!(*frame, ServerFrame::Pong { .. }) => self.pongs += 1,
                ClientEvent::Frame(frame) => {
                    let unasked = matches!(*frame, ServerFrame::AuthExpiring { .. });
                    assert!(unasked, "a frame that nothing asked for: {frame:?}");
                }
            }
        }
    }
}
