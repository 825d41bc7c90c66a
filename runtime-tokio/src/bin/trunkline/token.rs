//! `trunkline token`: signs a token with the server's secret and prints it, and nothing else.

use std::process::ExitCode;
use std::time::Duration;

use trunkline_core::auth::{ClaimRules, Hs256, IssueError, NewToken};
use trunkline_core::id::{Entropy as _, UserId};
use trunkline_core::time::Clock as _;
use trunkline_tokio::{SystemClock, SystemEntropy};

use crate::Fault;
use crate::cli::TokenArgs;
use crate::config::{MAKE_A_SECRET, Secret, Settings};

/// How long a token may hold: nothing can take one back before the server knows it is revoked.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

pub(crate) fn main(args: &TokenArgs) -> Result<ExitCode, Fault> {
    let user = UserId::new(args.tenant.as_deref(), &args.user)
        .map_err(|problem| Fault::usage(format!("--user or --tenant: {problem}")))?;
    let ttl = ttl(&args.ttl).map_err(|problem| Fault::usage(format!("--ttl: {problem}")))?;
    let settings = Settings::of_token(&args.settings)?;
    for warning in &settings.warnings {
        eprintln!("trunkline: {warning}");
    }
    let Some(secret) = &settings.secret else {
        return Err(Fault::usage(format!("no secret to sign with: {MAKE_A_SECRET}")));
    };
    let keys = keys(secret, &settings)?;
    let token = issue(&keys, &user, ttl, args.scope.as_deref().unwrap_or_default())
        .map_err(|problem| Fault::usage(format!("no token was made: {problem}")))?;
    println!("{token}");
    Ok(ExitCode::SUCCESS)
}

/// What signs tokens and verifies them, under these settings.
pub(crate) fn keys(secret: &Secret, settings: &Settings) -> Result<Hs256, Fault> {
    Hs256::new(secret.as_bytes(), rules(settings)).map_err(|problem| Fault::usage(problem.to_string()))
}

/// What tokens must say, under these settings.
pub(crate) fn rules(settings: &Settings) -> ClaimRules {
    ClaimRules {
        leeway: settings.limits.token_leeway,
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        ..ClaimRules::default()
    }
}

/// A token for `user` from now on, with an id of its own so that it can be revoked alone.
pub(crate) fn issue(keys: &Hs256, user: &UserId, ttl: Duration, scope: &str) -> Result<String, IssueError> {
    let id = format!("{:032x}", SystemEntropy.id());
    let issued_at = SystemClock::new().now().unix;
    keys.issue(&NewToken { user, issued_at, ttl, scope, token_id: Some(&id) })
}

fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text).map_err(|_| "expected a time such as 90s, 15m or 1h".to_owned())?;
    if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
        return Err("must be between 1s and 366days".to_owned());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::auth::TokenVerifier as _;

    #[test]
    fn a_token_verifies_and_no_two_are_alike() {
        let keys = Hs256::new(&[b'k'; 32], ClaimRules::default()).unwrap();
        let ann = UserId::new(Some("acme"), "ann").unwrap();
        let hour = Duration::from_secs(3600);
        let first = issue(&keys, &ann, hour, "publish").unwrap();
        let grant = keys.verify(&first, SystemClock::new().now().unix).unwrap();
        assert_eq!(grant.user, ann);
        assert!(grant.scopes.may_publish());
        assert_ne!(first, issue(&keys, &ann, hour, "publish").unwrap());
    }

    #[test]
    fn a_time_to_live_is_bounded() {
        assert_eq!(ttl("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "0s", "10ms", "400days", "soon", "-1h"] {
            assert!(ttl(wrong).is_err(), "{wrong}");
        }
    }
}
