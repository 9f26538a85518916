//! What a certificate signs, and which texts are none.

use std::collections::HashSet;

use ring::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::Value;

use super::*;
use crate::Cloud;
use crate::fixtures::{tenant, test_data};

const CLIENT: &str = "5d2c8f10-6a3b-4e7d-9c41-0f8e7a6b5c4d";
const BOTH: &str = test_data!("certificate.pem");
const ANOTHERS: &str = test_data!("certificate-of-another.pem");

fn read(text: &str) -> Result<ApplicationCertificate, InvalidCertificate> {
    ApplicationCertificate::from_pem(&SecretString::from(text))
}

/// The text's blocks of this name.
fn block(text: &str, name: &str) -> String {
    let (begin, end) = (
        format!("-----BEGIN {name}-----"),
        format!("-----END {name}-----\n"),
    );
    let from = text.find(&begin).unwrap();
    let upto = text.find(&end).unwrap() + end.len();
    text[from..upto].to_owned()
}

fn now() -> Timestamp {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

#[test]
fn a_statement_is_as_microsoft_wants_it_and_signed_by_the_key() {
    let certificate = read(BOTH).unwrap();
    let login = Cloud::Commercial.hosts().login;
    let client: ClientId = CLIENT.parse().unwrap();
    let mut ids = HashSet::new();
    for _ in 0..3 {
        let statement = certificate
            .statement(&login, tenant(), client, now())
            .unwrap();
        let statement = statement.expose_secret();
        let (signed, signature) = statement.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, certificate.key.public());
        key.verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| -> Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
        };
        let (head, claims) = signed.split_once('.').unwrap();
        let (head, mut claims) = (part(head), part(claims));
        // The second is what `openssl x509 -fingerprint -sha256` says of the file, in Base64url.
        assert_eq!(
            head,
            json!({"alg": "PS256", "typ": "JWT", "x5t#S256": THUMBPRINT})
        );
        ids.insert(claims["jti"].take().as_str().unwrap().to_owned());
        let second = now().as_second();
        let expected = json!({
            "aud": format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", tenant()),
            "iss": CLIENT, "sub": CLIENT, "jti": null,
            "nbf": second - 60, "iat": second, "exp": second + 9 * 60,
        });
        assert_eq!(claims, expected);
    }
    assert_eq!(ids.len(), 3, "no statement is another's repetition");
}

const THUMBPRINT: &str = "mweOQRK1Db1hyQxVYRP4v3b4c7sRaUZ0QgdOFpIsfeg";

#[test]
fn a_key_and_its_certificate_may_come_in_any_order_among_others_and_in_one_line() {
    let (key, certificate) = (block(BOTH, "PRIVATE KEY"), block(BOTH, "CERTIFICATE"));
    for text in [
        format!("{certificate}{key}"),
        format!("of an application\n{key}\n{ANOTHERS}{certificate}"),
        BOTH.replace('\n', "\\n"),
        BOTH.replace('\n', "\r\n"),
    ] {
        assert_eq!(read(&text).unwrap().thumbprint, THUMBPRINT, "{text}");
    }
}

#[test]
fn what_cannot_be_used_is_told_without_a_word_of_it() {
    let (key, certificate) = (block(BOTH, "PRIVATE KEY"), block(BOTH, "CERTIFICATE"));
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let curve = key.replace("PRIVATE", "EC PRIVATE");
    let cut = key.replace("-----END", "?---END");
    let empty = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (text, expected) in [
        (String::new(), InvalidCertificate::NotPem),
        ("canary.pem".to_owned(), InvalidCertificate::NotPem),
        (certificate.clone(), InvalidCertificate::NoKey),
        (key.clone(), InvalidCertificate::NoCertificate),
        (
            format!("{encrypted}{certificate}"),
            InvalidCertificate::Encrypted,
        ),
        (format!("{curve}{certificate}"), InvalidCertificate::NotRsa),
        (format!("{empty}{certificate}"), InvalidCertificate::NotRsa),
        (format!("{key}{ANOTHERS}"), InvalidCertificate::NotThatKey),
        (format!("{certificate}{cut}"), InvalidCertificate::NotPem),
        (
            format!("{key}{}", certificate.replace("MII", "!!!")),
            InvalidCertificate::NotPem,
        ),
        (
            format!("{key}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            InvalidCertificate::NotThatKey,
        ),
    ] {
        assert_eq!(read(&text).unwrap_err(), expected, "{text}");
    }
    let shown = format!("{:?}", read(BOTH).unwrap());
    assert_eq!(
        shown,
        format!("ApplicationCertificate {{ thumbprint: \"{THUMBPRINT}\", .. }}")
    );
}

#[test]
fn a_certificate_says_when_it_ends() {
    // As `openssl x509 -enddate` says of the file.
    let end: Timestamp = "2126-11-03T03:31:41Z".parse().unwrap();
    assert_eq!(read(BOTH).unwrap().ends_at(), Some(end));
    let ended = read(test_data!("certificate-ended.pem")).unwrap();
    let end: Timestamp = "2025-03-01T08:00:00Z".parse().unwrap();
    assert_eq!(ended.ends_at(), Some(end));
}
