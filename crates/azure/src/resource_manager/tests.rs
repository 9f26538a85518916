//! Tests of what Resource Manager is sent, and of how its answers are read.

use activity_api::Cloud;
use http::HeaderMap;

use super::*;

const BASE: &str = "https://management.azure.com/subscriptions/s-1/resourceGroups/g_1/providers/Microsoft.Web/sites/app-1";

fn api() -> SiteApi {
    let origin = Cloud::Commercial.hosts().resource_manager;
    SiteApi::new(&origin, "s-1", "g_1", "app-1").unwrap()
}

fn reply(status: u16, body: &str) -> Reply {
    Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    }
}

fn settings(text: &str) -> Settings {
    read_settings(&reply(200, text)).unwrap()
}

#[test]
fn the_requests_are_those_of_the_original_at_a_later_version() {
    for (request, expected) in [
        (api().get_site(), format!("GET {BASE}")),
        (
            api().list_settings(),
            format!("POST {BASE}/config/appsettings/list"),
        ),
        (api().sync_repository(), format!("POST {BASE}/sync")),
        (
            api().sync_triggers(),
            format!("POST {BASE}/syncfunctiontriggers"),
        ),
    ] {
        let sent = format!("{} {}", request.method(), request.uri());
        assert_eq!(sent, format!("{expected}?api-version=2024-04-01"));
        assert!(request.body().is_empty());
        assert!(!request.headers().contains_key("authorization"));
        let length = request.headers().get("content-length");
        assert_eq!(length.is_some(), request.method() == Method::POST);
    }
}

#[test]
fn a_put_has_every_setting_and_not_only_what_changed() {
    let mut settings = settings(
        r#"{"id":"/x","name":"appsettings","properties":{"AzureWebJobsStorage":"secret","EMPTY":"","NOTHING":null,"OLD":"x"}}"#,
    );
    assert!(
        settings.merge(
            &Changes::new()
                .set("COLLECTOR_SOURCE_ID", "id")
                .remove("OLD")
        )
    );
    let request = api().put_settings(&settings);
    assert_eq!(request.method(), Method::PUT);
    assert_eq!(
        request.uri().to_string(),
        format!("{BASE}/config/appsettings?api-version=2024-04-01")
    );
    assert_eq!(request.headers()["content-type"], "application/json");
    assert_eq!(
        std::str::from_utf8(request.body()).unwrap(),
        r#"{"properties":{"AzureWebJobsStorage":"secret","COLLECTOR_SOURCE_ID":"id","EMPTY":"","NOTHING":null}}"#
    );
}

#[test]
fn a_merge_that_changes_nothing_says_so() {
    let mut settings = settings(r#"{"properties":{"A":"1"}}"#);
    assert!(!settings.merge(&Changes::new().set("A", "1").remove("B")));
    assert!(settings.merge(&Changes::new().set("A", "2")));
    assert_eq!(settings.get("A").unwrap().expose_secret(), "2");
}

#[test]
fn no_value_of_a_setting_is_ever_shown() {
    let settings = settings(r#"{"properties":{"NAME":"CANARY"}}"#);
    let changes = Changes::new().set("NAME", "CANARY");
    let malformed = read_settings(&reply(200, r#"{"properties":{"NAME":["CANARY"]}}"#));
    let shown = format!("{settings:?} {changes:?} {malformed:?}");
    assert!(
        shown.contains("NAME") && !shown.contains("CANARY"),
        "{shown}"
    );
}

#[test]
fn a_name_that_leads_elsewhere_is_refused() {
    let origin = Cloud::Commercial.hosts().resource_manager;
    for name in ["", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "a\nb"] {
        assert!(SiteApi::new(&origin, "s", name, "app").is_err(), "{name:?}");
    }
    let api = SiteApi::new(&origin, "s", "Größe(1)", "app").unwrap();
    let uri = api.get_site().uri().to_string();
    assert!(
        uri.contains("/resourceGroups/Gr%C3%B6%C3%9Fe%281%29/"),
        "{uri}"
    );
}

#[test]
fn the_first_property_that_is_not_as_it_should_be_is_named() {
    let state = |changed: &str| {
        let good = r#"{"state":"Running","enabled":true,"availabilityState":"Normal","usageState":"Normal","sku":"Dynamic"}"#;
        let (name, value) = changed.split_once('=').unwrap();
        let mut properties: serde_json::Value = serde_json::from_str(good).unwrap();
        properties[name] = serde_json::from_str(value).unwrap();
        let site = read_site(&reply(200, &format!(r#"{{"properties":{properties}}}"#))).unwrap();
        site.unhealthy_property()
    };
    assert_eq!(state("sku=\"Dynamic\""), None);
    for (changed, name, value) in [
        ("state=\"Stopped\"", "state", "Stopped"),
        (
            "availabilityState=\"Limited\"",
            "availabilityState",
            "Limited",
        ),
        ("usageState=\"Exceeded\"", "usageState", "Exceeded"),
        ("usageState=null", "usageState", "unknown"),
        ("enabled=false", "enabled", "false"),
        ("enabled=null", "enabled", "unknown"),
    ] {
        assert_eq!(state(changed), Some((name, value.to_owned())), "{changed}");
    }
    let flex = read_site(&reply(200, r#"{"properties":{"sku":"FlexConsumption"}}"#));
    assert!(flex.unwrap().is_flex());
}

#[test]
fn every_refusal_has_its_meaning() {
    let body = r#"{"error":{"code":"AuthorizationFailed","message":"with CANARY in it"}}"#;
    for (status, step) in [
        (401, NextStep::Reauthenticate),
        (403, NextStep::Stop),
        (404, NextStep::Stop),
        (409, NextStep::ReadAgain),
        (412, NextStep::ReadAgain),
        (429, NextStep::RetryAfter(Some(Duration::from_secs(17)))),
        (500, NextStep::RetryAfter(Some(Duration::from_secs(17)))),
        (400, NextStep::Stop),
        (302, NextStep::Stop),
    ] {
        let mut reply = reply(status, body);
        reply.headers.insert("retry-after", "17".parse().unwrap());
        let error = read_settings(&reply).unwrap_err();
        assert_eq!(error.next_step(), step, "{status}");
        assert!(!error.to_string().contains("CANARY"), "{error}");
    }
    let error = check(&reply(403, body)).unwrap_err();
    assert!(error.to_string().contains("AuthorizationFailed"), "{error}");
    let error = check(&reply(409, r#"{"Code":"Conflict","Message":"…"}"#)).unwrap_err();
    assert!(error.to_string().contains("Conflict"), "{error}");
    assert!(check(&reply(204, "")).is_ok());
}
