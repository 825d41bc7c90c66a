//! Keys from outside: the program against a server of keys, and a file, that change while it runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use trunkline_tests::http::request;
use trunkline_tests::issuer::{Answer, KeyServer, Signer, jwks};
use trunkline_tests::server::{Program, scoped, token};
use trunkline_tests::wire::{Device, STEP, upgrade, within};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// A file of this test.
fn scratch(name: &str, content: &str) -> PathBuf {
    let path = Path::new(SCRATCH).join(format!("keys-{}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

/// The program with its own secret and with the keys of a server, which it asks again no sooner than `cooldown`.
fn program(url: &str, authority: &str, cooldown: &str) -> Program {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let name = format!("ca-{}.pem", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    let authority = scratch(&name, authority);
    let variables = [
        ("TRUNKLINE_JWKS_URL", url),
        ("TRUNKLINE_JWKS_CA_FILE", authority.to_str().unwrap()),
        ("TRUNKLINE_JWKS_COOLDOWN", cooldown),
        ("TRUNKLINE_JWKS_REFRESH", "1h"),
    ];
    Program::with(SCRATCH, &variables)
}

/// Whether a token gets in, or the code that its socket is closed with.
async fn attempt(program: &Program, token: &str) -> Result<(), u16> {
    let entry = format!("trunkline.v1, bearer.{token}");
    let (mut socket, _) = upgrade(program.addr, &[("sec-websocket-protocol", &entry)]).await.unwrap();
    // The server may have closed already.
    let _ = socket.send(Message::text(json!({"type": "hello"}).to_string())).await;
    match within("an answer to a token", STEP, socket.next()).await {
        Some(Ok(Message::Text(text))) if text.contains("\"welcome\"") => Ok(()),
        Some(Ok(Message::Close(Some(close)))) => Err(close.code.into()),
        other => panic!("a welcome or a close was awaited: {other:?}"),
    }
}

/// Tries again, as a client does, until this comes of it. Before that nothing else than `meanwhile` may come.
async fn becomes(program: &Program, token: &str, wanted: Result<(), u16>, meanwhile: Result<(), u16>) {
    let start = Instant::now();
    loop {
        let verdict = attempt(program, token).await;
        if verdict == wanted {
            return;
        }
        assert_eq!(verdict, meanwhile, "{wanted:?} was awaited");
        assert!(start.elapsed() < STEP, "{wanted:?} was awaited");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const UNDECIDED: Result<(), u16> = Err(1013);
const REFUSED: Result<(), u16> = Err(4400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_while_clients_are_connected() {
    let (old, new) = (Signer::es256("2026-10"), Signer::ed25519("2026-11"));
    let server = KeyServer::start(&[&old]).await;
    let program = program(&server.url(), &server.authority, "1s");
    let mut ann = Device::open(program.addr, &old.token("ann")).await;
    let mut bob = Device::open(program.addr, &token("bob")).await;
    assert_eq!(server.fetches(), 1);

    server.rotate(&[&old, &new]);
    let late = new.token("ann");
    becomes(&program, &late, Ok(()), UNDECIDED).await;
    assert_eq!(server.fetches(), 2, "one fetch, as soon as the cooldown was over");
    for holds in [&late, &old.token("ann"), &token("ann")] {
        assert_eq!(attempt(&program, holds).await, Ok(()), "old and new keys, and the secret, count at once");
    }

    server.rotate(&[&new]);
    program.signal("-HUP");
    let gone = old.token("ann");
    becomes(&program, &gone, UNDECIDED, Ok(())).await;
    becomes(&program, &gone, REFUSED, UNDECIDED).await;
    assert_eq!(attempt(&program, &late).await, Ok(()));
    // Whoever is connected stays.
    ann.golden_path().await;
    bob.golden_path().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_keys_that_is_down_keeps_nobody_out_and_lets_nobody_in() {
    let (known, unknown) = (Signer::es256("known"), Signer::es256("unknown"));
    let server = KeyServer::start(&[&known]).await;
    let program = program(&server.url(), &server.authority, "100ms");
    let stranger = unknown.token("ann");
    for answer in [Answer::Nothing, Answer::Document("{}".into())] {
        server.answer(answer.clone());
        let before = server.connections();
        program.signal("-HUP");
        let start = Instant::now();
        while server.connections() == before {
            assert!(start.elapsed() < STEP, "{answer:?}: a fetch was awaited");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for _ in 0..5 {
            assert_eq!(attempt(&program, &stranger).await, UNDECIDED, "{answer:?}");
            assert_eq!(attempt(&program, &known.token("ann")).await, Ok(()), "{answer:?}");
        }
        // A forged one is no better off than before.
        let forged = unknown.token_named("known", "ann");
        assert_eq!(attempt(&program, &forged).await, REFUSED, "{answer:?}");
    }
    server.rotate(&[&unknown]);
    program.signal("-HUP");
    becomes(&program, &stranger, Ok(()), UNDECIDED).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_down_degrades_the_service_until_it_is_back() {
    let known = Signer::es256("known");
    let server = KeyServer::start(&[&known]).await;
    let program = program(&server.url(), &server.authority, "100ms");
    let bearer = format!("Bearer {}", scoped("operator", "admin"));
    for (answer, level) in [(Some(Answer::Nothing), "degraded"), (None, "normal")] {
        match answer {
            Some(answer) => server.answer(answer),
            None => server.rotate(&[&known]),
        }
        let start = Instant::now();
        loop {
            program.signal("-HUP");
            let told = request(program.addr, "GET /v1/service-level", &[("authorization", &bearer)], b"").await;
            if told.body["level"] == level {
                break;
            }
            assert!(start.elapsed() < 2 * STEP, "{level} is awaited: {}", told.body);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_made_up_keys_cost_one_fetch_a_cooldown() {
    let (known, new, stranger) = (Signer::es256("known"), Signer::ed25519("new"), Signer::ed25519("none"));
    let server = KeyServer::start(&[&known]).await;
    let program = program(&server.url(), &server.authority, "2s");
    let start = Instant::now();
    let mut statuses = std::collections::BTreeSet::new();
    for index in 0..3_000 {
        let bearer = format!("Bearer {}", stranger.token_named(&format!("made-up-{index}"), "ann"));
        let answer = request(program.addr, "GET /v1/users/ann", &[("authorization", &bearer)], b"").await;
        statuses.insert(answer.status);
        if index == 1_500 {
            server.rotate(&[&known, &new]);
        }
    }
    let spent = start.elapsed();
    let allowed = 2 + usize::try_from(spent.as_secs()).unwrap() / 2;
    assert!(server.fetches() <= allowed, "{} fetches in {spent:?}", server.fetches());
    assert_eq!(server.connections(), server.fetches(), "nobody knocks for nothing");
    assert!(statuses.is_subset(&[401, 503].into()), "{statuses:?}");
    // They have not shut out the one that came meanwhile.
    becomes(&program, &new.token("ann"), Ok(()), UNDECIDED).await;
    assert_eq!(attempt(&program, &known.token("ann")).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_whole_document_from_the_right_server_is_taken() {
    let (good, planted) = (Signer::es256("good"), Signer::es256("planted"));
    let server = KeyServer::start(&[&good]).await;
    let elsewhere = KeyServer::start(&[&planted]).await;
    let redirect = Answer::Redirect(elsewhere.url());
    for answer in [redirect, Answer::Bytes(64 << 20), Answer::Silence] {
        server.answer(answer.clone());
        let before = server.fetches();
        let program = program(&server.url(), &server.authority, "100ms");
        assert!(server.fetches() > before, "{answer:?}: it was asked");
        for signer in [&good, &planted] {
            assert_eq!(attempt(&program, &signer.token("ann")).await, UNDECIDED, "{answer:?}");
        }
        // What has a key here comes in all the same.
        assert_eq!(attempt(&program, &token("ann")).await, Ok(()), "{answer:?}");
    }
    assert_eq!(elsewhere.connections(), 0, "no redirect is followed");
    assert!(server.sent() < 32 << 20, "{} bytes were taken", server.sent());

    // The right name and the wrong authority.
    server.rotate(&[&good]);
    let before = server.fetches();
    let program = program(&server.url(), &elsewhere.authority, "100ms");
    assert_eq!(attempt(&program, &good.token("ann")).await, UNDECIDED);
    assert_eq!(server.fetches(), before, "no request is made to it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_address_in_a_token_is_ever_asked() {
    let good = Signer::es256("good");
    let elsewhere = KeyServer::start(&[&good]).await;
    let file = scratch("good.json", &jwks(&[&good]));
    let program = Program::with(SCRATCH, &[("TRUNKLINE_JWKS_FILE", file.to_str().unwrap())]);
    let forger = Signer::es256("forger");
    for field in ["jku", "x5u"] {
        let more = json!({field: elsewhere.url(), "jwk": forger.jwk()});
        becomes(&program, &forger.token_with("ann", &more), REFUSED, UNDECIDED).await;
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_with_keys_is_read_again_when_it_changes() {
    let (old, new, newest) = (Signer::es256("old"), Signer::ed25519("new"), Signer::es256("newest"));
    let file = scratch("rotating.json", &jwks(&[&old]));
    let program = Program::with(SCRATCH, &[("TRUNKLINE_JWKS_FILE", file.to_str().unwrap())]);
    assert_eq!(attempt(&program, &old.token("ann")).await, Ok(()));
    // As tools do that let nobody see half a file.
    let next = scratch("next.json", &jwks(&[&old, &new]));
    std::fs::rename(next, &file).unwrap();
    becomes(&program, &new.token("ann"), Ok(()), UNDECIDED).await;
    // Half a file, and none: those before it stay.
    for broken in ["{\"keys\": [{\"kty\"", ""] {
        std::fs::write(&file, broken).unwrap();
        program.signal("-HUP");
        for _ in 0..20 {
            assert_eq!(attempt(&program, &new.token("ann")).await, Ok(()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    std::fs::write(&file, jwks(&[&newest])).unwrap();
    becomes(&program, &newest.token("ann"), Ok(()), UNDECIDED).await;
    becomes(&program, &old.token("ann"), REFUSED, UNDECIDED).await;
}
