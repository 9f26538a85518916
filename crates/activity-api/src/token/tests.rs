//! Tests of asking for and reading tokens.

use super::*;
use crate::{
    Cloud,
    fixtures::{TENANT, reply, tenant, test_data, with_header},
};

const CLIENT: &str = "5c0a9f3e-1b7d-4e28-8d46-93f1a2b7c6d5";

fn now() -> Timestamp {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

#[test]
fn a_token_is_asked_for_at_the_v2_endpoint_with_an_encoded_secret() {
    let hosts = Cloud::Commercial.hosts();
    let secret = SecretString::from("a+b/c=~ &é");
    let grant = ApplicationGrant {
        client_id: CLIENT.parse().unwrap(),
        proof: Proof::Secret(&secret),
    };
    let request = token_request(&hosts.login, tenant(), &hosts.activity, &grant);
    assert_eq!(request.method(), Method::POST);
    assert_eq!(
        request.uri().to_string(),
        format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token")
    );
    assert_eq!(
        request.headers()["content-type"],
        "application/x-www-form-urlencoded"
    );
    assert_eq!(
        std::str::from_utf8(request.body()).unwrap(),
        format!(
            "grant_type=client_credentials&client_id={CLIENT}&client_secret=a%2Bb%2Fc%3D%7E+%26%C3%A9\
             &scope=https%3A%2F%2Fmanage.office.com%2F.default"
        )
    );
    assert!(!format!("{grant:?}").contains("a+b"));
}

#[test]
fn a_token_is_asked_for_with_another_issuers_token_in_the_place_of_a_secret() {
    let hosts = Cloud::Commercial.hosts();
    let token = SecretString::from("head.claims.signature");
    let grant = ApplicationGrant {
        client_id: CLIENT.parse().unwrap(),
        proof: Proof::Assertion(&token),
    };
    let request = token_request(&hosts.login, tenant(), &hosts.activity, &grant);
    assert_eq!(
        std::str::from_utf8(request.body()).unwrap(),
        format!(
            "grant_type=client_credentials&client_id={CLIENT}\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
             &client_assertion=head.claims.signature&scope=https%3A%2F%2Fmanage.office.com%2F.default"
        )
    );
    assert!(!format!("{grant:?}").contains("claims"));
}

#[test]
fn a_token_is_read_in_the_shapes_of_both_endpoints() {
    for body in [test_data!("token-v1.json"), test_data!("token-v2.json")] {
        let token = read_token(&reply(200, body), now()).unwrap();
        assert_eq!(token.expires_at().to_string(), "2026-03-01T08:59:59Z");
        assert_eq!(token.authorization(), "Bearer not.a-real.token");
    }
    let only_expires_on = r#"{"token_type":"bearer","expires_on":"1772354399","access_token":"x"}"#;
    let token = read_token(&reply(200, only_expires_on), now()).unwrap();
    assert_eq!(token.expires_at().as_second(), 1_772_354_399);
}

#[test]
fn a_token_is_never_shown() {
    let token = read_token(&reply(200, test_data!("token-v2.json")), now()).unwrap();
    let reply = reply(200, test_data!("token-v2.json"));
    for shown in [
        format!("{token:?}"),
        format!("{:?}", token.authorization()),
        format!("{reply:?}"),
    ] {
        assert!(!shown.contains("real"), "{shown}");
    }
}

#[test]
fn a_success_without_a_usable_token_is_malformed() {
    let long = "x".repeat(LONGEST_TOKEN + 1);
    for body in [
        "".to_owned(),
        "{}".to_owned(),
        r#"{"access_token":"","expires_in":1}"#.to_owned(),
        r#"{"access_token":"x"}"#.to_owned(),
        r#"{"access_token":"x","expires_in":0}"#.to_owned(),
        r#"{"access_token":"x","expires_in":-5}"#.to_owned(),
        r#"{"access_token":"x","expires_in":"soon"}"#.to_owned(),
        r#"{"access_token":"x","expires_on":"1"}"#.to_owned(),
        r#"{"access_token":"x\r\nHost: evil","expires_in":1}"#.to_owned(),
        r#"{"access_token":"x y","expires_in":1}"#.to_owned(),
        r#"{"access_token":"x","expires_in":1,"token_type":"mac"}"#.to_owned(),
        format!(r#"{{"access_token":"{long}","expires_in":1}}"#),
    ] {
        let result = read_token(&reply(200, &body), now());
        assert!(matches!(result, Err(Error::Malformed { .. })), "{body}");
    }
}

#[test]
fn a_lifetime_that_cannot_be_is_cut_to_a_day() {
    let body = format!(r#"{{"access_token":"x","expires_in":{}}}"#, i64::MAX);
    let token = read_token(&reply(200, &body), now()).unwrap();
    assert_eq!(token.expires_at().to_string(), "2026-03-02T08:00:00Z");
}

fn refused(status: u16, number: u32) -> Error {
    let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
    read_token(&reply(status, &body), now()).unwrap_err()
}

#[test]
fn every_known_number_has_its_reason() {
    use CredentialReason::*;
    for (number, expected) in [
        (7_000_215, SecretWrong),
        (7_000_222, SecretExpired),
        (700_016, ClientUnknown),
        (700_027, CertificateUnknown),
        (700_024, AssertionTime),
        (90_002, TenantUnknown),
        (900_023, TenantUnknown),
        (70_011, ScopeInvalid),
        (500_011, ResourceUnknown),
        (50_001, ResourceUnknown),
        (700_211, FederationMismatch),
        (700_212, FederationMismatch),
        (700_213, FederationMismatch),
        (70_021, FederationMismatch),
        (53_003, PolicyForbids),
        (530_003, PolicyForbids),
        (999_999, Other),
    ] {
        for status in [400, 401] {
            let expected = Error::CredentialRefused {
                reason: expected,
                aadsts: Some(number),
            };
            assert_eq!(refused(status, number), expected, "{number}");
        }
    }
}

#[test]
fn a_failure_that_passes_is_no_verdict_on_the_credential() {
    for (status, body) in [
        (
            400,
            r#"{"error":"temporarily_unavailable","error_codes":[50196]}"#,
        ),
        (400, r#"{"error":"invalid_request","error_codes":[90033]}"#),
        (400, r#"{"error":"invalid_request","error_codes":[90055]}"#),
        (503, r#"{"error":"invalid_client","error_codes":[7000215]}"#),
        (500, ""),
        (408, ""),
        (502, "<html>"),
    ] {
        let reply = with_header(reply(status, body), "Retry-After", "11");
        let Err(Error::ServiceFailed { retry_after, .. }) = read_token(&reply, now()) else {
            panic!("{status} {body}");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(11)));
    }
    assert_eq!(
        read_token(&reply(429, ""), now()).unwrap_err(),
        Error::Throttled { retry_after: None }
    );
}

#[test]
fn the_number_is_also_found_in_the_description() {
    let body = r#"{"error":"invalid_client","error_description":"AADSTS7000222: The provided client secret keys are expired."}"#;
    assert_eq!(
        read_token(&reply(401, body), now()).unwrap_err(),
        Error::CredentialRefused {
            reason: CredentialReason::SecretExpired,
            aadsts: Some(7_000_222)
        }
    );
    for (description, expected) in [
        ("AADSTS50001", Some(50_001)),
        ("AADSTS", None),
        ("AADSTSx", None),
        ("AADSTS99999999999999999999", None),
        ("nothing", None),
    ] {
        assert_eq!(aadsts_in(description), expected);
    }
}

#[test]
fn a_refusal_in_anothers_words_is_not_taken_for_the_sign_in_services() {
    for body in [
        "<html>Blocked by proxy</html>",
        "",
        r#"{"error":null,"error_codes":null}"#,
    ] {
        let error = read_token(&reply(403, body), now()).unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{body}");
    }
}

#[test]
fn a_refused_secret_is_told_with_its_remedy_and_number() {
    let error = read_token(&reply(401, test_data!("token-refused.json")), now()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no token was issued (AADSTS7000215): the client secret is wrong: give the secret's value, not its id"
    );
}
