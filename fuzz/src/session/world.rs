//! The hub, its clock, entropy and verifier, and the application.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trunkline_core::auth::{AuthError, Grant, Scopes, TokenVerifier};
use trunkline_core::hub::{Housekeeper, Hub, HubConfig, Request, Requests, Run};
use trunkline_core::id::{Entropy, UserId};
use trunkline_core::limits::Limits;
use trunkline_core::time::{Clock, Now, Timestamp, UnixTime};

/// Small, so that short inputs reach them.
pub(crate) fn limits() -> Limits {
    Limits {
        handshake_bytes: 1 << 10,
        message_bytes: 2 << 10,
        hello_bytes: 1 << 10,
        event_bytes: 2 << 10,
        control_bytes: 1 << 10,
        deflate_from: Some(256),
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
pub(crate) const LONGEST_LEASE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) hub: Hub,
    housekeeper: Housekeeper,
    clock: Arc<TestClock>,
    verifier: Arc<Watching>,
    requests: Requests,
    runs: Vec<Run>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::within(limits())
    }

    /// With room for several devices of a user that lose their sockets.
    pub(crate) fn roomy() -> Self {
        Self::within(Limits { connections_per_user: 8, message_bytes: 8 << 10, hello_bytes: 4 << 10, ..limits() })
    }

    fn within(limits: Limits) -> Self {
        let (clock, verifier) = (Arc::new(TestClock::default()), Arc::new(Watching::default()));
        let config = HubConfig { limits, shards: 2, ..HubConfig::default() };
        let (hub, housekeeper) =
            Hub::new(config, verifier.clone(), clock.clone(), Arc::new(Counting::default())).expect("sound limits");
        let requests = hub.requests().expect("the first to ask");
        Self { hub, housekeeper, clock, verifier, requests, runs: Vec::new() }
    }

    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.clock.micros.fetch_add(millis * 1_000, Ordering::Relaxed);
        let next = self.housekeeper.handle_timeout();
        assert!(next.is_none_or(|at| at > self.now().at), "what is due is done");
    }

    /// Whether the stranger's good token for this user was verified.
    pub(crate) fn verified(&self, user: &UserId) -> bool {
        let seen = if *user == USERS.producer { &self.verifier.producer } else { &self.verifier.stranger };
        seen.load(Ordering::Relaxed)
    }

    /// Ends one run of those that are open, and starts one for each message that waits.
    pub(crate) fn answer(&mut self) {
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

    pub(crate) fn refuse(&mut self) {
        while let Some(request) = self.next() {
            match request {
                Request::UserMessage(message) => message.refuse("no"),
                // Dropped, which is an answer too.
                Request::Command(_) => {}
            }
        }
    }

    pub(crate) fn end_runs(&mut self) {
        self.runs.clear();
        self.refuse();
    }

    pub(crate) fn publish_to_stranger(&self) {
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
pub(crate) struct Users {
    /// What each token grants. Nothing is signed here: that is what the target `token` is about.
    grants: Vec<(String, Grant)>,
    pub(crate) stranger: UserId,
    pub(crate) stranger_token: String,
    /// A back end that may act for the stranger's user and nobody else.
    pub(crate) producer: UserId,
    /// What the stranger has of it.
    pub(crate) producer_token: String,
    /// What a sound client has of it.
    pub(crate) agent_token: String,
    /// Another token of the stranger's user, which a sound client has.
    pub(crate) asker_token: String,
    pub(crate) bystander: UserId,
    pub(crate) bystander_token: String,
}

pub(crate) static USERS: LazyLock<Users> = LazyLock::new(|| {
    let mut grants = Vec::new();
    let mut token = |user: &UserId, secs, scope| {
        let scopes = Scopes::parse(scope, user).expect("a few words");
        let expires = BIRTH + Duration::from_secs(secs);
        let token = format!("fake.{}.{}", user.sub(), grants.len());
        grants.push((
            token.clone(),
            Grant { user: user.clone(), issued_at: Some(BIRTH), expires, token_id: None, scopes },
        ));
        token
    };
    let stranger = UserId::new(None, "stranger").expect("a user");
    let bystander = UserId::new(None, "bystander").expect("a user");
    let producer = UserId::new(None, "producer").expect("a user");
    // Those of the stranger run out within a session; the others never do.
    let (stranger_token, producer_token) = (token(&stranger, 300, ""), token(&producer, 300, "publish:stranger"));
    let (asker_token, agent_token) = (token(&stranger, 1 << 30, ""), token(&producer, 1 << 30, "publish:stranger"));
    let bystander_token = token(&bystander, 1 << 30, "");
    Users {
        grants,
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
pub(crate) struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let count = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mixed = (count ^ count >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }
}

/// Knows its few tokens by heart, and notes which were shown.
#[derive(Default)]
struct Watching {
    stranger: AtomicBool,
    producer: AtomicBool,
}

impl TokenVerifier for Watching {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let known = USERS.grants.iter().find(|(known, _)| known == token);
        let (_, grant) = known.ok_or(AuthError::Invalid("a token that nobody issued"))?;
        if now >= grant.expires + limits().token_leeway {
            return Err(AuthError::Expired);
        }
        if token == USERS.stranger_token {
            self.stranger.store(true, Ordering::Relaxed);
        } else if token == USERS.producer_token {
            self.producer.store(true, Ordering::Relaxed);
        }
        Ok(grant.clone())
    }
}
