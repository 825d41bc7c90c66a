//! What a token's claim `scope` allows, as a type.

use std::fmt;

use crate::id::{TopicName, UserId};

/// How many words of one `scope` claim may mean something here; words that mean nothing do not count.
pub const MAX_SCOPES: usize = 64;

/// The rights that stand in a token's `scope`: words with spaces between them, RFC 8693 section 4.2.
///
/// | word | right |
/// |---|---|
/// | `publish` | publish for every user of the token's own tenant, and to its topics |
/// | `publish:<sub>` | publish for this user of the token's own tenant |
/// | `topic:*` | read every topic |
/// | `topic:<name>` | read this topic |
/// | `admin` | revoke, and see what operators see; no other right follows from it |
///
/// Any other word is some other service's and is left out. A `sub` or topic with a space in it cannot be named.
///
/// ```
/// use trunkline_core::{auth::Scopes, id::UserId};
/// let agent = UserId::new(Some("acme"), "agent")?;
/// let scopes = Scopes::parse("openid publish:ann", &agent)?;
/// assert!(scopes.may_publish_for(&UserId::new(Some("acme"), "ann")?));
/// assert!(!scopes.may_publish_for(&UserId::new(Some("rival"), "ann")?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
// Most tokens have no scope, so that is one null pointer.
pub struct Scopes(Option<Box<Rights>>);

/// More than [`MAX_SCOPES`] words that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scope has more than {MAX_SCOPES} words")]
pub struct TooManyScopes;

impl Scopes {
    /// The rights that `scope` gives to a token of `owner`.
    ///
    /// # Errors
    /// When more than [`MAX_SCOPES`] words mean something: to leave some out would take rights away silently.
    pub fn parse(scope: &str, owner: &UserId) -> Result<Self, TooManyScopes> {
        let mut rights = Rights::none(owner);
        let known = scope.split(' ').filter(|word| rights.add(word)).take(MAX_SCOPES + 1).count();
        match known {
            0 => Ok(Self(None)),
            1..=MAX_SCOPES => Ok(Self(Some(Box::new(rights)))),
            _ => Err(TooManyScopes),
        }
    }

    /// The rights that both of two tokens of the same user give.
    #[must_use]
    pub fn both(&self, other: &Self) -> Self {
        let (Some(one), Some(two)) = (&self.0, &other.0) else { return Self(None) };
        Self(Some(Box::new(one.both(two))))
    }

    /// Whether the token may publish events, and start runs, for `user`.
    pub fn may_publish_for(&self, user: &UserId) -> bool {
        self.0.as_ref().is_some_and(|rights| {
            let own_tenant = rights.owner.tenant() == user.tenant();
            rights.publishes.contains(user) || (rights.publishes_all && own_tenant)
        })
    }

    /// Whether the token may publish for anybody at all: what opening a producer connection takes.
    pub fn may_publish(&self) -> bool {
        self.0.as_ref().is_some_and(|rights| rights.publishes_all || !rights.publishes.is_empty())
    }

    /// Whether the token may publish to topics of its own tenant.
    pub fn may_publish_to_topics(&self) -> bool {
        self.0.as_ref().is_some_and(|rights| rights.publishes_all)
    }

    /// Whether the token may revoke tokens and see what operators see.
    pub fn is_admin(&self) -> bool {
        self.0.as_ref().is_some_and(|rights| rights.admin)
    }

    /// Whether the token may subscribe to `topic`.
    pub fn may_read_topic(&self, topic: &TopicName) -> bool {
        self.0.as_ref().is_some_and(|rights| rights.topics_all || rights.topics.contains(topic))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(rights) => rights.fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rights {
    /// Whose tenant `publish` speaks of.
    owner: UserId,
    admin: bool,
    publishes_all: bool,
    topics_all: bool,
    publishes: Vec<UserId>,
    topics: Vec<TopicName>,
}

impl Rights {
    fn none(owner: &UserId) -> Self {
        Self {
            owner: owner.clone(),
            admin: false,
            publishes_all: false,
            topics_all: false,
            publishes: Vec::new(),
            topics: Vec::new(),
        }
    }

    fn both(&self, other: &Self) -> Self {
        let mut publishes = self.publishes.clone();
        publishes.retain(|user| other.publishes_all || other.publishes.contains(user));
        let theirs = |user: &&UserId| self.publishes_all && !publishes.contains(*user);
        let theirs: Vec<UserId> = other.publishes.iter().filter(theirs).cloned().collect();
        publishes.extend(theirs);
        let mut topics = self.topics.clone();
        topics.retain(|topic| other.topics_all || other.topics.contains(topic));
        let theirs = |topic: &&TopicName| self.topics_all && !topics.contains(*topic);
        let theirs: Vec<TopicName> = other.topics.iter().filter(theirs).cloned().collect();
        topics.extend(theirs);
        Self {
            owner: self.owner.clone(),
            admin: self.admin && other.admin,
            publishes_all: self.publishes_all && other.publishes_all,
            topics_all: self.topics_all && other.topics_all,
            publishes,
            topics,
        }
    }

    /// Whether the word means something here.
    fn add(&mut self, word: &str) -> bool {
        match word {
            "admin" => self.admin = true,
            "publish" => self.publishes_all = true,
            "topic:*" => self.topics_all = true,
            other => return self.add_named(other),
        }
        true
    }

    fn add_named(&mut self, word: &str) -> bool {
        let Some((right, name)) = word.split_once(':') else { return false };
        match right {
            "publish" => self.owner.beside(name).map(|user| self.publishes.push(user)).is_ok(),
            "topic" => TopicName::new(name).map(|topic| self.topics.push(topic)).is_ok(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(tenant: Option<&str>, sub: &str) -> UserId {
        UserId::new(tenant, sub).unwrap()
    }

    fn scopes(text: &str) -> Scopes {
        Scopes::parse(text, &user(Some("acme"), "agent")).unwrap()
    }

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).unwrap()
    }

    #[test]
    fn publish_reaches_its_own_tenant_and_no_other() {
        let all = scopes("publish");
        assert!(all.may_publish_for(&user(Some("acme"), "ann")));
        assert!(!all.may_publish_for(&user(Some("rival"), "ann")));
        assert!(!all.may_publish_for(&user(None, "ann")));

        let without_tenant = Scopes::parse("publish", &user(None, "agent")).unwrap();
        assert!(without_tenant.may_publish_for(&user(None, "ann")));
        assert!(!without_tenant.may_publish_for(&user(Some("acme"), "ann")));
    }

    #[test]
    fn a_list_of_users_is_that_list() {
        let two = scopes("publish:ann  publish:bob:b");
        assert!(two.may_publish() && two.may_publish_for(&user(Some("acme"), "ann")));
        assert!(two.may_publish_for(&user(Some("acme"), "bob:b")));
        assert!(!two.may_publish_for(&user(Some("acme"), "bob")));
        assert!(!two.may_publish_for(&user(None, "ann")));
        assert!(!two.may_publish_for(&user(Some("acme"), "agent")), "not even for itself");
        let star = scopes("publish:*");
        assert!(!star.may_publish_for(&user(Some("acme"), "ann")), "a star is a user's name here");
    }

    #[test]
    fn topics_are_read_by_name_or_all() {
        assert!(scopes("topic:news").may_read_topic(&topic("news")));
        assert!(!scopes("topic:news").may_read_topic(&topic("new")));
        assert!(!scopes("topic:news").may_read_topic(&topic("*")));
        assert!(scopes("topic:*").may_read_topic(&topic("anything")));
        assert!(!scopes("admin publish").may_read_topic(&topic("news")));
    }

    #[test]
    fn admin_is_one_word_and_gives_nothing_else() {
        let admin = scopes("admin");
        assert!(admin.is_admin() && !admin.may_publish());
        assert!(!scopes("Admin administrator admin:all publish topic:*").is_admin());
    }

    #[test]
    fn words_of_other_services_leave_nothing() {
        for text in ["", " ", "openid profile", "publish: topic:", "PUBLISH", "topic", "publish\tadmin", "topic:a\nb"] {
            assert_eq!(scopes(text), Scopes::default(), "{text:?}");
        }
        assert_eq!(size_of::<Scopes>(), size_of::<usize>());
    }

    #[test]
    fn words_are_counted_where_they_mean_something() {
        let words = |n: usize| (0..n).map(|i| format!("topic:{i} other:{i} ")).collect::<String>();
        assert!(scopes(&words(MAX_SCOPES)).may_read_topic(&topic("63")));
        assert_eq!(Scopes::parse(&words(MAX_SCOPES + 1), &user(None, "ann")), Err(TooManyScopes));
    }

    #[test]
    fn both_is_what_each_of_the_two_gives() {
        let (agent, users) = (user(Some("acme"), "agent"), ["ann", "bob", "eve"].map(|sub| user(Some("acme"), sub)));
        let topics = ["news", "sport", "art"].map(|name| TopicName::new(name).unwrap());
        let words = [
            "",
            "admin",
            "publish",
            "publish:ann",
            "publish:bob publish:ann",
            "topic:*",
            "topic:news",
            "topic:news topic:sport",
        ];
        let scopes = words.iter().flat_map(|a| words.iter().map(move |b| format!("{a} {b}")));
        let scopes: Vec<Scopes> = scopes.map(|words| Scopes::parse(&words, &agent).unwrap()).collect();
        for (one, two) in scopes.iter().flat_map(|one| scopes.iter().map(move |two| (one, two))) {
            let both = one.both(two);
            assert_eq!(both.is_admin(), one.is_admin() && two.is_admin());
            for user in &users {
                assert_eq!(both.may_publish_for(user), one.may_publish_for(user) && two.may_publish_for(user));
            }
            for topic in &topics {
                assert_eq!(both.may_read_topic(topic), one.may_read_topic(topic) && two.may_read_topic(topic));
            }
            assert_eq!(both.may_publish_to_topics(), one.may_publish_to_topics() && two.may_publish_to_topics());
        }
    }
}
