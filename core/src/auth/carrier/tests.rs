//! Every spelling of every carrier.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

// Of a length whose base64 needs padding.
const JWT: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl-_";

fn from(protocols: &[&str], authorizations: &[&str]) -> Result<Extracted, CarrierError> {
    let found = Extractor::default().authorization(lines(authorizations))?.protocols(lines(protocols))?;
    Ok(found.finish())
}

fn lines<'a>(texts: &'a [&str]) -> impl Iterator<Item = &'a [u8]> {
    texts.iter().map(|line| line.as_bytes())
}

fn cookies(lines_of: &[&str]) -> Result<Extracted, CarrierError> {
    let name = CookieName::parse("token").unwrap();
    Ok(Extractor::default().cookies(&name, lines(lines_of))?.finish())
}

fn query(text: &str) -> Result<Extracted, CarrierError> {
    Ok(Extractor::default().query(text)?.finish())
}

/// The token that was found, and how.
fn text_of(found: Extracted) -> Option<(String, Carrier)> {
    found.credential.map(|(credential, carrier)| match credential {
        Credential::Token(token) => (token.as_str().to_owned(), carrier),
        Credential::Ticket(ticket) => (ticket.to_text(), carrier),
    })
}

fn carried(text: &str, carrier: Carrier) -> Option<(Credential, Carrier)> {
    Some((Credential::Token(Token::parse(text).unwrap()), carrier))
}

fn token(protocols: &[&str]) -> Option<String> {
    text_of(from(protocols, &[]).unwrap()).map(|(token, carrier)| {
        assert_eq!(carrier, Carrier::Subprotocol);
        token
    })
}

fn spellings(jwt: &str) -> Vec<String> {
    let texts = [jwt.to_owned(), URL_SAFE_NO_PAD.encode(jwt), PADDED.encode(jwt)];
    let prefixes = ["bearer.", "jwt.", "jwt-auth."];
    prefixes.iter().flat_map(|prefix| texts.iter().map(move |text| format!("{prefix}{text}"))).collect()
}

#[test]
fn every_spelling_gives_the_same_token_wherever_it_stands() {
    for entry in spellings(JWT) {
        for lines in [
            vec![entry.clone()],
            vec![format!("trunkline.v1, {entry}")],
            vec![format!("{entry},trunkline.v1")],
            vec![format!("{entry}, jwt-auth")],
            vec!["trunkline.v1".into(), format!(" \t{entry}\t ")],
            vec![format!(",, other , {entry},")],
            vec![entry.clone(), entry.clone()],
        ] {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            assert_eq!(token(&lines).as_deref(), Some(JWT), "{lines:?}");
        }
    }
}

#[test]
fn a_malformed_entry_does_not_stop_the_scan() {
    let good = format!("jwt.{}", URL_SAFE_NO_PAD.encode(JWT));
    let not_a_jwt = format!("jwt.{}", URL_SAFE_NO_PAD.encode("a.b"));
    let not_text = format!("jwt.{}", URL_SAFE_NO_PAD.encode([0xff, 0xfe]));
    let padded_wrong = format!("jwt.{}===", URL_SAFE_NO_PAD.encode(JWT));
    for bad in [
        "jwt.",
        "jwt.x",
        "jwt.a.b",
        "jwt.a.b.c.d",
        "jwt..b.c",
        "jwt.a.b.",
        "jwt.a b.c",
        "bearer",
        "bearer.",
        "jwt",
        "jwt-auth.",
        "jwt.!!!!",
        "BEARER.a.b.c",
        "bearer a.b.c",
        "xjwt.a.b.c",
        "jwt.a+b.c/d.e",
        "jwt.a=.b=.c=",
        &not_a_jwt,
        &not_text,
        &padded_wrong,
    ] {
        assert_eq!(token(&[bad]), None, "{bad}");
        assert_eq!(token(&[&format!("{bad}, {good}")]).as_deref(), Some(JWT), "{bad}");
        assert_eq!(token(&[bad, &good]).as_deref(), Some(JWT), "{bad}");
    }
    let found = Extractor::default().protocols([&b"jwt.\xff.\xff.\xff"[..], good.as_bytes()].into_iter()).unwrap();
    assert_eq!(text_of(found.finish()).unwrap().0, JWT);
}

#[test]
fn the_answer_names_what_was_offered_and_never_a_token() {
    let table = [
        (&["trunkline.v1, bearer.a.b.c"][..], Subprotocol::TrunklineV1),
        (&["jwt-auth, trunkline.v1"], Subprotocol::TrunklineV1),
        (&["trunkline.v1", "jwt-auth"], Subprotocol::TrunklineV1),
        (&["jwt-auth, jwt.a.b.c"], Subprotocol::JwtAuth),
        (&["jwt.a.b.c", "jwt-auth"], Subprotocol::JwtAuth),
        // A client that did not offer `jwt-auth` by name must not be answered with it: RFC 6455 section 4.1.
        (&["jwt-auth.a.b.c"], Subprotocol::None),
        (&["TRUNKLINE.V1, trunkline.v2, chat"], Subprotocol::None),
        (&[], Subprotocol::None),
    ];
    for (lines, wanted) in table {
        let found = from(lines, &["Bearer a.b.c"]).unwrap();
        assert_eq!(found.subprotocol, wanted, "{lines:?}");
        assert!(found.subprotocol.as_str().is_none_or(|name| [TRUNKLINE_V1, JWT_AUTH].contains(&name)));
    }
}

#[test]
fn authorization_is_bearer_and_nothing_else() {
    for good in ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c\t"] {
        assert_eq!(from(&[], &[good]).unwrap().credential, carried("a.b.c", Carrier::Authorization), "{good}");
    }
    for bad in [
        "",
        "Bearer",
        "Bearer ",
        "a.b.c",
        "Basic YTpi",
        "Bearer a.b",
        "Bearer a.b.c d",
        "Bearer a.b.c, Bearer a.b.c",
        "Bearer\ta.b.c",
        "Bearera.b.c",
        "Bearer a.b.c=",
        "Bearer \"a.b.c\"",
    ] {
        assert_eq!(from(&[], &[bad]), Err(CarrierError::Malformed(Carrier::Authorization)), "{bad}");
        let beside = from(&["trunkline.v1, bearer.a.b.c"], &[bad]);
        assert_eq!(beside, Err(CarrierError::Malformed(Carrier::Authorization)), "{bad}");
    }
    assert_eq!(from(&[], &["Basic YTpi"]).unwrap_err().to_string(), "`Authorization` is malformed");
}

#[test]
fn different_tokens_are_refused_and_equal_ones_are_one() {
    assert_eq!(from(&["bearer.a.b.c, jwt.a.b.d"], &[]), Err(CarrierError::Disagree));
    assert_eq!(from(&["bearer.a.b.c", "bearer.a.b.d"], &[]), Err(CarrierError::Disagree));
    assert_eq!(from(&["bearer.a.b.c"], &["Bearer a.b.d"]), Err(CarrierError::Disagree));
    assert_eq!(from(&[], &["Bearer a.b.c", "Bearer a.b.d"]), Err(CarrierError::Disagree));
    let same = from(&["bearer.a.b.c, jwt.YS5iLmM"], &["Bearer a.b.c", "bearer a.b.c"]).unwrap();
    assert_eq!(same.credential, carried("a.b.c", Carrier::Authorization));
}

#[test]
fn the_first_frame_agrees_with_the_headers_or_is_refused() {
    let bare = || from(&["trunkline.v1"], &[]).unwrap();
    let with = || from(&["trunkline.v1, bearer.a.b.c"], &[]).unwrap();
    assert_eq!(bare().with_hello(None), Ok(None));
    assert_eq!(bare().with_hello(Some("a.b.c")), Ok(carried("a.b.c", Carrier::Hello)));
    assert_eq!(with().with_hello(None), Ok(carried("a.b.c", Carrier::Subprotocol)));
    assert_eq!(with().with_hello(Some("a.b.c")), Ok(carried("a.b.c", Carrier::Subprotocol)));
    assert_eq!(with().with_hello(Some("a.b.d")), Err(CarrierError::Disagree));
    assert_eq!(bare().with_hello(Some("nope")), Err(CarrierError::Malformed(Carrier::Hello)));
    let ticket = || query(&format!("ticket={TICKET_TEXT}")).unwrap();
    assert_eq!(
        text_of(Extracted { credential: ticket().with_hello(None).unwrap(), ..Extracted::default() }).unwrap().0,
        TICKET_TEXT
    );
    assert_eq!(ticket().with_hello(Some("a.b.c")), Err(CarrierError::Disagree));
}

/// 256 bits of no meaning.
const TICKET_TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd-_8";

#[test]
fn a_cookie_is_found_by_its_exact_name_in_every_spelling() {
    let texts = [JWT.to_owned(), URL_SAFE_NO_PAD.encode(JWT), PADDED.encode(JWT)];
    for text in texts.iter().flat_map(|text| [text.clone(), format!("\"{text}\"")]) {
        for lines_of in [
            vec![format!("token={text}")],
            vec![format!(" token = {text} ")],
            vec![format!("a=b; token={text}; c=d")],
            vec![format!("a=b;token={text};")],
            vec![format!("token={text}; token={text}")],
            vec!["a=b".to_owned(), format!("token={text}")],
            vec![format!("token={text}"), format!("token={JWT}")],
            vec![format!("token; token=; token=x; token=a.b; token=\"a.b.c; =; ;; token={text}")],
        ] {
            let lines_of: Vec<&str> = lines_of.iter().map(String::as_str).collect();
            assert_eq!(cookies(&lines_of).unwrap().credential, carried(JWT, Carrier::Cookie), "{lines_of:?}");
        }
    }
    for other in [
        "",
        "token",
        "token=",
        "Token=a.b.c",
        "xtoken=a.b.c",
        "token.=a.b.c",
        "a=token=a.b.c",
        "token=a b.c.d",
        "token=\"\"",
        "token=\"a.b.c",
        "token=a.b.c\"",
        "token=a.b.c, d",
        "token=!!!!",
        "session=a.b.c",
    ] {
        assert_eq!(cookies(&[other]).unwrap().credential, None, "{other}");
    }
    let name = CookieName::parse("token").unwrap();
    let odd = [&b"token=\xff.b.c; token=a.b.c"[..]];
    let found = Extractor::default().cookies(&name, odd.into_iter()).unwrap().finish();
    assert_eq!(found.credential, carried("a.b.c", Carrier::Cookie));
}

#[test]
fn cookies_that_differ_are_refused_and_a_cookie_agrees_with_the_headers() {
    let name = CookieName::parse("token").unwrap();
    assert_eq!(cookies(&["token=a.b.c; token=a.b.d"]), Err(CarrierError::Disagree));
    assert_eq!(cookies(&["token=a.b.c", "token=a.b.d"]), Err(CarrierError::Disagree));
    let all = |authorization: &str, protocol: &str, cookie: &str| {
        let found = Extractor::default()
            .authorization(lines(&[authorization]))?
            .protocols(lines(&[protocol]))?
            .cookies(&name, lines(&[cookie]))?;
        Ok(found.finish().credential)
    };
    assert_eq!(all("Bearer a.b.c", "bearer.a.b.c", "token=YS5iLmM"), Ok(carried("a.b.c", Carrier::Authorization)));
    assert_eq!(all("Bearer a.b.c", "bearer.a.b.c", "token=a.b.d"), Err(CarrierError::Disagree));
    assert_eq!(all("Bearer a.b.c", "chat", "other=a.b.d"), Ok(carried("a.b.c", Carrier::Authorization)));
}

#[test]
fn a_ticket_is_one_parameter_of_the_query_and_nothing_else_is_read() {
    let encoded: String = TICKET_TEXT.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for good in [
        format!("ticket={TICKET_TEXT}"),
        format!("a=b&ticket={TICKET_TEXT}&c"),
        format!("&&ticket={TICKET_TEXT}"),
        format!("ticket={encoded}"),
        format!("%74icket={TICKET_TEXT}"),
        format!("%zz=1&ticket={TICKET_TEXT}"),
    ] {
        assert_eq!(text_of(query(&good).unwrap()), Some((TICKET_TEXT.to_owned(), Carrier::Ticket)), "{good}");
    }
    for bad in [
        "ticket".to_owned(),
        "ticket=".to_owned(),
        "ticket=a.b.c".to_owned(),
        format!("ticket={TICKET_TEXT}="),
        format!("ticket={TICKET_TEXT}%3D"),
        format!("ticket= {TICKET_TEXT}"),
        format!("ticket=+{TICKET_TEXT}"),
        format!("ticket=%zz{TICKET_TEXT}"),
        format!("ticket={}", encoded.replace('%', "%25")),
        format!("ticket={TICKET_TEXT}&ticket={TICKET_TEXT}"),
        format!("ticket={TICKET_TEXT}&tick%65t={TICKET_TEXT}"),
        format!("ticket=&ticket={TICKET_TEXT}"),
    ] {
        assert_eq!(query(&bad), Err(CarrierError::Malformed(Carrier::Ticket)), "{bad}");
    }
    for other in
        ["", "&", "token=a.b.c", "access_token=a.b.c&jwt=a.b.c", "bearer=a.b.c", "Ticket=x", "ticket.=x", "tickets=x"]
    {
        assert_eq!(query(other), Ok(Extracted::default()), "{other}");
    }
}

#[test]
fn a_ticket_stands_alone() {
    let name = CookieName::parse("token").unwrap();
    let ticket = format!("ticket={TICKET_TEXT}");
    let bearer = Extractor::default().authorization(lines(&["Bearer a.b.c"])).unwrap();
    let protocol = Extractor::default().protocols(lines(&["bearer.a.b.c"])).unwrap();
    let cookie = Extractor::default().cookies(&name, lines(&["token=a.b.c"])).unwrap();
    for beside in [bearer, protocol, cookie] {
        assert_eq!(beside.query(&ticket).unwrap_err(), CarrierError::Disagree);
    }
    let protocol = Extractor::default().protocols(lines(&["trunkline.v1"])).unwrap().query(&ticket).unwrap().finish();
    assert_eq!(protocol.subprotocol, Subprotocol::TrunklineV1);
}

#[test]
fn entries_are_bounded() {
    let line = |n: usize| vec!["x"; n].join(",");
    assert!(from(&[&line(MAX_ENTRIES)], &[]).is_ok());
    assert_eq!(from(&[&line(MAX_ENTRIES + 1)], &[]), Err(CarrierError::TooMany(Carrier::Subprotocol)));
    assert_eq!(from(&[&line(MAX_ENTRIES), ""], &[]), Err(CarrierError::TooMany(Carrier::Subprotocol)));
    assert!(from(&[], &["Bearer a.b.c"; MAX_ENTRIES]).is_ok());
    let more = from(&[], &["Bearer a.b.c"; MAX_ENTRIES + 1]);
    assert_eq!(more, Err(CarrierError::TooMany(Carrier::Authorization)));
    let jar = |n: usize| vec!["a=b"; n].join(";");
    assert!(cookies(&[&jar(MAX_COOKIES)]).is_ok());
    assert_eq!(cookies(&[&jar(MAX_COOKIES), "a=b"]), Err(CarrierError::TooMany(Carrier::Cookie)));
    let parameters = |n: usize| vec!["a=b"; n].join("&");
    assert!(query(&parameters(MAX_ENTRIES)).is_ok());
    assert_eq!(query(&parameters(MAX_ENTRIES + 1)), Err(CarrierError::TooMany(Carrier::Ticket)));
}

#[test]
fn debug_shows_no_token() {
    let shown = format!("{:?}", from(&[&format!("bearer.{JWT}")], &[]).unwrap());
    assert!(shown.contains("Token(..)") && JWT.split('.').all(|part| !shown.contains(part)), "{shown}");
    let shown = format!("{:?}", query(&format!("ticket={TICKET_TEXT}")).unwrap());
    assert!(shown.contains("Ticket(..)") && !shown.contains(TICKET_TEXT), "{shown}");
}

properties! {
    #[test]
    fn spellings_of_one_token_are_one_token(
        jwt in "[A-Za-z0-9_-]{1,40}\\.[A-Za-z0-9_-]{1,80}\\.[A-Za-z0-9_-]{1,43}",
        picks in prop::collection::vec((0..9_usize, "[ \t]{0,2}", any::<bool>()), 1..8),
        others in prop::collection::vec("[a-z.]{0,6}", 0..4),
        quoted in any::<bool>(),
    ) {
        let all = spellings(&jwt);
        let mut offered = vec![others.join(",")];
        for (pick, space, new_line) in &picks {
            let entry = format!("{space}{}{space}", all[*pick]);
            if *new_line { offered.push(entry) } else { let last = offered.last_mut().unwrap(); *last += ","; *last += &entry }
        }
        prop_assume!(others.iter().all(|other| offered_token(other).is_none()));
        let protocols: Vec<&str> = offered.iter().map(String::as_str).collect();
        prop_assert_eq!(token(&protocols), Some(jwt.clone()));
        let header = format!("Bearer {jwt}");
        prop_assert_eq!(from(&protocols, &[&header]).unwrap().credential, carried(&jwt, Carrier::Authorization));
        // The same spellings in cookies, among others, and all of them together.
        let quote = if quoted { "\"" } else { "" };
        let of_pick = |pick: &usize| all[pick % 3].strip_prefix("bearer.").unwrap();
        let jar: Vec<String> = picks.iter().map(|(pick, space, _)| format!("{space}token={quote}{}{quote}", of_pick(pick))).collect();
        let jar = format!("{}; {}; x={jwt}", others.join("; "), jar.join(";"));
        prop_assert_eq!(cookies(&[&jar]).unwrap().credential, carried(&jwt, Carrier::Cookie));
        let name = CookieName::parse("token").unwrap();
        let found = Extractor::default().protocols(lines(&protocols)).unwrap().cookies(&name, lines(&[&jar])).unwrap();
        prop_assert_eq!(found.finish().credential, carried(&jwt, Carrier::Subprotocol));
    }

    #[test]
    fn any_bytes_are_survived(
        protocols in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..4),
        authorizations in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..2),
    ) {
        let _ = Extractor::default().authorization(authorizations.iter().map(Vec::as_slice));
        let _ = Extractor::default().protocols(protocols.iter().map(Vec::as_slice));
        let name = CookieName::parse("token").unwrap();
        let _ = Extractor::default().cookies(&name, protocols.iter().map(Vec::as_slice));
        let _ = query(&String::from_utf8_lossy(&protocols.concat()));
    }
}
