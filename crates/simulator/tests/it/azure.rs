//! Azure Resource Manager and managed identities.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use simulator::{AzureOptions, Fault, FaultAction, Options, RequestKind, Role, SiteChange};

use crate::client::{Answer, Client, read};

const VERSION: &str = "api-version=2016-08-01";

fn options() -> Options {
    let settings = [("APP_TENANT_ID", "t"), ("SECRET", "s")];
    Options {
        records: 10,
        azure: AzureOptions {
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..AzureOptions::default()
        },
        ..Options::default()
    }
}

async fn start() -> (Client, String) {
    let client = Client::start(options()).await;
    let token = entra(&client, "https://management.core.windows.net/").await;
    (client, token)
}

async fn entra(client: &Client, resource: &str) -> String {
    let tenant = client.simulator.tenants()[0].clone();
    let answer = client
        .post_token(
            "oauth2/token?api-version=1.0",
            &tenant.client_id,
            &tenant.client_secret,
            "resource",
            resource,
        )
        .await;
    text(&answer.json()["access_token"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn arm(client: &Client, token: &str, method: &str, tail: &str) -> Answer {
    arm_with(client, token, method, tail, &Value::Null).await
}

async fn arm_with(client: &Client, token: &str, method: &str, tail: &str, body: &Value) -> Answer {
    let url = format!(
        "{}{}{tail}",
        client.simulator.resource_manager_origin(),
        client.simulator.site().resource_id()
    );
    let mut request = client
        .http
        .request(method.parse().unwrap(), url)
        .bearer_auth(token);
    if !body.is_null() {
        request = request
            .header("content-type", "application/json")
            .body(body.to_string());
    }
    read(request).await
}

fn code(answer: &Answer) -> String {
    format!(
        "{} {}",
        answer.status,
        text(&answer.json()["error"]["code"])
    )
}

#[tokio::test]
async fn the_site_says_how_it_is_and_a_test_says_how_it_is() {
    let (client, token) = start().await;
    let seen = arm(&client, &token, "GET", &format!("?{VERSION}")).await;
    let properties = seen.json()["properties"].clone();
    assert_eq!(
        [
            &properties["state"],
            &properties["availabilityState"],
            &properties["usageState"],
            &properties["enabled"],
            &properties["sku"]
        ],
        [
            &json!("Running"),
            &json!("Normal"),
            &json!("Normal"),
            &json!(true),
            &json!("Dynamic")
        ]
    );
    client.simulator.site().change_state(|state| {
        state.usage_state = "Exceeded".to_owned();
        state.sku = "FlexConsumption".to_owned();
    });
    let seen = arm(&client, &token, "GET", "?api-version=2024-11-01").await;
    assert_eq!(seen.json()["properties"]["usageState"], "Exceeded");
    assert_eq!(seen.json()["properties"]["sku"], "FlexConsumption");
}

#[tokio::test]
async fn a_put_replaces_all_settings_restarts_the_app_and_is_watched() {
    let (client, token) = start().await;
    let site = client.simulator.site();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    site.watch(move |change| log.lock().unwrap().push(change.clone()));
    let listed = arm(
        &client,
        &token,
        "POST",
        &format!("/config/appsettings/list?{VERSION}"),
    )
    .await;
    assert_eq!(
        listed.json()["properties"],
        json!({"APP_TENANT_ID": "t", "SECRET": "s"})
    );
    let put = arm_with(
        &client,
        &token,
        "PUT",
        &format!("/config/appsettings?{VERSION}"),
        &json!({"properties": {"ONLY": "1"}}),
    )
    .await;
    assert_eq!(
        (put.status, &put.json()["properties"]),
        (200, &json!({"ONLY": "1"}))
    );
    assert_eq!(put.json()["name"], "appsettings");
    let only = BTreeMap::from([("ONLY".to_owned(), "1".to_owned())]);
    assert_eq!((site.settings(), site.restarts()), (only.clone(), 1));
    for (tail, status) in [
        ("/sync", 200),
        ("/syncfunctiontriggers", 204),
        ("/host/default/sync", 204),
    ] {
        let answer = arm(&client, &token, "POST", &format!("{tail}?{VERSION}")).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0), "{tail}");
    }
    assert_eq!((site.repository_syncs(), site.trigger_syncs()), (1, 2));
    assert_eq!(
        *seen.lock().unwrap(),
        [
            SiteChange::Settings(only),
            SiteChange::RepositorySynced,
            SiteChange::TriggersSynced,
            SiteChange::TriggersSynced
        ]
    );
    let bad = json!({"properties": {"NUMBER": 1}});
    let tail = format!("/config/appsettings?{VERSION}");
    let refused = arm_with(&client, &token, "PUT", &tail, &bad).await;
    assert_eq!(code(&refused), "400 BadRequest");
    assert_eq!(site.restarts(), 1);
}

#[tokio::test]
async fn resource_manager_refuses_as_the_real_one_does() {
    let (client, token) = start().await;
    let tail = format!("?{VERSION}");
    let with = async |token: String| code(&arm(&client, &token, "GET", &tail).await);
    assert_eq!(
        with("nonsense".to_owned()).await,
        "401 InvalidAuthenticationToken"
    );
    assert_eq!(
        with(client.token.clone()).await,
        "401 InvalidAuthenticationToken"
    );
    assert_eq!(client.simulator.requests().leaked_tokens, 1);
    let get = async |tail: &str| code(&arm(&client, &token, "GET", tail).await);
    assert_eq!(get("").await, "400 MissingApiVersionParameter");
    assert_eq!(
        get("?api-version=2015-08-01").await,
        "400 NoRegisteredProviderFound"
    );
    assert_eq!(
        get("?api-version=latest").await,
        "400 NoRegisteredProviderFound"
    );
    assert_eq!(
        get("x?api-version=2024-04-01").await,
        "404 ResourceNotFound"
    );

    client
        .simulator
        .site()
        .deny("Microsoft.Web/sites/config/write");
    let tail = format!("/config/appsettings?{VERSION}");
    let none = json!({"properties": {}});
    let put = || arm_with(&client, &token, "PUT", &tail, &none);
    assert_eq!(code(&put().await), "403 AuthorizationFailed");
    assert_eq!(client.simulator.site().settings().len(), 2);
    client
        .simulator
        .site()
        .set_role(Role::of(["Microsoft.Web/sites/config/*"]));
    for (status, expected) in [(409, "409 Conflict"), (429, "429 TooManyRequests")] {
        client.simulator.inject(Fault {
            kind: RequestKind::PutSettings,
            count: 1,
            action: FaultAction::Status { status },
        });
        let refused = put().await;
        assert_eq!(code(&refused), expected);
        assert_eq!(refused.headers.contains_key("retry-after"), status == 429);
    }
    assert_eq!(put().await.status, 200);
    assert_eq!(
        code(&arm(&client, &token, "GET", &format!("?{VERSION}")).await),
        "403 AuthorizationFailed"
    );
    client.simulator.clock().advance(Duration::from_secs(3_600));
    assert_eq!(code(&put().await), "401 ExpiredAuthenticationToken");
    let requests = client.simulator.requests();
    assert_eq!(requests.of(RequestKind::PutSettings), 5);
}

#[tokio::test]
async fn a_token_at_another_of_microsofts_services_is_a_leak() {
    let (client, token) = start().await;
    let list = format!(
        "{}/api/v1.0/{}/activity/feed/subscriptions/list",
        client.simulator.microsoft_origin(),
        client.tenant_id()
    );
    assert_eq!(
        read(client.http.get(&list).bearer_auth(&token))
            .await
            .status,
        401
    );
    assert_eq!(client.simulator.requests().leaked_tokens, 1);
    assert_eq!(
        read(client.http.get(&list).bearer_auth("mistyped"))
            .await
            .status,
        401
    );
    assert_eq!(client.simulator.requests().leaked_tokens, 1);
    read(client.http.get(&list).header("x-aims-auth-token", "t")).await;
    read(client.http.get(&list).header("X-IDENTITY-HEADER", "t")).await;
    let identity = client.simulator.identity_endpoint();
    read(client.http.get(identity).bearer_auth(&token)).await;
    assert_eq!(client.simulator.requests().leaked_tokens, 4);
}

#[tokio::test]
async fn a_managed_identity_gets_tokens_by_each_of_its_protocols() {
    let (client, _) = start().await;
    let options = client.simulator.options().azure.clone();
    let app_service = client.simulator.identity_endpoint();
    let machine = format!(
        "{}/metadata/identity/oauth2/token",
        client.simulator.identity_origin()
    );
    let ask = |url: &str, query: &str, header: &'static str, value: &str| {
        read(
            client
                .http
                .get(format!("{url}?{query}"))
                .header(header, value),
        )
    };
    let secret = options.identity_header.as_str();
    let arm_resource = "resource=https%3A%2F%2Fmanagement.azure.com%2F";
    let new = ask(
        &app_service,
        &format!("api-version=2019-08-01&{arm_resource}"),
        "X-IDENTITY-HEADER",
        secret,
    )
    .await
    .json();
    assert!(text(&new["expires_on"]).parse::<i64>().is_ok());
    let token = text(&new["access_token"]);
    let seen = arm(&client, &token, "GET", &format!("?{VERSION}")).await;
    assert_eq!(seen.status, 200);

    let old = ask(
        &app_service,
        "api-version=2017-09-01&resource=https://manage.office.com",
        "Secret",
        secret,
    )
    .await
    .json();
    assert!(text(&old["expires_on"]).ends_with(" +00:00"));
    let list = format!(
        "{}/api/v1.0/{}/activity/feed/subscriptions/list",
        client.simulator.microsoft_origin(),
        client.tenant_id()
    );
    let token = text(&old["access_token"]);
    assert_eq!(
        read(client.http.get(list).bearer_auth(token)).await.status,
        200
    );

    let storage = format!(
        "api-version=2018-02-01&resource=https://storage.azure.com/&object_id={}",
        options.principal_id
    );
    let imds = ask(&machine, &storage, "Metadata", "true").await.json();
    assert_eq!(imds["expires_in"], "3599");
    let token = text(&imds["access_token"]);
    let claims = token.split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims["aud"], "https://storage.azure.com");
    assert_eq!(
        text(&claims["iss"]),
        format!("https://sts.windows.net/{}/", client.tenant_id())
    );
    assert!(claims["nbf"].as_i64() < claims["exp"].as_i64());

    let no_header = ask(&machine, &storage, "Metadata", "false").await;
    assert_eq!(
        (no_header.status, &no_header.json()["error"]),
        (400, &json!("bad_request_102"))
    );
    let wrong = ask(
        &app_service,
        &format!("api-version=2019-08-01&{arm_resource}"),
        "X-IDENTITY-HEADER",
        "wrong",
    )
    .await;
    assert_eq!(wrong.status, 401);
    for (query, error) in [
        ("api-version=2018-02-01", "invalid_request"),
        (
            "api-version=2018-02-01&resource=https://graph.example",
            "invalid_resource",
        ),
        (
            "api-version=2018-02-01&resource=https://storage.azure.com&client_id=another",
            "invalid_request",
        ),
    ] {
        let refused = ask(&machine, query, "Metadata", "true").await;
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (400, &json!(error)),
            "{query}"
        );
    }
    for status in [404, 410, 429, 500] {
        client.simulator.inject(Fault {
            kind: RequestKind::IdentityToken,
            count: 1,
            action: FaultAction::Status { status },
        });
        assert_eq!(
            ask(&machine, &storage, "Metadata", "true").await.status,
            status
        );
    }
    assert_eq!(client.simulator.requests().leaked_tokens, 0);
}
