//! Tests of the pages: what they show, and what every answer carries.

use std::collections::HashSet;

use super::*;
use crate::status::CheckinView;

const PAGES: [&str; 6] = [
    "/",
    "/style.css",
    "/api/status",
    "/healthz",
    "/readyz",
    "/metrics",
];

#[tokio::test]
async fn every_answer_has_an_id_and_headers_that_keep_a_browser_from_guessing() {
    let door = Door::open();
    let mut ids = HashSet::new();
    for path in PAGES.into_iter().chain(["/nothing/here", WEBHOOK_PATH]) {
        let answer = door.get(path).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(
            answer.headers["x-content-type-options"], "nosniff",
            "{path}"
        );
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'self'"),
            "{path}"
        );
        assert!(
            ids.insert(answer.headers["x-request-id"].to_str().unwrap().to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_error_is_json_and_names_the_request() {
    let door = Door::open();
    let answer = door.get("/nothing/here").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], "not_found");
    assert_eq!(
        body["error"]["request_id"],
        answer.headers["x-request-id"].to_str().unwrap()
    );
}

#[tokio::test]
async fn pages_answer_head_and_no_writing_method() {
    let door = Door::open();
    door.live.running();
    for path in PAGES {
        let head = door
            .send(Request::head(path).body(Body::empty()).unwrap())
            .await;
        assert_eq!(
            (head.status, head.body.as_str()),
            (StatusCode::OK, ""),
            "{path}"
        );
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap();
            let answer = door.send(request).await;
            assert_eq!(
                answer.status,
                StatusCode::METHOD_NOT_ALLOWED,
                "{method} {path}"
            );
            assert_eq!(answer.headers["allow"], "GET,HEAD", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_process_is_healthy_whatever_else_fails() {
    let door = Door::with_failing_ledger();
    assert_eq!(door.get("/healthz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_needs_a_running_pipeline_and_a_ledger_that_answers() {
    let door = Door::open();
    let answer = door.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.body,
        r#"{"ready":false,"reasons":["the pipeline is not running"]}"#
    );

    door.live.running();
    assert_eq!(door.get("/readyz").await.status, StatusCode::OK);

    *door.state.0.summary.lock().await = Some(Counted {
        summary: Err("no room".into()),
        at: Instant::now(),
    });
    let answer = door.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.body,
        r#"{"ready":false,"reasons":["the ledger does not answer: no room"]}"#
    );

    door.live.stopping();
    assert_eq!(door.get("/readyz").await.body.matches("not").count(), 2);
}

#[tokio::test]
async fn nothing_is_ready_while_the_ledger_takes_no_writes() {
    let door = Door::open();
    door.live.running();
    door.live
        .ledger_failed("no room left for the ledger", now());
    let answer = door.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        answer.body,
        r#"{"ready":false,"reasons":["the ledger fails: no room left for the ledger"]}"#
    );
    door.live.ledger_ok();
    assert_eq!(door.get("/readyz").await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_status_page_needs_nothing_from_outside_and_runs_no_script() {
    let door = Door::open();
    let page = door.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    for absent in ["<script", "http:", "https:", "style=\"", "onload", "<img"] {
        assert!(!page.body.contains(absent), "{absent}");
    }
    assert!(page.body.contains(TENANT));
    assert!(page.body.contains("Audit.Exchange"));
    assert!(page.body.contains(r#"http-equiv="refresh""#));
    let style = door.get("/style.css").await;
    assert_eq!(style.headers["content-type"], "text/css; charset=utf-8");
    assert!(!style.body.contains("url(") && !style.body.contains("@import"));
}

#[tokio::test]
async fn the_status_page_says_how_the_update_stands() {
    let door = Door::open();
    assert!(!door.get("/").await.body.contains("<h2>Update</h2>"));
    let state = serde_json::json!({
        "situation": "0.2.0 was taken back: it was not healthy",
        "is_trouble": true,
        "events": [{"at": "2026-07-15T20:50:00Z", "what": "0.2.0: the previous package is back"}],
    });
    let state = state.to_string();
    door.ledger.remember("update/state", &state).await.unwrap();
    let page = door.get("/").await.body;
    let section = page.split("<h2>Update</h2>").nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    for part in [
        r#"<p class="alarm">0.2.0 was taken back: it was not healthy</p>"#,
        r#"<th scope="row">2026-07-15 20:50:00Z</th><td class="text">0.2.0: the previous package is back</td>"#,
    ] {
        assert!(section.contains(part), "{section}");
    }
    // Nothing to be alarmed of.
    let state = state.replace("true", "false");
    door.ledger.remember("update/state", &state).await.unwrap();
    let page = door.get("/").await.body;
    assert!(page.contains("<p>0.2.0 was taken back: it was not healthy</p>"));
}

#[tokio::test]
async fn the_status_page_shows_the_check_ins() {
    let door = Door::open();
    let heading = "<h2>Check-ins with Alert Logic</h2>";
    assert!(!door.get("/").await.body.contains(heading));
    let taken = CheckinView {
        sink: "alertlogic".to_owned(),
        tenant: TENANT.to_owned(),
        source_id: Some("source-id".to_owned()),
        taken_at: Some("2026-07-15T20:57:00Z".parse().unwrap()),
        tried_at: Some("2026-07-15T20:57:00Z".parse().unwrap()),
        error: None,
        error_code: None,
        details: Vec::new(),
    };
    door.live.checked_in(taken.clone());
    door.live.checked_in(CheckinView {
        tenant: OTHER_TENANT.to_owned(),
        source_id: None,
        taken_at: None,
        error: Some("no answer".to_owned()),
        ..taken
    });
    let page = door.get("/").await.body;
    let section = page.split(heading).nth(1).unwrap();
    let section = section.split("</section>").next().unwrap();
    for (tenant, parts) in [
        (
            TENANT,
            [
                r#"class="state ok">ok<"#,
                "<code>source-id</code>",
                "<td>3 min ago</td>",
            ],
        ),
        (
            OTHER_TENANT,
            [
                r#"class="state failing">failing<"#,
                ">not registered<",
                "<td>–</td>",
            ],
        ),
    ] {
        let mut rows = section.split("<tr>");
        let row = rows.find(|row| row.contains(tenant)).unwrap();
        assert!(
            row.starts_with(r#"<th scope="row">alertlogic</th>"#),
            "{row}"
        );
        for part in parts {
            assert!(row.contains(part), "{part}: {row}");
        }
    }
}

#[tokio::test]
async fn what_a_server_said_cannot_become_markup() {
    let door = Door::open();
    let sink = "file".parse().unwrap();
    door.live
        .sink_failing(&sink, 0, "<script>alert(1)</script>", None, now());
    door.live
        .tenant_stopped(TENANT.parse().unwrap(), "<img src=x>", None, now());
    let page = door.get("/").await.body;
    assert!(!page.contains("<script") && !page.contains("<img"));
    assert!(page.contains("&#60;script&#62;alert(1)"), "{page}");
}

#[tokio::test]
async fn the_page_and_its_json_say_so_when_the_ledger_does_not_answer() {
    let door = Door::open();
    *door.state.0.summary.lock().await = Some(Counted {
        summary: Err("no room".into()),
        at: Instant::now(),
    });
    let page = door.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("the ledger does not answer: no room"));
    let json: serde_json::Value =
        serde_json::from_str(&door.get("/api/status").await.body).unwrap();
    assert_eq!(
        json["ledger"],
        serde_json::json!({ "is_answering": false, "error": "no room", "failing": null })
    );
    assert_eq!(json["taken_at"], NOW);
    assert_eq!(
        json["tenants"][0]["streams"][1]["content_type"],
        "Audit.Exchange"
    );
}

#[tokio::test]
async fn metrics_are_in_the_text_format_and_say_what_they_are() {
    let door = Door::open();
    door.notify("junk").await;
    let answer = door.get("/metrics").await;
    assert_eq!(
        answer.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        answer.body.contains(&format!(
            "o365_collector_build_info{{version=\"{version}\"}} 1\n"
        )),
        "{}",
        answer.body
    );
    assert!(answer.body.contains(
        "# HELP o365_collector_webhook_notifications_total Requests to the webhook address"
    ));
    assert!(
        answer
            .body
            .contains("o365_collector_webhook_notifications_total{outcome=\"malformed\"}")
    );
}
