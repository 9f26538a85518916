//! Alert Logic's rules, each through the socket.

use std::time::Duration;

use serde_json::json;
use simulator::{AlertLogicOptions, Fault, FaultAction, Options, RequestKind};

use crate::client::{Client, bytes_field, deflate, fixed32_field, message, metadata, read};

fn options() -> Options {
    Options {
        seed: 6,
        records: 200,
        ..Options::default()
    }
}

#[tokio::test]
async fn a_wrong_key_gets_no_token_and_no_token_gets_nothing() {
    let client = Client::start(options()).await;
    let key = client.simulator.options().alertlogic.access_key_id.clone();
    assert_eq!(client.authenticate(&key, "wrong").await.status, 401);
    assert_eq!(client.post_logmsgs(b"").await.status, 401);
}

#[tokio::test]
async fn a_token_ends_after_six_simulated_hours() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let records = client.collect().await;
    client
        .simulator
        .clock()
        .advance(Duration::from_secs(6 * 3_600));
    assert_eq!(
        client.post_logmsgs(&client.batch(&records)).await.status,
        401
    );
    assert!(
        client.simulator.verdict().sinks.is_empty(),
        "nothing was taken"
    );
    client.register().await;
    assert_eq!(
        client.post_logmsgs(&client.batch(&records)).await.status,
        200
    );
    assert!(client.simulator.verdict().is_clean());
}

#[tokio::test]
async fn a_user_has_five_access_keys_at_most() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let options = client.simulator.options().alertlogic.clone();
    let keys = format!(
        "{}/aims/v1/{}/users/{}/access_keys",
        client.simulator.alertlogic_origin(),
        options.account_id,
        options.user_id
    );
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(client.alertlogic(client.http.post(&keys)).await.json());
    }
    let sixth = client.alertlogic(client.http.post(&keys)).await;
    assert_eq!(
        (sixth.status, sixth.json()["error"].as_str()),
        (400, Some("limit exceeded"))
    );
    assert_eq!(
        client.alertlogic(client.http.get(&keys)).await.json()["access_keys"]
            .as_array()
            .unwrap()
            .len(),
        5
    );
    let (id, secret) = (
        made[0]["access_key_id"].as_str().unwrap(),
        made[0]["secret_key"].as_str().unwrap(),
    );
    assert_eq!(client.authenticate(id, secret).await.status, 200);
    assert_eq!(
        client
            .alertlogic(client.http.delete(format!("{keys}/{id}")))
            .await
            .status,
        204
    );
    assert_eq!(client.authenticate(id, secret).await.status, 401);
    assert_eq!(client.alertlogic(client.http.post(&keys)).await.status, 200);
    let roles = client
        .alertlogic(client.http.get(keys.replace("access_keys", "roles")))
        .await;
    assert_eq!(roles.json()["roles"][0]["name"], "Administrator");
}

#[tokio::test]
async fn endpoints_name_this_host() {
    let mut client = Client::start(Options {
        tls: true,
        ..options()
    })
    .await;
    client.register().await;
    let origin = client.simulator.alertlogic_origin();
    let account = client.simulator.options().alertlogic.account_id.clone();
    let url = |residency: &str, service: &str| {
        format!("{origin}/endpoints/v1/{account}/residency/{residency}/services/{service}/endpoint")
    };
    let name = client
        .alertlogic(client.http.get(url("default", "ingest")))
        .await
        .json();
    assert_eq!(
        format!("https://{}", name["ingest"].as_str().unwrap()),
        origin
    );
    assert_eq!(
        client
            .alertlogic(client.http.get(url("default", "other")))
            .await
            .status,
        404
    );
    assert_eq!(
        client
            .alertlogic(client.http.get(url("us", "ingest")))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_collector_registers_checks_in_and_leaves() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let first = (client.source_id.clone(), client.host_id.clone());
    client.register().await;
    assert_eq!(
        (client.source_id.clone(), client.host_id.clone()),
        first,
        "a repeat is no second collector"
    );
    let base = format!(
        "{}/azcollect/v1/{}/azure/o365",
        client.simulator.alertlogic_origin(),
        client.simulator.options().alertlogic.account_id
    );
    let mut body = json!({"version": "1", "app_tenant_id": client.tenant_id(), "host_id": client.host_id, "source_id": client.source_id,
        "status": "ok", "details": [], "statistics": []});
    let check_in = client.http.post(format!("{base}/checkin/sub/group/app"));
    let answer = client
        .alertlogic(check_in.try_clone().unwrap().body(body.to_string()))
        .await;
    assert_eq!(answer.status, 200);
    let deflated = check_in
        .try_clone()
        .unwrap()
        .header("content-encoding", "deflate")
        .body(deflate(body.to_string().as_bytes()));
    assert_eq!(client.alertlogic(deflated).await.status, 200);
    assert_eq!(
        client.simulator.check_ins()[&client.source_id]["status"],
        "ok"
    );
    body["status"] = "error".into();
    assert_eq!(
        client
            .alertlogic(check_in.try_clone().unwrap().body(body.to_string()))
            .await
            .status,
        400
    );
    let leave = client
        .http
        .delete(format!("{base}/sub/group/app"))
        .body(body.to_string());
    assert_eq!(client.alertlogic(leave).await.status, 200);
    assert_eq!(
        client
            .alertlogic(check_in.body(body.to_string()))
            .await
            .status,
        404
    );
    assert_eq!(client.simulator.requests().of(RequestKind::CheckIn), 4);
}

#[tokio::test]
async fn a_post_that_is_not_as_it_must_be_is_refused_whole() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let record = client.collect().await.remove(0);
    let good = client.batch(std::slice::from_ref(&record));
    let with = |source: &str, metadata: &[u8], message: &[u8]| {
        bytes_field(
            1,
            &[
                bytes_field(1, source.as_bytes()),
                bytes_field(2, metadata),
                bytes_field(3, message),
            ]
            .concat(),
        )
    };
    let right = metadata(&client.host_id);
    let mut wrong_sum = right.clone();
    wrong_sum[45] ^= 1;
    let mut trailing = deflate(&good);
    trailing.push(0);
    let cases = [
        ("not zlib", good.clone()),
        ("bytes after the end", trailing),
        (
            "not a collected_batch_list",
            deflate(&good[..good.len() - 1]),
        ),
        ("no batch", deflate(b"")),
        (
            "not registered",
            deflate(&with("someone", &right, &message(&record))),
        ),
        (
            "registered host",
            deflate(&with(
                &client.source_id,
                &metadata("other"),
                &message(&record),
            )),
        ),
        (
            "data_checksum",
            deflate(&with(&client.source_id, &wrong_sum, &message(&record))),
        ),
        (
            "without message_ts",
            deflate(&with(
                &client.source_id,
                &right,
                &bytes_field(6, record.as_bytes()),
            )),
        ),
        (
            "does not have",
            deflate(&[good.clone(), bytes_field(9, b"x")].concat()),
        ),
    ];
    let count = cases.len() as u64;
    for (reason, body) in cases {
        let answer = client.post_deflated(body).await;
        assert_eq!(answer.status, 400, "{reason}");
        let text = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(text.contains(reason), "{reason}: {text}");
    }
    let account = client.simulator.options().alertlogic.account_id.clone();
    let url = format!(
        "{}/ingest/v1/{account}/data/logmsgs",
        client.simulator.alertlogic_origin()
    );
    assert_eq!(
        client
            .alertlogic(client.http.post(url).body(deflate(&good)))
            .await
            .status,
        400,
        "without its headers"
    );
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("alertlogic").unwrap();
    assert_eq!(sink.fault_count, count + 1);
    assert_eq!(sink.delivered_once, 0);
}

#[tokio::test]
async fn a_wrong_time_or_type_is_a_fault_in_the_verdict() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let records = client.collect().await;
    let mut wrong = message(&records[0]);
    wrong[1] ^= 1;
    let with_fraction = [message(&records[1]), fixed32_field(9, 5)].concat();
    let mut batch = [
        bytes_field(1, client.source_id.as_bytes()),
        bytes_field(2, &metadata(&client.host_id)),
    ]
    .concat();
    batch.extend(bytes_field(3, &wrong));
    batch.extend(bytes_field(3, &with_fraction));
    assert_eq!(
        client.post_logmsgs(&bytes_field(1, &batch)).await.status,
        200
    );
    let verdict = client.simulator.verdict();
    let sink = verdict.sink("alertlogic").unwrap();
    assert_eq!(sink.delivered_once, 2);
    assert_eq!(sink.fault_count, 2);
    assert!(
        sink.faults[0].starts_with("message_ts of "),
        "{:?}",
        sink.faults
    );
    assert!(
        sink.faults[1].starts_with("message_ts_us of "),
        "{:?}",
        sink.faults
    );
}

#[tokio::test]
async fn a_body_over_the_limit_or_met_by_a_fault_is_not_taken() {
    let small = AlertLogicOptions {
        max_body_bytes: 2_000,
        ..AlertLogicOptions::default()
    };
    let mut client = Client::start(Options {
        alertlogic: small,
        ..options()
    })
    .await;
    client.register().await;
    let records = client.collect().await;
    assert_eq!(
        client.post_logmsgs(&client.batch(&records)).await.status,
        413
    );
    client.simulator.inject(Fault {
        kind: RequestKind::Logmsgs,
        count: 1,
        action: FaultAction::Status { status: 503 },
    });
    assert_eq!(
        client
            .post_logmsgs(&client.batch(&records[..1]))
            .await
            .status,
        503
    );
    assert!(client.simulator.verdict().sinks.is_empty());
    assert_eq!(
        client
            .post_logmsgs(&client.batch(&records[..1]))
            .await
            .status,
        200
    );
    let verdict = client.simulator.verdict();
    assert_eq!(verdict.sink("alertlogic").unwrap().delivered_once, 1);
    assert!(verdict.sink("alertlogic").unwrap().is_clean_so_far());
}

#[tokio::test]
async fn accepted_posts_are_kept_for_another_decoder() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(Options {
        capture_ingest: Some(folder.path().to_owned()),
        capture_limit: 1,
        ..options()
    })
    .await;
    client.register().await;
    let records = client.collect().await;
    let body = deflate(&client.batch(&records[..3]));
    assert_eq!(client.post_deflated(b"rubbish".to_vec()).await.status, 400);
    assert_eq!(client.post_deflated(body.clone()).await.status, 200);
    assert_eq!(client.post_deflated(body.clone()).await.status, 200);
    assert_eq!(
        std::fs::read(folder.path().join("0001.body")).unwrap(),
        body
    );
    let about: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("0001.json")).unwrap()).unwrap();
    assert_eq!(about["headers"]["x-invoked-by"], "azure_function");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn statistics_are_plain_json_under_a_deflate_header() {
    let mut client = Client::start(options()).await;
    client.register().await;
    let account = client.simulator.options().alertlogic.account_id.clone();
    let url = format!(
        "{}/ingest/v1/{account}/data/lmcstats",
        client.simulator.alertlogic_origin()
    );
    let row = json!([{"inst_type": "collector", "appliance_id": "", "source_type": "o365", "source_id": client.source_id, "host_id": client.host_id,
        "event_count": 3, "byte_count": 4000, "application_id": "", "timestamp": 1_784_145_799}]);
    let post = client
        .http
        .post(url)
        .header("content-type", "alertlogic.com/json")
        .header("content-encoding", "deflate");
    assert_eq!(
        client
            .alertlogic(post.try_clone().unwrap().body(row.to_string()))
            .await
            .status,
        200
    );
    assert!(client.simulator.verdict().sinks.is_empty());
    assert_eq!(client.alertlogic(post.body("{}")).await.status, 400);
}

#[tokio::test]
async fn a_bearer_token_at_a_strangers_or_at_alert_logic_is_counted() {
    let client = Client::start(options()).await;
    for origin in [
        client.simulator.stranger_origin(),
        client.simulator.alertlogic_origin(),
    ] {
        assert_eq!(
            read(
                client
                    .http
                    .get(format!("{origin}/x"))
                    .bearer_auth(&client.token)
            )
            .await
            .status,
            404
        );
    }
    read(client.http.get(client.simulator.stranger_origin())).await;
    let requests = client.simulator.requests();
    assert_eq!(
        (requests.leaked_tokens, requests.of(RequestKind::Stranger)),
        (2, 2)
    );
}

#[tokio::test]
async fn a_user_logs_in_with_a_password_and_a_second_factor() {
    let mut options = options();
    options.alertlogic.mfa_code = Some("123456".to_owned());
    options.alertlogic.roles = vec!["Read Only".to_owned()];
    let client = Client::start(options).await;
    let login = client.simulator.options().alertlogic.clone();
    let url = format!(
        "{}/aims/v1/authenticate",
        client.simulator.alertlogic_origin()
    );
    let with = async |body: &'static str| {
        let request = client
            .http
            .post(&url)
            .basic_auth(&login.user_name, Some(&login.user_password));
        read(request.body(body)).await
    };
    for (body, error) in [
        ("", "mfa_code_required"),
        ("{}", "mfa_code_required"),
        (r#"{"mfa_code":"654321"}"#, "unauthorized"),
    ] {
        let refused = with(body).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]),
            (401, &json!(error)),
            "{body}"
        );
    }
    let answer = with(r#"{"mfa_code":"123456"}"#).await.json();
    assert_eq!(answer["authentication"]["account"]["id"], login.account_id);
    let token = answer["authentication"]["token"].as_str().unwrap();
    let base = format!(
        "{}/aims/v1/{}/users/{}",
        client.simulator.alertlogic_origin(),
        login.account_id,
        login.user_id
    );
    let ask = async |request: reqwest::RequestBuilder| {
        read(request.header("x-aims-auth-token", token)).await
    };
    let roles = ask(client.http.get(format!("{base}/roles"))).await;
    assert_eq!(roles.json()["roles"][0]["name"], "Read Only");
    let keys = format!("{base}/access_keys");
    assert_eq!(ask(client.http.post(&keys)).await.status, 403);
    assert_eq!(ask(client.http.get(&keys)).await.status, 200);
    // An access key needs no second factor.
    let key = client
        .authenticate(&login.access_key_id, &login.secret_key)
        .await;
    assert_eq!(key.status, 200);
}

#[tokio::test]
async fn the_transcript_tells_each_request_of_the_control_plane_and_no_secret() {
    let mut client = Client::start(options()).await;
    client.register().await;
    client.simulator.force_update_at_next_check_in();
    let (account_id, secret_key) = {
        let options = &client.simulator.options().alertlogic;
        (options.account_id.clone(), options.secret_key.clone())
    };
    let check_in = json!({"version": "1", "app_tenant_id": client.tenant_id(), "host_id": client.host_id, "source_id": client.source_id,
        "status": "ok", "details": [], "statistics": []});
    for force_update in [true, false] {
        let request = client
            .http
            .post(format!(
                "{}/azcollect/v1/{account_id}/azure/o365/checkin/sub/group/app?a=b",
                client.simulator.alertlogic_origin()
            ))
            .header("content-encoding", "deflate")
            .body(deflate(check_in.to_string().as_bytes()));
        let answer = client.alertlogic(request).await;
        assert_eq!(answer.json()["force_update"], force_update);
    }
    let transcript = client.simulator.transcript();
    let kinds: Vec<RequestKind> = transcript.iter().map(|exchange| exchange.kind).collect();
    assert_eq!(
        kinds,
        [
            RequestKind::Token,
            RequestKind::Authenticate,
            RequestKind::Register,
            RequestKind::CheckIn,
            RequestKind::CheckIn
        ]
    );
    let [token, authenticate, register, first, _] = transcript.as_slice() else {
        panic!("{transcript:#?}");
    };
    let form = token.body.as_str().unwrap();
    assert!(form.contains("client_secret=<client secret>"), "{form}");
    assert_eq!(
        authenticate.header("authorization"),
        Some("<basic: access key>")
    );
    assert_eq!(register.header("x-aims-auth-token"), Some("<aims token>"));
    assert_eq!(
        (first.service, first.method.as_str(), first.status),
        ("alertlogic", "POST", 200)
    );
    assert!(first.target.ends_with("/checkin/sub/group/app?a=b"));
    assert!(first.path().ends_with("/checkin/sub/group/app"));
    assert_eq!(first.body, check_in);
    let url = format!(
        "{}/_simulator/transcript",
        client.simulator.microsoft_origin()
    );
    let served = String::from_utf8(read(client.http.get(&url)).await.body).unwrap();
    for secret in [
        &client.simulator.tenants()[0].client_secret,
        &secret_key,
        &client.token,
        &client.aims_token,
    ] {
        assert!(!served.contains(secret.as_str()));
        assert!(!format!("{transcript:?}").contains(secret.as_str()));
    }
    assert_eq!(read(client.http.delete(&url)).await.status, 200);
    assert!(client.simulator.transcript().is_empty());
}
