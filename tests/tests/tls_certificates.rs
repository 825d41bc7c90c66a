//! Which certificates a server takes, and when it takes others.
use trunkline_core::tls::{Certificates, MAX_PEM_BYTES, Roots, TlsError, client_config};

/// A certificate of its own and its key, in PEM.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn a_pair_is_whole_and_belongs_together_or_it_is_refused() {
    let ((certificate, key), (_, other)) = (pair(), pair());
    assert!(Certificates::new(certificate.as_bytes(), key.as_bytes()).is_ok());
    let refused = |certificate: &str, key: &str| Certificates::new(certificate.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(refused(&certificate, &other), TlsError::Mismatch);
    let half = |text: &str| text[..text.len() / 2].to_owned();
    assert!(matches!(refused(&half(&certificate), &key), TlsError::Certificates(_)));
    assert!(matches!(refused("", &key), TlsError::Certificates(_)));
    assert!(matches!(refused(&key, &key), TlsError::Certificates(_)));
    assert!(matches!(refused(&certificate, &half(&key)), TlsError::Key(_)));
    assert!(matches!(refused(&certificate, ""), TlsError::Key(_)));
    assert!(matches!(refused(&certificate, &certificate), TlsError::Key(_)));
    let long = " ".repeat(MAX_PEM_BYTES + 1);
    assert!(matches!(refused(&certificate, &long), TlsError::File(_)));
    assert!(matches!(refused(&certificate, &long[1..]), TlsError::Key(_)));
}

#[test]
fn what_is_refused_replaces_nothing_and_what_is_good_does() {
    let ((certificate, key), (certificate_2, key_2)) = (pair(), pair());
    let certificates = Certificates::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(certificates.replace(certificate_2.as_bytes(), key.as_bytes()), Err(TlsError::Mismatch));
    assert_eq!(certificates.replace(certificate.as_bytes(), key.as_bytes()), Ok(false), "the first are in use");
    assert_eq!(certificates.replace(certificate_2.as_bytes(), key_2.as_bytes()), Ok(true));
    assert_eq!(certificates.replace(certificate_2.as_bytes(), key_2.as_bytes()), Ok(false));
}

#[test]
fn whoever_looks_takes_what_has_settled_and_hears_of_a_fault_once() {
    let ((certificate, key), (certificate_2, key_2)) = (pair(), pair());
    let certificates = Certificates::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    let look = |certificate: &str, key: &str| certificates.look(certificate.as_bytes(), key.as_bytes());
    assert_eq!(look(&certificate, &key), Ok(false));
    // One file is replaced before the other: what is between them is refused where it lasts, and only then.
    assert_eq!(look(&certificate_2, &key), Ok(false));
    assert_eq!(look(&certificate_2, &key_2), Ok(false));
    assert_eq!(look(&certificate_2, &key_2), Ok(true));
    assert_eq!(look(&certificate_2, &key_2), Ok(false));
    for expected in [Ok(false), Err(TlsError::Mismatch), Ok(false), Ok(false)] {
        assert_eq!(look(&certificate, &key_2), expected);
    }
    // The good one again, and then the same fault, which is told anew.
    assert_eq!(look(&certificate_2, &key_2), Ok(false));
    for expected in [Ok(false), Err(TlsError::Mismatch), Ok(false)] {
        assert_eq!(look(&certificate, &key_2), expected);
    }
}

#[test]
fn nothing_of_a_key_is_shown() {
    let (certificate, key) = pair();
    let certificates = Certificates::new(certificate.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(format!("{certificates:?}"), "Certificates { .. }");
    let error = Certificates::new(certificate.as_bytes(), &key.as_bytes()[..60]).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&key[30..50]));
}

#[test]
fn roots_are_certificates() {
    let (certificate, key) = pair();
    assert!(client_config(&Roots::Public).is_ok());
    assert!(client_config(&Roots::Pem(certificate.into_bytes())).is_ok());
    for bad in [key.as_str(), "", "-----BEGIN CERTIFICATE-----\n"] {
        assert!(matches!(client_config(&Roots::Pem(bad.into())), Err(TlsError::Roots(_))), "{bad}");
    }
}

#[test]
fn why_a_handshake_failed_is_told_in_bounds() {
    use trunkline_core::tls::{MAX_REASON_CHARS, no_handshake};
    let told = |n: usize| no_handshake(&std::io::Error::other("x".repeat(n))).to_string();
    let most = format!("no TLS: {}", "x".repeat(MAX_REASON_CHARS));
    assert_eq!((told(MAX_REASON_CHARS), told(MAX_REASON_CHARS + 1)), (most.clone(), most));
}
