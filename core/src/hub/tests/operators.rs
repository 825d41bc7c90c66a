//! What operators see is true, they end what they say, and nobody else does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::harness::{Pair, World, frame_id, ident, thread};
use crate::api::Head;
use crate::drive::Machine as _;
use crate::error::CloseReason;
use crate::hub::{HubConfig, RunOptions};
use crate::id::{TopicName, UserId};
use crate::level::ServiceLevel;
use crate::limits::Limits;
use crate::metrics::{Family, Kind};
use crate::protocol::{ClientFrame, Position, ReplyOk, ServerFrame, ServerReport, UserReport};

const HOUR: Duration = Duration::from_secs(3600);

fn operator(world: &World) -> Pair {
    world.connect(world.scoped_token(&ident("root"), HOUR, "admin", None), None, None)
}

fn of_tenant(tenant: &str, sub: &str) -> UserId {
    UserId::new(Some(tenant), sub).unwrap()
}

fn inspect(of: Option<&str>) -> ClientFrame {
    ClientFrame::Inspect { id: frame_id("i"), user_id: of.map(str::to_owned) }
}

fn server(pair: &mut Pair) -> ServerReport {
    pair.send(&inspect(None));
    let reply = pair.replies().remove(0);
    let Ok(ReplyOk::Server(report)) = reply.outcome else { panic!("{reply:?}") };
    *report
}

fn user(pair: &mut Pair, of: &str) -> UserReport {
    pair.send(&inspect(Some(of)));
    let reply = pair.replies().remove(0);
    let Ok(ReplyOk::User(report)) = reply.outcome else { panic!("{reply:?}") };
    *report
}

fn refused(pair: &mut Pair, frame: &ClientFrame) -> String {
    pair.send(frame);
    pair.replies().remove(0).outcome.unwrap_err().code.as_str().to_owned()
}

/// Every number by its name and labels.
fn numbers(world: &World) -> BTreeMap<String, f64> {
    // What is held is looked at twice a second at most.
    world.clock.turn(Duration::from_secs(1));
    let mut numbers = BTreeMap::new();
    for family in world.hub.metrics() {
        for sample in family.samples {
            let labels: Vec<_> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let name = format!("{}{} {}", family.name, sample.suffix, labels.join(","));
            assert!(numbers.insert(name.trim_end().to_owned(), sample.value).is_none(), "{name} stands twice");
        }
    }
    numbers
}

/// A close frame of a client's, masked with zeros.
fn close_frame(code: u16) -> Vec<u8> {
    [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat()
}

fn number(world: &World, name: &str) -> f64 {
    *numbers(world).get(name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn what_is_held_is_counted_as_it_comes_and_goes() {
    let world = World::new();
    let (ann, other, mut bob) = (world.device("ann"), world.device("ann"), world.device("bob"));
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap();
    bob.send(&ClientFrame::Subscribe { id: frame_id("s"), topic: TopicName::new("news").unwrap(), resume: None });
    let held = |world: &World| {
        [
            "trunkline_connections kind=device",
            "trunkline_users state=connected",
            "trunkline_users state=kept",
            "trunkline_runs_open",
            "trunkline_sockets state=authenticated",
        ]
        .map(|name| number(world, name))
    };
    assert_eq!(held(&world), [3.0, 2.0, 0.0, 1.0, 3.0]);
    drop((ann, other));
    assert_eq!(held(&world), [1.0, 1.0, 1.0, 1.0, 1.0]);
    run.completed(None).unwrap();
    drop(bob);
    let after = held(&world);
    assert_eq!((after[0], after[1], after[3], after[4]), (0.0, 0.0, 0.0, 0.0));
    assert_eq!(number(&world, "trunkline_runs_ended_total outcome=completed"), 1.0);
}

#[test]
fn every_event_counts_once_where_it_enters_and_once_for_each_who_takes_it() {
    let world = World::new();
    let (mut phone, mut laptop) = (world.device("ann"), world.device("ann"));
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap();
    for n in 0..500 {
        run.delta(format!("{n} ")).unwrap();
    }
    run.completed(None).unwrap();
    world.clock.turn(Duration::from_secs(1));
    phone.pump();
    // Looking turns the clock by a second.
    assert_eq!(number(&world, "trunkline_deliveries_total"), 502.0);
    laptop.pump();
    let seen = numbers(&world);
    assert_eq!(seen["trunkline_deliveries_total"], 1_004.0);
    assert_eq!(seen["trunkline_events_total type=agent_delta"], 500.0);
    assert_eq!(seen["trunkline_events_total type=agent_started"], 1.0);
    assert_eq!(seen["trunkline_delivery_seconds_count"], 2.0, "each has reached the end once");
    assert_eq!(seen["trunkline_delivery_seconds_sum"], 3.0, "the one a second after the newest, the other two");
    assert!(seen["trunkline_behind_events_count"] >= 2.0);
}

#[test]
fn what_does_not_fit_and_is_read_again_counts_once() {
    let world = World::new();
    let mut slow = world.device("ann");
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap();
    for n in 0..40 {
        run.thinking(format!("{n}{}", "x".repeat(4_000))).unwrap();
    }
    let mut steps = 0;
    while number(&world, "trunkline_deliveries_total") < 41.0 {
        slow.read_some(1_000);
        steps += 1;
        assert!(steps < 1_000, "{}", number(&world, "trunkline_deliveries_total"));
    }
    slow.pump();
    assert_eq!(slow.stream().len(), 41);
    assert_eq!(number(&world, "trunkline_deliveries_total"), 41.0);
}

#[test]
fn events_that_make_room_count_whether_their_log_is_too_long_or_too_many_are_kept() {
    let world = World::sharded(Limits { kept_streams: 2, log_entries: 4, ..Limits::default() }, 1);
    for user in ["ann", "bob", "carol"] {
        for n in 0..6 {
            world.hub.publish(&ident(user), None, "note", &n).unwrap();
        }
    }
    assert_eq!(number(&world, "trunkline_users state=kept"), 2.0);
    assert_eq!(number(&world, "trunkline_shed_total"), 3.0 * 2.0 + 4.0);
}

#[test]
fn a_stream_counts_as_lagging_until_it_has_caught_up_or_is_gone() {
    let world = World::with(Limits { lag_entries: 16, ..Limits::default() });
    let (mut ann, mut bob) = (world.device("ann"), world.device("bob"));
    for name in ["ann", "bob"] {
        let run = world.hub.start_run(&ident(name), thread("t"), RunOptions::named("a")).unwrap();
        for _ in 0..200 {
            run.thinking("x".repeat(2_000)).unwrap();
        }
        run.completed(None).unwrap();
    }
    ann.read_some(100);
    bob.read_some(100);
    assert_eq!(number(&world, "trunkline_lagging_streams"), 2.0);
    ann.pump();
    assert_eq!(number(&world, "trunkline_lagging_streams"), 1.0);
    drop(bob);
    assert_eq!(number(&world, "trunkline_lagging_streams"), 0.0);
}

#[test]
fn resumes_count_by_what_became_of_the_position() {
    let world = World::with(Limits { log_entries: 4, ..Limits::default() });
    let mut ann = world.device("ann");
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("a")).unwrap();
    run.thinking("x").unwrap();
    ann.pump();
    let early = ann.client.position().unwrap();
    let live = world.resuming("ann", Some(early), None);
    run.thinking("y").unwrap();
    let replay = world.resuming("ann", Some(early), None);
    for _ in 0..20 {
        run.thinking("z").unwrap();
    }
    let snapshot = world.resuming("ann", Some(early), None);
    let everything = world.resuming("ann", Some(Position::NONE), None);
    let resumes = |outcome: &str| number(&world, &format!("trunkline_resumes_total stream=user,outcome={outcome}"));
    assert_eq!(["new", "live", "replay", "snapshot", "reset"].map(resumes), [2.0, 1.0, 1.0, 1.0, 0.0]);
    assert!(number(&world, "trunkline_shed_total") >= 15.0);
    drop((live, replay, snapshot, everything));
}

#[test]
fn closes_count_by_their_code_and_a_broken_line_by_none() {
    let world = World::new();
    let (ann, mut bob) = (world.device("ann"), world.device("bob"));
    bob.cut();
    drop((ann, bob));
    let mut eve = world.device("eve");
    for code in [4201_u16, 1000] {
        eve.session.as_mut().unwrap().handle_bytes(world.now(), &close_frame(code));
        drop(std::mem::replace(&mut eve, world.device("eve")));
    }
    drop(eve);
    let mut carol = world.device("carol");
    world.hub.disconnect(&ident("carol"), None);
    carol.pump();
    assert_eq!(carol.closed_with(), Some(4005));
    drop(carol);
    let seen = numbers(&world);
    assert_eq!(
        seen["trunkline_closes_total code=4201,reason=token_revoked,by=server"], 0.0,
        "a client says what it likes"
    );
    assert_eq!(seen["trunkline_closes_total code=other,reason=other,by=client"], 1.0);
    assert_eq!(seen["trunkline_closes_total code=1000,reason=normal,by=client"], 1.0);
    assert_eq!(seen["trunkline_closes_total code=4005,reason=disconnected,by=server"], 1.0);
    assert_eq!(seen["trunkline_closes_total code=none,reason=broken,by=nobody"], 3.0);
}

#[test]
fn an_operator_sees_the_server_and_a_user_and_nothing_of_what_was_said() {
    let world = World::new();
    let mut root = operator(&world);
    let mut ann = world.device("ann");
    let run = world.hub.start_run(&ident("ann"), thread("t"), RunOptions::named("assistant")).unwrap();
    run.thinking("a secret of ann's").unwrap();
    ann.pump();
    world.hub.set_level(Some(ServiceLevel::Degraded), "a test");
    let seen = server(&mut root);
    assert_eq!(
        (seen.level, &*seen.reason, seen.ordered),
        (ServiceLevel::Degraded, "a test", Some(ServiceLevel::Degraded))
    );
    assert!(!seen.draining && seen.time >= seen.started);
    assert_eq!(seen.metrics.iter().find(|one| one.name == "trunkline_runs_open").unwrap().samples[0].value, 1.0);
    let report = user(&mut root, "ann");
    assert_eq!((report.connections.len(), report.runs.len()), (1, 1));
    assert_eq!(report.runs[0].agent_name, "assistant");
    let shown = format!("{seen:?}{report:?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(user(&mut root, "nobody").connections, []);
}

#[test]
fn a_connection_that_an_operator_ends_comes_back_and_the_others_stay() {
    let world = World::new();
    let mut root = operator(&world);
    let (mut phone, mut laptop) = (world.device("ann"), world.device("ann"));
    let connection_id = user(&mut root, "ann").connections[0].connection_id;
    let order = |connection_id| ClientFrame::Disconnect { id: frame_id("d"), user_id: "ann".into(), connection_id };
    root.send(&order(Some(connection_id)));
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 1 }));
    phone.pump();
    laptop.pump();
    assert_eq!((phone.closed_with(), laptop.closed_with()), (Some(CloseReason::Disconnected.code()), None));
    let mut back = world.resuming("ann", phone.client.position(), phone.client.session());
    assert!(back.is_in());
    root.send(&order(Some(connection_id)));
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 0 }), "it is another connection now");
    root.send(&order(None));
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 2 }));
    back.pump();
    assert_eq!(back.closed_with(), Some(4005));
}

#[test]
fn a_tenants_admin_sees_and_ends_its_own_and_others_nothing() {
    let world = World::new();
    let token = |user: &UserId, scope: &str| world.scoped_token(user, HOUR, scope, None);
    let connect = |user: &UserId, scope: &str| world.connect(token(user, scope), None, None);
    let (acme, other) = (of_tenant("acme", "ann"), of_tenant("other", "ann"));
    let (mut mine, mut theirs) = (connect(&acme, ""), connect(&other, ""));
    let mut admin = connect(&of_tenant("acme", "boss"), "admin");
    assert_eq!(user(&mut admin, "ann").connections.len(), 1);
    assert_eq!(refused(&mut admin, &inspect(None)), "not_found");
    assert_eq!(refused(&mut admin, &ClientFrame::Drain { id: frame_id("d") }), "not_found");
    let end = ClientFrame::Disconnect { id: frame_id("d"), user_id: "ann".into(), connection_id: None };
    admin.send(&end);
    assert_eq!(admin.replies()[0].outcome, Ok(ReplyOk::Closed { closed: 1 }));
    mine.pump();
    theirs.pump();
    assert_eq!((mine.closed_with(), theirs.closed_with()), (Some(4005), None));
    for scope in ["", "publish", "topic:*"] {
        let mut user = connect(&of_tenant("acme", "eve"), scope);
        for frame in [inspect(None), inspect(Some("ann")), end.clone(), ClientFrame::Drain { id: frame_id("d") }] {
            assert_eq!(refused(&mut user, &frame), "not_found", "{scope} {frame:?}");
        }
    }
    assert!(!world.hub.is_draining());
}

#[test]
fn an_operator_drains_the_server() {
    let world = World::new();
    let (mut root, mut ann) = (operator(&world), world.device("ann"));
    root.send(&ClientFrame::Drain { id: frame_id("d") });
    assert_eq!(root.replies()[0].outcome, Ok(ReplyOk::Done));
    assert!(world.hub.is_draining());
    let told = ann.frames();
    world.sleep(Duration::from_secs(1), &mut [&mut root, &mut ann]);
    assert_eq!(ann.closed_with(), Some(CloseReason::Restart.code()));
    assert!(told.iter().any(|frame| matches!(frame, ServerFrame::GoingAway { .. })));
}

#[test]
fn one_look_at_everybody_serves_for_half_a_second() {
    let world = World::new();
    let connected = |world: &World| world.hub.survey().devices;
    assert_eq!(connected(&world), 0);
    let _ann = world.device("ann");
    assert_eq!(connected(&world), 0);
    world.clock.turn(Duration::from_millis(499));
    assert_eq!(connected(&world), 0);
    world.clock.turn(Duration::from_millis(1));
    assert_eq!(connected(&world), 1);
}

#[test]
fn a_survey_of_many_is_taken_in_parts_and_is_whole() {
    let world = World::sharded(Limits::default(), 1);
    for n in 0..600 {
        world.hub.start_run(&ident(&format!("user-{n}")), thread("t"), RunOptions::named("a")).unwrap();
    }
    let survey = world.hub.survey();
    assert_eq!((survey.kept_users, survey.connected_users), (600, 0));
}

fn asked(world: &World, path: &str, authorization: Option<&str>) -> (u16, String) {
    let bearer = authorization.map(|token| format!("Bearer {token}"));
    let values: Vec<&[u8]> = bearer.iter().map(String::as_bytes).collect();
    let head = Head { method: "GET", path, authorization: &values, content_type: None };
    let answer = world.hub.api(&head).map_or_else(|refusal| refusal, |call| call.answer(&[]));
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[test]
fn the_metrics_are_for_operators_unless_they_are_open() {
    let world = World::new();
    let token = |user: &UserId, scope: &str| world.scoped_token(user, HOUR, scope, None);
    assert_eq!(asked(&world, "/metrics", None).0, 401);
    assert_eq!(asked(&world, "/metrics", Some(&token(&ident("ann"), "publish"))).0, 404);
    assert_eq!(asked(&world, "/metrics", Some(&token(&of_tenant("acme", "boss"), "admin"))).0, 404);
    let (status, text) = asked(&world, "/metrics", Some(&token(&ident("root"), "admin")));
    assert!(status == 200 && text.contains("\ntrunkline_draining 0\n"), "{text}");
    let open = World::of(HubConfig { open_metrics: true, ..HubConfig::default() });
    assert_eq!(asked(&open, "/metrics", None).0, 200);
}

#[test]
fn health_says_why() {
    let world = World::new();
    let open = World::of(HubConfig { open_metrics: true, ..HubConfig::default() });
    open.hub.report(&"search".parse().unwrap(), ServiceLevel::Degraded, "the index is rebuilt").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&asked(&open, "/healthz", None).1).unwrap();
    assert_eq!(shown["checks"]["dependency:search"][0]["output"], "the index is rebuilt");
    assert_eq!(shown["checks"]["memory:utilization"][0]["observedValue"], 0.0);
    let ask = |path: &str| {
        let (status, body) = asked(&world, path, None);
        (status, serde_json::from_str::<serde_json::Value>(&body).unwrap())
    };
    let (status, health) = ask("/healthz");
    assert_eq!((status, &health["status"], &health["notes"]), (200, &"pass".into(), &serde_json::json!([])));
    let search = "search".parse().unwrap();
    world.hub.report(&search, ServiceLevel::Degraded, "the index is rebuilt").unwrap();
    let (status, health) = ask("/readyz");
    assert_eq!((status, &health["status"]), (200, &"warn".into()), "it is ready at every level");
    assert!(!health.to_string().contains("index"), "what depends on what is not for strangers: {health}");
    assert!(health["checks"]["memory:utilization"][0]["observedValue"].is_null());
    world.hub.begin_shutdown();
    let (status, health) = ask("/readyz");
    assert_eq!((status, &health["status"]), (503, &"fail".into()));
    assert!(health["notes"][0].as_str().unwrap().starts_with("shutting down"));
    assert_eq!(ask("/healthz").0, 200, "a process that drains is not to be started anew");
}

/// The specification's table: names, kinds of labels and their values.
#[test]
fn the_table_of_metrics_is_the_programs() {
    let specification = include_str!("../../../PROTOCOL.md");
    let rows = specification.split_once("| metric | labels | meaning |\n").unwrap().1;
    let rows = rows.lines().skip(1).take_while(|line| line.starts_with('|'));
    let documented: BTreeMap<_, _> = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
        })
        .collect();
    let families = World::new().hub.metrics();
    let names: Vec<_> = families.iter().map(|family| family.name.to_owned()).collect();
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>(), documented.keys().collect());
    for Family { name, kind, samples, .. } in families {
        let labels = &documented[name];
        assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        for (label, value) in samples.iter().flat_map(|sample| &sample.labels) {
            assert!(labels.contains(&format!("`{label}`")), "{name} has a label {label}");
            let says_values = labels.contains(&format!("`{label}`: `"));
            assert!(!says_values || labels.contains(&format!("`{value}`")), "{name} has {label}={value}");
        }
        assert!(samples.iter().all(|sample| !sample.labels.is_empty()) || labels.is_empty() || kind == Kind::Histogram);
    }
}

/// What the dashboard asks for is there, by labels that it has.
#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let dashboard: serde_json::Value = serde_json::from_str(include_str!("../../../grafana/trunkline.json")).unwrap();
    let families = World::new().hub.metrics();
    let labels_of = |name: &str| -> Option<Vec<&str>> {
        let family = families
            .iter()
            .find(|family| family.samples.iter().any(|sample| format!("{}{}", family.name, sample.suffix) == name))?;
        Some(family.samples.iter().flat_map(|sample| sample.labels.iter().map(|(label, _)| *label)).collect())
    };
    let mut shown = std::collections::BTreeSet::new();
    let expressions = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| {
        panel["targets"].as_array().into_iter().flatten().map(|target| target["expr"].as_str().unwrap())
    });
    for expression in expressions {
        for (at, _) in expression.match_indices("trunkline_") {
            let rest = &expression[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            let labels = labels_of(name).unwrap_or_else(|| panic!("no {name}: {expression}"));
            let matchers = rest[end..].trim_start_matches('{').split('}').next().unwrap();
            for matcher in matchers.split(',') {
                let label = matcher.split(['=', '~', '!']).next().unwrap();
                assert!(["instance", "job"].contains(&label) || labels.contains(&label), "{name} has no {label}");
            }
            shown.insert(name.trim_end_matches("_bucket").to_owned());
        }
        for by in expression.split("by (").skip(1) {
            let label = by.split(')').next().unwrap();
            assert!(
                ["le", "kind", "state", "outcome", "code, reason, by", "status", "type"].contains(&label),
                "{label}"
            );
        }
    }
    let left_out = ["trunkline_build_info", "trunkline_sockets_limit"];
    for family in families {
        assert!(shown.contains(family.name) || left_out.contains(&family.name), "nothing shows {}", family.name);
    }
}
