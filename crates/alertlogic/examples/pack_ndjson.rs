//! Packs an NDJSON file of records into request bodies as they go to ingest, and writes each with its headers into a
//! folder: `cargo run -p alertlogic --example pack_ndjson -- RECORDS FOLDER SOURCE_ID HOST_ID HOSTNAME [MAX_BYTES]`.
//! For looking at the bytes, and for comparing them with another implementation's.

use std::{borrow::Cow, error::Error, fmt::Write as _, fs, path::Path};

use alertlogic::{
    Endpoint, Reply, aims,
    ingest::{
        Envelope, HostMetadata, Message, Packed, Packer, logmsgs_request, parse_creation_time,
    },
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fields<'a> {
    #[serde(borrow)]
    creation_time: Option<&'a str>,
    record_type: Option<i64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [records, folder, source_id, host_id, hostname, rest @ ..] = arguments.as_slice() else {
        return Err("RECORDS FOLDER SOURCE_ID HOST_ID HOSTNAME [MAX_BYTES]".into());
    };
    let max_payload_bytes = rest.first().map_or(Ok(700_000), |text| text.parse())?;

    let now = Timestamp::from_second(1_800_000_000)?;
    let token = aims::read_token(
        &Reply {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from_static(
                br#"{"authentication":{"account":{"id":"134274125"},"token":"t","token_expiration":1900000000}}"#,
            ),
        },
        now,
    )?;
    let ingest = Endpoint::parse("ingest.example.net")?;

    let text = fs::read_to_string(records)?;
    let mut messages = Vec::new();
    for line in text.lines() {
        let fields: Fields<'_> = serde_json::from_str(line)?;
        let (ts, ts_us) = fields
            .creation_time
            .and_then(parse_creation_time)
            .unwrap_or((now.as_second(), None));
        messages.push(Message {
            text: Cow::Borrowed(line.as_bytes()),
            ts,
            ts_us,
            type_id: fields.record_type,
        });
    }

    let folder = Path::new(folder);
    fs::create_dir_all(folder)?;
    let metadata = HostMetadata::new(host_id, hostname);
    let packer = Packer::new(max_payload_bytes, 1);
    for (number, packed) in packer
        .pack(
            Envelope {
                source_id,
                metadata: &metadata,
                now,
            },
            messages.iter().cloned(),
        )
        .enumerate()
    {
        let Packed::Payload(payload) = packed else {
            return Err(format!("{packed:?}").into());
        };
        let request = logmsgs_request(&ingest, &token, payload.body);
        let mut headers = String::new();
        for (name, value) in request.headers() {
            writeln!(headers, "{name}: {}", value.to_str()?)?;
        }
        writeln!(headers, "content-length: {}", request.body().len())?;
        fs::write(folder.join(format!("{number:04}.headers")), headers)?;
        fs::write(folder.join(format!("{number:04}.body")), request.body())?;
    }
    Ok(())
}
