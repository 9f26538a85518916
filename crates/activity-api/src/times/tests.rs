//! Tests of reading and writing times.

use http::HeaderValue;

use super::*;

#[test]
fn a_time_without_a_zone_is_utc() {
    for text in [
        "2020-02-17T17:12:03",
        "2020-02-17T17:12:03Z",
        "2020-02-17T17:12:03.000Z",
        "2020-02-17T17:12:03.0000000Z",
        "2020-02-17T18:12:03+01:00",
        " 2020-02-17T17:12:03 ",
    ] {
        let time = parse_time(text).unwrap();
        assert_eq!(time.to_string(), "2020-02-17T17:12:03Z", "{text}");
    }
}

#[test]
fn what_is_no_time_gives_none() {
    for text in [
        "",
        "null",
        "yesterday",
        "2020-02-30T00:00:00",
        "99999-01-01T00:00:00Z",
        "17:12:03",
    ] {
        assert_eq!(parse_time(text), None, "{text}");
    }
}

#[test]
fn a_written_time_has_milliseconds_and_is_read_back() {
    let time: Timestamp = "2026-03-01T08:40:11.902Z".parse().unwrap();
    assert_eq!(write_time(time), "2026-03-01T08:40:11.902Z");
    let whole: Timestamp = "2026-03-01T08:40:11Z".parse().unwrap();
    assert_eq!(write_time(whole), "2026-03-01T08:40:11.000Z");
    assert_eq!(parse_time(&write_time(whole)), Some(whole));
}

fn retry_after(date: Option<&'static str>, retry_after: &'static str) -> Option<u64> {
    let mut headers = HeaderMap::new();
    if let Some(date) = date {
        headers.insert(header::DATE, HeaderValue::from_static(date));
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static(retry_after));
    read_retry_after(&headers).map(|wait| wait.as_secs())
}

#[test]
fn a_wait_is_read_in_seconds_or_as_a_date_by_the_servers_clock() {
    let date = Some("Sun, 01 Mar 2026 08:40:11 GMT");
    assert_eq!(retry_after(None, "120"), Some(120));
    assert_eq!(retry_after(None, " 0 "), Some(0));
    assert_eq!(
        retry_after(date, "Sun, 01 Mar 2026 08:42:11 GMT"),
        Some(120)
    );
    assert_eq!(retry_after(date, "Sun, 01 Mar 2026 08:00:00 GMT"), Some(0));
    assert_eq!(retry_after(None, "Sun, 01 Mar 2026 08:42:11 GMT"), None);
}

#[test]
fn a_wait_is_at_most_an_hour_and_nonsense_is_none() {
    assert_eq!(retry_after(None, "86400"), Some(3600));
    assert_eq!(retry_after(None, "99999999999999999999999999"), Some(3600));
    let date = Some("Sun, 01 Mar 2026 08:40:11 GMT");
    assert_eq!(
        retry_after(date, "Sun, 01 Mar 2037 08:42:11 GMT"),
        Some(3600)
    );
    for nonsense in ["", "-5", "soon", "1.5", "+5"] {
        assert_eq!(retry_after(date, nonsense), None, "{nonsense}");
    }
    assert_eq!(read_retry_after(&HeaderMap::new()), None);
}
