//! Tests of [`super::keeper`]: the loop polled by hand, in made-up time, with fetches that end when the test says so.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;
use crate::auth::{Algorithm, AuthError, ClaimRules, Hs256, NewToken, TokenVerifier};
use crate::drive::Timer;
use crate::id::{Entropy, UserId};
use crate::sync::Lock;
use crate::time::{Clock, Now, Timestamp, UnixTime};

const UNIX: UnixTime = UnixTime::from_secs(1_800_000_000);

/// What the test and the loop share: the time, the timer's deadline, and the place that is fetched from.
#[derive(Default)]
struct Around {
    now: Lock<Timestamp>,
    armed: Lock<Timestamp>,
    /// How the fetch that is under way ends.
    answer: Lock<Option<Result<Vec<u8>, FetchError>>>,
    fetches: Lock<usize>,
    dropped: Lock<usize>,
    events: Lock<Vec<String>>,
}

#[derive(Clone)]
struct Hands(Arc<Around>);

impl Clock for Hands {
    fn now(&self) -> Now {
        Now { at: *self.0.now.lock(), unix: UNIX }
    }
}

impl Entropy for Hands {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

impl Timer for Hands {
    fn reset(self: Pin<&mut Self>, at: Timestamp) {
        *self.0.armed.lock() = at;
    }

    fn poll_elapsed(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if *self.0.now.lock() >= *self.0.armed.lock() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Counts itself when a fetch is given up.
struct Dropped(Arc<Around>);

impl Drop for Dropped {
    fn drop(&mut self) {
        *self.0.dropped.lock() += 1;
    }
}

impl FetchKeys for Hands {
    async fn fetch(&mut self) -> Result<Vec<u8>, FetchError> {
        *self.0.fetches.lock() += 1;
        let _dropped = Dropped(Arc::clone(&self.0));
        poll_fn(|_| self.0.answer.lock().take().map_or(Poll::Pending, Poll::Ready)).await
    }
}

/// A source whose loop is polled after everything that happens.
struct World {
    around: Arc<Around>,
    keys: KeySource,
    run: Pin<Box<dyn Future<Output = ()>>>,
}

fn config() -> SourceConfig {
    SourceConfig { max_age: Some(Duration::from_secs(1_000)), ..SourceConfig::default() }
}

impl World {
    fn new() -> Self {
        let around = Arc::new(Around::default());
        let (keys, keeper) = KeySource::with_secrets(config(), ClaimRules::default()).unwrap();
        let (hands, told) = (Hands(Arc::clone(&around)), Arc::clone(&around));
        let tell = move |event| told.events.lock().push(short(&event));
        let run = Box::pin(keeper.run(hands.clone(), hands.clone(), hands.clone(), hands, tell));
        let mut world = Self { around, keys, run };
        world.poll();
        world
    }

    fn poll(&mut self) {
        assert!(self.run.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    fn at(&mut self, secs: u64) -> &mut Self {
        *self.around.now.lock() = Timestamp::from_micros(secs * 1_000_000);
        self.poll();
        self
    }

    fn answers(&mut self, answer: Result<&str, &str>) -> &mut Self {
        let answer = answer.map(|document| document.as_bytes().to_vec()).map_err(FetchError::new);
        *self.around.answer.lock() = Some(answer);
        self.poll();
        assert!(self.around.answer.lock().is_none(), "a fetch is under way");
        self
    }

    fn fetches(&self) -> usize {
        *self.around.fetches.lock()
    }

    fn events(&self) -> Vec<String> {
        std::mem::take(&mut *self.around.events.lock())
    }

    fn verify(&mut self, token: &str) -> Result<String, AuthError> {
        let verdict = self.keys.verify(token, UNIX);
        self.poll();
        verdict.map(|grant| grant.user.sub().to_owned())
    }
}

fn short(event: &SourceEvent) -> String {
    match event {
        SourceEvent::Loaded(keys) => {
            format!("loaded {:?}", keys.keys().iter().filter_map(|key| key.kid()).collect::<Vec<_>>())
        }
        SourceEvent::Recovered => "recovered".into(),
        SourceEvent::Failed { health, problem } => format!("{health:?}: {problem}"),
        SourceEvent::TooOld => "too old".into(),
    }
}

fn secret(kid: &str) -> Vec<u8> {
    format!("{kid:k>40}").into_bytes()
}

/// Secrets under these names, which need no key pairs.
fn document(kids: &[&str]) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let keys = kids.iter().map(|kid| {
        let secret = engine.encode(secret(kid));
        BTreeMap::from([("kty", "oct".to_owned()), ("alg", "HS256".into()), ("kid", (*kid).into()), ("k", secret)])
    });
    serde_json::to_string(&BTreeMap::from([("keys", keys.collect::<Vec<_>>())])).unwrap()
}

/// A token for `ann`, which the key of this name signed, and says so when `named`.
fn token(kid: &str, named: bool) -> String {
    let keys = Hs256::new(&secret(kid), ClaimRules::default()).unwrap();
    let ann = UserId::new(None, "ann").unwrap();
    let hour = Duration::from_secs(3_600);
    let token = keys.issue(&NewToken { user: &ann, issued_at: UNIX, ttl: hour, scope: "", token_id: None }).unwrap();
    if !named {
        return token;
    }
    let header = format!(r#"{{"alg":"{}","kid":"{kid}"}}"#, Algorithm::Hs256.name());
    let claims = format!(r#"{{"sub":"ann","exp":{}}}"#, UNIX.as_secs() + 3_600);
    keys.sign(header.as_bytes(), claims.as_bytes()).unwrap()
}

#[test]
fn nobody_is_let_in_before_the_first_keys_and_only_what_they_hold_then() {
    let mut world = World::new();
    assert_eq!((world.fetches(), world.keys.health()), (1, Health::Starting));
    for token in [token("a", true), token("a", false), token("b", true)] {
        assert_eq!(world.verify(&token), Err(AuthError::Undecided));
    }
    for nonsense in ["", "nonsense", "a.b.c"] {
        assert!(matches!(world.verify(nonsense), Err(AuthError::Invalid(_))), "{nonsense}");
    }
    world.answers(Err("no route"));
    assert_eq!(world.verify(&token("a", true)), Err(AuthError::Undecided), "an outage lets nobody in");
    world.at(1).answers(Ok(&document(&["a"])));
    assert_eq!(world.verify(&token("a", true)), Ok("ann".into()));
    assert_eq!(world.verify(&token("a", false)), Ok("ann".into()));
    assert_eq!(world.events(), ["Failing: no route", r#"loaded ["a"]"#]);
    assert_eq!(world.keys.health(), Health::Up);
}

#[test]
fn a_new_key_is_in_doubt_until_a_fetch_has_looked_for_it() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    assert_eq!(world.at(10).verify(&token("b", true)), Err(AuthError::Undecided));
    assert_eq!(world.fetches(), 1);
    world.at(30);
    assert_eq!(world.fetches(), 2, "after the cooldown");
    // This one may have been made after the document was.
    assert_eq!(world.verify(&token("c", true)), Err(AuthError::Undecided));
    world.answers(Ok(&document(&["a", "b"])));
    assert_eq!(world.verify(&token("b", true)), Ok("ann".into()));
    assert_eq!(world.verify(&token("a", true)), Ok("ann".into()), "both count at once");
    assert_eq!(world.verify(&token("c", true)), Err(AuthError::Undecided));
    world.at(60).answers(Ok(&document(&["a", "b"])));
    assert!(matches!(world.verify(&token("c", true)), Err(AuthError::Invalid(_))));
    assert!(matches!(world.at(89).verify(&token("c", true)), Err(AuthError::Invalid(_))));
    assert_eq!(world.fetches(), 3);
    // Whoever asked for it too early has not shut it out.
    assert_eq!(world.at(90).verify(&token("c", true)), Err(AuthError::Undecided));
    assert_eq!(world.fetches(), 4);
    world.answers(Ok(&document(&["c"])));
    assert_eq!(world.verify(&token("c", true)), Ok("ann".into()));
    assert_eq!(world.verify(&token("a", true)), Err(AuthError::Undecided), "gone, or not there yet");
    assert_eq!(world.events(), [r#"loaded ["a"]"#, r#"loaded ["a", "b"]"#, r#"loaded ["c"]"#]);
}

#[test]
fn a_token_that_names_no_key_is_in_doubt_by_itself() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    let (old, new) = (token("x", false), token("b", false));
    assert_eq!(world.at(40).verify(&old), Err(AuthError::Undecided));
    world.answers(Ok(&document(&["a"])));
    assert!(matches!(world.verify(&old), Err(AuthError::Invalid(_))));
    assert_eq!(world.verify(&new), Err(AuthError::Undecided), "the refusal of another says nothing about it");
    world.at(70).answers(Ok(&document(&["b"])));
    assert_eq!(world.verify(&new), Ok("ann".into()));
}

#[test]
fn what_no_fetch_could_bring_asks_for_none() {
    let (keys, keeper) = KeySource::new(config(), ClaimRules::default()).unwrap();
    let too_long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(256));
    for header in [r#"{"alg":"HS256","kid":"a"}"#, r#"{"alg":"none"}"#, r#"{"alg":"ES256","kid":""}"#, &too_long] {
        let token = Hs256::new(&secret("a"), ClaimRules::default()).unwrap().sign(header.as_bytes(), b"{}").unwrap();
        assert!(matches!(keys.verify(&token, UNIX), Err(AuthError::Invalid(_))), "{header}");
    }
    drop(keeper);
}

#[test]
fn keys_outlive_their_source_until_they_are_too_old() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    world.events();
    world.at(300).answers(Err("no route"));
    for secs in (310..1_000).step_by(10) {
        world.at(secs);
        if *world.around.fetches.lock() > *world.around.dropped.lock() {
            world.answers(Err("no route"));
        }
        assert_eq!(world.verify(&token("a", true)), Ok("ann".into()), "at {secs}");
    }
    assert_eq!(world.events(), ["Failing: no route", "Down: no route"]);
    world.at(1_000);
    assert_eq!(world.verify(&token("a", true)), Err(AuthError::Undecided));
    assert!(world.events().contains(&"too old".to_owned()));
    world.answers(Ok(&document(&["a"])));
    assert_eq!(world.verify(&token("a", true)), Ok("ann".into()));
    assert_eq!(world.events(), [r#"loaded ["a"]"#]);
}

#[test]
fn a_fetch_that_takes_too_long_is_dropped_and_a_document_that_is_none_changes_nothing() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    world.at(300);
    assert_eq!((world.fetches(), *world.around.dropped.lock()), (2, 1));
    world.at(310);
    assert_eq!(*world.around.dropped.lock(), 2);
    world.at(311).answers(Ok("{}"));
    world.at(313).answers(Ok(&document(&["a"])));
    assert_eq!(world.verify(&token("a", true)), Ok("ann".into()));
    let events = world.events();
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(events[1], "Failing: took too long");
    assert!(events[2].starts_with("Failing: ") && events[3] == "recovered", "{events:?}");
}

#[test]
fn an_order_wakes_the_keeper_and_the_same_document_again_is_no_event() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    world.at(5);
    assert_eq!(world.fetches(), 1);
    world.keys.reload();
    world.poll();
    assert_eq!(world.fetches(), 2);
    world.answers(Ok(&document(&["a"])));
    assert_eq!(world.events(), [r#"loaded ["a"]"#]);
}

#[test]
fn thousands_of_names_cost_one_fetch_and_keep_no_good_token_out() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    for index in 0..5_000 {
        assert_eq!(world.at(10).verify(&token(&format!("junk-{index}"), true)), Err(AuthError::Undecided));
    }
    assert_eq!(world.verify(&token("b", true)), Err(AuthError::Undecided));
    assert_eq!(world.verify(&token("a", true)), Ok("ann".into()));
    world.at(30).answers(Ok(&document(&["a", "b"])));
    assert_eq!(world.verify(&token("b", true)), Ok("ann".into()), "although there was no room to remember it");
    assert_eq!(world.fetches(), 2);
}

#[test]
fn no_secret_is_shown() {
    let mut world = World::new();
    world.answers(Ok(&document(&["a"])));
    let shown = format!("{:?} {:?}", world.keys, world.keys.keys());
    assert!(shown.contains("Up") && !shown.contains("kkkk") && !shown.contains("a2tr"), "{shown}");
}
