//! Listings as the scripted Microsoft answers them, and what was asked of it.

use std::time::Duration;

use activity_api::Window;
use jiff::Timestamp;

use crate::testing::{Answer, Scene, TENANT, blob_uri, start, tenant};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// A listing's entry of one blob, created an hour before the scene began.
pub(super) fn entry(name: &str) -> String {
    entry_of(name, start() - HOUR)
}

pub(super) fn entry_of(name: &str, created_at: Timestamp) -> String {
    let (uri, expires_at) = (blob_uri(tenant(), name), created_at + 7 * DAY);
    format!(
        r#"{{"contentType":"Audit.Exchange","contentId":"{name}","contentUri":"{uri}","contentCreated":"{created_at}","contentExpiration":"{expires_at}"}}"#
    )
}

pub(super) fn page(names: &[&str]) -> Answer {
    page_of(names.iter().map(|name| entry(name)))
}

pub(super) fn page_of(entries: impl IntoIterator<Item = String>) -> Answer {
    let entries: Vec<_> = entries.into_iter().collect();
    Answer::ok(format!("[{}]", entries.join(",")))
}

pub(super) fn page_before(names: &[&str], next: &str) -> Answer {
    page(names).header("NextPageUri", page_uri(next))
}

pub(super) fn page_uri(next: &str) -> String {
    format!(
        "https://manage.office.com/api/v1.0/{TENANT}/activity/feed/subscriptions/content?contentType=Audit.Exchange&nextPage={next}"
    )
}

/// The scene's time in whole seconds: the budget takes up to a millisecond a request.
pub(super) fn now(scene: &Scene) -> Timestamp {
    Timestamp::from_second(scene.now().as_second()).unwrap()
}

/// The windows that were asked for, in order.
pub(super) fn asked(scene: &Scene) -> Vec<Window> {
    let parameter = |request: &http::Request<bytes::Bytes>, wanted: &str| {
        let uri: url::Url = request.uri().to_string().parse().unwrap();
        let value = uri.query_pairs().find(|(name, _)| name == wanted);
        value.map(|(_, value)| {
            let text = value.trim_end_matches('Z');
            format!("{text}Z").parse::<Timestamp>().unwrap()
        })
    };
    scene
        .microsoft
        .sent_of("content")
        .iter()
        .filter_map(|request| {
            let (from, to) = (
                parameter(request, "startTime")?,
                parameter(request, "endTime")?,
            );
            Some(Window::new(from, to).unwrap())
        })
        .collect()
}

/// The same as text: `08:00-09:00`, of whatever day.
pub(super) fn asked_hours(scene: &Scene) -> Vec<String> {
    let time = |at: Timestamp| at.to_string()[11..16].to_owned();
    asked(scene)
        .iter()
        .map(|window| format!("{}-{}", time(window.start()), time(window.end())))
        .collect()
}
