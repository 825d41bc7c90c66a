//! The hub, its clock, entropy and verifier, and the application.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trunkline_core::auth::{AuthError, ClaimRules, Grant, Hs256, NewToken, TokenVerifier};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Request, Requests, Run};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

/// Small, so that short inputs reach them.
pub(super) fn limits() -> Limits {
    Limits {
        handshake_bytes: 1 << 10,
        message_bytes: 2 << 10,
        hello_bytes: 1 << 10,
        event_bytes: 2 << 10,
        control_bytes: 1 << 10,
        log_entries: 16,
        log_bytes: 4 << 10,
        total_log_bytes: 16 << 10,
        connections_per_user: 1,
        runs_per_user: 3,
        tools_per_run: 2,
        parts_per_run: 2,
        dedup_keys: 2,
        requests: 2,
        run_lease: Duration::from_secs(5),
        run_lease_max: LONGEST_LEASE,
        revocations: 2,
        producers: 2,
        producer_message_bytes: 4 << 10,
        producer_messages_per_second: 20,
        producer_message_burst: 12,
        producer_control_bytes: 2 << 10,
        ..Limits::default()
    }
}

/// How long a run may outlive its producer here.
pub(super) const LONGEST_LEASE: Duration = Duration::from_secs(20);

pub(super) struct World {
    pub(super) hub: Hub,
    housekeeper: Housekeeper,
    clock: Arc<TestClock>,
    verifier: Arc<Watching>,
    requests: Requests,
    runs: Vec<Run>,
}

impl World {
    pub(super) fn new() -> Self {
        let (clock, verifier) = (Arc::new(TestClock::default()), Arc::new(Watching::default()));
        let config = HubConfig { limits: limits(), shards: 2, ..HubConfig::default() };
        let (hub, housekeeper) =
            Hub::new(config, verifier.clone(), clock.clone(), Arc::new(Counting::default())).expect("sound limits");
        let requests = hub.requests().expect("the first to ask");
        Self { hub, housekeeper, clock, verifier, requests, runs: Vec::new() }
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(super) fn pass(&self, millis: u64) {
        self.clock.micros.fetch_add(millis * 1_000, Ordering::Relaxed);
        let next = self.housekeeper.handle_timeout();
        assert!(next.is_none_or(|at| at > self.now().at), "what is due is done");
    }

    /// Whether the stranger's good token for this user was verified.
    pub(super) fn verified(&self, user: &UserId) -> bool {
        let seen = if *user == USERS.producer { &self.verifier.producer } else { &self.verifier.stranger };
        seen.load(Ordering::Relaxed)
    }

    /// Ends one run of those that are open, and starts one for each message that waits.
    pub(super) fn answer(&mut self) {
        if let Some(run) = self.runs.pop() {
            // It may have ended, such as by cancellation: then it says so.
            let _ = run.completed(Some("done".into()));
        }
        while let Some(request) = self.next() {
            match request {
                Request::UserMessage(message) => self.runs.extend(message.start("agent")),
                Request::Command(command) => command.reply(&"done").expect("JSON"),
            }
        }
        if let Some(run) = self.runs.last() {
            let _ = run.tool("tool", &1).map(|call| call.completed(&2));
            let _ = run.delta("text");
        }
    }

    pub(super) fn refuse(&mut self) {
        while let Some(request) = self.next() {
            match request {
                Request::UserMessage(message) => message.refuse("no"),
                // Dropped, which is an answer too.
                Request::Command(_) => {}
            }
        }
    }

    pub(super) fn end_runs(&mut self) {
        self.runs.clear();
        self.refuse();
    }

    pub(super) fn publish_to_stranger(&self) {
        self.hub.publish(&USERS.stranger, None, "news", &"for the stranger").expect("room in the log");
    }

    fn next(&mut self) -> Option<Request> {
        match self.requests.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(request) => request,
            Poll::Pending => None,
        }
    }
}

/// Who is who, and their tokens.
pub(super) struct Users {
    keys: Hs256,
    pub(super) stranger: UserId,
    pub(super) stranger_token: String,
    /// A back end that may act for the stranger's user and nobody else.
    pub(super) producer: UserId,
    /// What the stranger has of it.
    pub(super) producer_token: String,
    /// What a sound client has of it.
    pub(super) agent_token: String,
    /// Another token of the stranger's user, which a sound client has.
    pub(super) asker_token: String,
    pub(super) bystander: UserId,
    pub(super) bystander_token: String,
}

pub(super) static USERS: LazyLock<Users> = LazyLock::new(|| {
    let secret = b"the secret of the fuzz target, and of nothing else";
    let keys = Hs256::new(secret, ClaimRules::default()).expect("it is long enough");
    let token = |user: &UserId, secs, scope| {
        let ttl = Duration::from_secs(secs);
        let claims = NewToken { user, issued_at: BIRTH, ttl, scope, token_id: None };
        keys.issue(&claims).expect("a good token")
    };
    let stranger = UserId::new(None, "stranger").expect("a user");
    let bystander = UserId::new(None, "bystander").expect("a user");
    let producer = UserId::new(None, "producer").expect("a user");
    // Those of the stranger run out within a session; the others never do.
    let (stranger_token, producer_token) = (token(&stranger, 300, ""), token(&producer, 300, "publish:stranger"));
    let (asker_token, agent_token) = (token(&stranger, 1 << 30, ""), token(&producer, 1 << 30, "publish:stranger"));
    let bystander_token = token(&bystander, 1 << 30, "");
    Users {
        keys,
        stranger,
        stranger_token,
        producer,
        producer_token,
        agent_token,
        asker_token,
        bystander,
        bystander_token,
    }
});

const BIRTH: UnixTime = UnixTime::from_secs(1_800_000_000);

#[derive(Default)]
struct TestClock {
    micros: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        let micros = self.micros.load(Ordering::Relaxed);
        Now { at: Timestamp::from_micros(micros), unix: BIRTH + Duration::from_micros(micros) }
    }
}

/// The same in every run, and never the same twice in one.
#[derive(Default)]
pub(super) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let count = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (count ^ count >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// The real verifier, watched: what it grants is what was issued.
#[derive(Default)]
struct Watching {
    stranger: AtomicBool,
    producer: AtomicBool,
}

impl TokenVerifier for Watching {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let grant = USERS.keys.verify(token, now)?;
        if token == USERS.stranger_token {
            assert_eq!(grant.user, USERS.stranger);
            self.stranger.store(true, Ordering::Relaxed);
        } else if token == USERS.producer_token {
            assert_eq!(grant.user, USERS.producer);
            self.producer.store(true, Ordering::Relaxed);
        } else {
            let others = [&USERS.bystander_token, &USERS.agent_token, &USERS.asker_token];
            assert!(others.into_iter().any(|other| token == other), "a token that nobody issued");
        }
        Ok(grant)
    }
}
