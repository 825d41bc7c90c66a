//! What fetches keys, on both adapters: against servers that rotate, die and lie, and files that change.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use trunkline_core::auth::source::{Health, KeySource, SourceConfig, SourceEvent};
use trunkline_core::auth::{AuthError, ClaimRules, TokenVerifier as _};
use trunkline_core::time::UnixTime;
use trunkline_core::tls::Roots;
use trunkline_tests::issuer::{Answer, KeyServer, Signer, jwks};

/// How long anything here may take; everything takes far less.
const STEP: Duration = Duration::from_secs(30);
const COOLDOWN: Duration = Duration::from_millis(200);
/// Of a fetch, which is cut off then.
const DEADLINE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum Adapter {
    Tokio,
    Smol,
}

const BOTH: [Adapter; 2] = [Adapter::Tokio, Adapter::Smol];

/// Where keys come from.
enum Place<'a> {
    Url(&'a str, &'a Roots),
    File(&'a Path),
}

/// A source and its keeper at work.
struct Keys {
    source: KeySource,
    heard: mpsc::Receiver<SourceEvent>,
    _keeping: Keeping,
}

/// Dropped, it ends the keeper.
enum Keeping {
    Tokio(tokio::task::JoinHandle<()>),
    Smol { _task: smol::Task<()> },
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if let Self::Tokio(task) = self {
            task.abort();
        }
    }
}

impl Keys {
    fn start(adapter: Adapter, place: &Place<'_>) -> Self {
        let config = SourceConfig {
            refresh: Duration::from_secs(3600),
            cooldown: COOLDOWN,
            fetch_deadline: DEADLINE,
            retry: Duration::from_millis(20),
            ..SourceConfig::of_file()
        };
        let (source, keeper) = KeySource::new(config, ClaimRules::default()).unwrap();
        let (tell, heard) = mpsc::channel();
        let tell = move |event| drop(tell.send(event));
        let keeping = match adapter {
            Adapter::Tokio => {
                use trunkline_tokio::keys::{FileKeys, HttpsKeys};
                use trunkline_tokio::{SystemClock, SystemEntropy, TokioTimer};
                let clock = SystemClock::new();
                let timer = TokioTimer::new(clock);
                Keeping::Tokio(tokio::spawn(match place {
                    Place::Url(url, roots) => {
                        let fetch = HttpsKeys::new(url, roots).unwrap();
                        Box::pin(keeper.run(fetch, clock, SystemEntropy, timer, tell)) as Running
                    }
                    Place::File(path) => {
                        Box::pin(keeper.run(FileKeys::new(*path), clock, SystemEntropy, timer, tell)) as Running
                    }
                }))
            }
            Adapter::Smol => {
                use trunkline_smol::keys::{FileKeys, HttpsKeys};
                use trunkline_smol::{SmolTimer, SystemClock, SystemEntropy};
                let clock = SystemClock::new();
                let timer = SmolTimer::new(clock);
                let _task = smol::spawn(match place {
                    Place::Url(url, roots) => {
                        let fetch = HttpsKeys::new(url, roots).unwrap();
                        Box::pin(keeper.run(fetch, clock, SystemEntropy, timer, tell)) as Running
                    }
                    Place::File(path) => {
                        Box::pin(keeper.run(FileKeys::new(*path), clock, SystemEntropy, timer, tell)) as Running
                    }
                });
                Keeping::Smol { _task }
            }
        };
        Self { source, heard, _keeping: keeping }
    }

    fn of(adapter: Adapter, server: &KeyServer) -> Self {
        let roots = match server.authority.as_str() {
            "" => Roots::Public,
            authority => Roots::Pem(authority.into()),
        };
        Self::start(adapter, &Place::Url(&server.url(), &roots))
    }

    /// What is told next.
    fn event(&self) -> SourceEvent {
        tokio::task::block_in_place(|| self.heard.recv_timeout(STEP)).expect("something is told")
    }

    fn loaded(&self) {
        let event = self.event();
        assert!(matches!(event, SourceEvent::Loaded(_)), "{event:?}");
    }

    /// Of the next fetch that fails, why.
    fn problem(&self) -> String {
        match self.event() {
            SourceEvent::Failed { problem, .. } => problem,
            other @ (SourceEvent::Loaded(_) | SourceEvent::Recovered | SourceEvent::TooOld) => {
                panic!("a failure was awaited: {other:?}")
            }
        }
    }

    fn verify(&self, token: &str) -> Result<(), AuthError> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        self.source.verify(token, UnixTime::from_secs(now)).map(drop)
    }

    /// Asks again, as peers do, until this comes of it. Before that nothing else than `meanwhile` may come.
    async fn becomes(&self, token: &str, wanted: fn(&Verdict) -> bool, meanwhile: fn(&Verdict) -> bool) {
        let start = Instant::now();
        loop {
            let verdict = self.verify(token);
            if wanted(&verdict) {
                return;
            }
            assert!(meanwhile(&verdict), "{verdict:?}");
            assert!(start.elapsed() < STEP, "{verdict:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;
type Verdict = Result<(), AuthError>;

fn holds(verdict: &Verdict) -> bool {
    verdict.is_ok()
}

fn undecided(verdict: &Verdict) -> bool {
    *verdict == Err(AuthError::Undecided)
}

fn refused(verdict: &Verdict) -> bool {
    matches!(verdict, Err(AuthError::Invalid(_)))
}

/// A file of this test.
fn scratch(adapter: Adapter, name: &str, content: &str) -> PathBuf {
    let path =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fetching-{}-{adapter:?}-{name}", std::process::id()));
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_and_a_name_that_nobody_knows_costs_one_fetch() {
    for adapter in BOTH {
        let (old, new, none) = (Signer::es256("2026-10"), Signer::ed25519("2026-11"), Signer::es256("none"));
        let server = KeyServer::start(&[&old]).await;
        let keys = Keys::of(adapter, &server);
        keys.loaded();
        assert!(holds(&keys.verify(&old.token("ann"))) && server.fetches() == 1, "{adapter:?}");

        server.rotate(&[&old, &new]);
        keys.becomes(&new.token("ann"), holds, undecided).await;
        assert_eq!(server.fetches(), 2, "{adapter:?}: one fetch, as soon as the cooldown was over");
        keys.becomes(&none.token("ann"), refused, undecided).await;
        assert_eq!(server.fetches(), 3, "{adapter:?}: one more");
        assert!(holds(&keys.verify(&old.token("ann"))), "{adapter:?}");

        server.rotate(&[&new]);
        keys.source.reload();
        keys.becomes(&old.token("ann"), refused, |verdict| holds(verdict) || undecided(verdict)).await;
        assert!(holds(&keys.verify(&new.token("ann"))), "{adapter:?}");
        assert_eq!(server.connections(), server.fetches(), "{adapter:?}: nobody knocks for nothing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_leaves_the_keys_and_one_that_is_back_is_found() {
    for adapter in BOTH {
        let (known, new) = (Signer::es256("known"), Signer::es256("new"));
        let server = KeyServer::start(&[&known]).await;
        let keys = Keys::of(adapter, &server);
        keys.loaded();
        server.answer(Answer::Nothing);
        keys.source.reload();
        assert!(!keys.problem().is_empty(), "{adapter:?}");
        assert_ne!(keys.source.health(), Health::Up, "{adapter:?}");
        assert!(holds(&keys.verify(&known.token("ann"))), "{adapter:?}");
        assert!(undecided(&keys.verify(&new.token("ann"))), "{adapter:?}");
        server.rotate(&[&known, &new]);
        keys.becomes(&new.token("ann"), holds, undecided).await;
        assert_eq!(keys.source.health(), Health::Up, "{adapter:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_a_whole_document_is_taken_and_its_problem_is_named() {
    let (good, planted) = (Signer::es256("good"), Signer::es256("planted"));
    let elsewhere = KeyServer::start(&[&planted]).await;
    let document = jwks(&[&planted]);
    let raw = |head: &str| Answer::Raw(format!("HTTP/1.1 {head}\r\n\r\n{document}"));
    let lies = [
        (Answer::Redirect(elsewhere.url()), "answers 302"),
        (raw("404 Not Found"), "answers 404"),
        (raw("200 OK\r\nContent-Length: 99999"), "ends the connection before"),
        (raw("200 OK\r\nContent-Length: 99999999"), "more than 262144 bytes"),
        (raw("200 OK\r\nTransfer-Encoding: gzip, chunked"), "coding"),
        (raw("200 OK\r\nContent-Encoding: gzip"), "coding"),
        (raw("200 OK\r\nTransfer-Encoding: chunked"), "chunk without a size"),
        (raw(&format!("200 OK\r\nA: {}", "a".repeat(40_000))), "head of more than 32768 bytes"),
        (Answer::Raw("SSH-2.0-OpenSSH_9.6\r\n\r\n".into()), "no HTTP/1.1"),
        (Answer::Bytes(64 << 20), "more than 262144 bytes"),
        (Answer::Document("<html>".into()), ""),
        (Answer::Document("{}".into()), ""),
        (Answer::Silence, "took too long"),
        (Answer::Drip, "took too long"),
    ];
    for adapter in BOTH {
        let server = KeyServer::start(&[&good]).await;
        for (lie, problem) in &lies {
            server.answer(lie.clone());
            let keys = Keys::of(adapter, &server);
            let told = keys.problem();
            assert!(told.contains(problem), "{adapter:?}: {lie:?}: {told}");
            assert!(!told.contains("<html>") && !told.contains("planted"), "{adapter:?}: {told}");
            for signer in [&good, &planted] {
                assert!(undecided(&keys.verify(&signer.token("ann"))), "{adapter:?}: {lie:?}");
            }
            server.rotate(&[&good]);
            keys.becomes(&good.token("ann"), holds, undecided).await;
        }
        assert!(server.sent() < 32 << 20, "{adapter:?}: {} bytes were taken", server.sent());
    }
    assert_eq!(elsewhere.connections(), 0, "no redirect is followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_comes_in_chunks_or_up_to_the_end_too() {
    let good = Signer::es256("good");
    let document = jwks(&[&good]);
    let (half, rest) = document.split_at(document.len() / 2);
    let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = format!("{chunked}{:x}\r\n{half}\r\n{:x};x=y\r\n{rest}\r\n0\r\nA: b\r\n\r\n", half.len(), rest.len());
    for adapter in BOTH {
        let server = KeyServer::start(&[]).await;
        for answer in [&chunks, &format!("200 OK\r\n\r\n{document}")] {
            server.answer(Answer::Raw(format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 {answer}")));
            let keys = Keys::of(adapter, &server);
            keys.loaded();
            assert!(holds(&keys.verify(&good.token("ann"))), "{adapter:?}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_server_that_the_authority_vouches_for_is_asked() {
    let good = Signer::es256("good");
    for adapter in BOTH {
        let (server, elsewhere) = (KeyServer::start(&[&good]).await, KeyServer::start(&[]).await);
        let by_address = format!("https://127.0.0.1:{}/jwks.json", server.addr.port());
        let plain = KeyServer::plain(&[&good]).await;
        let over_tls = plain.url().replace("http:", "https:");
        for (url, roots, asked) in [
            (server.url(), Roots::Pem(elsewhere.authority.clone().into()), &server),
            (server.url(), Roots::Public, &server),
            // The certificate is for a name.
            (by_address, Roots::Pem(server.authority.clone().into()), &server),
            (over_tls, Roots::Public, &plain),
        ] {
            let keys = Keys::start(adapter, &Place::Url(&url, &roots));
            keys.problem();
            assert!(undecided(&keys.verify(&good.token("ann"))), "{adapter:?}: {url}");
            assert!(asked.connections() > 0 && asked.fetches() == 0, "{adapter:?}: {url}: no request is made to it");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_keys_come_from_this_machine_alone() {
    let good = Signer::es256("good");
    for adapter in BOTH {
        let server = KeyServer::plain(&[&good]).await;
        let keys = Keys::of(adapter, &server);
        keys.loaded();
        assert!(holds(&keys.verify(&good.token("ann"))), "{adapter:?}");
    }
    for url in
        ["http://login.example/jwks.json", "http://192.0.2.1/jwks.json", "ftp://127.0.0.1/", "https://a@b.example/"]
    {
        let tokio = trunkline_tokio::keys::HttpsKeys::new(url, &Roots::Public).map(drop).unwrap_err();
        let smol = trunkline_smol::keys::HttpsKeys::new(url, &Roots::Public).map(drop).unwrap_err();
        assert_eq!(tokio, smol, "{url}");
    }
    let secret = "https://login.example/jwks.json?token=secret";
    let keys = trunkline_smol::keys::HttpsKeys::new(secret, &Roots::Public).unwrap();
    assert_eq!(keys.origin(), "https://login.example");
    assert!(!format!("{keys:?}").contains("secret"), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_read_again_and_a_broken_one_changes_nothing() {
    for adapter in BOTH {
        let (old, new) = (Signer::es256("old"), Signer::ed25519("new"));
        let file = scratch(adapter, "rotating.json", &jwks(&[&old]));
        let keys = Keys::start(adapter, &Place::File(&file));
        keys.loaded();
        assert!(holds(&keys.verify(&old.token("ann"))), "{adapter:?}");
        // As tools do that let nobody see half a file.
        std::fs::rename(scratch(adapter, "next.json", &jwks(&[&old, &new])), &file).unwrap();
        keys.becomes(&new.token("ann"), holds, undecided).await;
        keys.loaded();
        for broken in [Some("{\"keys\": [{\"kty\"".to_owned()), Some(" ".repeat(300 << 10)), None] {
            match &broken {
                Some(content) => std::fs::write(&file, content).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            }
            keys.source.reload();
            keys.problem();
            assert!(holds(&keys.verify(&new.token("ann"))), "{adapter:?}");
        }
        std::fs::write(&file, jwks(&[&new])).unwrap();
        keys.becomes(&old.token("ann"), refused, |verdict| holds(verdict) || undecided(verdict)).await;
        std::fs::remove_file(&file).unwrap();
    }
}
