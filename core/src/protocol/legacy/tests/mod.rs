//! The page in words, the pair of functions, and their way back.

mod inverse;
mod properties;
mod rules;

use serde_json::Value;

use super::*;
use crate::protocol::{ClientFrame, ServerFrame};
use crate::time::UnixTime;

const PAGE: &str = include_str!("../../../../LEGACY.md");
const NOW: UnixTime = UnixTime::from_micros(1_784_131_200_250_000);

fn ann() -> Context {
    Context::new("ann")
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// The blocks of the page: whose each is, and the text.
fn blocks() -> Vec<(&'static str, &'static str)> {
    let blocks = PAGE.split("```json ").skip(1);
    blocks.map(|block| block.split("```").next().unwrap().split_once('\n').unwrap()).collect()
}

#[test]
fn every_example_of_the_page_comes_to_the_one_after_it() {
    let blocks = blocks();
    let (pairs, rest) = blocks.as_chunks::<2>();
    assert!(rest.is_empty() && pairs.len() > 30, "{}", pairs.len());
    for [(first, one), (second, other)] in pairs {
        let encoded = match (*first, *second) {
            ("client", "native") => match decode(one, &mut ann(), NOW) {
                Decoded::Frame(frame) => frame.encode(),
                different => panic!("{one} comes to {different:?}"),
            },
            ("client", "answer") => match decode(one, &mut ann(), NOW) {
                Decoded::Answer(answer) | Decoded::Leave(answer) => answer,
                different => panic!("{one} comes to {different:?}"),
            },
            ("native", "server") => encode(&ServerFrame::parse(one).unwrap(), &ann(), NOW),
            pair => panic!("{pair:?} is no pair"),
        };
        assert_eq!(value(&encoded), value(other));
    }
}

#[test]
fn every_example_of_the_page_comes_back_to_the_one_before_it() {
    let (mut said, mut heard) = (0, 0);
    for [(first, one), (second, other)] in blocks().as_chunks::<2>().0 {
        match (*first, *second) {
            ("client", "native") => {
                said += 1;
                let native = ClientFrame::parse(other).unwrap().frame;
                let Decoded::Frame(frame) = decode(one, &mut ann(), NOW) else { panic!("{one}") };
                let text = inverse::spoken(&frame).unwrap_or_else(|| panic!("nobody can say {other}"));
                let Decoded::Frame(back) = decode(&text, &mut ann(), NOW) else { panic!("{text}") };
                assert_eq!(value(&back.encode()), value(&native.encode()));
                // What asks for an agent's work is said so again.
                assert_eq!(text.contains("request_type"), one.contains("request_type"), "{text}");
            }
            ("native", "server") => {
                heard += 1;
                assert_eq!(value(&inverse::heard(other).encode()), value(&ServerFrame::parse(one).unwrap().encode()));
            }
            _ => {}
        }
    }
    assert!(said >= 8 && heard >= 19, "{said} and {heard}");
}

/// The rows of the table with this head: the types in backquotes of the first two cells.
fn table(head: &str) -> Vec<(Vec<&'static str>, &'static str)> {
    let body = PAGE.split_once(head).unwrap().1;
    let rows = body.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1);
        let names = cells.next().unwrap().split('`').skip(1).step_by(2).collect();
        (names, cells.next().unwrap())
    })
    .collect()
}

#[test]
fn the_table_of_types_is_the_programs() {
    let answers = |kind: &str| {
        let text = format!(r#"{{"type":"{kind}","payload":{{"content":"x"}}}}"#);
        match decode(&text, &mut ann(), NOW) {
            Decoded::Frame(frame) => frame.type_name().to_owned(),
            Decoded::Answer(answer) => {
                let answer = value(&answer);
                answer.get("error_code").unwrap_or(&answer["type"]).as_str().unwrap().to_owned()
            }
            Decoded::Leave(_) => "1000".to_owned(),
            Decoded::Nothing => "nothing".to_owned(),
        }
    };
    let mut seen = 0;
    for (kinds, meaning) in table("| `type` | what it comes to |") {
        for kind in kinds {
            seen += 1;
            let native = ClientFrame::TYPES.contains(&kind) && meaning.contains("the native frame");
            // Without its own fields a native frame is refused by name.
            let expected = if native { "FORMAT_ERROR".to_owned() } else { answers(kind) };
            assert_eq!(answers(kind), expected, "{kind}");
            assert!(
                native || meaning.contains(&format!("`{expected}`")) || meaning.contains(&expected),
                "{kind}: {expected}"
            );
        }
    }
    assert_eq!(seen, 30);
    assert_eq!(answers("nothing_known"), "ack");
}

#[test]
fn the_table_of_frames_names_every_native_type() {
    let named: Vec<_> = table("| native | legacy |").into_iter().flat_map(|(kinds, _)| kinds).collect();
    let events = crate::protocol::EventKind::ALL.iter().map(|kind| kind.as_str());
    // Producers do not speak the profile.
    let frames = ServerFrame::TYPES.iter().copied().filter(|kind| !matches!(*kind, "event" | "ephemeral" | "request"));
    for kind in events.chain(frames) {
        assert!(named.contains(&kind), "no row for {kind}");
    }
}
