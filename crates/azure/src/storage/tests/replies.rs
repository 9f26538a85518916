//! What the services answer.

use bytes::Bytes;
use http::Response;

use crate::storage::batch;
use crate::storage::entity::Value;
use crate::storage::{Error, blobs, queues, tables};

fn reply(status: u16, body: &str) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .body(Bytes::from(body.to_owned()))
        .unwrap()
}

fn refusal(status: u16, code: &str) -> Response<Bytes> {
    reply(
        status,
        &format!(
            r#"{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"words"}}}}}}"#
        ),
    )
}

#[test]
fn refusals_are_known_by_what_they_mean() {
    let meaning = |status, code| tables::read_written(&refusal(status, code)).unwrap_err();
    assert_eq!(meaning(409, "EntityAlreadyExists"), Error::AlreadyExists);
    assert_eq!(meaning(412, "UpdateConditionNotSatisfied"), Error::Changed);
    assert_eq!(meaning(404, "ResourceNotFound"), Error::NotFound);
    assert_eq!(meaning(404, "TableNotFound"), Error::NoTable);
    assert!(matches!(meaning(503, "ServerBusy"), Error::Busy { .. }));
    assert!(matches!(
        meaning(500, "OperationTimedOut"),
        Error::Busy { .. }
    ));
    assert!(matches!(meaning(429, ""), Error::Busy { .. }));
    assert!(matches!(
        meaning(409, "TableBeingDeleted"),
        Error::Busy { .. }
    ));
    assert!(matches!(
        meaning(403, "AuthenticationFailed"),
        Error::NotAuthorized { status: 403, .. }
    ));
    assert!(matches!(
        meaning(400, "EntityTooLarge"),
        Error::TooLarge { .. }
    ));
    assert!(matches!(
        meaning(400, "InvalidInput"),
        Error::Refused { .. }
    ));
    let text = meaning(400, "Invalid\\nInput").to_string();
    assert!(text.ends_with("no code)"), "{text}");
}

#[test]
fn queues_and_blobs_refuse_in_xml_or_in_a_header() {
    let xml = "\u{feff}<?xml version=\"1.0\"?><Error><Code>QueueNotFound</Code><Message>x</Message></Error>";
    assert_eq!(queues::read_count(&reply(404, xml)), Err(Error::NoQueue));
    let header = Response::builder()
        .status(404)
        .header("x-ms-error-code", "ContainerNotFound")
        .body(Bytes::new())
        .unwrap();
    assert_eq!(blobs::read_done(&header), Err(Error::NoContainer));
    assert_eq!(blobs::read(&header), Ok(None));
}

#[test]
fn entities_come_back_with_their_values() {
    let row = r#"{"odata.metadata":"m","odata.etag":"W/\"x\"","PartitionKey":"p","RowKey":"r","Timestamp":"2025-10-09T08:53:20Z",
        "Text":"t","Number":"-5","Number@odata.type":"Edm.Int64","Small":7,"Is":false,"Bytes":"AP8=","Bytes@odata.type":"Edm.Binary",
        "Later":1.5,"At":"2025-10-09T08:53:20Z","At@odata.type":"Edm.DateTime"}"#;
    let stored = tables::read_entity(&reply(200, row)).unwrap().unwrap();
    assert_eq!(stored.etag, "W/\"x\"");
    let entity = stored.entity;
    assert_eq!(entity.text("Text"), Some("t"));
    assert_eq!(entity.int64("Number"), Some(-5));
    assert_eq!(entity.int64("Small"), Some(7));
    assert_eq!(entity.binary("Bytes"), Some(&[0, 255][..]));
    assert_eq!(entity.properties.get("Is"), Some(&Value::Bool(false)));
    assert!(!entity.properties.contains_key("At"));
    assert_eq!(tables::read_entity(&reply(404, "")).unwrap(), None);
}

#[test]
fn a_page_says_where_the_next_begins() {
    let mut page = reply(200, r#"{"value":[{"PartitionKey":"p","RowKey":"r"}]}"#);
    let (rows, next) = tables::read_page(&page).unwrap();
    assert_eq!((rows.len(), next), (1, None));
    let headers = page.headers_mut();
    headers.insert(
        "x-ms-continuation-NextPartitionKey",
        "1!4!cA--".parse().unwrap(),
    );
    headers.insert("x-ms-continuation-NextRowKey", "1!4!cg--".parse().unwrap());
    let (_, next) = tables::read_page(&page).unwrap();
    assert!(next.is_some());
}

#[test]
fn a_transaction_that_was_done_gives_the_new_etags() {
    let body = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n\
        --changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
        HTTP/1.1 204 No Content\r\nETag: W/\"datetime'2025'\"\r\n\r\n\r\n\
        --changesetresponse_1\r\nContent-Type: application/http\r\n\r\n\
        HTTP/1.1 204 No Content\r\n\r\n\r\n--changesetresponse_1--\r\n--batchresponse_1--\r\n";
    let etags = batch::read(&reply(202, body), 2).unwrap();
    assert_eq!(etags, [Some("W/\"datetime'2025'\"".to_owned()), None]);
    // One part fewer than there were changes: it is not known what was done.
    let failed = batch::read(&reply(202, body), 3).unwrap_err();
    assert!(matches!(failed.error, Error::Malformed { .. }));
}

#[test]
fn a_transaction_that_failed_says_at_which_change() {
    let body = "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: application/http\r\n\r\n\
        HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\n\r\n\
        {\"odata.error\":{\"code\":\"EntityAlreadyExists\",\"message\":{\"lang\":\"en-US\",\"value\":\"7:The specified entity already exists.\\nRequestId:1\"}}}\r\n--c--\r\n--batchresponse_1--\r\n";
    let failed = batch::read(&reply(202, body), 9).unwrap_err();
    assert_eq!(
        (failed.index, failed.error),
        (Some(7), Error::AlreadyExists)
    );
    let failed = batch::read(&refusal(404, "TableNotFound"), 9).unwrap_err();
    assert_eq!((failed.index, failed.error), (None, Error::NoTable));
}

#[test]
fn messages_are_read_with_what_xml_escapes() {
    let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage>\
        <MessageId>m1</MessageId><PopReceipt>r=/+</PopReceipt><DequeueCount>2</DequeueCount>\
        <MessageText>{&quot;a&quot;:&lt;&amp;&#233;}</MessageText></QueueMessage>\
        <QueueMessage><MessageId>m2</MessageId></QueueMessage></QueueMessagesList>";
    let messages = queues::read_messages(&reply(200, body)).unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].text, "{\"a\":<&\u{e9}}");
    assert_eq!(
        (messages[0].receipt.as_str(), messages[0].dequeue_count),
        ("r=/+", 2)
    );
}

/// None of it may panic, and none of it is taken for a success.
#[test]
fn nonsense_is_malformed() {
    let nonsense = [
        "",
        "{",
        "null",
        "[]",
        "{\"value\":1}",
        "{\"value\":[1]}",
        "{\"value\":[{\"PartitionKey\":1,\"RowKey\":\"r\"}]}",
        "{\"PartitionKey\":\"p\",\"RowKey\":\"r\",\"N\":\"x\",\"N@odata.type\":\"Edm.Int64\"}",
        "{\"PartitionKey\":\"p\",\"RowKey\":\"r\",\"B\":\"?\",\"B@odata.type\":\"Edm.Binary\"}",
        "HTTP/1.1 ",
        "HTTP/1.1 99",
        "HTTP/1.1 é204",
        "<QueueMessage><DequeueCount>x</DequeueCount></QueueMessage>",
        "<a>&nothing;</b>",
    ];
    for text in nonsense {
        let reply = reply(200, text);
        assert!(tables::read_entity(&reply).is_err(), "{text}");
        assert!(tables::read_page(&reply).is_err(), "{text}");
        assert!(batch::read(&reply, 1).is_err(), "{text}");
        assert!(queues::read_count(&reply).is_err(), "{text}");
        let messages = queues::read_messages(&reply);
        assert!(
            messages.is_err() || messages.is_ok_and(|some| some.is_empty()),
            "{text}"
        );
        for status in [400, 409, 500] {
            let refused = Response::builder()
                .status(status)
                .body(Bytes::from(text.to_owned()))
                .unwrap();
            assert!(batch::read(&refused, 1).is_err());
            assert!(tables::read_written(&refused).is_err());
        }
    }
    let bytes = Response::new(Bytes::from_static(&[0xff, 0xfe, b'<']));
    assert!(queues::read_messages(&bytes).is_err());
}

#[test]
fn a_refused_token_is_told_from_a_right_that_is_missing() {
    let meaning = |status, code| tables::read_written(&refusal(status, code)).unwrap_err();
    assert!(meaning(401, "InvalidAuthenticationInfo").refuses_token());
    assert!(meaning(401, "").refuses_token());
    assert!(meaning(403, "AuthenticationFailed").refuses_token());
    assert!(!meaning(403, "AuthorizationPermissionMismatch").refuses_token());
    assert!(!meaning(403, "").refuses_token());
    assert!(!meaning(503, "ServerBusy").refuses_token());
}
