//! The status table, and what may follow from it.

use super::*;

fn now() -> Timestamp {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn reply(status: u16, headers: &[(&'static str, &str)]) -> Reply {
    let mut reply = Reply {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"secret body"),
    };
    for (name, value) in headers {
        reply.headers.insert(*name, value.parse().unwrap());
    }
    reply
}

#[test]
fn every_status_has_its_next_step() {
    let step = |status| {
        reply(status, &[])
            .check(now())
            .map_err(|error| error.next_step())
    };
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(step(status), Ok(()), "{status}");
    }
    for status in [401, 403] {
        assert_eq!(step(status), Err(NextStep::Reauthenticate), "{status}");
    }
    for status in [400, 413, 422] {
        assert_eq!(step(status), Err(NextStep::Split), "{status}");
    }
    for status in [408, 429, 500, 502, 503, 504, 599] {
        assert_eq!(step(status), Err(NextStep::RetryAfter(None)), "{status}");
    }
    for status in [301, 302, 307, 404, 405, 410, 415] {
        assert_eq!(step(status), Err(NextStep::Stop), "{status}");
    }
}

#[test]
fn retry_after_may_be_seconds_or_a_date_and_is_capped() {
    let wait = |text| match reply(429, &[("retry-after", text)]).check(now()) {
        Err(Error::Throttled { retry_after }) => retry_after,
        other => panic!("{other:?}"),
    };
    assert_eq!(wait("7"), Some(Duration::from_secs(7)));
    assert_eq!(
        wait("Mon, 23 Nov 2026 10:01:30 GMT"),
        Some(Duration::from_secs(90))
    );
    assert_eq!(wait("Mon, 23 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("99999999999"), Some(LONGEST_WAIT));
    assert_eq!(wait("Wed, 01 Jan 2200 00:00:00 GMT"), Some(LONGEST_WAIT));
    assert_eq!(wait("soon"), None);
    assert_eq!(wait("-5"), None);
}

#[test]
fn an_error_never_quotes_the_body() {
    for status in [300, 400, 401, 403, 404, 413, 422, 429, 500] {
        let error = reply(status, &[]).check(now()).unwrap_err();
        assert!(
            !format!("{error} {error:?}").contains("secret body"),
            "{status}"
        );
    }
    let error = reply(200, &[])
        .read_json::<u32>(now(), "no number")
        .unwrap_err();
    assert_eq!(error, Error::Malformed { what: "no number" });
}

#[test]
fn a_name_is_written_into_a_path_as_by_encode_uri_component() {
    assert_eq!(
        segment("plain-Name_1.~!*'()").to_string(),
        "plain-Name_1.~!*'()"
    );
    assert_eq!(
        segment("a b/c?d#e&f+é").to_string(),
        "a%20b%2Fc%3Fd%23e%26f%2B%C3%A9"
    );
}
