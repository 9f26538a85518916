//! The messages as the vendor's library writes them.

use expect_test::{Expect, expect};
use http::{HeaderMap, StatusCode};

use super::*;
use crate::aims::tests::token;

fn path() -> CollectorPath {
    CollectorPath {
        subscription_id: "00000000-0000-0000-0000-000000000000".to_owned(),
        resource_group: "self-hosted".to_owned(),
        app_name: "o365 collector/1".to_owned(),
    }
}

fn registration(client_secret: Option<&SecretString>) -> Registration<'_> {
    Registration {
        version: "1.4.0",
        app_tenant_id: "bf8d32d3-1c13-4487-af02-80dba2236485",
        client_id: "a261478c-84fb-42f9-84c2-de050a4babe3",
        client_secret,
        config: CollectionConfig {
            collector_type: COLLECTOR_TYPE,
            office_tenant_id: "bf8d32d3-1c13-4487-af02-80dba2236485",
            content_streams: vec!["Audit.Exchange", "DLP.All"],
        },
    }
}

fn registered() -> Registered {
    Registered {
        source_id: "source".to_owned(),
        host_id: "host".to_owned(),
    }
}

fn check(request: &Request<Bytes>, expected: &Expect) {
    let body = String::from_utf8(request.body().to_vec()).unwrap();
    expected.assert_eq(&format!(
        "{} {}\n{}\n{body}\n",
        request.method(),
        request.uri(),
        request.headers()["content-type"].to_str().unwrap()
    ));
}

fn reply(body: &'static str) -> Reply {
    Reply {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
    }
}

#[test]
fn registration_is_what_the_original_sends() {
    let azcollect = Endpoint::parse("azcollect.example.net").unwrap();
    let secret = SecretString::from("shh");
    check(
        &register_request(
            &azcollect,
            &token("1342"),
            &path(),
            &registration(Some(&secret)),
        ),
        &expect![[r#"
            POST https://azcollect.example.net/azcollect/v1/1342/azure/o365/00000000-0000-0000-0000-000000000000/self-hosted/o365%20collector%2F1
            application/json
            {"version":"1.4.0","app_tenant_id":"bf8d32d3-1c13-4487-af02-80dba2236485","client_id":"a261478c-84fb-42f9-84c2-de050a4babe3","client_secret":"shh","config":{"type":"o365","office_tenant_id":"bf8d32d3-1c13-4487-af02-80dba2236485","content_streams":["Audit.Exchange","DLP.All"]}}
        "#]],
    );
}

#[test]
fn registration_leaves_the_secret_out_when_told_so() {
    let azcollect = Endpoint::parse("azcollect.example.net").unwrap();
    let request = register_request(&azcollect, &token("1342"), &path(), &registration(None));
    assert!(
        !String::from_utf8(request.body().to_vec())
            .unwrap()
            .contains("client_secret")
    );
}

#[test]
fn a_registration_gives_both_ids() {
    let now = Timestamp::UNIX_EPOCH;
    assert_eq!(
        read_registered(
            &reply(r#"{"source":{"id":"source","host":{"id":"host"}}}"#),
            now
        ),
        Ok(registered())
    );
    for malformed in [
        "",
        "{}",
        r#"{"source":{"id":"","host":{"id":"h"}}}"#,
        r#"{"source":{"id":"s"}}"#,
    ] {
        assert!(
            matches!(
                read_registered(&reply(malformed), now),
                Err(Error::Malformed { .. })
            ),
            "{malformed}"
        );
    }
}

#[test]
fn a_checkin_reports_health_and_what_was_delivered() {
    let azcollect = Endpoint::parse("azcollect.example.net").unwrap();
    let mut checkin = Checkin {
        version: "1.4.0",
        app_tenant_id: "tenant",
        host_id: "host",
        source_id: "source",
        health: Health::Ok {
            details: Vec::new(),
        },
        statistics: vec![serde_json::json!({"Master": {"errors": 0, "invocations": 2}})],
        collection_stats: CollectionStats {
            bytes: 1234,
            events: 10,
        },
    };
    check(
        &checkin_request(&azcollect, &token("1342"), &path(), &checkin),
        &expect![[r#"
            POST https://azcollect.example.net/azcollect/v1/1342/azure/o365/checkin/00000000-0000-0000-0000-000000000000/self-hosted/o365%20collector%2F1
            application/json
            {"version":"1.4.0","app_tenant_id":"tenant","host_id":"host","source_id":"source","status":"ok","details":[],"statistics":[{"Master":{"errors":0,"invocations":2}}],"collection_stats":{"log":{"bytes":1234,"events":10}}}
        "#]],
    );
    checkin.health = Health::Error {
        error_code: "O365000001".to_owned(),
        details: vec!["Unable to start subscription DLP.All".to_owned()],
    };
    let request = checkin_request(&azcollect, &token("1342"), &path(), &checkin);
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(body["status"], "error");
    assert_eq!(body["error_code"], "O365000001");
    assert_eq!(body["details"][0], "Unable to start subscription DLP.All");
}

#[test]
fn a_checkins_answer_may_ask_for_an_update() {
    let read = |body| {
        read_checkin(&reply(body), Timestamp::UNIX_EPOCH)
            .unwrap()
            .force_update
    };
    assert!(read(r#"{"force_update":true}"#));
    assert!(!read(r#"{"force_update":false}"#));
    assert!(!read("{}"));
    assert!(!read(""));
    assert!(!read("\"ok\""));
}

#[test]
fn deregistration_repeats_the_registration_with_its_ids() {
    let azcollect = Endpoint::parse("azcollect.example.net").unwrap();
    check(
        &deregister_request(
            &azcollect,
            &token("1342"),
            &path(),
            &registration(None),
            &registered(),
        ),
        &expect![[r#"
            DELETE https://azcollect.example.net/azcollect/v1/1342/azure/o365/00000000-0000-0000-0000-000000000000/self-hosted/o365%20collector%2F1
            application/json
            {"version":"1.4.0","app_tenant_id":"bf8d32d3-1c13-4487-af02-80dba2236485","client_id":"a261478c-84fb-42f9-84c2-de050a4babe3","config":{"type":"o365","office_tenant_id":"bf8d32d3-1c13-4487-af02-80dba2236485","content_streams":["Audit.Exchange","DLP.All"]},"host_id":"host","source_id":"source"}
        "#]],
    );
}
