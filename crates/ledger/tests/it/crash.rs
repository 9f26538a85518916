//! A process that writes is killed, with SIGKILL and at any moment, and what it was answered is there.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use activity_api::{ContentId, ContentType};
use jiff::Timestamp;
use ledger::{
    AcknowledgedPart, Delivery, Lease, LeaseRequest, Ledger, QuarantinedRecord, SeenBlob, SeenVia,
    SinkCommit, SinkName, SqliteLedger,
};

/// Given to the test binary as a filter that fits no test, so that a writing process needs no program of its own.
const WRITE: &str = "write-until-killed=";

/// After how many answers each process is killed.
const KILLED_AFTER: [usize; 8] = [1, 30, 7, 150, 64, 2, 91, 40];

/// Blobs per step.
const BATCH: usize = 5;

/// A record that is set aside in each step. It is written behind its row, in the same transaction; and so long that the
/// log is folded back into the file every few steps, so that kills come in the midst of that too.
const ASIDE_BYTES: usize = 1 << 20;

#[test]
fn what_was_answered_survives_a_kill() {
    if let Some(path) =
        std::env::args().find_map(|argument| argument.strip_prefix(WRITE).map(PathBuf::from))
    {
        write_until_killed(&path);
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger.db");
    // The file itself grows when the log is folded back into it.
    let file_bytes = || std::fs::metadata(&path).map_or(0, |file| file.len());
    let mut folding_count = 0;
    for answer_count in KILLED_AFTER {
        let bytes_before = file_bytes();
        let answers = run_and_kill(&path, answer_count);
        folding_count += usize::from(file_bytes() > bytes_before);
        assert!(
            answers.len() >= answer_count,
            "killed while it wrote, not dead before"
        );
        assert_all_there(&path, &answers);
    }
    assert!(folding_count > 1, "{folding_count} processes folded");
}

/// What the process said it was answered, up to its end.
fn run_and_kill(path: &Path, answer_count: usize) -> Vec<String> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crash::what_was_answered_survives_a_kill",
            "--nocapture",
            "--test-threads=1",
        ])
        .arg(format!("{WRITE}{}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut answers = Vec::new();
    let is_answer = |line: &String| {
        line.split_once(' ')
            .is_some_and(|(word, _)| word.ends_with('!'))
    };
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok).filter(is_answer) {
        answers.push(line);
        if answers.len() == answer_count {
            writer.kill().unwrap();
        }
    }
    assert!(!writer.wait().unwrap().success());
    answers
}

fn assert_all_there(path: &Path, answers: &[String]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ledger = SqliteLedger::open(path).unwrap();
        let last = |word: &str| {
            let numbers = answers
                .iter()
                .filter_map(|answer| answer.strip_prefix(word)?.trim().parse::<u64>().ok());
            numbers.max().unwrap_or(0)
        };
        let summary = ledger.summary(now()).await.unwrap();
        let Some(stream) = summary.streams.first() else {
            assert!(answers.is_empty());
            return;
        };
        let known_count = stream.pending_count + stream.leased_count + stream.delivered_count;
        assert!(
            known_count >= last("noted!"),
            "{known_count} blobs, {answers:?}"
        );
        assert!(
            stream.delivered_count >= last("delivered!"),
            "{stream:?}, {answers:?}"
        );
        assert_eq!(stream.leased_count, 0, "a dead process holds nothing");
        let position = position(&ledger).await;
        assert!(position >= last("acknowledged!"), "{position}, {answers:?}");

        let aside_count = assert_records_whole(&ledger).await;
        assert_eq!(aside_count, stream.quarantined_record_count);
        assert!(
            aside_count >= last("aside!"),
            "{aside_count} records, {answers:?}"
        );

        // The position and the acknowledgements it came with are one commit, so they agree to the blob.
        let request = LeaseRequest {
            max_count: usize::MAX,
            ..request()
        };
        let leases = ledger.lease(&request, now()).await.unwrap();
        let waiting = leases
            .iter()
            .filter(|lease| lease.is_acknowledged_wholly_by(&sink()))
            .count() as u64;
        assert_eq!(position, stream.delivered_count + waiting);
        ledger.release(leases).await.unwrap();
    });
}

/// Every record that is in quarantine has its own bytes, none the zeros that its row began with. How many there are.
async fn assert_records_whole(ledger: &SqliteLedger) -> u64 {
    let (mut count, mut after) = (0, 0);
    loop {
        let page = ledger.quarantined(after, 100).await.unwrap();
        let Some(last) = page.last() else {
            return count;
        };
        after = last.id;
        for item in page {
            let bytes = ledger.quarantined_bytes(item.id).await.unwrap().unwrap();
            let number = item.record_index.unwrap();
            assert!(aside(number).bytes == bytes, "record {number} is not whole");
            count += 1;
        }
    }
}

/// Notes, sets aside, leases, acknowledges and delivers without end, and says after each what it was answered.
fn write_until_killed(path: &Path) -> ! {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ledger = SqliteLedger::open(path).unwrap();
        let say = |word: &str, number: u64| {
            let mut output = std::io::stdout().lock();
            writeln!(output, "{word} {number}").unwrap();
            output.flush().unwrap();
        };
        let stream = ledger
            .summary(now())
            .await
            .unwrap()
            .streams
            .into_iter()
            .next();
        let mut delivered_count = stream.as_ref().map_or(0, |stream| stream.delivered_count);
        let mut known_count =
            stream.map_or(0, |stream| stream.pending_count + stream.delivered_count);
        let mut position = position(&ledger).await;
        let mut aside_count = assert_records_whole(&ledger).await;
        loop {
            let blobs = (0..BATCH as u64 + 1)
                .map(|index| blob(known_count + index))
                .collect();
            known_count += ledger.note_seen(blobs, now()).await.unwrap();
            say("noted!", known_count);

            let record = aside(aside_count);
            ledger
                .quarantine_records(vec![record], now())
                .await
                .unwrap();
            aside_count += 1;
            say("aside!", aside_count);

            let leases = ledger.lease(&request(), now()).await.unwrap();
            let lacking: Vec<_> = leases
                .iter()
                .filter(|lease| !lease.is_acknowledged_wholly_by(&sink()))
                .map(Lease::key)
                .collect();
            position += lacking.len() as u64;
            let commit = SinkCommit {
                sink: sink(),
                position: Some(position.to_string()),
                acknowledged: lacking
                    .into_iter()
                    .map(|key| (key, AcknowledgedPart::Whole))
                    .collect(),
                quarantined: Vec::new(),
                remembered: None,
            };
            let proofs = ledger.acknowledge(commit, now()).await.unwrap();
            say("acknowledged!", position);

            let deliveries: Vec<_> = leases
                .into_iter()
                .map(|lease| Delivery {
                    acknowledgements: proofs.clone(),
                    lease,
                    record_count: 1,
                    byte_count: 1,
                    quarantined_count: 0,
                })
                .collect();
            delivered_count += deliveries.len() as u64;
            let answers = ledger
                .mark_delivered(deliveries, &[sink()], now())
                .await
                .unwrap();
            assert!(answers.iter().all(Result::is_ok));
            say("delivered!", delivered_count);
        }
    })
}

fn now() -> Timestamp {
    Timestamp::from_second(1_760_000_000).unwrap()
}

fn sink() -> SinkName {
    "file".parse().unwrap()
}

fn request() -> LeaseRequest {
    LeaseRequest {
        max_count: BATCH,
        duration: Duration::from_secs(300),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    }
}

async fn position(ledger: &SqliteLedger) -> u64 {
    ledger
        .position(&sink())
        .await
        .unwrap()
        .map_or(0, |text| text.parse().unwrap())
}

fn aside(number: u64) -> QuarantinedRecord {
    QuarantinedRecord {
        tenant: blob(0).tenant,
        content_type: ContentType::Exchange,
        content_id: blob(0).content_id,
        record_index: number,
        sink: None,
        reason: "too long".to_owned(),
        bytes: vec![1 + (number % 255) as u8; ASIDE_BYTES].into(),
    }
}

fn blob(number: u64) -> SeenBlob {
    SeenBlob {
        tenant: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        content_type: ContentType::Exchange,
        content_id: ContentId::canonical(&format!("blob-{number:08}")),
        uri: format!("https://manage.office.com/{number}"),
        created_at: now(),
        expires_at: now(),
        seen_via: SeenVia::Listing,
    }
}
