//! Microsoft's rules, each through the socket.

use std::time::Duration;

use simulator::{ContentType, Fault, FaultAction, Options, RequestKind};

use crate::client::{Client, read};

fn options() -> Options {
    Options {
        seed: 5,
        records: 1_000,
        ..Options::default()
    }
}

#[tokio::test]
async fn tokens_come_in_the_shapes_of_v1_and_v2() {
    let client = Client::start(options()).await;
    let tenant = client.simulator.tenants()[0].clone();
    let (id, secret) = (tenant.client_id.as_str(), tenant.client_secret.as_str());
    let v1 = client
        .post_token(
            "oauth2/token?api-version=1.0",
            id,
            secret,
            "resource",
            "https://manage.office.com",
        )
        .await
        .json();
    assert_eq!(v1["expires_in"], "3599");
    assert!(v1["expires_on"].is_string());
    let v2 = client
        .post_token(
            "oauth2/v2.0/token",
            id,
            secret,
            "scope",
            "https://manage.office.com/.default",
        )
        .await
        .json();
    assert_eq!(v2["expires_in"], 3599);

    let refused = |answer: crate::client::Answer| {
        format!(
            "{} {} {}",
            answer.status,
            answer.json()["error"],
            answer.json()["error_codes"][0]
        )
    };
    let wrong = client
        .post_token(
            "oauth2/v2.0/token",
            id,
            "wrong",
            "scope",
            "https://manage.office.com/.default",
        )
        .await;
    assert_eq!(refused(wrong), "401 \"invalid_client\" 7000215");
    let wrong = client
        .post_token(
            "oauth2/token",
            "wrong",
            secret,
            "resource",
            "https://manage.office.com",
        )
        .await;
    assert_eq!(refused(wrong), "400 \"unauthorized_client\" 700016");
    let wrong = client
        .post_token(
            "oauth2/token",
            id,
            secret,
            "resource",
            "https://elsewhere.example",
        )
        .await;
    assert_eq!(refused(wrong), "400 \"invalid_resource\" 500011");
    let wrong = client
        .post_token(
            "oauth2/v2.0/token",
            id,
            secret,
            "scope",
            "https://manage.office.com",
        )
        .await;
    assert_eq!(refused(wrong), "400 \"invalid_scope\" 70011");
}

#[tokio::test]
async fn a_token_ends_with_the_simulated_hour() {
    let client = Client::start(options()).await;
    let list = client.feed("subscriptions/list");
    assert_eq!(client.get(&list).await.status, 200);
    client.simulator.clock().advance(Duration::from_secs(3_600));
    let answer = client.get(&list).await;
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.json()["Message"],
        "Authorization has been denied for this request."
    );
    assert_eq!(answer.body.len(), 61);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_tenant_and_role_only() {
    let client = Client::start(Options {
        tenants: 2,
        ..options()
    })
    .await;
    let other = client.simulator.tenants()[1].tenant_id.clone();
    let list = client.feed("subscriptions/list");
    assert_eq!(
        client
            .get(&list.replace(client.tenant_id(), &other))
            .await
            .af(),
        "400 AF20010"
    );
    assert_eq!(
        client
            .get(&list.replace(client.tenant_id(), "contoso"))
            .await
            .af(),
        "400 AF20013"
    );
    let without_role = Client::start(Options {
        grant_roles: false,
        ..options()
    })
    .await;
    assert_eq!(
        without_role
            .get(&without_role.feed("subscriptions/list"))
            .await
            .af(),
        "401 AF10001"
    );
    let tenant = client.simulator.tenants()[0].clone();
    let url = format!(
        "{}/{}/oauth2/token",
        client.simulator.microsoft_origin(),
        tenant.tenant_id
    );
    let secret: String = form_urlencoded::byte_serialize(tenant.client_secret.as_bytes()).collect();
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_secret={secret}&resource=https://management.azure.com/",
        tenant.client_id
    );
    let arm = read(client.http.post(url).body(body)).await.json()["access_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        read(client.http.get(list).bearer_auth(arm)).await.status,
        401
    );
}

#[tokio::test]
async fn a_subscription_is_started_listed_and_stopped() {
    let client = Client::start(options()).await;
    let now = client.simulator.clock().now();
    let content = client.feed(&format!(
        "subscriptions/content?contentType=Audit.Exchange&startTime={:.0}&endTime={now:.0}",
        now - jiff::SignedDuration::from_hours(1)
    ));
    assert_eq!(client.get(&content).await.af(), "400 AF20022");
    assert_eq!(
        client.get(&client.feed("subscriptions/list")).await.body,
        b"[]"
    );
    let started = client.start_subscription("Audit.Exchange", "{}").await;
    assert_eq!(started.status, 200);
    assert!(started.json()["webhook"].is_null());
    assert_eq!(
        client.start_subscription("Audit.Exchange", "").await.af(),
        "400 AF20024"
    );
    assert_eq!(client.get(&content).await.status, 200);
    let stop = client.feed("subscriptions/stop?contentType=Audit.Exchange");
    assert_eq!(
        read(client.http.post(stop).bearer_auth(&client.token))
            .await
            .status,
        200
    );
    assert_eq!(client.get(&content).await.af(), "400 AF20023");
    assert_eq!(
        client.get(&client.feed("subscriptions/list")).await.json()[0]["status"],
        "disabled"
    );
    assert_eq!(
        client.start_subscription("Audit.Exchange", "").await.status,
        200
    );
    assert_eq!(
        client.start_subscription("Audit.Nothing", "").await.af(),
        "400 AF20020"
    );
    let http = client
        .start_subscription(
            "Audit.General",
            r#"{"webhook":{"address":"http://hook.example/"}}"#,
        )
        .await;
    assert_eq!(http.af(), "400 AF20021");
    let past = client
        .start_subscription(
            "Audit.General",
            r#"{"webhook":{"address":"https://hook.example/","expiration":"2020-01-01T00:00:00"}}"#,
        )
        .await;
    assert_eq!(past.af(), "400 AF20003");
}

#[tokio::test]
async fn the_rules_on_times_hold() {
    let client = Client::start(options()).await;
    client.start_subscription("Audit.Exchange", "").await;
    let now = client.simulator.clock().now();
    let ask = async |client: &Client, start: jiff::Timestamp, end: jiff::Timestamp| {
        let answer = client.get(&client.feed(&format!("subscriptions/content?contentType=Audit.Exchange&startTime={start:.3}&endTime={end:.3}"))).await;
        if answer.status == 200 {
            "200".to_owned()
        } else {
            answer.af()
        }
    };
    let hours = |hours| jiff::SignedDuration::from_hours(hours);
    assert_eq!(ask(&client, now - hours(24), now).await, "200");
    assert_eq!(ask(&client, now - hours(25), now).await, "400 AF20055");
    assert_eq!(ask(&client, now, now - hours(1)).await, "400 AF20055");
    assert_eq!(ask(&client, now, now).await, "400 AF20055");
    assert_eq!(
        ask(&client, now - hours(167), now - hours(166)).await,
        "200"
    );
    assert_eq!(
        ask(&client, now - hours(169), now - hours(168)).await,
        "400 AF20055"
    );
    assert_eq!(ask(&client, now - hours(1), now + hours(1)).await, "200");
    let half = client
        .get(&client.feed(&format!(
            "subscriptions/content?contentType=Audit.Exchange&startTime={now:.0}"
        )))
        .await;
    assert_eq!(half.af(), "400 AF20055");
    let word = client
        .get(&client.feed("subscriptions/content?contentType=Audit.Exchange&startTime=a&endTime=b"))
        .await;
    assert_eq!(word.af(), "400 AF20002");
    let neither = client
        .get(&client.feed("subscriptions/content?contentType=Audit.Exchange"))
        .await;
    assert_eq!(neither.status, 200);

    let older = Client::start(Options {
        strict_day: true,
        newer_time_code: false,
        ..options()
    })
    .await;
    older.start_subscription("Audit.Exchange", "").await;
    assert_eq!(ask(&older, now - hours(24), now).await, "400 AF20030");
}

#[tokio::test]
async fn a_window_is_half_open_to_the_millisecond() {
    let client = Client::start(options()).await;
    client.start_subscription("Audit.Exchange", "").await;
    let rows = client.list_all("Audit.Exchange").await;
    let created = |at: usize| rows[at]["contentCreated"].as_str().unwrap().to_owned();
    let url = client.feed(&format!(
        "subscriptions/content?contentType=Audit.Exchange&startTime={}&endTime={}",
        created(0),
        created(2)
    ));
    let listed = client.get(&url).await.json();
    assert_eq!(listed.as_array().unwrap().as_slice(), &rows[..2]);
}

#[tokio::test]
async fn pages_are_followed_by_their_header() {
    let client = Client::start(Options {
        page_size: 2,
        records: 3_000,
        ..options()
    })
    .await;
    client.start_subscription("Audit.Exchange", "").await;
    let rows = client.list_all("Audit.Exchange").await;
    assert!(rows.len() > 6);
    let ids: std::collections::HashSet<_> = rows
        .iter()
        .map(|row| row["contentId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), rows.len());
    let first = client
        .get(&client.feed("subscriptions/content?contentType=Audit.Exchange"))
        .await;
    let next = first.headers.get("NextPageUri").unwrap().to_str().unwrap();
    assert!(
        next.starts_with(&format!(
            "{}/api/v1/{}/activity/feed/subscriptions/content?",
            client.simulator.microsoft_origin(),
            client.tenant_id()
        )),
        "{next}"
    );
    assert!(!next.contains("PublisherIdentifier"));
    let forged = next.replace("nextPage=2.", "nextPage=4.");
    assert_ne!(forged, next);
    assert_eq!(client.get(&forged).await.af(), "400 AF20031");
}

#[tokio::test]
async fn a_blob_expires_seven_days_after_the_first_time_in_its_id() {
    let client = Client::start(options()).await;
    client.start_subscription("Audit.Exchange", "").await;
    let row = client.list_all("Audit.Exchange").await.remove(0);
    let uri = row["contentUri"].as_str().unwrap().to_owned();
    let id = row["contentId"].as_str().unwrap();
    let digits: String = row["contentExpiration"]
        .as_str()
        .unwrap()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let opened = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", &id[..14]).unwrap();
    let expires = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", &digits[..14]).unwrap();
    assert_eq!((expires - opened).get_days(), 7);
    assert_eq!(client.get(&uri).await.status, 200);
    assert_eq!(
        client.get(&format!("{uri}$emea0039")).await.status,
        200,
        "a notification's id has its region twice"
    );
    assert_eq!(client.get(&format!("{uri}x")).await.af(), "400 AF20050");
    assert_eq!(
        client.get(&client.feed("audit/rubbish")).await.af(),
        "400 AF20052"
    );
    client
        .simulator
        .clock()
        .advance(Duration::from_secs(7 * 86_400));
    let mut client = client;
    client.token = client.microsoft_token(0).await;
    assert_eq!(client.get(&uri).await.af(), "400 AF20051");
}

#[tokio::test]
async fn blobs_are_compressed_for_those_who_ask() {
    for prepare_blobs in [false, true] {
        let client = Client::start(Options {
            prepare_blobs,
            ..options()
        })
        .await;
        client.start_subscription("DLP.All", "").await;
        let row = client.list_all("DLP.All").await.remove(0);
        let uri = row["contentUri"].as_str().unwrap();
        let gzip = client.get(uri).await;
        assert_eq!(gzip.headers["content-encoding"], "gzip");
        let sent: usize = gzip.headers["content-length"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(sent * 3 < gzip.body.len(), "{sent} of {}", gzip.body.len());
        let plain = read(client.http.get(uri).bearer_auth(&client.token)).await;
        assert!(!plain.headers.contains_key("content-encoding"));
        assert_eq!(plain.body, gzip.body);
        assert_eq!(
            client.simulator.progress().blob_bytes,
            2 * plain.body.len() as u64
        );
    }
}

#[tokio::test]
async fn a_pool_of_requests_runs_dry_and_fills_again() {
    let client = Client::start(Options {
        requests_per_minute: Some(5),
        ..options()
    })
    .await;
    client.simulator.clock().set_speed(0.0);
    let list = client.feed("subscriptions/list");
    for _ in 0..5 {
        assert_eq!(client.get(&list).await.status, 200);
    }
    let answer = client.get(&list).await;
    assert_eq!(answer.af(), "403 AF429");
    assert!(
        answer.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains(client.tenant_id())
    );
    let without = list.split_once("?Publisher").unwrap().0.to_owned();
    assert_eq!(client.get(&without).await.status, 200, "another pool");
    assert_eq!(client.simulator.requests().without_publisher, 1);
    client.simulator.clock().advance(Duration::from_secs(12));
    assert_eq!(client.get(&list).await.status, 200);
    assert_eq!(client.get(&list).await.status, 403);
}

#[tokio::test]
async fn faults_meet_the_next_requests_of_their_kind() {
    let client = Client::start(options()).await;
    let fault = |action, count| Fault {
        kind: RequestKind::List,
        count,
        action,
    };
    client
        .simulator
        .inject(fault(FaultAction::Status { status: 500 }, 2));
    client
        .simulator
        .inject(fault(FaultAction::Throttled { status: 429 }, 1));
    client
        .simulator
        .inject(fault(FaultAction::Status { status: 401 }, 1));
    client.simulator.inject(fault(FaultAction::Hangup, 1));
    let list = client.feed("subscriptions/list");
    assert_eq!(client.get(&list).await.af(), "500 AF50000");
    assert_eq!(
        client.start_subscription("Audit.General", "").await.status,
        200,
        "another kind"
    );
    assert_eq!(client.get(&list).await.af(), "500 AF50000");
    assert_eq!(client.get(&list).await.af(), "429 AF429");
    assert!(client.get(&list).await.json()["Message"].is_string());
    assert!(
        client
            .http
            .get(&list)
            .bearer_auth(&client.token)
            .send()
            .await
            .is_err()
    );
    assert_eq!(client.get(&list).await.status, 200);
    assert_eq!(
        client
            .simulator
            .requests()
            .with_status(RequestKind::List, 500),
        2
    );
}

#[tokio::test]
async fn live_records_appear_as_time_passes() {
    let client = Client::start(Options {
        live_records_per_sec: Some(10.0),
        backlog_records: Some(200),
        ..options()
    })
    .await;
    client.simulator.clock().set_speed(0.0);
    let before = client.simulator.progress().records_published;
    assert!((200..350).contains(&before), "{before}");
    client.simulator.clock().advance(Duration::from_secs(40));
    let after = client.simulator.progress().records_published;
    assert!(
        (before + 250..=before + 400).contains(&after),
        "{before} {after}"
    );
    assert_eq!(client.collect().await.len() as u64, after);
    client.simulator.clock().advance(Duration::from_secs(3_000));
    assert_eq!(client.simulator.progress().records_published, 1_000);
}

#[tokio::test]
async fn sensitive_types_come_in_one_language() {
    let client = Client::start(options()).await;
    let ask = async |language: &str| {
        let url = client.feed("resources/dlpSensitiveTypes");
        read(
            client
                .http
                .get(url)
                .bearer_auth(&client.token)
                .header("accept-language", language),
        )
        .await
    };
    assert!(ask("en-US").await.json()[0]["name"].is_string());
    assert_eq!(ask("en-US, de").await.af(), "400 AF20053");
    assert_eq!(ask("en_US").await.af(), "400 AF20054");
}

#[tokio::test]
async fn each_content_type_and_tenant_has_its_share() {
    let options = Options {
        tenants: 3,
        records: 1_001,
        content_types: vec![ContentType::Exchange, ContentType::Dlp],
        ..options()
    };
    let client = Client::start(options).await;
    client.start_subscription("Audit.General", "").await;
    assert_eq!(client.list_all("Audit.General").await.len(), 0);
    assert_eq!(client.simulator.progress().records_total, 1_001);
    assert_eq!(client.collect().await.len(), 334);
}
