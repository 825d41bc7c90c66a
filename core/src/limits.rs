//! Every limit by name, with its default. Reaching one is a typed outcome, never an accident.

use std::time::Duration;

/// The bounds of one `Hub`. Bytes are bytes, counts are counts.
///
/// ```
/// use trunkline_core::limits::Limits;
/// let limits = Limits { connections_per_user: 3, ..Limits::default() };
/// limits.check().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte expected to the whole upgrade request; absolute, whatever trickles in. 10 s.
    pub handshake_deadline: Duration,
    /// The upgrade request's line and headers. 16 KiB.
    pub handshake_bytes: usize,
    /// Headers of the upgrade request. 100.
    pub handshake_headers: usize,
    /// From the upgrade to a whole `hello`; absolute. 5 s, then close 4040.
    pub hello_deadline: Duration,
    /// Sockets that have not shown a verified token yet, in all. 10,000.
    pub unauthenticated: usize,
    /// Live connections of one user. 10; beyond, what [`Limits::at_capacity`] says.
    pub connections_per_user: usize,
    /// What becomes of one connection more. The oldest idle one gives way.
    pub at_capacity: AtCapacity,
    /// A connection gives way to another no sooner than this long after it came, or after the last message, command, decision,
    /// cancellation or subscription over it. 60 s. One that has left a ping unanswered, or has taken
    /// nothing of what waits for it, for half of the time that it may, gives way at once.
    pub eviction_idle: Duration,
    /// Sockets in all. 100,000.
    pub connections: usize,
    /// Open sockets of one peer's address, whatever they are for: of an IPv4 address, or of an IPv6 /64. 5,000, which is
    /// half of [`Limits::unauthenticated`], so that no address alone keeps everybody else out, and enough for an office or
    /// a carrier behind one address; beyond, 503. The machine's own loopback has no such bound, and behind a trusted proxy
    /// the client's address counts.
    pub connections_per_address: usize,
    /// Sockets that one such address may open per second, sustained. 100; beyond the burst: 503, and what is refused does
    /// not count.
    pub handshakes_per_second: u32,
    /// Sockets that it may open at once on top. 1,000.
    pub handshake_burst: u32,
    /// Addresses of which this is remembered: those with an open socket, and those that have opened one in the last seconds.
    /// 100,000; where they are so many, all further ones share what one of them may do.
    pub addresses: usize,
    /// One message from a client, all fragments together. 64 KiB, refused at the frame header with close 1009.
    pub message_bytes: usize,
    /// The same for the first frame of a connection whose upgrade carried no token that holds. 8 KiB.
    pub hello_bytes: usize,
    /// Bytes of all heads and messages that are half received, but for the first 8 KiB of each, and 64 KiB of a producer's. 256 MiB;
    /// where there is no room, a socket is read no further, and closed with 1013 where that takes 10 s. Those that have not come in
    /// yet have half of it.
    pub total_inbound_bytes: usize,
    /// Messages per second from one client, sustained. 30; beyond the burst: close 4002.
    pub messages_per_second: u32,
    /// Messages that may come at once on top. 60.
    pub message_burst: u32,
    /// One encoded event, published by whatever way. 64 KiB.
    pub event_bytes: usize,
    /// Pongs, replies and errors that wait for one connection's socket. 64 KiB; beyond: close 4001. As much may lie in its
    /// mailbox. Beside them a connection whose peer does not read holds at most 32 KiB and one event of its streams, and 8 KiB
    /// that came and are not looked at before their answers have room; of a producer's 64 KiB.
    pub control_bytes: usize,
    /// Messages of so many bytes go out compressed to whoever offers `permessage-deflate`, and such a client may compress its own;
    /// `None` switches the extension off. 512 bytes. Where a stranger can put text beside a secret into one event, lengths may tell
    /// of the secret: [`deflate`](crate::codec::deflate) says when to switch it off.
    pub deflate_from: Option<usize>,
    /// Entries of one stream's log. 4,096; beyond, the oldest go and a resume says so.
    pub log_entries: usize,
    /// Bytes of one stream's log, with room for the compressed form of each event of [`Limits::deflate_from`] bytes. 1 MiB.
    pub log_bytes: usize,
    /// Bytes of thoughts, calls and texts that are kept of the runs that were open before a log's oldest entry. 1 MiB;
    /// beyond, runs lose the least of them, and a snapshot says so.
    pub snapshot_bytes: usize,
    /// Entries that a connection may be behind before neighbouring texts are merged for it. 256.
    pub lag_entries: usize,
    /// How often a client is moved on over events of threads that it does not watch, where nothing else does. 1 s, the
    /// first at once; many hidden events move it on in between.
    pub position_interval: Duration,
    /// Topics that one connection may follow. 100.
    pub subscriptions: usize,
    /// Bytes of all snapshots that are being given, copies of the state of the runs that stand in them; whoever needs one
    /// more waits. 256 MiB.
    pub total_snapshot_bytes: usize,
    /// Bytes of all logs together, and of what is kept of open runs from before their beginnings; shared evenly among the
    /// shards. 1 GiB; beyond, the largest logs give way, but none that is within its fair part. One event on top for each
    /// shard: the one that has just been appended.
    pub total_log_bytes: usize,
    /// How long a user's log is kept once the last connection left and the last run ended; and how long entries are kept
    /// at least that every connected device has acknowledged, within the log's bounds. 5 min.
    pub log_retention: Duration,
    /// Users and topics without a connection, run or request that are kept for their logs, in all, shared evenly among the
    /// shards; one for each shard at least. 100,000; beyond, those go first that never had an event, then the one that has been
    /// idle longest, with the keys of its requests, and a resume says so.
    pub kept_streams: usize,
    /// Open runs of one user, those that a request has reserved included; requests of one user that wait; and ended runs
    /// that a late cancellation still finds. 100.
    pub runs_per_user: usize,
    /// Open runs of all users, shared evenly among the shards; one for each shard at least. 100,000; beyond, none starts.
    pub runs: usize,
    /// Tool calls of one run, ended ones included. 64.
    pub tools_per_run: usize,
    /// Streamed texts of one run. 256.
    pub parts_per_run: usize,
    /// Keys of answered requests remembered per user. 1,024; beyond, the oldest go, and their repeats are new requests.
    pub dedup_keys: usize,
    /// Bytes of the answers that are kept with those keys. 256 KiB; beyond, the oldest answers go, and a repeat is told
    /// `already_answered`.
    pub dedup_bytes: usize,
    /// Bytes of all keys and answers that are remembered, some 400 for each key. Over it whoever has most forgets its oldest.
    /// 256 MiB.
    pub total_dedup_bytes: usize,
    /// How long a key is remembered once its request is answered, and a run once it has ended. 10 min.
    pub dedup_window: Duration,
    /// Requests that wait for the application, in all, shared evenly among the shards; and requests that lie in the
    /// application's queue. 4,096; beyond, `busy`.
    pub requests: usize,
    /// How long the application may take to answer a request. 10 s.
    pub request_deadline: Duration,
    /// How long a run of a producer over the wire outlives its producer's connection or silence, where `run_start` says
    /// nothing. 30 s.
    pub run_lease: Duration,
    /// The longest such time that `run_start` may ask for; the shortest is 1 s. 600 s.
    pub run_lease_max: Duration,
    /// Users, sessions and tokens that are revoked, in all, shared evenly among the shards; one for each shard at least. 100,000;
    /// beyond, those are forgotten that are over, then of the tenant that has most the one that is over next.
    pub revocations: usize,
    /// How long a revocation is remembered at least where nobody knows when the tokens expire that it is about: as long as tokens
    /// live. 24 h; from then on it counts until its room is needed. Where it is known, it is remembered at least until then.
    pub revocation_memory: Duration,
    /// One-time tickets that are issued and not used, in all; each holds what it grants. 10,000; beyond, none is issued for now.
    pub tickets: usize,
    /// The same of one user, so that nobody takes all of them. 16.
    pub tickets_per_user: usize,
    /// How long a ticket may be shown. 30 s.
    pub ticket_life: Duration,
    /// Producers that are connected, in all. 1,024.
    pub producers: usize,
    /// One message of a producer, in bytes. 1 MiB.
    pub producer_message_bytes: usize,
    /// Messages a producer may send, per second; one that is faster is read more slowly. 20,000.
    pub producer_messages_per_second: u32,
    /// Messages of a producer that may come at once on top. 2,000.
    pub producer_message_burst: u32,
    /// Requests, replies and errors that wait for one producer, in bytes. 4 MiB.
    pub producer_control_bytes: usize,
    /// A WebSocket ping goes out when nothing came for this long. 25 s.
    pub heartbeat_interval: Duration,
    /// The connection is gone when nothing came for this long after the ping. 10 s, then close 4004. Where the ping is behind
    /// more than 16 KiB, which a slow line may still carry, [`Limits::write_stall`] takes its place.
    pub heartbeat_timeout: Duration,
    /// How long a socket may take nothing while output waits. 90 s, then close 4001.
    pub write_stall: Duration,
    /// No application message for this long closes with 4003; `None` is never. When set, above interval + timeout.
    pub idle_deadline: Option<Duration>,
    /// The service is [`Degraded`](crate::level::ServiceLevel::Degraded) from this share on of the memory that logs, snapshots and
    /// keys may have together, in percent. 80.
    pub degraded_enter_percent: u32,
    /// It is so until less than this share is in use. 70.
    pub degraded_leave_percent: u32,
    /// The same for [`Emergency`](crate::level::ServiceLevel::Emergency). 95.
    pub emergency_enter_percent: u32,
    /// It is so until less than this share is in use. 85.
    pub emergency_leave_percent: u32,
    /// How long what makes the service worse must last before its level says so. 1 s.
    pub level_rise_after: Duration,
    /// How long all must be well before the level says so. 10 s.
    pub level_fall_after: Duration,
    /// How long a streamed text waits for more of it where the service is degraded. 250 ms.
    pub degraded_text_hold: Duration,
    /// The same in an emergency. 3 s.
    pub emergency_text_hold: Duration,
    /// Dependencies of the service that are reported not to be well, at once. 64.
    pub dependencies: usize,
    /// How far a token's times may be off. 5 s.
    pub token_leeway: Duration,
    /// How long before its token's `exp` a client is told, once for each expiry. 60 s; a token that does not live twice as long
    /// is told of at half of its life.
    pub auth_notice: Duration,
    /// From our close frame to the peer's, then the socket is dropped. 5 s.
    pub close_deadline: Duration,
    /// From the start of a shutdown to its end. 30 s.
    pub drain_deadline: Duration,
}

/// What becomes of a verified connection whose user has [`Limits::connections_per_user`] already. Whoever continues a session that
/// is still held takes its place in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtCapacity {
    /// It is closed with 4410.
    Refuse,
    /// A connection of the same user that seems dead gives way, else the one that has been idle longest, with 4100. Where none has
    /// been idle for [`Limits::eviction_idle`], the newcomer is closed with 4410; so is one that gave way before and comes back.
    Supersede,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(10),
            handshake_bytes: 16 << 10,
            handshake_headers: 100,
            hello_deadline: Duration::from_secs(5),
            unauthenticated: 10_000,
            connections_per_user: 10,
            at_capacity: AtCapacity::Supersede,
            eviction_idle: Duration::from_secs(60),
            connections: 100_000,
            connections_per_address: 5_000,
            handshakes_per_second: 100,
            handshake_burst: 1_000,
            addresses: 100_000,
            message_bytes: 64 << 10,
            hello_bytes: 8 << 10,
            total_inbound_bytes: 256 << 20,
            messages_per_second: 30,
            message_burst: 60,
            event_bytes: 64 << 10,
            control_bytes: 64 << 10,
            deflate_from: Some(512),
            log_entries: 4_096,
            log_bytes: 1 << 20,
            snapshot_bytes: 1 << 20,
            total_snapshot_bytes: 256 << 20,
            lag_entries: 256,
            position_interval: Duration::from_secs(1),
            subscriptions: 100,
            total_log_bytes: 1 << 30,
            log_retention: Duration::from_secs(300),
            kept_streams: 100_000,
            runs_per_user: 100,
            runs: 100_000,
            tools_per_run: 64,
            parts_per_run: 256,
            dedup_keys: 1_024,
            dedup_bytes: 256 << 10,
            total_dedup_bytes: 256 << 20,
            dedup_window: Duration::from_secs(600),
            requests: 4_096,
            request_deadline: Duration::from_secs(10),
            run_lease: Duration::from_secs(30),
            run_lease_max: Duration::from_secs(600),
            revocations: 100_000,
            revocation_memory: Duration::from_secs(86_400),
            tickets: 10_000,
            tickets_per_user: 16,
            ticket_life: Duration::from_secs(30),
            producers: 1_024,
            producer_message_bytes: 1 << 20,
            producer_messages_per_second: 20_000,
            producer_message_burst: 2_000,
            producer_control_bytes: 4 << 20,
            heartbeat_interval: Duration::from_secs(25),
            heartbeat_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(90),
            idle_deadline: None,
            degraded_enter_percent: 80,
            degraded_leave_percent: 70,
            emergency_enter_percent: 95,
            emergency_leave_percent: 85,
            level_rise_after: Duration::from_secs(1),
            level_fall_after: Duration::from_secs(10),
            degraded_text_hold: Duration::from_millis(250),
            emergency_text_hold: Duration::from_secs(3),
            dependencies: 64,
            token_leeway: Duration::from_secs(5),
            auth_notice: Duration::from_secs(60),
            close_deadline: Duration::from_secs(5),
            drain_deadline: Duration::from_secs(30),
        }
    }
}

/// Limits that contradict each other or leave no room to work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("limit `{name}` {problem}")]
pub struct LimitsError {
    /// The field of [`Limits`].
    pub name: &'static str,
    /// What is wrong, and what to do.
    pub problem: &'static str,
}

impl Limits {
    /// # Errors
    /// When a bound is zero, or the idle deadline could cut a connection whose heartbeat is sound.
    pub fn check(&self) -> Result<(), LimitsError> {
        let refuse = |name, problem| Err(LimitsError { name, problem });
        let counts = [
            ("handshake_bytes", self.handshake_bytes),
            ("handshake_headers", self.handshake_headers),
            ("unauthenticated", self.unauthenticated),
            ("connections_per_user", self.connections_per_user),
            ("connections", self.connections),
            ("connections_per_address", self.connections_per_address),
            ("handshakes_per_second", self.handshakes_per_second as usize),
            ("handshake_burst", self.handshake_burst as usize),
            ("addresses", self.addresses),
            ("message_bytes", self.message_bytes),
            ("hello_bytes", self.hello_bytes),
            ("messages_per_second", self.messages_per_second as usize),
            ("message_burst", self.message_burst as usize),
            ("event_bytes", self.event_bytes),
            ("control_bytes", self.control_bytes),
            ("log_entries", self.log_entries),
            ("log_bytes", self.log_bytes),
            ("snapshot_bytes", self.snapshot_bytes),
            ("total_snapshot_bytes", self.total_snapshot_bytes),
            ("lag_entries", self.lag_entries),
            ("subscriptions", self.subscriptions),
            ("total_log_bytes", self.total_log_bytes),
            ("kept_streams", self.kept_streams),
            ("runs_per_user", self.runs_per_user),
            ("runs", self.runs),
            ("tools_per_run", self.tools_per_run),
            ("parts_per_run", self.parts_per_run),
            ("dedup_keys", self.dedup_keys),
            ("dedup_bytes", self.dedup_bytes),
            ("total_dedup_bytes", self.total_dedup_bytes),
            ("requests", self.requests),
            ("revocations", self.revocations),
            ("tickets", self.tickets),
            ("tickets_per_user", self.tickets_per_user),
            ("producers", self.producers),
            ("producer_message_bytes", self.producer_message_bytes),
            ("producer_messages_per_second", self.producer_messages_per_second as usize),
            ("producer_message_burst", self.producer_message_burst as usize),
            ("producer_control_bytes", self.producer_control_bytes),
            ("degraded_leave_percent", self.degraded_leave_percent as usize),
            ("dependencies", self.dependencies),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return refuse(name, "must be at least 1");
        }
        if self.deflate_from == Some(0) {
            return refuse("deflate_from", "must be at least 1, or none");
        }
        let periods = [
            ("handshake_deadline", self.handshake_deadline),
            ("hello_deadline", self.hello_deadline),
            ("request_deadline", self.request_deadline),
            ("ticket_life", self.ticket_life),
            ("heartbeat_interval", self.heartbeat_interval),
            ("heartbeat_timeout", self.heartbeat_timeout),
            ("write_stall", self.write_stall),
            ("auth_notice", self.auth_notice),
            ("close_deadline", self.close_deadline),
            ("eviction_idle", self.eviction_idle),
        ];
        if let Some((name, _)) = periods.into_iter().find(|(_, value)| value.is_zero()) {
            return refuse(name, "must be above zero");
        }
        if self.run_lease < MIN_RUN_LEASE || self.run_lease > self.run_lease_max {
            return refuse("run_lease", "must be at least 1 s and at most `run_lease_max`");
        }
        if self.handshake_headers > MAX_HANDSHAKE_HEADERS {
            return refuse("handshake_headers", "must be at most 256");
        }
        if self.total_inbound_bytes < self.message_bytes.max(self.producer_message_bytes).max(self.handshake_bytes) {
            return refuse("total_inbound_bytes", "must hold at least one message, a producer's included");
        }
        if self.log_bytes < self.event_bytes {
            return refuse("log_bytes", "must hold at least one event: raise it to `event_bytes`");
        }
        if self.idle_deadline.is_some_and(|idle| idle <= self.heartbeat_interval.saturating_add(self.heartbeat_timeout))
        {
            return refuse("idle_deadline", "must be above `heartbeat_interval` + `heartbeat_timeout`");
        }
        self.check_levels()
    }

    fn check_levels(&self) -> Result<(), LimitsError> {
        let refuse = |name, problem| Err(LimitsError { name, problem });
        if self.degraded_leave_percent >= self.degraded_enter_percent {
            return refuse("degraded_leave_percent", "must be below `degraded_enter_percent`");
        }
        if self.emergency_leave_percent >= self.emergency_enter_percent {
            return refuse("emergency_leave_percent", "must be below `emergency_enter_percent`");
        }
        if self.emergency_enter_percent > 100 {
            return refuse("emergency_enter_percent", "must be at most 100");
        }
        if self.degraded_enter_percent > self.emergency_enter_percent {
            return refuse("degraded_enter_percent", "must be at most `emergency_enter_percent`");
        }
        if self.degraded_leave_percent > self.emergency_leave_percent {
            return refuse("degraded_leave_percent", "must be at most `emergency_leave_percent`");
        }
        if self.degraded_text_hold > self.emergency_text_hold {
            return refuse("degraded_text_hold", "must be at most `emergency_text_hold`");
        }
        Ok(())
    }
}

/// The shortest lease of a run: the silence of its producer must be seen in less.
pub const MIN_RUN_LEASE: Duration = Duration::from_secs(1);

/// What [`Limits::handshake_headers`] may be raised to: the parser's table lives on the stack.
pub const MAX_HANDSHAKE_HEADERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_agree_with_each_other() {
        Limits::default().check().unwrap();
    }

    #[test]
    fn an_idle_deadline_at_the_heartbeats_sum_is_refused_and_just_above_is_not() {
        let sum = Duration::from_secs(35);
        let at = Limits { idle_deadline: Some(sum), ..Limits::default() };
        assert_eq!(at.check().unwrap_err().name, "idle_deadline");
        let above = Limits { idle_deadline: Some(sum + Duration::from_millis(1)), ..Limits::default() };
        above.check().unwrap();
    }

    #[test]
    fn levels_are_left_below_where_they_are_entered_and_the_worse_one_is_entered_later() {
        let with = |degraded: (u32, u32), emergency: (u32, u32)| Limits {
            degraded_enter_percent: degraded.0,
            degraded_leave_percent: degraded.1,
            emergency_enter_percent: emergency.0,
            emergency_leave_percent: emergency.1,
            ..Limits::default()
        };
        with((2, 1), (2, 1)).check().unwrap();
        with((99, 98), (100, 99)).check().unwrap();
        for (degraded, emergency, name) in [
            ((80, 0), (95, 85), "degraded_leave_percent"),
            ((80, 80), (95, 85), "degraded_leave_percent"),
            ((80, 70), (95, 95), "emergency_leave_percent"),
            ((80, 70), (101, 85), "emergency_enter_percent"),
            ((96, 70), (95, 85), "degraded_enter_percent"),
            ((80, 70), (95, 69), "degraded_leave_percent"),
        ] {
            assert_eq!(with(degraded, emergency).check().unwrap_err().name, name);
        }
        let hold = Limits { degraded_text_hold: Duration::from_secs(4), ..Limits::default() };
        assert_eq!(hold.check().unwrap_err().name, "degraded_text_hold");
    }

    #[test]
    fn a_bound_of_zero_is_refused_by_name() {
        let none = Limits { connections: 0, ..Limits::default() };
        assert_eq!(none.check().unwrap_err().to_string(), "limit `connections` must be at least 1");
    }
}
