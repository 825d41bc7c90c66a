//! A link between a handle that tests hold and a server that they script.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::client::tests::{Counting, EPOCH, answer, close, event, messages, secs, text, welcome};
use crate::codec::frame::Message;
use crate::drive::Machine;

#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Shared<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn fresh() -> (Link, Handle) {
    let config = ClientConfig {
        host: "a".into(),
        target: "/ws".into(),
        token: "aa.bb.cc".into(),
        session: None,
        resume: None,
        threads: Vec::new(),
        producer: None,
        name: "test".into(),
    };
    connect(secs(0), config, Shared::new(Counting::default())).unwrap()
}

fn take(link: &mut Link) -> Vec<u8> {
    let bytes = link.transmit().to_vec();
    link.advance(secs(0), bytes.len());
    bytes
}

/// What the link wrote since, once it has looked at its handle.
fn written(link: &mut Link) -> Vec<Message> {
    link.poll_ready(secs(0), Waker::noop());
    messages(&take(link))
}

fn read(handle: &mut Handle) -> Poll<Result<ClientEvent, Closed>> {
    handle.poll_next(&mut Context::from_waker(Waker::noop()))
}

fn upgraded() -> (Link, Handle) {
    let (mut link, handle) = fresh();
    let request = take(&mut link);
    link.handle_bytes(secs(0), &answer(&request));
    take(&mut link);
    (link, handle)
}

fn live() -> (Link, Handle) {
    let (mut link, mut handle) = upgraded();
    link.handle_bytes(secs(0), &text(&welcome(0, 30.0, 5.0)));
    assert!(matches!(read(&mut handle), Poll::Ready(Ok(ClientEvent::Welcome(_)))));
    (link, handle)
}

fn ping() -> ClientFrame {
    ClientFrame::Ping { id: None }
}

#[test]
fn what_is_ordered_before_the_welcome_goes_after_it_in_order() {
    let (mut link, handle) = upgraded();
    handle.send(ping()).unwrap();
    handle.refresh("dd.ee.ff").unwrap();
    assert!(written(&mut link).is_empty());
    link.handle_bytes(secs(0), &text(&welcome(0, 30.0, 5.0)));
    let sent = messages(&take(&mut link));
    assert_eq!(sent.len(), 2);
    assert!(matches!(&sent[0], Message::Text(ping) if ping.contains(r#""ping""#)));
    assert!(matches!(&sent[1], Message::Text(refresh) if refresh.contains("dd.ee.ff")));
}

#[test]
fn its_deadline_is_the_clients_and_silence_ends_it() {
    let (mut link, mut handle) = live();
    let deadline = link.poll_timeout().expect("a live client waits for its server");
    assert_eq!(Some(deadline), link.client().poll_timeout());
    assert!(deadline > secs(0).at);
    for second in 1..=120 {
        link.handle_timeout(secs(second));
    }
    assert!(link.is_closed());
    let end = std::iter::from_fn(|| Some(read(&mut handle))).find(|read| !matches!(read, Poll::Ready(Ok(_))));
    assert!(matches!(end, Some(Poll::Ready(Err(Err(_))))), "{end:?}");
}

#[test]
fn whoever_waits_for_an_event_is_woken_by_it() {
    let (mut link, mut handle) = live();
    let woken = Shared::new(Woken::default());
    let waker = Waker::from(Shared::clone(&woken));
    assert!(handle.poll_next(&mut Context::from_waker(&waker)).is_pending());
    link.handle_bytes(secs(0), &text(&event(EPOCH, 1)));
    assert_eq!(woken.times(), 1);
    assert!(matches!(read(&mut handle), Poll::Ready(Ok(ClientEvent::Event(_)))));
}

#[test]
fn the_link_is_woken_by_what_is_sent_and_by_a_close() {
    let (mut link, handle) = live();
    let woken = Shared::new(Woken::default());
    let waker = Waker::from(Shared::clone(&woken));
    link.poll_ready(secs(0), &waker);
    handle.send(ping()).unwrap();
    assert_eq!(woken.times(), 1);
    link.poll_ready(secs(0), &waker);
    assert_eq!(messages(&take(&mut link)).len(), 1);
    handle.close();
    assert_eq!(woken.times(), 2);
    assert!(matches!(&written(&mut link)[..], [Message::Close(..)]));
}

#[test]
fn an_application_that_does_not_read_stops_the_socket_until_there_is_room_again() {
    let (mut link, mut handle) = live();
    let seqs = 1..=MAX_WAITING as u64 + 1;
    for seq in seqs.clone() {
        assert!(link.wants_read(), "{seq}");
        link.handle_bytes(secs(0), &text(&event(EPOCH, seq)));
    }
    assert!(!link.wants_read());
    let woken = Shared::new(Woken::default());
    link.poll_ready(secs(0), &Waker::from(Shared::clone(&woken)));
    let mut given = Vec::new();
    while let Poll::Ready(Ok(event)) = read(&mut handle) {
        let ClientEvent::Event(event) = event else { panic!("{event:?}") };
        given.push(event.position.seq);
        if given.len() == 1 {
            assert_eq!(woken.times(), 1, "there is room");
            link.poll_ready(secs(0), Waker::noop());
            assert!(link.wants_read());
        }
    }
    assert!(given.into_iter().eq(seqs));
}

#[test]
fn a_handle_says_how_the_connection_ended_and_takes_nothing_more() {
    let (mut link, mut handle) = live();
    link.handle_bytes(secs(0), &text(&event(EPOCH, 1)));
    link.handle_bytes(secs(0), &close(4_001));
    assert!(matches!(read(&mut handle), Poll::Ready(Ok(ClientEvent::Event(_)))), "what came before it is read first");
    assert_eq!(read(&mut handle), Poll::Ready(Err(Ok((4_001, "why".to_owned())))));
    take(&mut link);
    link.handle_eof(secs(0));
    assert!(link.is_closed());
}

#[test]
fn a_socket_that_is_lost_or_a_link_that_is_dropped_ends_the_handle() {
    let ends: [fn(&mut Link); 2] = [|link| link.handle_eof(secs(0)), |link| link.handle_broken(secs(0))];
    for end in ends {
        let (mut link, mut handle) = live();
        end(&mut link);
        assert!(matches!(read(&mut handle), Poll::Ready(Err(Err(_)))));
    }
    let (link, mut handle) = live();
    let woken = Shared::new(Woken::default());
    let waker = Waker::from(Shared::clone(&woken));
    assert!(handle.poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop(link);
    assert_eq!(woken.times(), 1);
    assert_eq!(read(&mut handle), Poll::Ready(Err(Err(Fault::Lost))));
}

#[test]
fn a_dropped_handle_closes_at_once_before_the_welcome_and_after_what_was_sent_behind_it() {
    let (mut link, handle) = upgraded();
    handle.send(ping()).unwrap();
    drop(handle);
    assert!(matches!(&written(&mut link)[..], [Message::Close(..)]));
    let (mut link, handle) = live();
    handle.send(ping()).unwrap();
    drop(handle);
    assert!(matches!(&written(&mut link)[..], [Message::Text(_), Message::Close(..)]));
}

#[test]
fn a_handle_that_closes_before_the_welcome_still_has_sent_what_it_sent() {
    let (mut link, handle) = upgraded();
    handle.send(ping()).unwrap();
    handle.close();
    assert!(written(&mut link).is_empty());
    link.handle_bytes(secs(0), &text(&welcome(0, 30.0, 5.0)));
    assert!(matches!(&messages(&take(&mut link))[..], [Message::Text(_), Message::Close(..)]));
    let (mut link, handle) = upgraded();
    handle.close();
    assert!(matches!(&written(&mut link)[..], [Message::Close(..)]), "there is nothing to wait for");
}
