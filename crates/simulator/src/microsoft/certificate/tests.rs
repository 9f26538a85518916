//! A statement is believed when all of it is right, and refused for what is wrong with it.

use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::json;

use super::*;

const BOTH: &str = include_str!("../../../../activity-api/test-data/certificate.pem");
const ANOTHERS: &str =
    include_str!("../../../../activity-api/test-data/certificate-of-another.pem");
const CLIENT: &str = "5d2c8f10-6a3b-4e7d-9c41-0f8e7a6b5c4d";
const AUDIENCE: &str = "https://login.example/t/oauth2/v2.0/token";

/// A statement with these changes, signed over its first two parts.
fn statement(head: &[(&str, Value)], claims: &[(&str, Value)]) -> String {
    let certificate = CertificateDer::from_pem_slice(BOTH.as_bytes()).unwrap();
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate));
    let mut parts = [
        json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}),
        json!({"aud": AUDIENCE, "iss": CLIENT, "sub": CLIENT, "jti": "1", "nbf": 90, "exp": 200}),
    ];
    for (part, changes) in parts.iter_mut().zip([head, claims]) {
        for (name, value) in changes {
            part[name] = value.clone();
        }
    }
    let algorithm: &dyn RsaEncoding = match parts[0]["alg"] == "RS256" {
        true => &RSA_PKCS1_SHA256,
        false => &RSA_PSS_SHA256,
    };
    let signed = parts
        .map(|part| URL_SAFE_NO_PAD.encode(part.to_string()))
        .join(".");
    let key = PrivatePkcs8KeyDer::from_pem_slice(BOTH.as_bytes()).unwrap();
    let key = KeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        algorithm,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn check(certificate: &Certificate, statement: &str, second: i64) -> Result<(), Refusal> {
    let now = Timestamp::from_second(second).unwrap();
    certificate.check(statement, CLIENT, AUDIENCE, now)
}

#[test]
fn a_statement_is_believed_once() {
    let certificate = Certificate::from_pem(BOTH).unwrap();
    let first = statement(&[], &[]);
    assert_eq!(check(&certificate, &first, 100), Ok(()));
    assert_eq!(check(&certificate, &first, 100), Err(REPLAYED));
    let older_kind = statement(&[("alg", "RS256".into())], &[("jti", "2".into())]);
    assert_eq!(check(&certificate, &older_kind, 100), Ok(()));
}

#[test]
fn a_statement_that_is_not_right_is_refused_for_what_is_wrong() {
    let certificate = Certificate::from_pem(BOTH).unwrap();
    let good = statement(&[], &[]);
    let (signed, _) = good.rsplit_once('.').unwrap();
    for (statement, expected) in [
        (statement(&[("x5t#S256", "another".into())], &[]), UNKNOWN),
        (statement(&[("alg", "none".into())], &[]), NOT_SIGNED),
        (
            statement(&[], &[("iss", "another".into())]),
            OTHER_APPLICATION,
        ),
        (
            statement(&[], &[("sub", "another".into())]),
            OTHER_APPLICATION,
        ),
        (
            statement(&[], &[("aud", "https://another".into())]),
            OTHER_AUDIENCE,
        ),
        (statement(&[], &[("nbf", 101.into())]), OUT_OF_TIME),
        (statement(&[], &[("exp", 100.into())]), OUT_OF_TIME),
        (statement(&[], &[("jti", Value::Null)]), NOT_SIGNED),
        (format!("{signed}.AAAA"), NOT_SIGNED),
        ("head.claims.signature".to_owned(), UNKNOWN),
        ("nothing".to_owned(), UNKNOWN),
    ] {
        assert_eq!(
            check(&certificate, &statement, 100),
            Err(expected),
            "{statement}"
        );
    }
    let another = Certificate::from_pem(ANOTHERS).unwrap();
    assert_eq!(check(&another, &good, 100), Err(UNKNOWN));
    assert!(Certificate::from_pem("no certificate").is_err());
}
