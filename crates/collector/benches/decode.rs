//! Decoding: records and bytes per second from a blob in memory to parts. `cargo bench -p collector --bench decode`.
//! `O365_BENCH_CORPUS` names an NDJSON file to take the records from; without it they are made up here.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on should say where"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench is told what to do by the environment"
)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use activity_api::{ContentId, ContentType, TenantId};
use collector::decode::decode_blob;
use collector::record::BlobTag;
use divan::counter::{BytesCount, ItemsCount};
use jiff::Timestamp;
use ledger::{LeaseRequest, Ledger as _, SeenBlob, SeenVia, SqliteLedger};

fn main() {
    divan::main();
}

struct Blob {
    tag: Arc<BlobTag>,
    text: Vec<u8>,
    record_count: usize,
}

static BLOB: LazyLock<Blob> = LazyLock::new(|| {
    let records = match std::env::var("O365_BENCH_CORPUS") {
        Ok(path) => std::fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect(),
        Err(_) => made_up(),
    };
    Blob {
        tag: tag(),
        text: format!("[{}]", records.join(",")).into_bytes(),
        record_count: records.len(),
    }
});

/// Records of the size and make-up of real ones: some 1.3 KB, two levels deep, JSON inside strings.
fn made_up() -> Vec<String> {
    (0..2_000)
        .map(|n| {
            let properties: Vec<_> = (0..8)
                .map(|p| format!(r#"{{"Name":"Property{p}","NewValue":"[\r\n  \"value {n} of {p}\"\r\n]","OldValue":"[]"}}"#))
                .collect();
            format!(
                r#"{{"CreationTime":"2026-01-01T00:00:{:02}","Id":"00000000-0000-4000-8000-{n:012}","Operation":"Update user.","OrganizationId":"0873ee4d-d342-44f2-8961-74c442a2fad2","RecordType":8,"ResultStatus":"Success","UserKey":"10032000A1B2C3D4@contoso.example","UserType":0,"Version":1,"Workload":"AzureActiveDirectory","ObjectId":"user{n}@contoso.example","UserId":"admin@contoso.example","AzureActiveDirectoryEventType":1,"ExtendedProperties":[{{"Name":"additionalDetails","Value":"{{\"UserType\":\"Member\"}}"}}],"ModifiedProperties":[{}],"Actor":[{{"ID":"admin@contoso.example","Type":5}}],"ActorContextId":"0873ee4d-d342-44f2-8961-74c442a2fad2"}}"#,
                n % 60,
                properties.join(",")
            )
        })
        .collect()
}

/// Only a ledger makes the key that a tag holds.
fn tag() -> Arc<BlobTag> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(dir.path().join("ledger.db")).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let tenant: TenantId = "0873ee4d-d342-44f2-8961-74c442a2fad2".parse().unwrap();
    let seen = SeenBlob {
        tenant,
        content_type: ContentType::General,
        content_id: ContentId::canonical("blob"),
        uri: String::new(),
        created_at: now,
        expires_at: now,
        seen_via: SeenVia::Listing,
    };
    let request = LeaseRequest {
        max_count: 1,
        duration: Duration::from_secs(60),
        except_tenants: Vec::new(),
        for_sinks: Vec::new(),
        only: Vec::new(),
    };
    let leases = runtime.block_on(async {
        ledger.note_seen(vec![seen], now).await.unwrap();
        ledger.lease(&request, now).await.unwrap()
    });
    let lease = &leases[0];
    Arc::new(BlobTag {
        lease: lease.key(),
        tenant,
        content_type: lease.content_type(),
        content_id: lease.content_id().clone(),
        created_at: now,
    })
}

#[divan::bench]
fn decode(bencher: divan::Bencher<'_, '_>) {
    let blob = &*BLOB;
    bencher
        .counter(ItemsCount::new(blob.record_count))
        .counter(BytesCount::new(blob.text.len()))
        .bench(|| decode_blob(&blob.tag, [&blob.text[..]]));
}
