//! Tests of the ids.

use super::*;

#[test]
fn a_guid_is_read_in_any_case_and_printed_in_lower_case() {
    let tenant: TenantId = "0B5E3C1A-7d52-4F0E-9a61-2f6d8c4e7b90".parse().unwrap();
    assert_eq!(tenant.to_string(), "0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90");
    assert_eq!(format!("{tenant:?}"), tenant.to_string());
    assert_eq!(TenantId::from_uuid(tenant.as_uuid()), tenant);
    assert_eq!(PublisherId::from(tenant).to_string(), tenant.to_string());
}

#[test]
fn what_is_not_a_hyphenated_guid_is_refused_without_being_repeated() {
    for text in [
        "",
        "contoso.onmicrosoft.com",
        "0b5e3c1a7d524f0e9a612f6d8c4e7b90",
        "{0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90}",
        "urn:uuid:0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90",
        " 0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90",
        "0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b9g",
    ] {
        let message = text.parse::<TenantId>().unwrap_err().to_string();
        assert!(message.starts_with("not a GUID: "), "{text}");
        assert!(text.is_empty() || !message.contains(text), "{text}");
    }
}

#[test]
fn every_content_type_is_read_back_from_its_name() {
    for content_type in ContentType::ALL {
        assert_eq!(content_type.to_string().parse(), Ok(content_type));
        assert_eq!(
            ContentType::parse(&content_type.as_str().to_uppercase()),
            Ok(content_type)
        );
    }
    assert!(ContentType::parse("Audit.Teams").is_err());
    assert!(ContentType::parse(" DLP.All").is_err());
}

#[test]
fn a_notified_blob_has_the_id_of_the_listed_one() {
    let listed =
        "20260301081502417001533$20260301084011902002871$audit_exchange$Audit_Exchange$emea0039";
    for suffix in [
        "",
        "$emea0039",
        "$IsFromNotification",
        "$emea0039$IsFromNotification",
    ] {
        let raw = format!("{listed}{suffix}");
        assert_eq!(ContentId::canonical(&raw).as_str(), listed, "{raw}");
    }
}

#[test]
fn an_id_that_only_looks_repetitive_keeps_all_its_segments() {
    for id in [
        "20260301081502417001533$20260301084011902002871$audit_exchange$Audit_Exchange",
        "20260301081502417001533$20260301081502417001533",
        "1234$1234$0b5e$91ab$04",
        "$IsFromNotification",
        "",
    ] {
        assert_eq!(ContentId::canonical(id).as_str(), id);
    }
}

proptest::proptest! {
    #[test]
    fn a_canonical_id_stays_as_it_is(raw in r"([a-c]{0,2}(\$|\$IsFromNotification)){0,8}") {
        let once = ContentId::canonical(&raw);
        proptest::prop_assert_eq!(ContentId::canonical(once.as_str()), once);
    }
}

#[test]
fn names_line_up_in_columns() {
    assert_eq!(
        format!("{:<16}|{:>16}|", ContentType::Exchange, ContentType::Dlp),
        "Audit.Exchange  |         DLP.All|"
    );
    let tenant: TenantId = "0b5e3c1a-7d52-4f0e-9a61-2f6d8c4e7b90".parse().unwrap();
    assert_eq!(format!("{tenant:<38}|"), format!("{tenant}  |"));
}
