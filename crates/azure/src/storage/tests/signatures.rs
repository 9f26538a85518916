//! Requests as they are sent. The signatures were computed apart from this code, from the text that Microsoft's
//! "Authorize with Shared Key" describes.

use std::time::Duration;

use activity_api::AccessToken;
use bytes::Bytes;
use jiff::Timestamp;
use secrecy::SecretString;

use crate::storage::entity::{Entity, Value};
use crate::storage::tables::{Change, Query};
use crate::storage::{Account, Draft, NotSigned, blobs, queues, tables};

fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap()
}

fn account() -> Account {
    let text = "AccountName=nimbus;AccountKey=c3RvcmFnZS1rZXktb2YtbmltYnVz";
    Account::parse(&SecretString::from(text)).unwrap()
}

fn entity() -> Entity {
    let mut entity = Entity::new("a b", "it's");
    entity.set("Text", Value::Text("line\n\"ü\"".into()));
    entity.set("Number", Value::Int64(i64::MIN));
    entity.set("Is", Value::Bool(true));
    entity.set("Bytes", Value::Binary(vec![0, 255]));
    entity
}

fn check(draft: &Draft, uri: &str, signature: &str) {
    let request = account().sign(draft, now(), None).unwrap();
    assert_eq!(request.uri().to_string(), uri);
    assert_eq!(
        request.headers()["x-ms-date"],
        "Thu, 09 Oct 2025 08:53:20 GMT"
    );
    assert_eq!(
        request.headers()["authorization"],
        format!("SharedKey nimbus:{signature}")
    );
    assert!(request.headers()["authorization"].is_sensitive());
}

#[test]
fn tables_are_signed_as_microsoft_says() {
    check(
        &tables::change("o365ledger", &Change::Insert(entity())),
        "https://nimbus.table.core.windows.net/o365ledger",
        "mZL0PyIYdqhEl9w1VbdU+H6V9QvZm/e24RRzgb3NC1c=",
    );
    let query = Query {
        filter: "PartitionKey eq 'a b' and N le 5L".into(),
        max_count: 5_000,
        ..Query::default()
    };
    check(
        &tables::query("o365ledger", &query),
        "https://nimbus.table.core.windows.net/o365ledger()?$filter=PartitionKey%20eq%20%27a%20b%27%20and%20N%20le%205L&$top=1000",
        "0265EjwRMwXyjU/pAWAPT6F1JAmvlRdqgHCD6iJ7u34=",
    );
    check(
        &tables::get("o365ledger", "a b", "it's"),
        "https://nimbus.table.core.windows.net/o365ledger(PartitionKey='a%20b',RowKey='it%27%27s')",
        "eNmd0yh1EAozw4I5lvrkLJn0vu/ovGmR+wjs+bkVD0M=",
    );
    check(
        &account().batch("o365ledger", &[Change::Put(entity())]),
        "https://nimbus.table.core.windows.net/$batch",
        "GqlYMz4DX2i58X/+Wt2zOYCgfjLC3xrBgXctO3S1rDg=",
    );
}

#[test]
fn queues_and_blobs_are_signed_as_microsoft_says() {
    let put = queues::put(
        "wake",
        "{\"a\":<&}",
        Duration::from_secs(5),
        Duration::from_secs(60),
    );
    check(
        &put,
        "https://nimbus.queue.core.windows.net/wake/messages?visibilitytimeout=5&messagettl=60",
        "CgdDSKZgXaF0mFMfvV+R9vNkfXXNXCk33fX02uW1dAk=",
    );
    check(
        &queues::about("wake"),
        "https://nimbus.queue.core.windows.net/wake?comp=metadata",
        "rb9Yev9Zgk8tZA2iJ/ltWdXNuuViTghzPW9BHbWtd8M=",
    );
    check(
        &blobs::put("kept", "a/b$c", Bytes::from_static(b"xyz")),
        "https://nimbus.blob.core.windows.net/kept/a/b%24c",
        "enFRwucngg4Pbb1fQ/rgOmSTxhCHKZzp3eBN19viVjc=",
    );
    check(
        &blobs::create_container("kept"),
        "https://nimbus.blob.core.windows.net/kept?restype=container",
        "EYkNvmH+AUFxcRz48YsJk7Wd5HVDU7JcV92Ve+rKQ2c=",
    );
}

#[test]
fn an_entity_is_written_with_the_types_of_its_values() {
    let request = account()
        .sign(
            &tables::change(
                "t",
                &Change::Replace {
                    entity: entity(),
                    etag: "W/\"1\"".into(),
                },
            ),
            now(),
            None,
        )
        .unwrap();
    assert_eq!(request.headers()["if-match"], "W/\"1\"");
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    let expected = serde_json::json!({
        "PartitionKey": "a b",
        "RowKey": "it's",
        "Text": "line\n\"ü\"",
        "Number": "-9223372036854775808",
        "Number@odata.type": "Edm.Int64",
        "Is": true,
        "Bytes": "AP8=",
        "Bytes@odata.type": "Edm.Binary"
    });
    assert_eq!(body, expected);
}

#[test]
fn changes_in_one_transaction_stand_in_one_body() {
    let changes = [
        Change::Insert(entity()),
        Change::Delete {
            partition: "a b".into(),
            row: "r".into(),
            etag: "W/\"1\"\r\nEvil: 1".into(),
        },
    ];
    let request = account()
        .sign(&account().batch("t", &changes), now(), None)
        .unwrap();
    let body = std::str::from_utf8(request.body()).unwrap();
    assert!(body.starts_with(
        "--batch_o365\r\nContent-Type: multipart/mixed; boundary=changes_o365\r\n\r\n--changes_o365\r\n"
    ));
    assert!(body.ends_with("\r\n--changes_o365--\r\n--batch_o365--\r\n"));
    assert_eq!(body.matches("\r\n--changes_o365\r\n").count(), 2);
    assert!(body.contains("POST https://nimbus.table.core.windows.net/t HTTP/1.1\r\n"));
    assert!(body.contains(
        "DELETE https://nimbus.table.core.windows.net/t(PartitionKey='a%20b',RowKey='r') HTTP/1.1\r\n"
    ));
    assert!(body.contains("\r\nIf-Match: W/\"1\"Evil: 1\r\n"), "{body}");
}

#[test]
fn a_signature_of_its_own_goes_into_the_address_and_no_header() {
    let text = "SharedAccessSignature=?sv=2020&sig=a%2Fb;TableEndpoint=https://t.example;\
                QueueEndpoint=https://q.example;BlobEndpoint=https://b.example";
    let account = Account::parse(&SecretString::from(text)).unwrap();
    let request = account.sign(&queues::about("wake"), now(), None).unwrap();
    assert_eq!(
        request.uri().to_string(),
        "https://q.example/wake?comp=metadata&sv=2020&sig=a%2Fb"
    );
    assert!(!request.headers().contains_key("authorization"));
}

#[test]
fn a_token_is_sent_with_a_version_that_takes_tokens() {
    let account = Account::with_tokens("nimbus").unwrap();
    let draft = tables::get("t", "p", "r");
    assert_eq!(
        account.sign(&draft, now(), None).unwrap_err(),
        NotSigned::NoToken
    );
    let reply = activity_api::Reply {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: Bytes::from_static(
            br#"{"token_type":"Bearer","expires_in":3600,"access_token":"secret-token"}"#,
        ),
    };
    let token: AccessToken = activity_api::read_token(&reply, now()).unwrap();
    let request = account.sign(&draft, now(), Some(&token)).unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer secret-token");
    assert_eq!(request.headers()["x-ms-version"], "2020-12-06");
}
