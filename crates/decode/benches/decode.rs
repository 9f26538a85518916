//! Decoding: records and bytes per second from a blob in memory to parts. `cargo bench -p decode`.
//! `O365_BENCH_CORPUS` names an NDJSON file to take the records from; without it they are made up here.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that cannot go on should say where"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a bench is told what to do by the environment"
)]

use std::sync::LazyLock;

use decode::{Limits, decode_pieces};
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

struct Blob {
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

#[divan::bench]
fn decode_blob(bencher: divan::Bencher<'_, '_>) {
    let blob = &*BLOB;
    bencher
        .counter(ItemsCount::new(blob.record_count))
        .counter(BytesCount::new(blob.text.len()))
        .bench(|| decode_pieces(Limits::PIPELINE, [&blob.text[..]]));
}
