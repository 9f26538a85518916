//! What people and monitoring look at: the status page and its JSON, health, readiness, metrics. Reads only.

use askama::Template;
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::{Html, IntoResponse, Response};
use http::{StatusCode, header};
use jiff::Timestamp;
use serde_json::json;

use super::WebState;
use super::reply::{Refusal, RequestId};
use crate::status::{
    CatchUpView, CheckinView, ForecastView, LatenessView, SinkStatus, SinkView, StatusView,
    TenantStatus, TroubleView, text,
};
use crate::telemetry::{self, chain};

/// The page, written without knowledge of anything but the [`StatusView`].
#[derive(Template)]
#[template(path = "status.html")]
struct StatusPage {
    view: StatusView,
}

pub(super) async fn status_page(
    State(web): State<WebState>,
    Extension(request_id): Extension<RequestId>,
) -> Response {
    let page = StatusPage {
        view: web.status().await,
    };
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%request_id, error = chain(&error), "the status page cannot be written");
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "page_failed",
                "the page cannot be written",
            )
            .reply(&request_id)
        }
    }
}

pub(super) async fn stylesheet() -> Response {
    (
        [(header::CONTENT_TYPE, "text/css; charset=utf-8")],
        include_str!("../../templates/style.css"),
    )
        .into_response()
}

pub(super) async fn status_json(State(web): State<WebState>) -> Response {
    Json(web.status().await).into_response()
}

/// Whether the process lives. Looks at nothing else: a host restarts what is not healthy, and no restart mends a sink.
pub(super) async fn healthz() -> Response {
    Json(json!({ "alive": true })).into_response()
}

/// Whether notifications and records can be taken: the ledger answers and takes writes, and the
/// pipeline runs.
pub(super) async fn readyz(State(web): State<WebState>) -> Response {
    let mut reasons = Vec::new();
    if !web.0.live.is_running() {
        reasons.push("the pipeline is not running".to_owned());
    }
    if let Some(what) = web.0.live.ledger_failure() {
        reasons.push(format!("the ledger fails: {what}"));
    }
    if let Err(error) = web.summary().await {
        reasons.push(format!("the ledger does not answer: {error}"));
    }
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(json!({ "ready": reasons.is_empty(), "reasons": reasons })),
    )
        .into_response()
}

/// All metrics. Answers without the ledger too: its gauges keep their last value, and its failures are counted.
pub(super) async fn metrics(State(web): State<WebState>) -> Response {
    if let Ok(summary) = web.summary().await {
        telemetry::ledger_state(&summary);
    }
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        web.0.telemetry.render(),
    )
        .into_response()
}

impl StatusPage {
    fn verdict(&self) -> &'static str {
        text::verdict(&self.view)
    }

    fn count(&self, count: &u64) -> String {
        text::count(*count)
    }

    fn bytes(&self, bytes: &u64) -> String {
        text::bytes(*bytes)
    }

    fn instant(&self, at: &Timestamp) -> String {
        text::instant(*at)
    }

    fn relative(&self, at: &Timestamp) -> String {
        text::relative(*at, self.view.taken_at)
    }

    fn trouble(&self, trouble: &TroubleView) -> String {
        text::trouble(trouble, self.view.taken_at)
    }

    fn forecast(&self, forecast: &ForecastView) -> String {
        forecast.sentence(self.view.taken_at)
    }

    fn catching_up(&self, catch_up: &CatchUpView) -> String {
        text::catching_up(catch_up)
    }

    fn lateness(&self, lateness: &LatenessView) -> String {
        lateness.sentence()
    }

    fn waiting_count(&self) -> String {
        text::count(self.view.totals.pending_count + self.view.totals.leased_count)
    }

    fn quarantined_count(&self) -> String {
        text::count(self.view.totals.quarantined_count + self.view.totals.quarantined_record_count)
    }

    fn records_per_second(&self) -> String {
        self.view.rates.as_ref().map_or_else(
            || "–".to_owned(),
            |rates| match rates.records_per_second {
                // Below ten a fraction tells something.
                rate if rate < 10.0 => format!("{rate:.1}"),
                rate => text::count(rate.round() as u64),
            },
        )
    }

    fn bytes_per_second(&self) -> String {
        self.view.rates.as_ref().map_or_else(String::new, |rates| {
            format!("{}/s", text::bytes(rates.bytes_per_second as u64))
        })
    }

    fn tenant_state(&self, state: &TenantStatus) -> &'static str {
        match state {
            TenantStatus::Collecting => "collecting",
            TenantStatus::Stopped => "stopped",
            TenantStatus::Unknown => "not configured",
        }
    }

    fn sink_state(&self, state: &SinkStatus) -> &'static str {
        match state {
            SinkStatus::Ok => "ok",
            SinkStatus::Failing => "failing",
            SinkStatus::Idle => "idle",
        }
    }

    fn checkin_state(&self, checkin: &CheckinView) -> &'static str {
        match text::checkin_state(checkin) {
            "ok" => "ok",
            "idle" => "idle",
            _ => "failing",
        }
    }

    /// What the sink fails of, while it does. What is over is in the JSON.
    fn failure<'a>(&self, sink: &'a SinkView) -> Option<&'a TroubleView> {
        sink.last_error
            .as_ref()
            .filter(|_| sink.state == SinkStatus::Failing)
    }

    /// The class that colors a cell: what is not zero there wants a person's eye.
    fn alarm(&self, count: &u64) -> &'static str {
        if *count > 0 { "alarm" } else { "" }
    }
}
