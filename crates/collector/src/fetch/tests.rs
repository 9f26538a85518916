//! Fetching one blob, against a scripted Microsoft.

use activity_api::{BlobReason, ContentId};

use super::*;
use crate::sinks::testing::{blob_tag, records};
use crate::testing::{
    Answer, CONTENT_TYPE, Scene, blob_text, blob_uri, gzip, large_records, tenant,
};
use decode::PART_BYTES;

/// Takes what is handed out, and lets go of the parts at once unless told to hold them.
#[derive(Default)]
struct Taken {
    parts: Vec<(ledger::PartKey, Vec<String>)>,
    held: Vec<BlobPart>,
    holds: bool,
    undecodable: Vec<Undecodable>,
    refuses: bool,
}

impl Taken {
    fn take(&mut self, part: BlobPart) {
        let texts = part
            .records_from(0)
            .map(|record| String::from_utf8(record.text().to_vec()).unwrap())
            .collect();
        self.parts.push((part.key(), texts));
        if self.holds {
            self.held.push(part);
        }
    }

    fn texts(&self) -> Vec<String> {
        self.parts
            .iter()
            .flat_map(|(_, texts)| texts.clone())
            .collect()
    }
}

impl Outlet for Taken {
    fn part(&mut self, part: BlobPart) {
        self.take(part);
    }

    async fn undecodable(&mut self, stretches: Vec<Undecodable>) -> Result<(), Error> {
        if self.refuses {
            return Err(ledger::Error::Stopped.into());
        }
        self.undecodable.extend(stretches);
        Ok(())
    }
}

/// What came of fetching the blob `a`. However it went, all memory is given back once its parts are let go.
struct Outcome {
    taken: Taken,
    result: Result<(Totals, Option<decode::Error>), Error>,
    last_count: usize,
}

async fn fetch_with(answer: Answer, taken: Taken) -> Outcome {
    fetch_in(8 * 1024 * 1024, answer, taken).await
}

async fn fetch_in(memory_bytes: usize, answer: Answer, mut taken: Taken) -> Outcome {
    let scene = Scene::new();
    scene.microsoft.on("blob/a", [answer]);
    let door = scene.door(tenant());
    let memory = Memory::new(memory_bytes);
    let tag = Arc::new(blob_tag(CONTENT_TYPE, &ContentId::canonical("a")));
    let result = fetch_blob(
        &door,
        &*scene.ledger,
        &blob_uri(tenant(), "a"),
        &tag,
        &memory,
        &mut taken,
    )
    .await;
    let mut last_count = 0;
    let result = result.map(|fetched| {
        if let Some(part) = fetched.last_part {
            last_count = part.record_count();
            taken.take(part);
        }
        (fetched.totals, fetched.broken.map(|(error, _)| error))
    });
    taken.held.clear();
    assert_eq!(
        memory.held_bytes(),
        0,
        "memory that nobody uses is given back"
    );
    Outcome {
        taken,
        result,
        last_count,
    }
}

async fn fetch(answer: Answer) -> Outcome {
    fetch_with(answer, Taken::default()).await
}

fn packed(text: &str) -> Answer {
    Answer::ok(gzip(text.as_bytes())).header("Content-Encoding", "gzip")
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_read_however_its_bytes_are_cut_and_packed() {
    let expected = records(0, 40);
    let text = blob_text(&expected);
    for piece in [1, 2, 3, 7, 10, 11, 18, 64, 1_000, 100_000] {
        for answer in [
            Answer::ok(text.clone()).in_pieces(piece),
            packed(&text).in_pieces(piece),
        ] {
            let Outcome {
                taken,
                result,
                last_count,
            } = fetch(answer).await;
            assert_eq!(taken.texts(), expected, "pieces of {piece}");
            let (totals, broken) = result.unwrap();
            assert_eq!(
                (totals.record_count, totals.undecodable_count, broken),
                (40, 0, None)
            );
            assert_eq!(
                totals.byte_count,
                expected.iter().map(|text| text.len() as u64).sum::<u64>()
            );
            assert_eq!(last_count, 40);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_several_gzip_members_is_one_blob() {
    let expected = records(0, 10);
    let text = blob_text(&expected);
    let (head, tail) = text.as_bytes().split_at(text.len() / 3);
    for piece in [1, 13, 10_000] {
        let body = [gzip(head), gzip(tail)].concat();
        let outcome = fetch(
            Answer::ok(body)
                .header("Content-Encoding", "gzip")
                .in_pieces(piece),
        )
        .await;
        assert_eq!(outcome.taken.texts(), expected);
        outcome.result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_truncated_gzip_body_is_damaged_and_its_last_part_is_kept_back() {
    let text = blob_text(&records(0, 40));
    let whole = gzip(text.as_bytes());
    for length in [
        0,
        1,
        5,
        9,
        10,
        11,
        whole.len() / 2,
        whole.len() - 8,
        whole.len() - 1,
    ] {
        let body = whole[..length].to_vec();
        let outcome = fetch(
            Answer::ok(body)
                .header("Content-Encoding", "gzip")
                .in_pieces(6),
        )
        .await;
        let error = outcome.result.unwrap_err();
        assert!(
            matches!(error, Error::Damaged { .. }),
            "{length} bytes: {error:?}"
        );
        assert_eq!(error.next_step(), NextStep::RetryAfter(None));
        assert_eq!(outcome.taken.texts(), Vec::<String>::new());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_gzip_or_fails_its_checksum_is_damaged() {
    let text = blob_text(&records(0, 40));
    let mut flipped = gzip(text.as_bytes());
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    for body in [
        text.into_bytes(),
        flipped,
        [gzip(b"[]"), b"rest".to_vec()].concat(),
    ] {
        let outcome = fetch(Answer::ok(body).header("Content-Encoding", "gzip")).await;
        assert!(
            matches!(outcome.result, Err(Error::Damaged { .. })),
            "{:?}",
            outcome.result
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_in_the_body_is_an_error_and_whole_parts_are_out() {
    let all = large_records(0, 300);
    let text = blob_text(&all);
    let answer = Answer::ok(text[..700_000].to_owned())
        .in_pieces(16_000)
        .then_breaks();
    let Outcome { taken, result, .. } = fetch(answer).await;
    let error = result.unwrap_err();
    assert!(
        matches!(error, Error::Microsoft(microsoft::Error::Network(_))),
        "{error:?}"
    );
    assert_eq!(error.next_step(), NextStep::RetryAfter(None));
    assert_eq!(taken.parts.len(), 1);
    assert_eq!(taken.texts(), all[..taken.texts().len()]);

    // The same part is cut when the blob comes whole.
    let whole = fetch(Answer::ok(text)).await;
    assert_eq!(whole.taken.parts[0].0, taken.parts[0].0);
}

#[tokio::test(start_paused = true)]
async fn a_large_blob_comes_in_parts_that_depend_on_nothing_but_its_bytes() {
    let all = large_records(0, 500);
    let text = blob_text(&all);
    let plain = fetch(Answer::ok(text.clone()).in_pieces(1_000)).await;
    let gzipped = fetch(packed(&text).in_pieces(333)).await;
    assert_eq!(plain.taken.texts(), all);
    assert_eq!(plain.taken.parts.len(), 4);
    assert_eq!(plain.taken.parts, gzipped.taken.parts);
    assert!(
        plain
            .taken
            .parts
            .iter()
            .all(|(_, texts)| texts.concat().len() <= PART_BYTES)
    );
}

#[tokio::test(start_paused = true)]
async fn parts_are_the_same_whether_a_text_is_read_in_one_go_or_as_it_comes() {
    let text = blob_text(&large_records(0, 500));
    let mut damaged = gzip(text.as_bytes());
    let at = damaged.len() - 5;
    damaged[at] ^= 1;
    let mut outcomes = Vec::new();
    // In the last there is room for all of the text, in the first for a part at a time.
    for memory_bytes in [0, 8 << 20, 64 << 20] {
        let whole = packed(&text);
        let length = gzip(text.as_bytes()).len().to_string();
        for answer in [
            whole.in_pieces(10_000),
            packed(&text).header("Content-Length", &length),
        ] {
            let outcome = fetch_in(memory_bytes, answer, Taken::default()).await;
            outcomes.push((outcome.taken.parts, outcome.result.unwrap()));
        }
        let damaged = Answer::ok(damaged.clone()).header("Content-Encoding", "gzip");
        let outcome = fetch_in(memory_bytes, damaged, Taken::default()).await;
        assert!(matches!(outcome.result, Err(Error::Damaged { .. })));
    }
    assert_eq!(outcomes[0].0.len(), 4);
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
}

#[tokio::test(start_paused = true)]
async fn a_record_larger_than_a_part_is_read_whole() {
    let mut all = records(0, 3);
    all.insert(
        1,
        format!(r#"{{"Id":"huge","x":"{}"}}"#, "y".repeat(3 * PART_BYTES)),
    );
    all.insert(
        3,
        format!(r#"{{"Id":"huge-2","x":"{}"}}"#, "z".repeat(2 * PART_BYTES)),
    );
    for answer in [
        Answer::ok(blob_text(&all)).in_pieces(5_000),
        packed(&blob_text(&all)),
    ] {
        let outcome = fetch(answer).await;
        assert!(outcome.taken.texts() == all);
        outcome.result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_record_is_handed_over_and_the_rest_is_read() {
    let all = large_records(0, 200);
    let mut elements = all.clone();
    elements.insert(0, "42".to_owned());
    elements.insert(150, r#"{"a":}"#.to_owned());
    elements.push("[]".to_owned());
    let outcome = fetch(Answer::ok(blob_text(&elements))).await;
    assert_eq!(outcome.taken.texts(), all);
    let found: Vec<_> = outcome
        .taken
        .undecodable
        .iter()
        .map(|bad| (bad.index_in_array, bad.bytes.clone()))
        .collect();
    assert_eq!(
        found,
        [
            (0, b"42".to_vec()),
            (150, br#"{"a":}"#.to_vec()),
            (202, b"[]".to_vec())
        ]
    );
    assert_eq!(outcome.result.unwrap().0.undecodable_count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_blob_is_not_read_when_what_is_no_record_cannot_be_set_aside() {
    let taken = Taken {
        refuses: true,
        ..Taken::default()
    };
    let outcome = fetch_with(Answer::ok(r#"[{"Id":"1"},42]"#), taken).await;
    assert!(
        matches!(outcome.result, Err(Error::Ledger(_))),
        "{:?}",
        outcome.result
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_whole_array_is_said_to_be_broken() {
    for (body, error) in [
        ("", decode::Error::Truncated),
        (r#"[{"Id":"1"},{"Id"#, decode::Error::Truncated),
        ("<html>busy</html>", decode::Error::NotAnArray),
        (r#"[{"Id":"1"}]["#, decode::Error::TrailingBytes),
    ] {
        let outcome = fetch(Answer::ok(body).in_pieces(4)).await;
        let (totals, broken) = outcome.result.unwrap();
        assert_eq!(broken, Some(error), "{body}");
        assert_eq!(totals.record_count as usize, outcome.taken.texts().len());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_that_is_no_array_is_not_read_on() {
    let outcome = fetch(Answer::ok("x".repeat(PART_BYTES)).then_silence()).await;
    assert_eq!(outcome.result.unwrap().1, Some(decode::Error::NotAnArray));
}

#[tokio::test(start_paused = true)]
async fn an_empty_blob_has_no_part() {
    let outcome = fetch(Answer::ok("[]")).await;
    assert_eq!(outcome.taken.parts.len(), 0);
    assert_eq!(outcome.result.unwrap(), (Totals::default(), None));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_what_microsoft_means_by_it() {
    let outcome = fetch(Answer::refused(400, "AF20051")).await;
    assert_eq!(
        outcome.result.unwrap_err().next_step(),
        NextStep::GiveUpOnBlob(BlobReason::Expired)
    );
    let outcome = fetch(Answer::status(404, "")).await;
    assert_eq!(
        outcome.result.unwrap_err().next_step(),
        NextStep::GiveUpOnBlob(BlobReason::Missing)
    );
}

#[tokio::test(start_paused = true)]
async fn fetching_waits_while_the_memory_is_held_by_others() {
    let scene = Scene::new();
    let all = large_records(0, 1_200);
    scene
        .microsoft
        .on("blob/a", [Answer::ok(blob_text(&all)).in_pieces(50_000)]);
    let door = scene.door(tenant());
    let memory = Memory::new(0);
    let tag = Arc::new(blob_tag(CONTENT_TYPE, &ContentId::canonical("a")));
    let mut taken = Taken {
        holds: true,
        ..Taken::default()
    };
    let uri = blob_uri(tenant(), "a");
    let fetching = fetch_blob(&door, &*scene.ledger, &uri, &tag, &memory, &mut taken);
    let waited = tokio::time::timeout(std::time::Duration::from_secs(3600), fetching).await;
    assert!(
        waited.is_err(),
        "the blob is larger than the memory, and none of it was let go"
    );
    // Four parts' worth in all: three are out, and the fourth, full, waited for a fifth.
    assert_eq!(taken.parts.len(), 3);
    assert_eq!(memory.held_bytes(), 3 * PART_BYTES);
    taken.held.clear();
    assert_eq!(memory.held_bytes(), 0);
}
