//! The suite is tested itself: each server that is broken on purpose fails in the scenario that is there for it.

use std::net::SocketAddr;

use serde_json::Value;
use trunkline_core::limits::Limits;
use trunkline_tests::conformance::Suite;
use trunkline_tests::conformance::net::Tcp;
use trunkline_tests::conformance::proxy::{Fault, break_server};
use trunkline_tests::conformance::report::Report;
use trunkline_tests::conformance::target::Foreign;
use trunkline_tests::conformance::token::Issuer;
use trunkline_tests::server::{InProcess, SECRET};

/// The scenario that a fault must not pass, and a word of what the report says.
const fn meant_for(fault: Fault) -> (&'static str, &'static str) {
    match fault {
        Fault::None => ("", ""),
        Fault::DropsAnEvent => ("two_devices_see_the_same_run", "which this does not follow"),
        Fault::DoublesAnEvent => ("two_devices_see_the_same_run", "which this does not follow"),
        Fault::SwapsTwoEvents => ("what_two_producers_send_has_one_order", "which this does not follow"),
        Fault::SendsAForeignEvent => ("two_devices_see_the_same_run", "which this does not follow"),
        Fault::NamesAnotherUser => ("events_of_one_are_not_anothers", "another user's"),
        Fault::ClosesWith1000 => ("an_expired_token", "the close code is 1000, 4200 was expected"),
        Fault::EchoesTheToken => ("a_token_in_the_subprotocol", "the answer names a token"),
        Fault::SpeaksBeforeTheWelcome => ("a_ping_is_answered", "the welcome is the first frame"),
        Fault::AnswersNoPing => ("a_ping_is_answered", "it did not come within"),
        Fault::StaysAfterTheClose => ("a_close_is_answered", "the socket does not end"),
        Fault::AlwaysSaysOk => ("a_run_nobody_knows", "`ok` is true, false was expected"),
        Fault::ShiftsOffsets => ("offsets_count_characters", "`offset` is 10, 0 was expected"),
        Fault::RefusesWith500 => ("a_wrong_secret_in_the_header", "the status is 500, 401 was expected"),
        Fault::Masks => ("a_ping_is_answered", "the server masks a frame"),
        Fault::ClosesWithoutACode => ("a_newer_socket_supersedes", "has no code"),
    }
}

async fn ran(server: &InProcess, fault: Fault, names: &[&str]) -> Report {
    let suite = Suite::all(Issuer::Secret(SECRET.to_vec())).unwrap_or_else(|fault| panic!("{fault}")).named(names);
    assert_eq!(suite.scenarios.len(), names.len(), "these scenarios are there: {names:?}");
    let addr = break_server(server.addr, fault).await;
    suite.run(&Foreign::new(format!("{fault:?}"), Tcp::new(addr, addr.to_string(), None), [])).await
}

#[tokio::test]
async fn what_is_broken_fails_in_the_scenario_that_is_there_for_it() {
    let server = InProcess::without_agent(Limits::default()).await;
    let mut names: Vec<_> = Fault::ALL.into_iter().map(|fault| meant_for(fault).0).collect();
    names.sort_unstable();
    names.dedup();
    // The line between them is not what they fail for.
    let report = ran(&server, Fault::None, &names).await;
    assert_eq!(report.failures().count(), 0, "{report}");
    let broken = Fault::ALL.map(|fault| {
        let server = &server;
        async move {
            let (name, word) = meant_for(fault);
            let report = ran(server, fault, &[name]).await;
            let failure = report.failures().next().map(|(_, failure)| failure.to_string());
            let failure = failure.unwrap_or_else(|| panic!("{fault:?} passes {name}"));
            assert!(failure.contains(word), "{fault:?} fails otherwise:\n{failure}");
            assert!(failure.contains("rule:") && failure.contains(".toml:"), "{failure}");
            assert!(!failure.contains(".eyJ"), "a report shows no token:\n{failure}");
        }
    });
    futures_util::future::join_all(broken).await;
}

/// How the program ends, run against this server, and what it prints.
async fn program(addr: SocketAddr, secret: &[u8], filter: &str) -> (Option<i32>, String, String) {
    let name = format!("conformance-{}-{}.secret", std::process::id(), addr.port());
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, [secret, b"\n"].concat()).expect("a place for the secret");
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.args(["--url", &format!("ws://{addr}/ws"), "--filter", filter, "--json", "--secret-file"]).arg(&file);
    let output = command.kill_on_drop(true).output().await.expect("the program runs");
    std::fs::remove_file(&file).expect("the secret is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_program_says_by_its_status_what_became_of_it() {
    let server = InProcess::without_agent(Limits::default()).await;
    let broken = break_server(server.addr, Fault::ClosesWith1000).await;
    let verdicts = |report: &str| {
        let report: Value = serde_json::from_str(report).expect("JSON");
        let lines = report["scenarios"].as_array().expect("a list").iter();
        lines.map(|line| line["verdict"].as_str().expect("a word").to_owned()).collect::<Vec<_>>()
    };

    let (status, report, said) = program(server.addr, SECRET, "an_expired_token_of").await;
    assert_eq!((status, verdicts(&report)), (Some(0), vec!["passed".to_owned()]), "{report}{said}");
    let (status, report, said) = program(broken, SECRET, "an_expired_token_of").await;
    assert_eq!((status, verdicts(&report)), (Some(1), vec!["failed".to_owned()]), "{report}{said}");

    // What is not the server's fault is not said to be.
    let (status, report, said) = program(server.addr, b"a secret that is not the server's, long enough", "order").await;
    assert_eq!((status, &*report), (Some(2), ""));
    assert!(said.contains("is it the server's secret"), "{said}");
    let (status, report, said) = program(server.addr, SECRET, "no such scenario").await;
    assert_eq!((status, &*report), (Some(2), ""));
    assert!(said.contains("--list"), "{said}");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a free port");
    let (status, report, said) = program(nobody, SECRET, "order").await;
    assert_eq!((status, &*report), (Some(2), ""));
    assert!(said.contains("nothing can be reached"), "{said}");
}
