//! A blob's address as its row keeps it: with marks for the tenant and the content id, which the row knows anyway.
//!
//! Microsoft's addresses are made of these two for the most part, and an address is the longest that a row has: with the
//! whole of it a page holds 12 blobs, and so 19. What is noted, leased and delivered is logged by the page.

use activity_api::{ContentId, TenantId};

/// In place of the tenant.
const TENANT: &str = "{t}";
/// In place of the content id.
const CONTENT_ID: &str = "{id}";
/// What a mark begins with; doubled, it is one that the address has itself.
const MARK: char = '{';

/// The form in which an address is kept. [`unfold`] makes the address of it again, to the byte, whatever it is.
pub(super) fn fold(uri: &str, tenant: TenantId, content_id: &ContentId) -> String {
    let mut kept = String::with_capacity(uri.len());
    let mut rest = uri;
    for (known, mark) in [
        (&*tenant.to_string(), TENANT),
        (content_id.as_str(), CONTENT_ID),
    ] {
        if let Some((before, behind)) = rest.split_once(known) {
            push_plain(&mut kept, before);
            kept.push_str(mark);
            rest = behind;
        }
    }
    push_plain(&mut kept, rest);
    kept
}

fn push_plain(kept: &mut String, mut text: &str) {
    while let Some((before, behind)) = text.split_once(MARK) {
        kept.push_str(before);
        kept.extend([MARK, MARK]);
        text = behind;
    }
    kept.push_str(text);
}

/// The address that was kept.
pub(super) fn unfold(kept: &str, tenant: TenantId, content_id: &ContentId) -> String {
    let mut uri = String::with_capacity(kept.len() + 128);
    let mut rest = kept;
    while let Some(at) = rest.find(MARK) {
        let (before, marked) = rest.split_at(at);
        uri.push_str(before);
        if let Some(behind) = marked.strip_prefix(TENANT) {
            uri.push_str(&tenant.to_string());
            rest = behind;
        } else if let Some(behind) = marked.strip_prefix(CONTENT_ID) {
            uri.push_str(content_id.as_str());
            rest = behind;
        } else {
            uri.push(MARK);
            let behind = marked.strip_prefix(MARK).unwrap_or(marked);
            rest = behind.strip_prefix(MARK).unwrap_or(behind);
        }
    }
    uri.push_str(rest);
    uri
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TENANT_TEXT: &str = "c5f1b7a2-0000-4000-8000-00000000abcd";
    const ID_TEXT: &str =
        "20231016001037495037203$20231016005646231021586$audit_exchange$Audit_Exchange$jpn0016";

    fn folded(uri: &str) -> String {
        let (tenant, content_id) = (TENANT_TEXT.parse().unwrap(), ContentId::canonical(ID_TEXT));
        let kept = fold(uri, tenant, &content_id);
        assert_eq!(unfold(&kept, tenant, &content_id), uri, "{kept}");
        kept
    }

    #[test]
    fn an_address_of_microsofts_loses_what_the_row_knows() {
        let start = "https://feed.example/api/v1.0/";
        let listed = format!("{start}{TENANT_TEXT}/activity/feed/audit/{ID_TEXT}");
        assert_eq!(
            folded(&listed),
            format!("{start}{{t}}/activity/feed/audit/{{id}}")
        );
        // Of a notification, whose id has more behind it.
        assert_eq!(
            folded(&format!(
                "{listed}$jpn0016?PublisherIdentifier={TENANT_TEXT}"
            )),
            format!(
                "{start}{{t}}/activity/feed/audit/{{id}}$jpn0016?PublisherIdentifier={TENANT_TEXT}"
            )
        );
    }

    #[test]
    fn any_other_is_kept_as_it_is() {
        for uri in ["quarantine:7", "", "https://feed.example/2"] {
            assert_eq!(folded(uri), uri);
        }
        assert_eq!(folded("a{t}{id}{{{"), "a{{t}{{id}{{{{{{");
        assert_eq!(
            folded(&format!("{ID_TEXT}{TENANT_TEXT}")),
            format!("{ID_TEXT}{{t}}")
        );
    }

    proptest! {
        #[test]
        fn every_address_comes_back(parts in prop::collection::vec(
            prop_oneof![Just(TENANT_TEXT), Just(ID_TEXT), Just("{"), Just("{t}"), Just("id}"), Just("é"), Just("/")],
            0..12,
        )) {
            folded(&parts.concat());
        }
    }
}
