//! The text of a blob's name, there and back, and what is no such text.

use activity_api::{ContentId, ContentType};

use super::{BlobName, InvalidBlobName, MAX_TEXT_BYTES};

fn name(id: &str) -> BlobName {
    BlobName {
        tenant: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        content_type: ContentType::Dlp,
        content_id: ContentId::canonical(id),
    }
}

#[test]
fn a_name_is_one_line_of_json() {
    assert_eq!(
        name("20251009$dlp$na0018").to_string(),
        r#"{"tenant":"00000000-0000-0000-0000-000000000001","content_type":"DLP.All","content_id":"20251009$dlp$na0018"}"#
    );
}

#[test]
fn a_name_comes_back_from_its_text_whatever_its_id_holds() {
    for id in ["20251009$dlp$na0018", "a\"b\\c", "\u{0}\n\u{1f600}<&>", " "] {
        let text = name(id).to_string();
        assert!(!text.contains('\n'), "{text}");
        assert_eq!(text.parse(), Ok(name(id)));
    }
}

#[test]
fn an_id_is_canonical_however_the_message_has_it() {
    let text = name("x").to_string().replace("\"x\"", "\"a$b$c$d$d\"");
    assert_eq!(text.parse(), Ok(name("a$b$c$d")));
}

#[test]
fn fields_of_a_later_program_are_passed_over() {
    let text = name("x").to_string().replacen('{', "{\"later\":[1],", 1);
    assert_eq!(text.parse(), Ok(name("x")));
}

#[test]
fn what_is_no_name_is_refused_and_not_repeated() {
    let good = name("x").to_string();
    let hostile = [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        good.replace("DLP.All", "Audit.Secret"),
        good.replace("00000000-", ""),
        good.replace("\"x\"", "\"\""),
        good.replace("\"x\"", "7"),
        good.replace("\"x\"", "null"),
        format!("{good}{good}"),
        good.replace("\"x\"", &format!("\"{}\"", "x".repeat(MAX_TEXT_BYTES))),
        "[".repeat(60_000),
    ];
    for text in hostile {
        assert_eq!(
            text.parse::<BlobName>(),
            Err(InvalidBlobName),
            "{:.80}",
            text
        );
    }
    assert!(!InvalidBlobName.to_string().contains("Secret"));
}
