//! How far a client says that it is.

use proptest::prelude::*;

use super::{EPOCH, event, live, messages, micros, secs, take, text};
use crate::client::Client;
use crate::client::acks::{ACK_EVENTS, ACK_INTERVAL};
use crate::codec::frame::Message;
use crate::protocol::{ClientFrame, StreamName};
use crate::time::Timestamp;

/// Seqs of the acks that a client wrote, which are all that it wrote.
fn acks(client: &mut Client) -> Vec<u64> {
    let of = |message: &Message| match message {
        Message::Text(text) => match ClientFrame::parse(text).unwrap().frame {
            ClientFrame::Ack { stream: StreamName::User, event_id } => event_id.seq,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    messages(&take(client)).iter().map(of).collect()
}

fn run_end(seq: u64) -> String {
    let run = crate::id::RunId::from_bits(9);
    format!(
        r#"{{"type":"agent_completed","event_id":"{EPOCH}-{seq}","seq":{seq},"timestamp":1.5,"user_id":"ann","run_id":"{run}","run_seq":1,"agent_name":"a","duration_ms":1}}"#
    )
}

#[test]
fn a_client_tells_how_far_it_is_after_so_many_events_and_no_sooner() {
    let mut client = live();
    for seq in 4..3 + ACK_EVENTS {
        client.handle_bytes(secs(1), &text(&event(EPOCH, seq)));
    }
    assert!(acks(&mut client).is_empty());
    client.handle_bytes(secs(1), &text(&event(EPOCH, 3 + ACK_EVENTS)));
    assert_eq!(acks(&mut client), [3 + ACK_EVENTS]);
}

#[test]
fn a_client_tells_of_a_runs_end_but_not_soon_after_it_has_told() {
    let mut client = live();
    client.handle_bytes(secs(1), &text(&run_end(4)));
    assert_eq!(acks(&mut client), [4]);
    let silent_at = client.poll_timeout();
    client.handle_bytes(secs(1), &text(&run_end(5)));
    client.handle_bytes(secs(1), &text(&event(EPOCH, 6)));
    let due = Timestamp::from_micros(1_000_000) + ACK_INTERVAL;
    assert_eq!(client.poll_timeout(), Some(due));
    client.handle_timeout(micros(due.as_micros() - 1));
    assert!(acks(&mut client).is_empty());
    client.handle_timeout(micros(due.as_micros()));
    assert_eq!(acks(&mut client), [6], "where it is by now");
    assert_eq!(client.poll_timeout(), silent_at);
    assert_eq!(client.end(), None);
    // What comes once it closes is not told of.
    client.close(secs(20));
    take(&mut client);
    client.handle_bytes(secs(20), &text(&run_end(7)));
    assert!(acks(&mut client).is_empty());
}

properties! {
    /// Whatever comes, and however late the timer is: acks rise, have their least time between them, and in the end at most
    /// so many events are not told of.
    #[test]
    fn acks_rise_and_are_seldom(steps in prop::collection::vec((0_u64..4_000, 1_u64..40, any::<bool>()), 1..60)) {
        let mut client = live();
        let (mut now, mut seq, mut told) = (0, 3, vec![(0, 3)]);
        for (pause, events, ends) in steps {
            now += pause;
            client.handle_timeout(micros(now * 1_000));
            for _ in 0..events {
                seq += 1;
                client.handle_bytes(micros(now * 1_000), &text(&event(EPOCH, seq)));
            }
            if ends {
                seq += 1;
                client.handle_bytes(micros(now * 1_000), &text(&run_end(seq)));
            }
            while client.poll_event().is_some() {}
            told.extend(acks(&mut client).into_iter().map(|seq| (now, seq)));
        }
        let least = u64::try_from(ACK_INTERVAL.as_millis()).unwrap();
        for pair in told.windows(2) {
            prop_assert!(pair[0].1 < pair[1].1);
        }
        for pair in told.get(1..).unwrap_or_default().windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= least, "{pair:?}");
        }
        client.handle_timeout(micros((now + least) * 1_000));
        let last = acks(&mut client).last().copied().unwrap_or(told[told.len() - 1].1);
        prop_assert!(seq - last < ACK_EVENTS);
    }
}
