//! A manifest is believed when a known key has signed exactly its bytes, and then only if it is whole.

use super::*;
use crate::updater::{InvalidPublicKey, InvalidSigningKey};

/// OpenSSL's form of a private key, which has no public half in it: 32 bytes of the same value.
pub(crate) fn key(value: u8) -> SigningKey {
    let mut der = vec![
        0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04,
        0x20,
    ];
    der.extend([value; 32]);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    );
    SigningKey::from_pem(pem.as_bytes()).unwrap()
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        version: "0.2.0".parse().unwrap(),
        url: "https://releases.example.net/o365-collector-0.2.0.zip"
            .parse()
            .unwrap(),
        sha256: "ab".repeat(32).parse().unwrap(),
        size: 1_000,
        rollout_percent: 100,
        minimum_age: SignedDuration::from_hours(24),
        published_at: "2026-07-14T09:00:00Z".parse().unwrap(),
        minimum_version: "0.1.0".parse().unwrap(),
    }
}

/// An envelope of any bytes, well signed.
fn seal(bytes: &[u8], key: &SigningKey) -> String {
    let signature = STANDARD.encode(key.sign(&signed_message(bytes)));
    serde_json::json!({
        "manifest": STANDARD.encode(bytes),
        "signatures": [{"key_id": key.public().id(), "signature": signature, "note": "unknown"}],
        "unknown": 1,
    })
    .to_string()
}

fn fields() -> serde_json::Value {
    serde_json::json!({
        "version": "0.2.0", "url": "https://releases.example.net/p.zip", "sha256": "ab".repeat(32), "size": 5,
        "rollout_percent": 10, "minimum_age_secs": 60, "published_at": "2026-07-14T09:00:00Z",
        "minimum_version": "0.1.0",
    })
}

#[test]
fn a_signed_manifest_is_read_as_it_was_written() {
    let text = sign(&manifest(), &[key(1)]);
    assert_eq!(
        verify(text.as_bytes(), &[key(1).public()]).unwrap(),
        manifest()
    );
    assert_eq!(manifest().due_at(), "2026-07-15T09:00:00Z".parse().unwrap());
}

#[test]
fn while_the_key_is_replaced_either_is_enough() {
    let both = sign(&manifest(), &[key(1), key(2)]);
    for keys in [vec![key(1)], vec![key(2)], vec![key(3), key(2)]] {
        let keys: Vec<_> = keys.iter().map(SigningKey::public).collect();
        assert!(verify(both.as_bytes(), &keys).is_ok());
    }
    // A bad signature beside a good one takes nothing from it: the bytes are what the good one vouches for.
    let spoiled = both.replacen("\"signature\": \"", "\"signature\": \"AAAA", 1);
    assert!(verify(spoiled.as_bytes(), &[key(1).public(), key(2).public()]).is_ok());
    assert_eq!(
        verify(spoiled.as_bytes(), &[key(1).public()]),
        Err(ManifestError::BadSignature)
    );
}

#[test]
fn a_manifest_of_an_unknown_key_is_refused() {
    let text = sign(&manifest(), &[key(1)]);
    for keys in [vec![], vec![key(2).public()]] {
        assert_eq!(
            verify(text.as_bytes(), &keys),
            Err(ManifestError::UnknownKey)
        );
    }
}

#[test]
fn no_altered_byte_goes_unnoticed() {
    let bytes = fields().to_string().into_bytes();
    let whole: serde_json::Value = serde_json::from_str(&seal(&bytes, &key(1))).unwrap();
    for index in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[index] ^= 1;
        let mut envelope = whole.clone();
        envelope["manifest"] = STANDARD.encode(&altered).into();
        assert_eq!(
            verify(envelope.to_string().as_bytes(), &[key(1).public()]),
            Err(ManifestError::BadSignature)
        );
    }
}

#[test]
fn a_signature_made_for_another_purpose_does_not_fit() {
    let bytes = fields().to_string().into_bytes();
    // Over the bytes alone, without the words that say what they are.
    let signature = STANDARD.encode(key(1).sign(&bytes));
    let envelope = serde_json::json!({
        "manifest": STANDARD.encode(&bytes),
        "signatures": [{"key_id": key(1).public().id(), "signature": signature}],
    });
    assert_eq!(
        verify(envelope.to_string().as_bytes(), &[key(1).public()]),
        Err(ManifestError::BadSignature)
    );
}

#[test]
fn unknown_fields_are_passed_over_and_missing_ones_refused() {
    let check = |fields: &serde_json::Value| {
        let envelope = seal(fields.to_string().as_bytes(), &key(1));
        verify(envelope.as_bytes(), &[key(1).public()])
    };
    let mut more = fields();
    more["notes"] = "of a later release".into();
    assert!(check(&more).is_ok());
    for name in fields().as_object().unwrap().keys() {
        let mut less = fields();
        less.as_object_mut().unwrap().remove(name);
        assert!(
            matches!(check(&less), Err(ManifestError::Unusable(_))),
            "{name}"
        );
    }
    for (name, wrong) in [
        ("version", serde_json::json!("latest")),
        (
            "url",
            serde_json::json!("http://releases.example.net/p.zip"),
        ),
        (
            "url",
            serde_json::json!("https://user:pass@releases.example.net/p.zip"),
        ),
        ("url", serde_json::json!("file:///etc/passwd")),
        ("sha256", serde_json::json!("ab")),
        ("size", serde_json::json!(0)),
        ("size", serde_json::json!(u64::MAX)),
        ("size", serde_json::json!(-1)),
        ("rollout_percent", serde_json::json!(101)),
        ("minimum_age_secs", serde_json::json!(u64::MAX)),
        ("published_at", serde_json::json!("yesterday")),
        ("minimum_version", serde_json::json!("")),
    ] {
        let mut bad = fields();
        bad[name] = wrong;
        assert!(
            matches!(check(&bad), Err(ManifestError::Unusable(_))),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_envelope_is_refused() {
    let keys = [key(1).public()];
    for text in [
        "",
        "<html>",
        "{}",
        "[]",
        r#"{"manifest":"%","signatures":[]}"#,
    ] {
        assert_eq!(
            verify(text.as_bytes(), &keys),
            Err(ManifestError::NoEnvelope),
            "{text}"
        );
    }
    assert_eq!(
        verify(&vec![b' '; MAX_ENVELOPE_BYTES + 1], &keys),
        Err(ManifestError::TooLong)
    );
}

#[test]
fn only_the_first_few_signatures_are_looked_at() {
    let mut envelope: serde_json::Value =
        serde_json::from_str(&sign(&manifest(), &[key(1)])).unwrap();
    let good = envelope["signatures"][0].clone();
    let strange = serde_json::json!({"key_id": "00", "signature": ""});
    let mut many = vec![strange; MAX_SIGNATURES];
    many.push(good);
    envelope["signatures"] = many.into();
    assert_eq!(
        verify(envelope.to_string().as_bytes(), &[key(1).public()]),
        Err(ManifestError::UnknownKey)
    );
}

#[test]
fn keys_are_read_as_they_are_written_and_the_secret_half_is_never_shown() {
    let (made, pem) = SigningKey::generate().unwrap();
    let again = SigningKey::from_pem(pem.as_bytes()).unwrap();
    assert_eq!(again.public(), made.public());
    let text = format!("{}, {}", made.public(), key(1).public());
    assert_eq!(
        PublicKey::parse_list(&text).unwrap(),
        [made.public(), key(1).public()]
    );
    let secret: String = pem.lines().nth(1).unwrap().to_owned();
    assert!(!format!("{made:?} {:?} {}", made.public(), made.public()).contains(&secret));
    for text in [
        "",
        "ed25519:",
        "ed25519:AAAA",
        "rsa:AAAA",
        &format!("{},", made.public()),
    ] {
        assert_eq!(PublicKey::parse_list(text), Err(InvalidPublicKey), "{text}");
    }
    for pem in [
        "",
        "secret",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        assert_eq!(
            SigningKey::from_pem(pem.as_bytes()).err(),
            Some(InvalidSigningKey::Unreadable)
        );
    }
}
