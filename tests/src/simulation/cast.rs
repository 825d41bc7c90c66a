//! Who is there.

use trunkline_core::auth::Scopes;
use trunkline_core::id::{PartId, ThreadId, TopicId, TopicName, UserId};

/// Users by tenant and subject: two of one name in two tenants, two in one tenant, and a back end in each.
pub(super) const USERS: [(&str, &str); 5] =
    [("acme", "ann"), ("rival", "ann"), ("acme", "bob"), ("acme", "agent"), ("rival", "agent")];
/// Those of them who are people.
pub(super) const PEOPLE: usize = 3;
/// Devices: whose, and which thread they watch (0 is all).
pub(super) const DEVICES: [(usize, u8); 6] = [(0, 0), (0, 0), (0, 1), (1, 0), (2, 0), (2, 2)];
/// Back ends: as whom.
pub(super) const PRODUCERS: [usize; 3] = [3, 3, 4];
/// Topics by tenant.
pub(super) const TOPICS: [(&str, &str); 3] = [("acme", "news"), ("acme", "ops"), ("rival", "news")];
/// Threads, 0 is none.
pub(super) const THREADS: u8 = 3;

/// Everybody, with what their tokens allow.
pub(super) fn users() -> Vec<(UserId, Scopes)> {
    let user = |at: usize| {
        let (tenant, sub) = USERS[at];
        // Both are short words.
        let user = UserId::new(Some(tenant), sub).unwrap_or_else(|error| unreachable!("{error}"));
        let scope = if at < PEOPLE { "topic:*" } else { "publish" };
        let scopes = Scopes::parse(scope, &user).unwrap_or_default();
        (user, scopes)
    };
    (0..USERS.len()).map(user).collect()
}

pub(super) fn thread(number: u8) -> Option<ThreadId> {
    if number == 0 { None } else { ThreadId::new(&format!("t{number}")).ok() }
}

pub(super) fn thread_number(thread: &ThreadId) -> u8 {
    thread.as_str().strip_prefix('t').and_then(|number| number.parse().ok()).unwrap_or(u8::MAX)
}

pub(super) fn part(number: u8) -> PartId {
    PartId::new(&format!("p{number}")).unwrap_or_else(|error| unreachable!("a letter and a digit: {error}"))
}

pub(super) fn part_number(part: &PartId) -> usize {
    usize::from(part.as_str() == "p1")
}

pub(super) fn topic_name(topic: usize) -> TopicName {
    TopicName::new(TOPICS[topic].1).unwrap_or_else(|error| unreachable!("a word: {error}"))
}

pub(super) fn topic(topic: usize) -> TopicId {
    let tenant = Some(TOPICS[topic].0);
    TopicId::new(tenant, topic_name(topic)).unwrap_or_else(|error| unreachable!("two words: {error}"))
}

/// The topic of this name that a user of this number can follow.
pub(super) fn topic_of(user: usize, name: &TopicName) -> Option<usize> {
    TOPICS.iter().position(|(tenant, topic)| *tenant == USERS[user].0 && *topic == name.as_str())
}
