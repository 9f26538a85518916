//! `[[sink]]`: where records go. Each type has its own keys; `id` is common to all.

use std::path::PathBuf;
use std::time::Duration;

use alertlogic::endpoints::Endpoint;
use ledger::SinkName;

use super::SinkConfig;
use super::keys::Kind;
use super::reader::Section;
use super::service::{MIB, check_url, to_usize};
use crate::sinks::alertlogic::{
    AlertLogicConfig, DEFAULT_API, DEFAULT_PAYLOAD_BYTES, LARGEST_PAYLOAD_BYTES,
};
use crate::sinks::file::{Compression, FileConfig};
use crate::sinks::splunk_hec::SplunkHecConfig;
use crate::sinks::stdout::StdoutConfig;

const ALERT_LOGIC: &str = "alertlogic";
const FILE: &str = "file";
const SPLUNK_HEC: &str = "splunk_hec";
const STDOUT: &str = "stdout";
const TYPES: [&str; 4] = [ALERT_LOGIC, FILE, SPLUNK_HEC, STDOUT];

const COMPRESSIONS: [&str; 3] = ["none", "gzip", "zstd"];

/// A payload carries at least its metadata; below this most real records would be too large to send.
const SMALLEST_PAYLOAD_BYTES: usize = 10_000;

/// Characters. More than the 60 of a web app in Azure, whose name the original registers under. What azcollect takes is
/// not published: a longer name might be refused only once there are records to deliver.
const LONGEST_COLLECTOR_NAME: usize = 80;

pub(super) fn read(root: &mut Section<'_, '_>) -> Vec<SinkConfig> {
    let mut types: Vec<&str> = Vec::new();
    let mut names: Vec<Option<SinkName>> = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    let tag = ("type", "What the sink is.", TYPES.as_slice());
    root.tagged_tables(
        "sink",
        "A place where every record is delivered.",
        tag,
        |section, kind| {
            let nth = types.iter().filter(|earlier| **earlier == kind).count() + 1;
            types.push(kind);
            let name = read_name(section, kind, nth);
            if let Some(first) = name
                .as_ref()
                .and_then(|name| names.iter().position(|seen| seen.as_ref() == Some(name)))
            {
                section.incomplete(
                    "id",
                    format!("sink[{first}] has this name too: give each sink an `id` of its own"),
                );
            }
            names.push(name.clone());
            match kind {
                ALERT_LOGIC => read_alertlogic(section, name).map(SinkConfig::AlertLogic),
                FILE => {
                    let file = read_file(section, name);
                    if let Some(file) = &file {
                        if paths.contains(&file.path) {
                            section.incomplete(
                                "path",
                                "another sink writes to this file too: give each a file of its own",
                            );
                        }
                        paths.push(file.path.clone());
                    }
                    file.map(SinkConfig::File)
                }
                SPLUNK_HEC => read_splunk_hec(section, name).map(SinkConfig::SplunkHec),
                _ => name.map(|name| SinkConfig::Stdout(StdoutConfig { name })),
            }
        },
    )
}

fn read_name(section: &mut Section<'_, '_>, kind: &str, nth: usize) -> Option<SinkName> {
    let otherwise = match nth {
        1 => kind.to_owned(),
        _ => format!("{kind}-{nth}"),
    };
    section
        .text(
            "id",
            "The name that the ledger, the metrics and the status page know the sink by. A sink whose name changes has \
             delivered nothing as far as the ledger knows.",
        )
        .try_map(Kind::Text, |text| {
            text.parse().map_err(|_| "must be 1 to 64 letters, digits, '-', '_' or '.'".to_owned())
        })
        .computed("the type; -2, -3 and so on behind it where a type repeats", otherwise)
}

fn read_alertlogic(
    section: &mut Section<'_, '_>,
    name: Option<SinkName>,
) -> Option<AlertLogicConfig> {
    let api = read_host(
        section,
        "api",
        "Alert Logic's API: a host, or a full https:// url.",
    )
    .default(DEFAULT_API);
    let residency = section
        .text("residency", "The data residency of the account.")
        .default("default");
    let access_key_id = section
        .text("access_key_id", "The access key's id.")
        .required();
    let secret_key = section
        .secret("secret_key", "The access key's secret.")
        .required();
    let compression_level = section
        .integer(
            "compression_level",
            "How hard payloads are compressed, from fast to small.",
            1..=12,
        )
        .map(|level| u8::try_from(level).unwrap_or(u8::MAX))
        .default(1);
    let (smallest, largest) = (SMALLEST_PAYLOAD_BYTES as i64, LARGEST_PAYLOAD_BYTES as i64);
    let max_payload_bytes = section
        .integer(
            "max_payload_bytes",
            "The most that one request may carry, in compressed bytes.",
            smallest..=largest,
        )
        .try_map(
            Kind::Integer {
                min: smallest,
                max: largest,
            },
            to_usize,
        )
        .default(DEFAULT_PAYLOAD_BYTES as i64);
    let collector_name = section
        .text(
            "name",
            "The log source's name in Alert Logic. The ledger knows the sink by `id` instead.",
        )
        .try_map(Kind::Text, |text| {
            check_collector_name(&text).map(|()| text)
        })
        .default("o365-collector");
    let of_earlier = "the sink registers itself once per tenant and keeps the ids in the ledger";
    let source_id = section
        .text(
            "source_id",
            "The log source's id of an earlier registration.",
        )
        .optional(of_earlier);
    let host_id = section
        .text("host_id", "The host's id of an earlier registration.")
        .optional(of_earlier);
    match (
        section.origin_if_set("source_id"),
        section.origin_if_set("host_id"),
    ) {
        (Some(_), None) => section.incomplete(
            "host_id",
            "missing: source_id is set, and one needs the other",
        ),
        (None, Some(_)) => section.incomplete(
            "source_id",
            "missing: host_id is set, and one needs the other",
        ),
        _ => {}
    }
    let subscription_id = section
        .guid::<uuid::Uuid>(
            "subscription_id",
            "The Azure subscription to register under, a GUID; zeros outside Azure.",
        )
        .map(|id| id.to_string())
        .default(uuid::Uuid::nil().to_string());
    let resource_group = section
        .text(
            "resource_group",
            "The Azure resource group to register under.",
        )
        .default("self-hosted");
    let register_client_secret = section
        .boolean(
            "register_client_secret",
            "Whether registration carries the application's client secret, as the original collector's does.",
        )
        .default(true);
    let looked_up = "the endpoints service is asked";
    let azcollect = read_host(
        section,
        "azcollect",
        "The azcollect service: a host, or a full https:// url.",
    );
    let azcollect = azcollect.optional(looked_up);
    let ingest = read_host(
        section,
        "ingest",
        "The ingest service: a host, or a full https:// url.",
    );
    let ingest = ingest.optional(looked_up);
    Some(AlertLogicConfig {
        name: name?,
        api: api?,
        residency: residency?,
        access_key_id: access_key_id?,
        secret_key: secret_key?,
        compression_level: compression_level?,
        max_payload_bytes: max_payload_bytes?,
        collector_name: collector_name?,
        source_id,
        host_id,
        subscription_id: subscription_id?,
        resource_group: resource_group?,
        register_client_secret: register_client_secret?,
        azcollect,
        ingest,
        // Only a function app has one, and its host fills it in.
        local_hostname: None,
    })
}

/// The name is a segment of the path that the log source is registered under. Empty texts and control characters are
/// not looked for: no setting may have them.
fn check_collector_name(name: &str) -> Result<(), String> {
    // Percent-encoding does not help here: a url's parser takes %2E for a dot, and drops the segment all the same.
    if name == "." || name == ".." {
        return Err(
            "must not be '.' or '..': it is a part of the path that the log source is registered under, and would drop \
             out of it"
                .to_owned(),
        );
    }
    if name.chars().count() > LONGEST_COLLECTOR_NAME {
        return Err(format!(
            "must be at most {LONGEST_COLLECTOR_NAME} characters: it is a part of the path that the log source is \
             registered under"
        ));
    }
    Ok(())
}

fn read_host<'s, 'r, 'd>(
    section: &'s mut Section<'r, 'd>,
    name: &'static str,
    doc: &'static str,
) -> super::field::Field<'s, 'r, 'd, String> {
    section
        .text(name, doc)
        .try_map(Kind::Text, |text| match Endpoint::parse(&text) {
            Ok(_) => Ok(text),
            Err(error) => Err(format!(
                "must be a host, host:port or full https:// url: {error}"
            )),
        })
}

fn read_file(section: &mut Section<'_, '_>, name: Option<SinkName>) -> Option<FileConfig> {
    let path = section
        .path("path", "The file that records are appended to, one a line.")
        .required();
    let rotate_bytes = section
        .integer(
            "rotate_mib",
            "A file that has grown to this many MiB is set aside.",
            1..=1_048_576,
        )
        .map(|mib| mib.unsigned_abs() * MIB)
        .optional("no rotation by size");
    let rotate_after = section
        .integer(
            "rotate_hours",
            "A file that was begun this many hours ago is set aside.",
            1..=8784,
        )
        .map(|hours| Duration::from_secs(hours.unsigned_abs() * 3600))
        .optional("no rotation by age");
    let compression = section
        .choice(
            "compression",
            "What becomes of a file that was set aside.",
            &COMPRESSIONS,
        )
        .map(|name| match name {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            _ => Compression::None,
        })
        .default("none");
    Some(FileConfig {
        name: name?,
        path: path?,
        rotate_bytes,
        rotate_after,
        compression: compression?,
    })
}

fn read_splunk_hec(
    section: &mut Section<'_, '_>,
    name: Option<SinkName>,
) -> Option<SplunkHecConfig> {
    let url = section
        .text("url", "The HTTP Event Collector: scheme, host and port.")
        .try_map(Kind::Url, |text| check_url(&text).map(|()| text))
        .required();
    let token = section
        .secret("token", "The HEC token.")
        .in_headers()
        .required();
    let index = section
        .text("index", "The index to write to.")
        .optional("the token's own");
    let source = section
        .text("source", "Splunk's `source`.")
        .optional("the token's own");
    let sourcetype = section
        .text("sourcetype", "Splunk's `sourcetype`.")
        .default(SplunkHecConfig::DEFAULT_SOURCETYPE);
    let host = section
        .text("host", "Splunk's `host`.")
        .optional("Splunk puts in where our request came from");
    let acknowledge_within = section
        .integer(
            "acknowledge_within_secs",
            "How long to wait for the indexers' acknowledgement, where the token has it on, in seconds.",
            1..=3600,
        )
        .map(|secs| Duration::from_secs(secs.unsigned_abs()))
        .default(SplunkHecConfig::DEFAULT_ACKNOWLEDGE_WITHIN.as_secs().cast_signed());
    let (smallest, largest) = (SMALLEST_PAYLOAD_BYTES as i64, 16 * MIB.cast_signed());
    let max_batch_bytes = section
        .integer(
            "max_batch_bytes",
            "How much text goes into one request, in bytes before compression.",
            smallest..=largest,
        )
        .try_map(
            Kind::Integer {
                min: smallest,
                max: largest,
            },
            to_usize,
        )
        .default(SplunkHecConfig::DEFAULT_MAX_BATCH_BYTES as i64);
    Some(SplunkHecConfig {
        name: name?,
        url: url?,
        token: token?,
        index,
        source,
        sourcetype: sourcetype?,
        host,
        acknowledge_within: acknowledge_within?,
        max_batch_bytes: max_batch_bytes?,
    })
}
