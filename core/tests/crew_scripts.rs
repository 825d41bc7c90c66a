//! Scripts of several sockets on one hub, served in a crew and in tasks of their own: whatever comes when, also in the middle of a
//! pass, all that a client sends is taken, and every event is there once and in order. Tasks are polled only where they were woken.
#![cfg(not(loom))]

#[macro_use]
#[path = "../src/property.rs"]
mod property;
mod support;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use proptest::prelude::*;
use support::crewed::{Calls, Lone, Pipe, Rig, Served};
use support::{Read, World, hello, masked, upgrade, user};
use trunkline_core::codec::frame::{Assembler, Message, Opcode, Role};
use trunkline_core::limits::Limits;
use trunkline_core::serve::Sockets;

const MAX_SOCKETS: usize = 5;

/// What happens. Sockets are counted from the first one around.
#[derive(Clone, Debug)]
enum Op {
    /// The client asks so often, in pieces of so many bytes.
    Asks(usize, usize, usize),
    /// It sends so many frames that need no answer, a read each.
    Chats(usize, usize),
    Publishes(usize),
    Blocks(usize),
    MakesRoom(usize, usize),
    HoldsBack(usize),
    Flushes(usize),
    Passes(u64),
    Ends(usize),
    Breaks(usize),
}

/// What happens, and after how many calls to sockets at the latest. Where all is at rest, it happens at once.
type Script = Vec<(usize, Op)>;

fn op() -> impl Strategy<Value = Op> {
    let at = || 0..MAX_SOCKETS;
    prop_oneof![
        6 => (at(), 1..12_usize, 1..80_usize).prop_map(|(at, count, piece)| Op::Asks(at, count, piece)),
        2 => (at(), 1..90_usize).prop_map(|(at, count)| Op::Chats(at, count)),
        6 => (0..2_usize).prop_map(Op::Publishes),
        3 => at().prop_map(Op::Blocks),
        5 => (at(), 1..2_000_usize).prop_map(|(at, bytes)| Op::MakesRoom(at, bytes)),
        1 => at().prop_map(Op::HoldsBack),
        2 => at().prop_map(Op::Flushes),
        2 => (1..300_u64).prop_map(Op::Passes),
        1 => at().prop_map(Op::Ends),
        1 => at().prop_map(Op::Breaks),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    prop::collection::vec((0..12_usize, op()), 1..40)
}

/// What serves the sockets.
enum Server {
    Crew(Box<Rig<Served>>),
    Lone(Vec<Lone>),
}

impl Server {
    fn serve(&mut self, sockets: &Sockets, name: usize) -> Pipe {
        match self {
            Self::Crew(rig) => rig.serve(sockets, name, &Calls::default()),
            Self::Lone(tasks) => {
                let (task, pipe) = Lone::serve(sockets, name, &Calls::default());
                tasks.push(task);
                pipe
            }
        }
    }

    /// Goes on until nobody is woken.
    fn run(&mut self, world: &World) {
        match self {
            Self::Crew(rig) => rig.run(),
            Self::Lone(tasks) => {
                while tasks.iter_mut().map(|task| task.step(world.now().at)).fold(false, |a, b| a | b) {}
            }
        }
    }
}

/// The clients and the application, who act as the script says.
struct Stage {
    world: World,
    pipes: Vec<Pipe>,
    /// What each client has asked, and how often its user was published to while it was there.
    asked: Vec<Cell<usize>>,
    published: [Cell<usize>; 2],
    /// It ended or broke by the script.
    gone: Vec<Cell<bool>>,
    script: RefCell<std::vec::IntoIter<(usize, Op)>>,
    /// The next, and how many calls there may be before it.
    next: RefCell<Option<(usize, Op)>>,
}

impl Stage {
    fn new(count: usize, script: Script, server: impl FnOnce(&World) -> Server) -> (Rc<Self>, Server) {
        let limits = Limits { messages_per_second: 100_000, message_burst: 100_000, ..Limits::default() };
        let world = World::with(limits);
        let (sockets, mut server) = (Sockets::new(world.hub.clone()), server(&world));
        let pipes: Vec<_> = (0..count).map(|name| server.serve(&sockets, name)).collect();
        for (name, pipe) in pipes.iter().enumerate() {
            pipe.sends(&[upgrade(), hello(&world.token(&owner(name)))].concat());
        }
        server.run(&world);
        for pipe in &pipes {
            assert!(std::mem::take(&mut pipe.ends().written).len() > 300, "the answer and the welcome");
        }
        let (asked, gone) = (vec![Cell::default(); count], vec![Cell::default(); count]);
        let (published, script) = (<[Cell<usize>; 2]>::default(), RefCell::new(script.into_iter()));
        let stage = Rc::new(Self { world, pipes, asked, published, gone, script, next: RefCell::default() });
        stage.turn_over();
        stage.listen();
        (stage, server)
    }

    /// With every call to a socket the script comes nearer.
    fn listen(self: &Rc<Self>) {
        for pipe in &self.pipes {
            let stage: Weak<Self> = Rc::downgrade(self);
            pipe.meanwhile(Rc::new(move || stage.upgrade().iter().for_each(|stage| stage.count_down())));
        }
    }

    fn turn_over(&self) {
        let next = self.script.borrow_mut().next();
        *self.next.borrow_mut() = next;
    }

    fn count_down(&self) {
        let due = match &mut *self.next.borrow_mut() {
            Some((left, _)) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        };
        if due {
            self.go_on();
        }
    }

    /// What comes next happens now; says whether there was anything.
    fn go_on(&self) -> bool {
        let Some((_, op)) = self.next.borrow_mut().take() else { return false };
        self.turn_over();
        self.happen(op);
        true
    }

    fn happen(&self, op: Op) {
        let at = |at: usize| at % self.pipes.len();
        let pipe = |name: usize| &self.pipes[at(name)];
        match op {
            Op::Asks(name, count, piece) => self.ask(at(name), count, piece),
            Op::Chats(name, count) => (0..count).for_each(|_| pipe(name).sends(&masked(Opcode::Pong, b""))),
            Op::Publishes(of) => {
                let (user, count) = (owner(of), &self.published[of]);
                self.world.hub.publish(&user, None, "note", &count.get()).unwrap();
                count.set(count.get() + 1);
            }
            Op::Blocks(name) => pipe(name).blocks(),
            Op::MakesRoom(name, bytes) => pipe(name).makes_room(bytes),
            Op::HoldsBack(name) => pipe(name).ends().holds_back = true,
            Op::Flushes(name) => pipe(name).flushes(),
            Op::Passes(millis) => self.world.turn(Duration::from_millis(millis)),
            Op::Ends(name) => {
                self.gone[at(name)].set(true);
                pipe(name).comes(Read::Eof);
            }
            Op::Breaks(name) => {
                self.gone[at(name)].set(true);
                pipe(name).breaks();
            }
        }
    }

    fn ask(&self, name: usize, count: usize, piece: usize) {
        if self.gone[name].get() {
            return;
        }
        let asked = &self.asked[name];
        let mut bytes = Vec::new();
        for _ in 0..count {
            let ping = format!(r#"{{"type":"ping","id":"{}"}}"#, asked.get());
            bytes.append(&mut masked(Opcode::Text, ping.as_bytes()));
            asked.set(asked.get() + 1);
        }
        bytes.chunks(piece).for_each(|piece| self.pipes[name].sends(piece));
    }

    /// What a client was told: the answers, and the events by what they say.
    fn told(&self, name: usize) -> (Vec<usize>, Vec<usize>) {
        let (mut answers, mut events) = (Vec::new(), Vec::new());
        for text in texts(&self.pipes[name].ends().written) {
            let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
            match frame["type"].as_str().unwrap() {
                "pong" => answers.push(frame["id"].as_str().unwrap().parse().unwrap()),
                "custom" => events.push(frame["data"].as_u64().unwrap() as usize),
                _ => {}
            }
        }
        (answers, events)
    }
}

/// Whose socket it is: every second one is the other's.
fn owner(name: usize) -> trunkline_core::id::UserId {
    user(["ann", "bob"][name % 2])
}

fn texts(wire: &[u8]) -> Vec<String> {
    let mut assembler = Assembler::new(Role::Client, usize::MAX);
    let mut rest = wire;
    let messages = std::iter::from_fn(|| assembler.push(&mut rest).unwrap());
    messages.filter_map(|message| if let Message::Text(text) = message { Some(text) } else { None }).collect()
}

/// Runs a script to its end, then lets everything go that waits, and says what each client has been told, and whether it is over.
fn play(count: usize, script: Script, server: impl FnOnce(&World) -> Server) -> Result<Vec<Told>, TestCaseError> {
    let (stage, mut server) = Stage::new(count, script, server);
    server.run(&stage.world);
    while stage.go_on() {
        server.run(&stage.world);
    }
    for pipe in &stage.pipes {
        pipe.makes_room(usize::MAX);
        pipe.flushes();
    }
    server.run(&stage.world);
    (0..count).map(|name| judge(&stage, name)).collect()
}

/// The answers and events of a client that is there to the end; `None` where it is not.
type Told = Option<(Vec<usize>, Vec<usize>)>;

fn judge(stage: &Stage, name: usize) -> Result<Told, TestCaseError> {
    let pipe = &stage.pipes[name];
    prop_assert_eq!(pipe.ends().over, stage.gone[name].get(), "whether {} is over", name);
    let (answers, events) = stage.told(name);
    let (asked, published) = (stage.asked[name].get(), stage.published[name % 2].get());
    if stage.gone[name].get() {
        // As far as it got.
        prop_assert_eq!(&answers, &(0..answers.len()).collect::<Vec<_>>());
        prop_assert_eq!(&events, &(0..events.len()).collect::<Vec<_>>());
        return Ok(None);
    }
    prop_assert!(pipe.is_taken(), "{} has sent what nobody takes", name);
    prop_assert!(pipe.is_flushed(), "{} waits for what is held back", name);
    prop_assert_eq!(&answers, &(0..asked).collect::<Vec<_>>(), "the answers of {}", name);
    prop_assert_eq!(&events, &(0..published).collect::<Vec<_>>(), "the events of {}", name);
    Ok(Some((answers, events)))
}

properties! { cases = 512;
    #[test]
    fn a_crew_serves_as_tasks_of_their_own_do((count, script) in (1..=MAX_SOCKETS, script())) {
        let crewed = play(count, script.clone(), |world| Server::Crew(Box::new(Rig::new(world))))?;
        let alone = play(count, script, |_| Server::Lone(Vec::new()))?;
        prop_assert_eq!(crewed, alone);
    }
}
