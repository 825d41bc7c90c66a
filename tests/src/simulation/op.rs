//! What can happen. A simulation is a list of these: it draws nothing while it runs, so that any part of the list runs too.

use super::lie::Lie;
use super::wrong::Wrong;

/// One operation. Numbers name the devices, users, runs and producers there are, counted round where there are fewer; what finds
/// nothing to act on does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub enum Op {
    /// Time passes.
    Pass { millis: u32 },
    /// The server's calendar is off by so much from now on.
    Skew { millis: i32 },

    /// The application publishes an event for a user, in a thread or (0) in none.
    Publish { user: u8, thread: u8, bytes: u16 },
    /// The same for whoever follows a topic.
    PublishTopic { topic: u8, bytes: u16 },
    /// An event for now only.
    Ephemeral { user: u8 },
    /// A run starts in this process.
    Start { user: u8, thread: u8 },
    /// It thinks.
    Think { run: u8 },
    /// It calls a tool.
    CallTool { run: u8 },
    /// Its oldest open call ends.
    EndTool { run: u8 },
    /// It streams pieces of a text.
    Say { run: u8, part: u8, chars: u16, times: u8 },
    /// It waits for a person.
    Suspend { run: u8 },
    /// It goes on without one.
    Resume { run: u8 },
    /// It ends well.
    Complete { run: u8 },
    /// It fails.
    Fail { run: u8 },
    /// Its producer dies.
    Abandon { run: u8 },
    /// Every run that somebody wants to end ends.
    Obey,

    /// A person writes.
    Message { device: u8, thread: u8 },
    /// A person asks for something of the application's own.
    Command { device: u8 },
    /// A person wants the oldest open run of the user's to end.
    Cancel { device: u8 },
    /// A person decides what a run waits for.
    Approve { device: u8 },
    /// The application takes the oldest request on.
    Answer,
    /// It refuses it.
    Refuse,
    /// It loses it.
    Ignore,
    /// A device follows a topic.
    Follow { device: u8, topic: u8 },
    /// It leaves it.
    Leave { device: u8, topic: u8 },

    /// A device's connection is reset, for both ends.
    Cut { device: u8 },
    /// Every connection is.
    Storm,
    /// The device knows nothing of it: its server's end is gone, and no byte says so.
    Vanish { device: u8 },
    /// The server knows nothing of it: the device is gone, and no byte says so.
    HalfOpen { device: u8 },
    /// Bytes to or from the device wait on their way.
    Hold { device: u8, up: bool },
    /// So many of them go on.
    Trickle { device: u8, up: bool, bytes: u16 },
    /// All go on, now and later.
    Release { device: u8 },
    /// Each read gets so many bytes at most, 0 is all there are.
    Fragment { device: u8, bytes: u8 },
    /// A socket takes so many hundred bytes, and no more until they are read.
    Narrow { device: u8, hundreds: u8 },
    /// No socket opens for the device.
    Offline { device: u8 },
    /// They do again, and it tries at once.
    Online { device: u8 },
    /// The next socket of the device opens, and what it sends waits.
    Delay { device: u8 },
    /// Bytes that a device sent on a socket that it gave up arrive.
    Late { ghost: u8, bytes: u16 },
    /// The end of such a socket arrives.
    LateEnd { ghost: u8 },
    /// Somebody continues a device's session elsewhere, by its own token.
    Twin { device: u8 },
    /// Somebody opens a socket and sends it a byte at a time, with so many tenths of a second between; `greets` says whether the
    /// upgrade is sent at once.
    Stranger { greets: bool, tenths: u8 },
    /// A device closes its connection for good.
    Go { device: u8 },
    /// One that has gone comes again; `afresh` says whether it has forgotten where it was.
    Come { device: u8, afresh: bool },

    /// Tokens live for so many seconds from now on.
    TokenLife { seconds: u8 },
    /// No tokens are to be had.
    IssuerDown,
    /// They are again.
    IssuerUp,
    /// A device shows another token.
    Refresh { device: u8 },
    /// The token that a device showed last is revoked.
    RevokeToken { device: u8 },
    /// The session of a device is.
    RevokeSession { device: u8 },
    /// Everything of a user's is.
    RevokeUser { user: u8 },

    /// A back end connects.
    ProducerCome { producer: u8 },
    /// Its connection is reset.
    ProducerCut { producer: u8 },
    /// It dies, and no byte says so.
    ProducerVanish { producer: u8 },
    /// It begins a run.
    ProducerStart { producer: u8, user: u8, thread: u8, lease: u8 },
    /// It works on a run: 0 thinks, 1 and 2 call a tool and end the call, 3 and 4 say something, 5 ends, 6 fails.
    ProducerWork { producer: u8, run: u8, what: u8 },
    /// It answers what it was asked.
    ProducerAnswer { producer: u8 },
    /// It publishes an event.
    ProducerPublish { producer: u8, user: u8 },

    /// The server begins to shut down; another one follows when it has.
    Drain,
    /// The server dies, and another one follows.
    Restart,
    /// The network lies about the next event for a device. No seed draws it: it is there for oracles to be seen to fail.
    Lie { device: u8, lie: Lie },
    /// Something else is wrong on purpose, with a device or a back end where it is about one. No seed draws it either.
    Wrong { at: u8, wrong: Wrong },
    /// The service goes by this level: 0 is all well, 1 degraded, 2 an emergency, 3 whatever it finds.
    Level { level: u8 },
}
