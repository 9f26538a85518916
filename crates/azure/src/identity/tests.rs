//! Tests of asking a managed identity's endpoint, and of its answers.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::*;

fn from(variables: &[(&str, &str)]) -> Result<ManagedIdentity, InvalidEndpoint> {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    ManagedIdentity::from_variables(|name| variables.get(name).map(|text| (*text).to_owned()))
}

fn new() -> ManagedIdentity {
    from(&[
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:41155/MSI/token/"),
        ("IDENTITY_HEADER", "CANARY"),
        ("MSI_ENDPOINT", "http://127.0.0.1:41155/MSI/token/"),
        ("MSI_SECRET", "CANARY"),
    ])
    .unwrap()
}

fn old() -> ManagedIdentity {
    from(&[
        ("MSI_ENDPOINT", "http://172.16.1.3:8081/msi/token"),
        ("MSI_SECRET", "CANARY"),
    ])
    .unwrap()
}

fn resource() -> Origin {
    activity_api::Cloud::Commercial.hosts().resource_manager
}

fn now() -> Timestamp {
    "2026-03-01T08:00:00Z".parse().unwrap()
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

#[test]
fn each_kind_of_endpoint_is_asked_in_its_own_words() {
    let resource = resource();
    let encoded = "https%3A%2F%2Fmanagement.azure.com";
    let request = new().token_request(&resource);
    assert_eq!(request.method(), Method::GET);
    assert_eq!(
        request.uri().to_string(),
        format!("http://127.0.0.1:41155/MSI/token/?api-version=2019-08-01&resource={encoded}")
    );
    assert_eq!(request.headers()["X-IDENTITY-HEADER"], "CANARY");
    let request = old().with_client_id("some-id").token_request(&resource);
    assert_eq!(
        request.uri().to_string(),
        format!(
            "http://172.16.1.3:8081/msi/token?api-version=2017-09-01&resource={encoded}&clientid=some-id"
        )
    );
    assert_eq!(request.headers()["Secret"], "CANARY");
    let request = from(&[])
        .unwrap()
        .with_client_id("some-id")
        .token_request(&resource);
    assert_eq!(
        request.uri().to_string(),
        format!(
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource={encoded}&client_id=some-id"
        )
    );
    assert_eq!(request.headers()["Metadata"], "true");
}

#[test]
fn the_endpoints_secret_is_never_shown() {
    for identity in [new(), old()] {
        let request = identity.token_request(&resource());
        let shown = format!("{identity:?} {identity} {request:?}");
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}

#[test]
fn no_secret_goes_to_an_endpoint_that_is_not_beside_us() {
    let not_local = Err(InvalidEndpoint::NotLocal {
        variable: "IDENTITY_ENDPOINT",
    });
    for url in [
        "https://127.0.0.1/msi",
        "http://example.net/msi",
        "http://8.8.8.8/msi",
        "http://172.32.0.1/msi",
        "http://[2001:db8::1]/msi",
        "http://user:pass@127.0.0.1/msi",
        "http://localhost.example.net/msi",
        "ftp://127.0.0.1/msi",
    ] {
        let result = from(&[("IDENTITY_ENDPOINT", url), ("IDENTITY_HEADER", "s")]);
        assert_eq!(result.map(|_| ()), not_local, "{url}");
    }
    for url in [
        "http://localhost:42356/msi/token",
        "http://[::1]:8081/msi/token",
        "http://[fe80::1]:8081/msi/token",
        "http://169.254.129.2:8081/msi/token",
        "http://172.16.1.3:8081/msi/token",
    ] {
        from(&[("IDENTITY_ENDPOINT", url), ("IDENTITY_HEADER", "s")]).unwrap();
    }
    for url in ["", "\n", "no url", "http://127.0.0.1/a b"] {
        let variables = [("MSI_ENDPOINT", url), ("MSI_SECRET", "s")];
        match from(&variables) {
            Ok(identity) => assert!(url.is_empty() && identity.to_string().contains("virtual")),
            Err(error) => assert_eq!(
                error,
                InvalidEndpoint::Unreadable {
                    variable: "MSI_ENDPOINT"
                }
            ),
        }
    }
    let missing = from(&[("MSI_ENDPOINT", "http://127.0.0.1/msi")]);
    assert_eq!(
        missing.map(|_| ()),
        Err(InvalidEndpoint::Secret {
            variable: "MSI_SECRET"
        })
    );
}

#[test]
fn every_form_of_the_tokens_end_is_read() {
    for (text, expected) in [
        (r#""1772359200""#, "2026-03-01T10:00:00Z"),
        ("1772359200", "2026-03-01T10:00:00Z"),
        (r#""03/01/2026 00:00:00 PM +00:00""#, "malformed"),
        (r#""03/01/2026 10:00:00 AM +00:00""#, "2026-03-01T10:00:00Z"),
        (r#""3/1/2026 1:02:03 PM +00:00""#, "2026-03-01T13:02:03Z"),
        (r#""03/01/2026 13:02:03 PM +00:00""#, "2026-03-01T13:02:03Z"),
        (r#""03/01/2026 12:00:00 PM +00:00""#, "2026-03-01T12:00:00Z"),
        (r#""03/02/2026 12:00:00 AM +00:00""#, "2026-03-02T00:00:00Z"),
        (r#""03/01/2026 13:02:03 +00:00""#, "2026-03-01T13:02:03Z"),
        (r#""03/01/2027 10:00:00 AM +00:00""#, "2026-03-02T08:00:00Z"),
        (r#""03/01/2026 10:00:00 AM +01:00""#, "malformed"),
        (r#""13/41/2026 10:00:00 AM +00:00""#, "malformed"),
        (r#""soon""#, "malformed"),
        (r#""""#, "malformed"),
        ("null", "malformed"),
    ] {
        let body = format!(r#"{{"access_token":"a.b","expires_on":{text},"token_type":"Bearer"}}"#);
        let read = match old().read_token(&reply(200, &body), now()) {
            Ok(token) => token.expires_at().to_string(),
            Err(Error::Malformed { .. }) => "malformed".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(read, expected, "{text}");
    }
    // Microsoft's own example: an hour of no half of a day, taken as it stands.
    assert_eq!(
        read_moment("09/14/2017 00:00:00 PM +00:00").unwrap(),
        "2017-09-14T00:00:00Z".parse::<Timestamp>().unwrap()
    );
}

#[test]
fn a_refusal_says_who_must_act() {
    let virtual_machine = from(&[]).unwrap();
    let step = |identity: &ManagedIdentity, status, body: &str| {
        identity
            .read_token(&reply(status, body), now())
            .unwrap_err()
            .next_step()
    };
    use activity_api::{NextStep, TenantReason};
    let unknown = NextStep::StopTenant(TenantReason::Credential(CredentialReason::IdentityUnknown));
    for status in [404, 500, 503] {
        let body = "<html>";
        assert_eq!(
            step(&virtual_machine, status, body),
            NextStep::RetryAfter(None)
        );
    }
    assert_eq!(
        step(&virtual_machine, 410, ""),
        NextStep::RetryAfter(Some(UPGRADE))
    );
    assert_eq!(step(&new(), 429, ""), NextStep::RetryAfter(None));
    let not_found = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
    assert_eq!(step(&virtual_machine, 400, not_found), unknown);
    let none =
        r#"{"statusCode":400,"message":"No User Assigned or Delegated Managed Identity found"}"#;
    assert_eq!(step(&new(), 400, none), unknown);
    assert_eq!(step(&old(), 404, ""), unknown);
    let resource = r#"{"error":"invalid_resource","error_description":"AADSTS50001: The application was not found"}"#;
    assert_eq!(
        step(&virtual_machine, 400, resource),
        NextStep::StopTenant(TenantReason::Credential(CredentialReason::ResourceUnknown))
    );
}
