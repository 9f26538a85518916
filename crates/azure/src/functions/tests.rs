//! The documented envelopes, the odd ones that were seen, and hostile ones.

use std::time::Duration;

use super::*;

fn parse(value: &Value) -> Invocation {
    Invocation::parse(value.to_string().as_bytes()).unwrap()
}

#[test]
fn the_first_tick_of_a_timer_has_no_last_one() {
    let invocation = parse(&json!({
        "Data": {"timer": {
            "Schedule": {"AdjustForDST": true},
            "ScheduleStatus": {
                "Last": "0001-01-01T00:00:00",
                "Next": "2026-01-01T00:15:00+00:00",
                "LastUpdated": "2026-01-01T00:00:00.4038+00:00"
            },
            "IsPastDue": false
        }},
        "Metadata": {"sys": {"MethodName": "Master", "UtcNow": "2026-01-01T00:00:00.46239Z"}}
    }));
    assert_eq!(invocation.timer("timer"), Ok(Timer::default()));
}

#[test]
fn a_later_tick_tells_when_the_last_one_was() {
    for (written, meant) in [
        ("2026-01-01T00:15:00.25+01:00", "2025-12-31T23:15:00.25Z"),
        ("2026-01-01T00:15:00", "2026-01-01T00:15:00Z"),
        ("2026-01-01T00:15:00Z", "2026-01-01T00:15:00Z"),
    ] {
        let invocation = parse(
            &json!({"Data": {"timer": {"ScheduleStatus": {"Last": written}, "IsPastDue": true}}}),
        );
        let timer = invocation.timer("timer").unwrap();
        assert_eq!(timer.last, Some(meant.parse().unwrap()), "{written}");
        assert!(timer.is_past_due);
    }
}

#[test]
fn a_timer_that_nobody_watches_has_no_status() {
    for timer in [
        json!({"ScheduleStatus": null, "IsPastDue": false}),
        json!({"ScheduleStatus": {"Last": 5}, "IsPastDue": "no"}),
        json!(null),
        json!("{\"ScheduleStatus\":null}"),
        json!([1]),
    ] {
        let invocation = parse(&json!({"Data": {"timer": timer}, "Metadata": null}));
        assert_eq!(invocation.timer("timer"), Ok(Timer::default()));
    }
}

#[test]
fn a_queue_message_is_unwrapped_twice_or_once() {
    let text = r#"{"tenant":"bf8d32d3-1c13-4487-af02-80dba2236485","n":1}"#;
    let twice = json!(json!(text).to_string());
    let once = json!(text);
    let not_at_all: Value = serde_json::from_str(text).unwrap();
    for (form, data) in [("twice", twice), ("once", once), ("an object", not_at_all)] {
        let invocation = parse(&json!({"Data": {"message": data}, "Metadata": {}}));
        let message = invocation.queue_message("message").unwrap();
        let (read, meant): (Value, Value) = (
            serde_json::from_str(&message.text).unwrap(),
            serde_json::from_str(text).unwrap(),
        );
        assert_eq!(read, meant, "{form}");
    }
}

#[test]
fn a_queue_message_tells_how_often_it_came() {
    for (count, meant) in [
        (json!(3), Some(3)),
        (json!("3"), Some(3)),
        (json!("\"3\""), Some(3)),
        (json!(-1), None),
        (json!({}), None),
        (Value::Null, None),
    ] {
        let invocation =
            parse(&json!({"Data": {"message": "\"x\""}, "Metadata": {"DequeueCount": count}}));
        let message = invocation.queue_message("message").unwrap();
        assert_eq!(message.dequeue_count, meant);
        assert_eq!(message.text, "x");
    }
}

#[test]
fn a_wrapped_request_becomes_the_request_that_it_was() {
    let invocation = parse(&json!({"Data": {"req": {
        "Url": "https://app.azurewebsites.net/api/o365/webhook?a=b",
        "Method": "POST",
        "Query": {"a": "b"},
        "Headers": {"Webhook-AuthID": ["secret"], "Content-Type": "application/json", "Content-Length": ["999"],
                    "bad name": ["x"], "odd": [1, "two\nlines"]},
        "Params": {}, "Identities": [], "Body": "[{}]"
    }}}));
    let request = invocation.http_request("req").unwrap();
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.uri(), "/api/o365/webhook?a=b");
    assert_eq!(request.body().as_ref(), b"[{}]");
    let headers: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    assert_eq!(headers, ["content-type", "webhook-authid"]);
}

#[test]
fn what_is_no_invocation_is_refused_and_not_quoted() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for body in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"Data":[]}"#,
        r#"{"Data":"secret"}"#,
        "\u{0}",
        &deep,
    ] {
        assert_eq!(Invocation::parse(body.as_bytes()), Err(Error::Malformed));
    }
    assert_eq!(Invocation::parse(b"\xff\xfe"), Err(Error::Malformed));
    let invocation = parse(&json!({"Data": {"other": "secret"}}));
    let error = invocation.timer("timer").unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert_eq!(error, Error::NoBinding("timer".to_owned()));
    let odd = parse(&json!({"Data": {"req": {"Method": "P O", "Url": "https://host/"}}}));
    assert_eq!(
        odd.http_request("req").unwrap_err(),
        Error::Request("method")
    );
    let odd = parse(&json!({"Data": {"req": {"Method": "POST", "Url": "::: "}}}));
    assert_eq!(odd.http_request("req").unwrap_err(), Error::Request("url"));
}

#[test]
fn a_reply_is_never_empty() {
    assert_eq!(
        Reply::default().to_bytes(),
        r#"{"Logs":[],"Outputs":{},"ReturnValue":null}"#
    );
    let reply = Reply::default().logs(["one", "two"]).http(
        "res",
        StatusCode::OK,
        &http::HeaderMap::new(),
        b"{}",
    );
    let read: Value = serde_json::from_slice(&reply.to_bytes()).unwrap();
    assert_eq!(
        read,
        json!({"Outputs": {"res": {"statusCode": "200", "headers": {}, "body": "{}"}},
               "Logs": ["one", "two"], "ReturnValue": null})
    );
}

#[test]
fn a_time_limit_is_read_as_the_host_reads_it() {
    for (text, secs) in [
        ("00:10:00", 600),
        ("0:5:0", 300),
        ("23:59:59", 86_399),
        ("1.00:00:00", 86_400),
        ("00:00:30.5", 30),
        (" 00:10:00 ", 600),
    ] {
        let limit = TimeLimit::After(Duration::from_secs(secs));
        assert_eq!(text.parse(), Ok(limit), "{text}");
    }
    assert_eq!("-1".parse(), Ok(TimeLimit::Never));
    for text in [
        "",
        "10",
        "00:60:00",
        "24:00:00",
        "00:00:00",
        "+1:00:00",
        "a:b:c",
        "1:2:3:4",
        "-00:10:00",
    ] {
        assert_eq!(text.parse::<TimeLimit>(), Err(InvalidTimeout), "{text}");
    }
}

#[test]
fn host_json_may_say_nothing_of_a_limit() {
    let ten = TimeLimit::After(Duration::from_secs(600));
    for (text, limit) in [
        (
            r#"{"version":"2.0","functionTimeout":"00:10:00"}"#,
            Ok(Some(ten)),
        ),
        (r#"{"functionTimeout":-1}"#, Ok(Some(TimeLimit::Never))),
        (r#"{"version":"2.0"}"#, Ok(None)),
        (r#"{"functionTimeout":null}"#, Ok(None)),
        (r#"{"functionTimeout":"soon"}"#, Err(InvalidTimeout)),
        (r#"{"functionTimeout":10}"#, Err(InvalidTimeout)),
        ("no json", Ok(None)),
    ] {
        assert_eq!(read_host_json(text.as_bytes()), limit, "{text}");
    }
}
