//! Ingest: takes batches apart down to the record and holds each field against what it must be.

use std::io::Read as _;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use http::StatusCode;
use prost::Message as _;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::protobuf::{CollectedBatch, CollectedBatchList, CollectedMessage, Metadata};
use crate::faults::FaultAction;
use crate::faults::requests::Harm;
use crate::faults::storm::SinkKind;
use crate::http::{Call, Reply, empty, json};
use crate::microsoft::records::{Facts, Identity};
use crate::world::World;

/// A body that inflates to more than this is refused, so that a small one cannot fill the memory.
const MAX_INFLATED_BYTES: u64 = 512 << 20;

/// The headers of a `logmsgs` post, as the vendor's libraries send them.
const HEADERS: [(&str, &str); 4] = [
    ("accept", "application/json"),
    ("content-type", "alertlogic.com/lm3-protobuf"),
    ("x-invoked-by", "azure_function"),
    ("content-encoding", "deflate"),
];

/// `POST /ingest/v1/{cid}/data/logmsgs`. Counts the messages as delivered when, and only when, it answers 200.
pub(super) fn logmsgs(world: &World, call: &Call, harm: Option<&Harm>) -> Reply {
    if call.body.len() > world.options.alertlogic.max_body_bytes {
        return json(
            StatusCode::PAYLOAD_TOO_LARGE,
            &json!({"error": "payload too large"}),
        );
    }
    if !world.options.check_sinks {
        count(world, call);
        return empty(StatusCode::OK);
    }
    let list = match read(world, call) {
        Ok(list) => list,
        Err(reason) => {
            world
                .at_alertlogic
                .note_fault(format!("refused post: {reason}"));
            return json(StatusCode::BAD_REQUEST, &json!({"error": reason}));
        }
    };
    if let Err(error) = capture(world, call) {
        // Better no answer that counts than a capture that is silently short.
        return json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({"error": format!("cannot write the capture: {error}")}),
        );
    }
    let mut scratch = Vec::with_capacity(16 << 10);
    let messages = || list.elem.iter().flat_map(|batch| &batch.message);
    if let Some(Harm::Refusal(FaultAction::Status { status }, _)) = harm
        && messages().count() > 1
    {
        return json(
            crate::http::status(*status),
            &json!({"error": "simulated fault"}),
        );
    }
    let identified: Vec<(&CollectedMessage, Identity)> = messages()
        .filter_map(|message| {
            let text = message.message.as_ref()?;
            let identity = world.records.identify(&world.plan, text, &mut scratch);
            Some((message, identity))
        })
        .collect();
    let is_refused = |identity: &Identity| match identity {
        Identity::Exact(record) => world.records.is_refused(SinkKind::AlertLogic, *record),
        _ => false,
    };
    if identified.iter().any(|(_, identity)| is_refused(identity)) {
        return json(
            StatusCode::BAD_REQUEST,
            &json!({"error": "a message is refused"}),
        );
    }
    if harm.is_some_and(Harm::loses_answer) {
        world.at_alertlogic.note_unanswered(identified.len() as u64);
    }
    let mut exact = Vec::with_capacity(identified.len());
    for (message, identity) in identified {
        if let Identity::Exact(record) = identity {
            exact.push(record);
        }
        take(world, message, identity);
    }
    world.note_taken("alertlogic", &exact);
    count(world, call);
    empty(StatusCode::OK)
}

fn count(world: &World, call: &Call) {
    world.counters.ingest_posts.fetch_add(1, Ordering::Relaxed);
    world
        .counters
        .ingest_bytes
        .fetch_add(call.body.len() as u64, Ordering::Relaxed);
}

/// `POST /ingest/v1/{cid}/data/lmcstats`: plain JSON under a header that says deflate, as the vendor's library 3 sends it.
pub(super) fn lmcstats(world: &World, call: &Call) -> Reply {
    let is_json = call.header("content-type") == Some("alertlogic.com/json");
    let rows = serde_json::from_slice::<Vec<Value>>(&call.body)
        .ok()
        .filter(|rows| !rows.is_empty() && is_json);
    let is_whole = |row: &Value| {
        row["inst_type"] == "collector"
            && row["source_type"] == "o365"
            && row["event_count"].is_u64()
            && row["byte_count"].is_u64()
            && row["timestamp"].is_u64()
            && row["host_id"].is_string()
            && row["source_id"]
                .as_str()
                .is_some_and(|id| world.alertlogic.state().sources.contains_key(id))
    };
    if rows.is_some_and(|rows| rows.iter().all(is_whole)) {
        return empty(StatusCode::OK);
    }
    world
        .at_alertlogic
        .note_fault("refused lmcstats: not as the vendor's library sends it");
    json(
        StatusCode::BAD_REQUEST,
        &json!({"error": "not a list of statistics"}),
    )
}

fn read(world: &World, call: &Call) -> Result<CollectedBatchList, String> {
    for (name, value) in HEADERS {
        if call.header(name) != Some(value) {
            return Err(format!("header {name} is not {value}"));
        }
    }
    let text = inflate(&call.body)?;
    let length = text.len();
    let list = CollectedBatchList::decode(text)
        .map_err(|error| format!("not a collected_batch_list: {error}"))?;
    // A field that is not in the definition, or a number written longer than needed, makes the two differ.
    if list.encoded_len() != length {
        return Err("fields that the definition does not have".to_owned());
    }
    if list.elem.is_empty() {
        return Err("no batch".to_owned());
    }
    for batch in &list.elem {
        check_batch(world, batch)?;
    }
    Ok(list)
}

fn inflate(body: &[u8]) -> Result<Bytes, String> {
    // Audit records deflate to about a sixth.
    let mut text = Vec::with_capacity(body.len().saturating_mul(7));
    let mut decoder = ZlibDecoder::new(body).take(MAX_INFLATED_BYTES + 1);
    decoder
        .read_to_end(&mut text)
        .map_err(|error| format!("not zlib: {error}"))?;
    if text.len() as u64 > MAX_INFLATED_BYTES {
        return Err("inflates to too much".to_owned());
    }
    if decoder.get_ref().total_in() != body.len() as u64 {
        return Err("bytes after the end of the zlib stream".to_owned());
    }
    Ok(text.into())
}

fn check_batch(world: &World, batch: &CollectedBatch) -> Result<(), String> {
    let source_id = batch.source_id.as_ref().ok_or("no source_id")?;
    let source_id = std::str::from_utf8(source_id).map_err(|_| "source_id is not text")?;
    let metadata = batch.metadata.as_ref().ok_or("no metadata")?;
    let host_id = world
        .alertlogic
        .state()
        .sources
        .get(source_id)
        .cloned()
        .ok_or("source_id is not registered")?;
    if metadata
        .host_uuid
        .as_ref()
        .is_some_and(|id| id != host_id.as_bytes())
    {
        return Err("host_uuid is not the registered host".to_owned());
    }
    check_metadata(metadata)?;
    if batch.message.is_empty() {
        return Err("a batch without messages".to_owned());
    }
    for message in &batch.message {
        let is_whole = message.message_ts.is_some()
            && message.priority.is_some()
            && message.message_type.is_some()
            && message
                .message
                .as_ref()
                .is_some_and(|text| !text.is_empty());
        if !is_whole {
            return Err(
                "a message without message_ts, priority, message or message_type".to_owned(),
            );
        }
    }
    Ok(())
}

fn check_metadata(metadata: &Metadata) -> Result<(), String> {
    let sent = metadata.data_checksum.as_ref().ok_or("no data_checksum")?;
    let unsummed = Metadata {
        host_uuid: metadata.host_uuid.clone(),
        data_checksum: Some(Bytes::new()),
        timestamp: None,
        data: metadata.data.clone(),
    };
    if Sha1::digest(unsummed.encode_to_vec()).as_slice() != sent.as_ref() {
        return Err("data_checksum is not the SHA-1 of the metadata".to_owned());
    }
    let elements = metadata
        .data
        .as_ref()
        .map(|data| data.elem.as_slice())
        .unwrap_or_default();
    let text = |at: usize, key: &str| {
        let element = elements.get(at)?;
        if element.key.as_ref()? != key.as_bytes() {
            return None;
        }
        element.value.as_ref()?.str.as_ref()
    };
    let is_function = text(0, "host_type").is_some_and(|host_type| host_type == "azure_fun");
    if elements.len() != 2 || !is_function || text(1, "local_hostname").is_none() {
        return Err("metadata is not host_type azure_fun and local_hostname".to_owned());
    }
    Ok(())
}

/// Notes a message as delivered, and each field that is not what it must be.
fn take(world: &World, message: &CollectedMessage, identity: Identity) {
    let Some(text) = &message.message else { return };
    world.at_alertlogic.note(&world.records, identity, text);
    let (Identity::Exact(record) | Identity::Altered(record)) = identity else {
        return;
    };
    let Some(blob) = world.plan.blob_of(record) else {
        return;
    };
    let facts = world.records.facts(blob, record);
    if let Some(field) = wrong_field(message, &facts) {
        world.at_alertlogic.note_fault(format!(
            "{field} of {} is wrong",
            world.records.id_text(record)
        ));
    }
}

fn wrong_field(message: &CollectedMessage, facts: &Facts) -> Option<&'static str> {
    // Without a CreationTime that parses, the current time is sent, which cannot be foretold.
    if let Some((secs, micros)) = facts.created {
        if message.message_ts != u64::try_from(secs).ok() {
            return Some("message_ts");
        }
        if message.message_ts_us != micros {
            return Some("message_ts_us");
        }
    }
    let is =
        |field: &Option<Bytes>, value: Option<&str>| field.as_deref() == value.map(str::as_bytes);
    if message.priority != Some(11) {
        return Some("priority");
    }
    if !is(&message.prog_name, Some("o365webhook")) {
        return Some("prog_name");
    }
    if !is(&message.message_type, Some("json/azure.o365")) {
        return Some("message_type");
    }
    if !is(&message.message_type_id, facts.record_type.as_deref()) {
        return Some("message_type_id");
    }
    (message.pid.is_some() || message.hostname.is_some()).then_some("pid or hostname")
}

/// Writes the post down for another decoder, if that is wanted and the limit is not reached.
fn capture(world: &World, call: &Call) -> std::io::Result<()> {
    let Some(folder) = &world.options.capture_ingest else {
        return Ok(());
    };
    let number = world.alertlogic.captured.fetch_add(1, Ordering::Relaxed) + 1;
    if number > world.options.capture_limit as u64 {
        return Ok(());
    }
    let headers: serde_json::Map<String, Value> = call
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes())
                    .into_owned()
                    .into(),
            )
        })
        .collect();
    let about = json!({"method": call.method.as_str(), "path": call.path, "headers": headers});
    std::fs::write(folder.join(format!("{number:04}.json")), about.to_string())?;
    std::fs::write(folder.join(format!("{number:04}.body")), &call.body)
}
