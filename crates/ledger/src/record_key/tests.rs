//! Which records are the same and which are not.

use activity_api::ContentType;

use super::*;

const GUID: &str = "80C76BD2-9D81-4C57-A97A-ACCFC3443DCA";

fn tenant(last: char) -> TenantId {
    format!("bf8d32d3-1c13-4487-af02-80dba223648{last}")
        .parse()
        .unwrap()
}

fn key(id: &str) -> RecordKey {
    RecordKey::new(tenant('5'), ContentType::Exchange, id)
}

#[test]
fn a_guid_is_the_same_in_either_case_and_another_text_is_not() {
    assert_eq!(key(GUID), key(&GUID.to_lowercase()));
    assert_ne!(key("Some-Id"), key("some-id"));
    assert_ne!(key(GUID), key(&GUID.replace('-', "")));
    assert_ne!(key(GUID), key(&format!("{{{GUID}}}")));
}

#[test]
fn an_id_of_another_tenant_or_content_type_is_another_record() {
    let exchange = ContentType::Exchange;
    assert_eq!(key(GUID), RecordKey::new(tenant('5'), exchange, GUID));
    assert_ne!(key(GUID), RecordKey::new(tenant('6'), exchange, GUID));
    for other in ContentType::ALL {
        if other != exchange {
            assert_ne!(key(GUID), RecordKey::new(tenant('5'), other, GUID));
        }
    }
}

#[test]
fn a_key_says_nothing_of_the_id_it_was_made_of() {
    assert!(
        !format!("{:?}", key(GUID))
            .to_uppercase()
            .contains(&GUID[..8])
    );
}
