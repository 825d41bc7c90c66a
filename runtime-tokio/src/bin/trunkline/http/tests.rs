//! Tests of [`super`]: real bytes through the real server, over a pipe.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use trunkline_core::auth::{ClaimRules, Hs256};
use trunkline_core::hub::HubConfig;
use trunkline_core::id::UserId;
use trunkline_tokio::{SystemClock, SystemEntropy};

use super::*;

const HOST: &str = "Host: 127.0.0.1:8787\r\n";

fn door() -> DevDoor {
    let login: Login = Arc::new(|user, scope| match user {
        "" => Err("must not be empty".to_owned()),
        "panic" => panic!("as the test asks"),
        user => {
            let scope = scope.map_or(String::new(), |scope| format!("-as-{}", scope.as_str()));
            Ok(LoggedIn { token: format!("token-of-{user}{scope}"), expires_in: 3600 })
        }
    });
    DevDoor { listen: SocketAddr::from(([127, 0, 0, 1], 8787)), secure: false, agent: true, login }
}

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

fn hub() -> Hub {
    let keys = Arc::new(Hs256::new(SECRET, ClaimRules::default()).unwrap());
    Hub::new(HubConfig::default(), keys, Arc::new(SystemClock::new()), Arc::new(SystemEntropy)).unwrap().0
}

/// An `Authorization` header with this scope.
fn bearer(scope: &str) -> String {
    let keys = Hs256::new(SECRET, ClaimRules::default()).unwrap();
    let agent = UserId::new(None, "agent").unwrap();
    format!("Authorization: Bearer {}\r\n", crate::token::issue(&keys, &agent, Duration::from_secs(60), scope).unwrap())
}

/// One request with a token of `scope`; the answer's head and body.
async fn operation(scope: &str, line: &str, headers: &str, body: &str) -> (String, String) {
    let length = body.len();
    let headers = format!("{HOST}{}{headers}Content-Length: {length}\r\n", bearer(scope));
    let answer = exchange(router(hub(), None), &format!("{line} HTTP/1.1\r\n{headers}\r\n{body}")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

async fn exchange(router: Router, request: &str) -> String {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let served = tokio::spawn(serve_connection(router, server));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    served.await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get_path(path: &str, door: Option<DevDoor>) -> String {
    exchange(router(hub(), door), &format!("GET {path} HTTP/1.1\r\n{HOST}\r\n")).await
}

async fn log_in(headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!("POST /dev/login HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    exchange(router(hub(), Some(door())), &request).await
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

#[tokio::test]
async fn the_page_and_its_parts_are_served_with_strict_headers() {
    for file in page::FILES {
        let answer = get_path(file.path, None).await;
        assert_eq!(status(&answer), "200", "{}", file.path);
        assert!(answer.contains(&format!("content-type: {}", file.media_type)), "{answer}");
    }
    for path in ["/", "/healthz", "/nowhere"] {
        let answer = get_path(path, None).await;
        for (name, value) in HEADERS {
            let stricter = answer.contains("cache-control: no-store") && name == header::CACHE_CONTROL;
            assert!(stricter || answer.contains(&format!("{name}: {value}")), "{path} lacks {name}");
        }
    }
}

#[tokio::test]
async fn the_probes_tell_living_from_ready() {
    let hub = hub();
    for ready in ["200", "503"] {
        let ask = async |path| exchange(router(hub.clone(), None), &format!("GET {path} HTTP/1.1\r\n{HOST}\r\n")).await;
        assert_eq!(status(&ask("/healthz").await), "200");
        assert_eq!(status(&ask("/readyz").await), ready);
        hub.begin_shutdown();
    }
}

#[tokio::test]
async fn without_development_mode_there_is_no_door() {
    assert_eq!(status(&get_path("/dev/info", None).await), "404");
    assert_eq!(status(&get_path("/dev/login", None).await), "404");
    assert!(get_path("/dev/info", Some(door())).await.contains("\"dev\":true"));
}

#[tokio::test]
async fn no_agent_is_claimed_where_none_is_built_in() {
    for agent in [true, false] {
        let info = get_path("/dev/info", Some(DevDoor { agent, ..door() })).await;
        assert!(info.contains(&format!("\"agent\":{agent}")), "{info}");
    }
}

#[tokio::test]
async fn a_name_gets_a_token() {
    let headers = format!("{HOST}Content-Type: application/json\r\nOrigin: http://127.0.0.1:8787\r\n");
    let answer = log_in(&headers, r#"{"user":"ann"}"#).await;
    assert_eq!(status(&answer), "200");
    assert!(answer.ends_with(r#"{"token":"token-of-ann","expires_in":3600}"#), "{answer}");
    let answer = log_in(&headers, r#"{"user":"ann","scope":null}"#).await;
    assert!(answer.ends_with(r#"{"token":"token-of-ann","expires_in":3600}"#), "{answer}");
    let answer = log_in(&headers, r#"{"user":"root","scope":"admin"}"#).await;
    assert!(answer.ends_with(r#"{"token":"token-of-root-as-admin","expires_in":3600}"#), "{answer}");
    let localhost = "Host: localhost:8787\r\nContent-Type: application/json; charset=utf-8\r\n";
    assert_eq!(status(&log_in(localhost, r#"{"user":"ann"}"#).await), "200");
}

#[tokio::test]
async fn strangers_stay_outside() {
    let json = "Content-Type: application/json\r\n";
    let body = r#"{"user":"ann"}"#;
    let table = [
        ("another host, as after a DNS rebinding", format!("Host: evil.example:8787\r\n{json}"), body, "403"),
        ("another port", format!("Host: 127.0.0.1:80\r\n{json}"), body, "403"),
        ("no host", json.to_owned(), body, "403"),
        ("a host twice", format!("{HOST}{HOST}{json}"), body, "403"),
        ("another origin", format!("{HOST}{json}Origin: http://evil.example\r\n"), body, "403"),
        ("an opaque origin", format!("{HOST}{json}Origin: null\r\n"), body, "403"),
        ("another port's origin", format!("{HOST}{json}Origin: http://127.0.0.1:3000\r\n"), body, "403"),
        ("another site", format!("{HOST}{json}Sec-Fetch-Site: cross-site\r\n"), body, "403"),
        ("a form", format!("{HOST}Content-Type: text/plain\r\n"), body, "415"),
        ("no type", HOST.to_owned(), body, "415"),
        ("not JSON", format!("{HOST}{json}"), "user=ann", "400"),
        ("no user", format!("{HOST}{json}"), "{}", "400"),
        ("a name that is none", format!("{HOST}{json}"), r#"{"user":""}"#, "400"),
        ("a scope that is not given by name", format!("{HOST}{json}"), r#"{"user":"ann","scope":"publish"}"#, "400"),
        ("two scopes", format!("{HOST}{json}"), r#"{"user":"ann","scope":"admin publish"}"#, "400"),
    ];
    for (what, headers, body, expected) in table {
        let answer = log_in(&headers, body).await;
        assert_eq!(status(&answer), expected, "{what}: {answer}");
        assert!(!answer.contains("token-of"), "{what}");
    }
    let padded = |size: usize| format!("{}{}", r#"{"user":"ann"}"#, " ".repeat(size - body.len()));
    let headers = format!("{HOST}{json}");
    assert_eq!(status(&log_in(&headers, &padded(MAX_LOGIN_BYTES)).await), "200");
    assert_eq!(status(&log_in(&headers, &padded(MAX_LOGIN_BYTES + 1)).await), "413");
}

#[tokio::test]
async fn one_connection_carries_one_request() {
    let two = format!("GET /healthz HTTP/1.1\r\n{HOST}\r\nGET /ws HTTP/1.1\r\n{HOST}\r\n");
    let answer = exchange(router(hub(), None), &two).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("connection: close"));
}

#[tokio::test]
async fn a_panic_costs_its_own_connection() {
    let headers = format!("{HOST}Content-Type: application/json\r\n");
    assert_eq!(log_in(&headers, r#"{"user":"panic"}"#).await, "");
}

#[tokio::test(start_paused = true)]
async fn silence_and_trickling_end_at_a_deadline() {
    let (mut client, server) = tokio::io::duplex(1024);
    let start = tokio::time::Instant::now();
    let served = tokio::spawn(serve_connection(router(hub(), None), server));
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    served.await.unwrap();
    assert!(start.elapsed() <= HEADER_DEADLINE + Duration::from_secs(1));
}

const JSON: &str = "Content-Type: application/json\r\n";
const PUBLISH: &str = r#"{"user_id":"ann","name":"x","data":1}"#;

#[tokio::test]
async fn back_ends_have_their_operations_in_every_mode() {
    let (head, body) = operation("publish", "POST /v1/publish", JSON, PUBLISH).await;
    assert_eq!((status(&head), body.as_str()), ("200", r#"{"stored":true}"#), "{head}");
    assert!(head.contains("cache-control: no-store") && head.contains("x-content-type-options: nosniff"), "{head}");
    let (head, body) = operation("", "POST /v1/publish", JSON, PUBLISH).await;
    assert_eq!(status(&head), "404", "{body}");
    let (head, body) = operation("admin", "GET /v1/users/a%20b?x=1", "", "").await;
    assert_eq!((status(&head), body.as_str()), ("200", r#"{"user_id":"a b","connections":[],"runs":[]}"#));
    let length = format!("content-length: {}", body.len() + 2);
    let (head, body) = operation("admin", "HEAD /v1/users/a%20b%C3%A9", "", "").await;
    assert_eq!((status(&head), body.as_str()), ("200", ""));
    assert!(head.contains(&length), "{head}");
}

#[tokio::test]
async fn no_page_elsewhere_is_let_in_by_its_browser() {
    let origin = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n";
    for line in ["OPTIONS /v1/publish", "OPTIONS /openapi.json", "OPTIONS /v1/users/ann"] {
        let (head, _) = operation("publish", line, origin, "").await;
        assert_eq!(status(&head), "405", "{head}");
        assert!(head.contains("\r\nallow: ") && !head.contains("access-control"), "{head}");
    }
}

#[tokio::test]
async fn bodies_are_read_whole_or_not_at_all() {
    let publish = async |size: usize, headers: &str| {
        let body = format!("{PUBLISH}{}", " ".repeat(size - PUBLISH.len()));
        operation("publish", "POST /v1/publish", &format!("{JSON}{headers}"), &body).await.0
    };
    let max = trunkline_core::api::MAX_BODY_BYTES;
    assert_eq!(status(&publish(max, "").await), "200");
    assert_eq!(status(&publish(max + 1, "").await), "413");
    assert_eq!(status(&publish(max, "Expect: 100-continue\r\n").await), "100");
    // What is not sent in full is not done, though what came is a whole publish.
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let hub = hub();
    let served = tokio::spawn(serve_connection(router(hub.clone(), None), server));
    let head = format!("POST /v1/publish HTTP/1.1\r\n{HOST}{}{JSON}Content-Length: 99\r\n", bearer("publish"));
    client.write_all(format!("{head}\r\n{PUBLISH}").as_bytes()).await.unwrap();
    drop(client);
    served.await.unwrap();
    assert_eq!(hub.user_status(&UserId::new(None, "ann").unwrap()).head, None);
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_cost_its_sender_the_answer() {
    let large = " ".repeat(trunkline_core::api::MAX_BODY_BYTES);
    let (head, _) = operation("", "POST /v1/publish", JSON, &large).await;
    assert_eq!(status(&head), "404");
    let (head, _) = operation("publish", "POST /v1/publish", "Expect: 100-continue\r\n", "").await;
    assert_eq!(status(&head), "415", "who waits is told at once");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_ends_at_the_deadline() {
    let (mut client, server) = tokio::io::duplex(1024);
    let start = tokio::time::Instant::now();
    let served = tokio::spawn(serve_connection(router(hub(), None), server));
    let head = format!("POST /v1/publish HTTP/1.1\r\n{HOST}{}{JSON}Content-Length: 99\r\n\r\n", bearer("publish"));
    client.write_all(head.as_bytes()).await.unwrap();
    served.await.unwrap();
    assert!(start.elapsed() <= EXCHANGE_DEADLINE + Duration::from_secs(1));
}

#[test]
fn own_addresses_are_loopback_with_our_port() {
    let at = |port, secure| DevDoor { listen: SocketAddr::from(([127, 0, 0, 1], port)), secure, ..door() };
    for own in ["127.0.0.1:8787", "localhost:8787", "LOCALHOST:8787", "[::1]:8787", "127.9.9.9:8787"] {
        assert!(is_own(own, &at(8787, false)), "{own}");
    }
    for other in ["127.0.0.1", "127.0.0.1:", "localhost.evil:8787", "10.0.0.1:8787", "[::1]", "::1:8787x", "", ":8787"]
    {
        assert!(!is_own(other, &at(8787, false)), "{other}");
    }
    assert!(is_own("localhost", &at(80, false)) && is_own("[::1]", &at(80, false)));
    assert!(is_own("localhost", &at(443, true)) && !is_own("localhost", &at(80, true)));
}

#[test]
fn the_page_of_the_door_has_its_scheme() {
    let of = |scheme: &str| {
        let origin = format!("{scheme}://localhost:8787").parse().unwrap();
        HeaderMap::from_iter([(header::HOST, "localhost:8787".parse().unwrap()), (header::ORIGIN, origin)])
    };
    for secure in [false, true] {
        let door = DevDoor { secure, ..door() };
        assert_eq!(check_address(&of("https"), &door).is_ok(), secure);
        assert_eq!(check_address(&of("http"), &door).is_ok(), !secure);
    }
}
