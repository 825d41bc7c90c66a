//! Several verifiers as one.

use std::sync::Arc;

use super::{AuthError, Grant, TokenVerifier};
use crate::time::UnixTime;

/// Lets in whom any of several verifiers lets in: while keys move from one place to another, both count.
///
/// They are asked in their order, each at most once. A token that holds for one but is expired or revoked is just that; one that a
/// verifier cannot decide about, and none accepts, is undecided.
#[derive(Clone)]
pub struct AnyOf(Vec<Arc<dyn TokenVerifier>>);

impl AnyOf {
    /// These verifiers. Without any nobody is let in.
    pub fn new(verifiers: impl IntoIterator<Item = Arc<dyn TokenVerifier>>) -> Self {
        Self(verifiers.into_iter().collect())
    }
}

impl TokenVerifier for AnyOf {
    fn verify(&self, token: &str, now: UnixTime) -> Result<Grant, AuthError> {
        let mut refused = AuthError::Invalid("there is no key to verify it with");
        for verifier in &self.0 {
            match verifier.verify(token, now) {
                decided @ (Ok(_) | Err(AuthError::Expired | AuthError::Revoked)) => return decided,
                Err(AuthError::Undecided) => refused = AuthError::Undecided,
                Err(error @ AuthError::Invalid(_)) if refused != AuthError::Undecided => refused = error,
                Err(AuthError::Invalid(_)) => {}
            }
        }
        Err(refused)
    }
}

impl std::fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AnyOf").field(&self.0.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;
    use crate::id::UserId;

    /// Always gives the same answer.
    struct Fixed(Result<Grant, AuthError>);

    impl TokenVerifier for Fixed {
        fn verify(&self, _: &str, _: UnixTime) -> Result<Grant, AuthError> {
            self.0.clone()
        }
    }

    fn grant(user: &str) -> Grant {
        Grant {
            user: UserId::new(None, user).unwrap(),
            issued_at: None,
            expires: UnixTime::MAX,
            token_id: None,
            scopes: Scopes::default(),
        }
    }

    #[test]
    fn the_first_that_can_decide_does_and_doubt_outweighs_a_refusal() {
        const INVALID: AuthError = AuthError::Invalid("one");
        let (ann, bob) = (Ok(grant("ann")), Ok(grant("bob")));
        let no = Err(INVALID);
        let (doubt, expired, revoked) = (Err(AuthError::Undecided), Err(AuthError::Expired), Err(AuthError::Revoked));
        let table = [
            (vec![], Err(AuthError::Invalid("there is no key to verify it with"))),
            (vec![&no], no.clone()),
            (vec![&ann, &bob], ann.clone()),
            (vec![&no, &bob], bob.clone()),
            (vec![&doubt, &bob], bob.clone()),
            (vec![&doubt, &no], doubt.clone()),
            (vec![&no, &doubt], doubt.clone()),
            (vec![&no, &expired, &bob], expired.clone()),
            (vec![&doubt, &revoked, &bob], revoked.clone()),
            (vec![&no, &no], no.clone()),
        ];
        for (answers, expected) in table {
            let verifiers = answers.iter().map(|answer| Arc::new(Fixed((*answer).clone())) as Arc<dyn TokenVerifier>);
            assert_eq!(AnyOf::new(verifiers).verify("", UnixTime::MAX), expected, "{answers:?}");
        }
    }
}
