//! Identifiers as types that cannot be mixed and cannot hold a bad value.
//!
//! Ids the server makes are 128 random bits and never reused, so a late message for a dead id reaches nobody.
//! Texts that peers choose are bounded and free of control characters; parsing is the only way to make one.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::UnixTime;

#[cfg(doctest)]
mod mixing;

/// The longest identifier a peer may choose, in bytes.
pub const MAX_ID_BYTES: usize = 128;
/// The longest subject or tenant a token may name, in bytes.
pub const MAX_SUBJECT_BYTES: usize = 255;

/// The longest `jti` a token may name, in bytes.
pub const MAX_TOKEN_ID_BYTES: usize = 255;

/// Where a `Hub` draws random bits; each runtime crate has the system's.
pub trait Entropy: Send + Sync {
    /// Fills `out` with bits nobody can guess.
    fn fill(&self, out: &mut [u8]);

    /// 128 bits for a new id.
    fn id(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_be_bytes(bytes)
    }

    /// 64 bits, for jitter.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }
}

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Over the limit of its kind.
    #[error("must not be longer than {max} bytes")]
    TooLong {
        /// The limit, in bytes.
        max: usize,
    },
    /// A control character, which could forge a line of a log.
    #[error("must not contain control characters")]
    Control,
    /// Not the form in which the server wrote it.
    #[error("is not an id of this server")]
    Form,
}

fn check_text(text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > max {
        return Err(IdError::TooLong { max });
    }
    if text.chars().any(char::is_control) {
        return Err(IdError::Control);
    }
    Ok(())
}

/// What keeps users and topics of the same name apart, as a [`UserId`] has it. It comes from a verified token and
/// from nowhere else; no tenant in the token is one tenant of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant<'a>(Option<&'a str>);

impl<'a> Tenant<'a> {
    /// As it stands in a token, where it does.
    pub const fn as_str(self) -> Option<&'a str> {
        self.0
    }
}

impl fmt::Debug for Tenant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(tenant) => write!(f, "{tenant:?}"),
            None => f.write_str("no tenant"),
        }
    }
}

/// A user: `(tenant, sub)`, both from a verified token. The tenant may be absent, which is one tenant of its own. The order of
/// users is a fixed one, and none of their names.
///
/// ```
/// use trunkline_core::id::UserId;
/// let ann = UserId::new(Some("acme"), "ann").unwrap();
/// assert_eq!((ann.tenant().as_str(), ann.sub()), (Some("acme"), "ann"));
/// assert_ne!(ann, UserId::new(None, "ann").unwrap());
/// assert_eq!(ann.beside("bob").unwrap(), UserId::new(Some("acme"), "bob").unwrap());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId {
    /// First, so that whoever keeps users in order seldom looks at their texts.
    hash: u32,
    /// Before the text: equal texts split at different places are different users.
    tenant_len: u16,
    text: Arc<str>,
}

impl UserId {
    /// # Errors
    /// When either part is empty, longer than [`MAX_SUBJECT_BYTES`], or holds a control character.
    pub fn new(tenant: Option<&str>, sub: &str) -> Result<Self, IdError> {
        if let Some(tenant) = tenant {
            check_text(tenant, MAX_SUBJECT_BYTES)?;
        }
        check_text(sub, MAX_SUBJECT_BYTES)?;
        let tenant = tenant.unwrap_or_default();
        let text: Arc<str> = if tenant.is_empty() { sub.into() } else { [tenant, sub].concat().into() };
        // At most 255, checked above.
        let tenant_len = tenant.len() as u16;
        let hash = fixed_hash(tenant_len, &[text.as_bytes()]);
        Ok(Self { hash, tenant_len, text })
    }

    /// Whoever has this name in the same tenant: the only way in which a name in a frame becomes a user.
    ///
    /// # Errors
    /// When the name is empty, longer than [`MAX_SUBJECT_BYTES`], or holds a control character.
    pub fn beside(&self, sub: &str) -> Result<Self, IdError> {
        Self::new(self.tenant().as_str(), sub)
    }

    /// The tenant, as the token named it or did not.
    pub fn tenant(&self) -> Tenant<'_> {
        Tenant((self.tenant_len > 0).then(|| &self.text[..usize::from(self.tenant_len)]))
    }

    /// The token's subject: what stands in frames as `user_id`.
    pub fn sub(&self) -> &str {
        &self.text[usize::from(self.tenant_len)..]
    }

    /// A fixed hash (FNV-1a, folded to 16 bits), the same in every process: it picks the user's shard.
    pub const fn shard_hash(&self) -> u16 {
        fold(self.hash)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant().as_str() {
            Some(tenant) => write!(f, "{:?}/{:?}", tenant, self.sub()),
            None => write!(f, "{:?}", self.sub()),
        }
    }
}

/// A topic of one tenant: the same name in another tenant is another topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId {
    /// First, as a user's.
    hash: u32,
    tenant: Option<Arc<str>>,
    name: TopicName,
}

impl TopicId {
    /// The topic `name` of `tenant`, or of those without one.
    ///
    /// # Errors
    /// When the tenant is empty, longer than [`MAX_SUBJECT_BYTES`], or holds a control character.
    pub fn new(tenant: Option<&str>, name: TopicName) -> Result<Self, IdError> {
        if let Some(tenant) = tenant {
            check_text(tenant, MAX_SUBJECT_BYTES)?;
        }
        Ok(Self::known(tenant, name))
    }

    /// The topic `name` of this user's tenant.
    pub fn of(user: &UserId, name: TopicName) -> Self {
        Self::known(user.tenant().as_str(), name)
    }

    /// The same of a tenant that is known to be one.
    fn known(tenant: Option<&str>, name: TopicName) -> Self {
        let text = tenant.unwrap_or_default();
        let hash = fixed_hash(text.len() as u16, &[text.as_bytes(), name.as_str().as_bytes()]);
        Self { hash, tenant: tenant.map(Arc::from), name }
    }

    /// Its name, as in `topic:<name>`.
    pub const fn name(&self) -> &TopicName {
        &self.name
    }

    /// A fixed hash, as [`UserId::shard_hash`]: it picks the topic's shard.
    pub const fn shard_hash(&self) -> u16 {
        fold(self.hash)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "{tenant:?}/topic {:?}", self.name),
            None => write!(f, "topic {:?}", self.name),
        }
    }
}

/// FNV-1a of a tenant's length and the texts, folded to 32 bits. Whoever chooses names can make them collide: it may order and
/// distribute, and nothing may rest on its being different.
fn fixed_hash(tenant_len: u16, parts: &[&[u8]]) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in tenant_len.to_be_bytes().iter().chain(parts.iter().copied().flatten()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    // The cast keeps the low 32.
    (hash ^ (hash >> 32)) as u32
}

/// Half of the bits, so that every one has its say. The cast keeps the low 16.
const fn fold(hash: u32) -> u16 {
    (hash ^ (hash >> 16)) as u16
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// # Errors
            #[doc = concat!("When the text is empty, longer than `", stringify!($max), "`, or holds a control character.")]
            pub fn new(text: &str) -> Result<Self, IdError> {
                check_text(text, $max)?;
                Ok(Self(text.into()))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

macro_rules! shown {
    ($($name:ident)*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        })*
    };
}

text_id!(/// A conversation of one user, named by the client.
    ThreadId, MAX_ID_BYTES);
text_id!(/// A shared stream, as in `topic:<name>`.
    TopicName, MAX_ID_BYTES);
text_id!(/// One call of a tool, unique within its run.
    ToolCallId, MAX_ID_BYTES);
text_id!(/// One text that a run streams, unique within its run.
    PartId, MAX_ID_BYTES);
text_id!(/// Names a request so that its repeat has the same effect and the same answer (`key` in frames).
    IdempotencyKey, MAX_ID_BYTES);
text_id!(/// Names a frame so that its answer can be told apart (`id` in frames).
    FrameId, MAX_ID_BYTES);
text_id!(/// What a run waits for a person to decide.
    ApprovalId, MAX_ID_BYTES);
text_id!(/// Something that the service needs and whose state the embedder reports.
    DependencyName, MAX_ID_BYTES);
text_id!(/// The `jti` of a token, by which it can be revoked. Nobody reads one in a log: `Debug` does not show it.
    TokenId, MAX_TOKEN_ID_BYTES);
shown! { ThreadId TopicName ToolCallId PartId IdempotencyKey FrameId ApprovalId DependencyName }

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenId(..)")
    }
}

/// The bits of 32 hexadecimal digits; they have one spelling.
fn bits_of(digits: &str) -> Option<u128> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let all = || digits.bytes().try_fold(0_u128, |bits, digit| Some(bits << 4 | u128::from(value(digit)?)));
    if digits.len() == 32 { all() } else { None }
}

/// The 32 hexadecimal digits of these bits.
fn digits_of(bits: u128) -> [u8; 32] {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half & 0xf)];
    let mut digits = [0; 32];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bits.to_be_bytes()) {
        *pair = [digit(byte >> 4), digit(byte)];
    }
    digits
}

/// What [`digits_of`] has made, as a text.
fn hexadecimal(digits: &[u8; 32]) -> &str {
    // They are ASCII.
    std::str::from_utf8(digits).unwrap_or_default()
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            #[doc = concat!("The id of these bits, written `", $prefix, "` and 32 hexadecimal digits.")]
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }

            /// The bits.
            pub const fn to_bits(self) -> u128 {
                self.0
            }
        }

        impl $name {
            /// Pushes the text that `Display` shows. It stands in each event of a run, and `fmt` is slow.
            pub(crate) fn push_onto(self, out: &mut String) {
                out.push_str($prefix);
                out.push_str(hexadecimal(&digits_of(self.0)));
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(hexadecimal(&digits_of(self.0)))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.strip_prefix($prefix).ok_or(IdError::Form)?;
                bits_of(digits).map(Self).ok_or(IdError::Form)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(/// One accepted socket; it is also the generation of everything the socket owns.
    ConnectionId, "conn_");
random_id!(/// One device across reconnects: whoever resumes it supersedes its old socket.
    SessionId, "sess_");
random_id!(/// One run of an agent. Its low 16 bits lead to its shard.
    RunId, "run_");

impl SessionId {
    /// The id of a session that begins now: its high 48 bits are the milliseconds since 1970, the others are random. What was
    /// made before a moment can be told from the id alone.
    pub const fn new(now: UnixTime, random: u128) -> Self {
        let millis = (now.as_micros() / 1_000) as u128;
        Self(millis << 80 | random & RANDOM_OF_SESSION)
    }

    /// When it was made, to the millisecond, as the id says. A client can make ids of its own: it is no proof.
    pub const fn made_at(self) -> UnixTime {
        // 48 bits of milliseconds are 58 of microseconds.
        UnixTime::from_micros((self.0 >> 80) as u64 * 1_000)
    }
}

/// The bits of a session's id that are random.
const RANDOM_OF_SESSION: u128 = (1 << 80) - 1;

impl RunId {
    /// The id of a new run of `user`: random, but for the bits that lead to the user's shard.
    pub fn for_user(user: &UserId, random: u128) -> Self {
        Self((random & !0xffff) | u128::from(user.shard_hash()))
    }

    /// What [`UserId::shard_hash`] says of the run's user.
    pub const fn shard_hash(self) -> u16 {
        self.0 as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_different_tenants_differ_even_where_the_texts_meet() {
        let split_late = UserId::new(Some("ab"), "c").unwrap();
        let split_early = UserId::new(Some("a"), "bc").unwrap();
        assert_ne!(split_late, split_early);
        assert_ne!(split_late.shard_hash(), split_early.shard_hash());
        assert_eq!(split_late.sub(), "c");
    }

    #[test]
    fn texts_are_bounded_and_printable() {
        assert_eq!(ThreadId::new(""), Err(IdError::Empty));
        assert_eq!(ThreadId::new("a\nb"), Err(IdError::Control));
        assert!(ThreadId::new(&"x".repeat(MAX_ID_BYTES)).is_ok());
        assert_eq!(ThreadId::new(&"x".repeat(MAX_ID_BYTES + 1)), Err(IdError::TooLong { max: MAX_ID_BYTES }));
        assert!(UserId::new(None, &"x".repeat(MAX_SUBJECT_BYTES)).is_ok());
        assert!(UserId::new(None, &"x".repeat(MAX_SUBJECT_BYTES + 1)).is_err());
        assert_eq!(UserId::new(Some(""), "x"), Err(IdError::Empty));
    }

    #[test]
    fn server_ids_have_one_spelling() {
        let id = RunId::from_bits(0xabc);
        assert_eq!(id.to_string(), "run_00000000000000000000000000000abc");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in [
            "run_abc",
            "run_00000000000000000000000000000ABC",
            "conn_00000000000000000000000000000abc",
            "run_+0000000000000000000000000000abc",
        ] {
            assert_eq!(wrong.parse::<RunId>(), Err(IdError::Form), "{wrong}");
        }
    }

    #[test]
    fn a_session_says_when_it_was_made_and_is_random_beside_that() {
        let now = UnixTime::from_micros(1_800_000_000_123_456);
        let id = SessionId::new(now, u128::MAX);
        assert_eq!(id.made_at(), UnixTime::from_micros(1_800_000_000_123_000));
        assert_eq!(id.to_bits() & RANDOM_OF_SESSION, RANDOM_OF_SESSION);
        assert_eq!(SessionId::from_bits(u128::MAX).made_at().as_micros(), ((1 << 48) - 1) * 1_000);
    }

    #[test]
    fn a_run_leads_to_its_users_shard() {
        let user = UserId::new(None, "ann").unwrap();
        let run = RunId::for_user(&user, u128::MAX);
        for shards in [1, 2, 3, 4, 7, 64, 1024] {
            assert_eq!(run.shard_hash() % shards, user.shard_hash() % shards);
        }
    }
}
