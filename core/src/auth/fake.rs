//! Tokens without cryptography, for tests and models of everything but signatures. Only tests have it: anybody could forge them.

use std::convert::Infallible;

use super::claims::check_claims;
use super::compact::{self, Compact};
use super::issue::claims_json;
use super::{AuthError, ClaimRules, Grant, IssueError, NewToken, TokenVerifier};
use crate::time::UnixTime;

/// Issues and verifies as [`Hs256`](super::Hs256) does, with a checksum in the place of the MAC.
pub(crate) struct FakeKeys {
    secret: Vec<u8>,
    rules: ClaimRules,
}

impl FakeKeys {
    #[expect(clippy::unnecessary_wraps, reason = "it stands for real keys, which may be refused")]
    pub(crate) fn new(secret: &[u8], rules: ClaimRules) -> Result<Self, Infallible> {
        Ok(Self { secret: secret.to_vec(), rules })
    }

    pub(crate) fn issue(&self, new: &NewToken<'_>) -> Result<String, IssueError> {
        let message = compact::message(br#"{"alg":"fake"}"#, &claims_json(&self.rules, new)?);
        let sum = self.sum(&message);
        Ok(compact::token(message, &sum))
    }

    /// FNV-1a: another secret and another message have another sum, as long as nobody tries.
    fn sum(&self, message: &str) -> [u8; 8] {
        let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.secret.iter().chain(message.as_bytes()).fold(0xcbf2_9ce4_8422_2325, step).to_be_bytes()
    }
}

impl TokenVerifier for FakeKeys {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let token = Compact::read(token, self.rules.max_token_bytes)?;
        if token.signature != self.sum(token.message) {
            return Err(AuthError::Invalid("the sum does not match"));
        }
        check_claims(&token.claims()?, &self.rules, now)
    }
}
