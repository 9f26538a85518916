//! Listings of content and of notifications, blobs, and the list of sensitive types.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_ENCODING, HeaderName};
use libdeflater::{CompressionLvl, Compressor};
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::subscriptions::{check_enabled, content_type_of};
use super::{huge, refused};
use crate::ContentType;
use crate::faults::body::harm;
use crate::faults::requests::{BodyHarm, ListingHarm};
use crate::http::{Call, Reply, empty, json, reply, with_header};
use crate::plan::{Fate, NoBlob, feed_of};
use crate::times::{DAY_MS, parse_request, with_ms};
use crate::world::World;

/// A checked request for a listing.
struct Listing {
    content_type: ContentType,
    /// As they were sent, or resolved when they were absent: the next page repeats them.
    start_text: String,
    end_text: String,
    start_ms: i64,
    end_ms: i64,
    /// How many entries earlier pages gave.
    skip: usize,
}

/// What tells one request for a page of content from another: the feed, the window's start and the place in it. A window
/// that ends at the present moment has another end each time it is asked for.
pub(crate) fn listing_key(world: &World, call: &Call) -> Option<u64> {
    let text = format!(
        "{} {} {} {}",
        call.path.replace("/v1/", "/v1.0/"),
        content_type_of(call).ok()?,
        call.parameter("startTime").unwrap_or_default(),
        call.parameter("nextPage")
            .and_then(|token| token.split('.').next())
            .unwrap_or_default(),
    );
    Some(xxh3_64_with_seed(text.as_bytes(), world.options.seed))
}

/// The number of the blob that a request names.
pub(crate) fn blob_key(world: &World, call: &Call) -> Option<u64> {
    let content_id = call.segments().last().copied()?.to_owned();
    Some(world.plan.find(&content_id).ok()? as u64)
}

/// `GET subscriptions/content`.
pub(crate) fn content(
    world: &World,
    tenant: usize,
    call: &Call,
    harm: Option<(ListingHarm, u64)>,
) -> Reply {
    let listing = match Listing::check(world, tenant, call) {
        Ok(listing) => listing,
        Err(reply) => return reply,
    };
    let feed = feed_of(tenant, listing.content_type);
    let all = world
        .plan
        .listing(feed, listing.start_ms, listing.end_ms, world.now_ms());
    let page = match harm {
        Some((ListingHarm::Empty, _)) => listing.skip..listing.skip,
        _ => page_of(all.len(), listing.skip, world.options.page_size),
    };
    let has_more = page.end < all.len();
    let given = all.get(page).unwrap_or_default();
    for blob in given.iter().filter_map(|&at| world.plan.blobs.get(at)) {
        if blob.mark_listed() {
            world.counters.blobs_listed.fetch_add(1, Ordering::Relaxed);
            world
                .counters
                .records_listed
                .fetch_add(u64::from(blob.count), Ordering::Relaxed);
        }
    }
    let now_ms = world.now_ms();
    let rows = given.iter().filter_map(|&at| {
        let mut row = entry(world, at, "")?;
        if let Some(drawn) = world.weather.hostile_uri(at as u64, now_ms) {
            let uri = row["contentUri"].as_str().unwrap_or_default().to_owned();
            row["contentUri"] = hostile(world, &uri, drawn).into();
        }
        Some(row)
    });
    let rows = rows.collect();
    listing.finish(world, tenant, "content", rows, has_more, harm)
}

/// An address that looks like this one and that no token may be sent to.
fn hostile(world: &World, uri: &str, drawn: u64) -> String {
    let origin = &world.origins.microsoft;
    let path = uri.strip_prefix(origin.as_str()).unwrap_or(uri);
    let host = origin.split("://").nth(1).unwrap_or(origin);
    let stranger = &world.origins.stranger;
    let stranger_host = stranger.split("://").nth(1).unwrap_or(stranger);
    match drawn % 6 {
        0 => format!("{stranger}{path}"),
        1 => format!("https://{host}@{stranger_host}{path}"),
        // Nobody listens for plain HTTP there; where it is the simulator's own scheme, a port makes the difference.
        2 if origin.starts_with("https://") => format!("http://{host}{path}"),
        2 => format!("{stranger}/{path}"),
        3 => {
            let other = "00000000-1111-4222-8333-444444444444";
            let tenant = path.split('/').nth(3).unwrap_or_default();
            format!("{origin}{}", path.replacen(tenant, other, 1))
        }
        4 => format!("{origin}/{}", path.replacen("/activity/", "//activity/", 1)),
        _ => format!("https://{host}.{stranger_host}{path}"),
    }
}

/// `GET subscriptions/notifications`: every push of every blob, failed ones too.
pub(crate) fn notifications(world: &World, tenant: usize, call: &Call) -> Reply {
    let listing = match Listing::check(world, tenant, call) {
        Ok(listing) => listing,
        Err(reply) => return reply,
    };
    let feed = feed_of(tenant, listing.content_type);
    let in_window = |at: usize| {
        let blob = world.plan.blobs.get(at);
        blob.is_some_and(|blob| (listing.start_ms..listing.end_ms).contains(&blob.created_ms))
    };
    let sent = world
        .microsoft
        .with_subscription(feed, |subscription| subscription.sent.clone())
        .unwrap_or_default();
    let sent: Vec<_> = sent
        .into_iter()
        .filter(|sent| in_window(sent.blob))
        .collect();
    let page = page_of(sent.len(), listing.skip, world.options.page_size);
    let rows = sent
        .get(page.clone())
        .unwrap_or_default()
        .iter()
        .filter_map(|sent| {
            let mut row = entry(
                world,
                sent.blob,
                &format!("${}", crate::plan::region(tenant)),
            )?;
            row["notificationSent"] = with_ms(sent.sent_ms).into();
            row["notificationStatus"] = if sent.is_success {
                "Succeeded"
            } else {
                "Failed"
            }
            .into();
            Some(row)
        })
        .collect();
    let has_more = page.end < sent.len();
    listing.finish(world, tenant, "notifications", rows, has_more, None)
}

/// A blob as listings name it; `suffix` is what a notification's `contentId` has more.
pub(crate) fn entry(world: &World, at: usize, suffix: &str) -> Option<Value> {
    let blob = world.plan.blobs.get(at)?;
    let content_id = format!("{}{suffix}", world.plan.content_id(at)?);
    let tenant = world.tenants.get(blob.tenant)?;
    let uri = format!(
        "{}/api/v1.0/{}/activity/feed/audit/{content_id}",
        world.origins.microsoft, tenant.tenant_id
    );
    Some(json!({
        "contentUri": uri,
        "contentId": content_id,
        "contentType": blob.content_type.as_str(),
        "contentCreated": with_ms(blob.created_ms),
        "contentExpiration": world.plan.expiration_text(blob),
    }))
}

impl Listing {
    fn check(world: &World, tenant: usize, call: &Call) -> Result<Self, Reply> {
        let content_type = content_type_of(call)?;
        let now_ms = world.service_now_ms();
        let code = if world.options.newer_time_code {
            "AF20055"
        } else {
            "AF20030"
        };
        let broken = || {
            refused(
                code,
                "Start time and end time must both be specified (or both omitted) and must be less than or equal to 24 hours apart, \
                 with the start time no more than 7 days in the past.",
            )
        };
        let texts = match (call.parameter("startTime"), call.parameter("endTime")) {
            (Some(start), Some(end)) => (start.to_owned(), end.to_owned()),
            (None, None) => (with_ms(now_ms - DAY_MS), with_ms(now_ms)),
            _ => return Err(broken()),
        };
        let parse = |name: &str, text: &str| {
            parse_request(text).ok_or_else(|| {
                refused(
                    "AF20002",
                    &format!("Invalid parameter type: {name}. Expected type: datetime"),
                )
            })
        };
        let (start_ms, end_ms) = (parse("startTime", &texts.0)?, parse("endTime", &texts.1)?);
        let width = end_ms.saturating_sub(start_ms);
        let is_too_wide = width > DAY_MS || (world.options.strict_day && width == DAY_MS);
        if width <= 0 || is_too_wide || start_ms < now_ms - 7 * DAY_MS {
            return Err(broken());
        }
        check_enabled(world, feed_of(tenant, content_type))?;
        let mut listing = Self {
            content_type,
            start_text: texts.0,
            end_text: texts.1,
            start_ms,
            end_ms,
            skip: 0,
        };
        if let Some(token) = call.parameter("nextPage") {
            let skip = token
                .split_once('.')
                .and_then(|(skip, _)| usize::from_str_radix(skip, 16).ok());
            match skip.filter(|&skip| listing.page_token(world, tenant, skip) == token) {
                Some(skip) => listing.skip = skip,
                None => {
                    return Err(refused(
                        "AF20031",
                        &format!("Invalid nextPage Input: {token}."),
                    ));
                }
            }
        }
        Ok(listing)
    }

    /// Names a page of this listing and of no other, so that a collector that mixes two up is found out.
    fn page_token(&self, world: &World, tenant: usize, skip: usize) -> String {
        let text = format!(
            "{tenant} {} {} {} {skip}",
            self.content_type, self.start_ms, self.end_ms
        );
        format!(
            "{skip:x}.{:016x}",
            xxh3_64_with_seed(text.as_bytes(), world.options.seed)
        )
    }

    fn finish(
        &self,
        world: &World,
        tenant: usize,
        operation: &str,
        rows: Vec<Value>,
        has_more: bool,
        harm: Option<(ListingHarm, u64)>,
    ) -> Reply {
        let count = rows.len();
        let reply = json(StatusCode::OK, &Value::from(rows));
        let Some(tenant_id) = world
            .tenants
            .get(tenant)
            .map(|tenant| &tenant.tenant_id)
            .filter(|_| has_more || harm.is_some())
        else {
            return reply;
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query
            .append_pair("contentType", self.content_type.as_str())
            .append_pair("startTime", &self.start_text)
            .append_pair("endTime", &self.end_text);
        let next = match harm.map(|(harm, _)| harm) {
            None | Some(ListingHarm::Hostile | ListingHarm::Empty) => self.skip + count,
            Some(ListingHarm::Repeated) => self.skip,
            Some(ListingHarm::Circle) => 0,
        };
        if next > 0 {
            query.append_pair("nextPage", &self.page_token(world, tenant, next));
        }
        let query = query.finish();
        // The documents' sample has `v1` here and `v1.0` elsewhere, and leaves the publisher out.
        let uri = format!(
            "{}/api/v1/{tenant_id}/activity/feed/subscriptions/{operation}?{query}",
            world.origins.microsoft
        );
        let uri = match harm {
            Some((ListingHarm::Hostile, drawn)) => hostile(world, &uri, drawn),
            _ => uri,
        };
        with_header(reply, HeaderName::from_static("nextpageuri"), &uri)
    }
}

fn page_of(count: usize, skip: usize, page_size: usize) -> Range<usize> {
    let start = skip.min(count);
    start..start.saturating_add(page_size).min(count)
}

/// `GET audit/{contentId}`.
pub(crate) fn blob(world: &Arc<World>, tenant: usize, call: &Call) -> Reply {
    let content_id = call
        .segments()
        .last()
        .copied()
        .unwrap_or_default()
        .to_owned();
    let unknown = || {
        refused(
            "AF20050",
            &format!("The specified content ({content_id}) does not exist."),
        )
    };
    let at = match world.plan.find(&content_id) {
        Ok(at) => at,
        Err(NoBlob::Malformed) => {
            return refused(
                "AF20052",
                &format!("Content ID {content_id} in the URL is invalid."),
            );
        }
        Err(NoBlob::Unknown) => return unknown(),
    };
    let now_ms = world.now_ms();
    let Some(blob) = world
        .plan
        .blobs
        .get(at)
        .filter(|blob| blob.tenant == tenant && blob.available_ms <= now_ms)
    else {
        return unknown();
    };
    if blob.fate == Fate::Expired || world.plan.expires_ms(blob) <= now_ms {
        let text = format!(
            "Content requested with the key {content_id} has already expired. Content older than 7 days cannot be retrieved."
        );
        return refused("AF20051", &text);
    }
    let accepts_gzip = world.options.gzip && accepts_gzip(call);
    if blob.fate == Fate::Undecodable {
        // No harm in the body's way: this is what there is.
        return harm(empty(StatusCode::OK), BodyHarm::Garbage, at as u64);
    }
    if blob.mark_fetched() {
        world.counters.blobs_fetched.fetch_add(1, Ordering::Relaxed);
        world
            .counters
            .records_fetched
            .fetch_add(u64::from(blob.count), Ordering::Relaxed);
    }
    world.counters.blob_requests.fetch_add(1, Ordering::Relaxed);
    world.measured.note_blob(now_ms);
    if blob.is_huge {
        return huge::reply_of(Arc::clone(world), at, accepts_gzip);
    }
    let prepared = world.prepared.get(at).filter(|_| accepts_gzip).cloned();
    let (body, is_gzip, plain_bytes) = match (prepared, accepts_gzip) {
        (Some(prepared), _) => (prepared.gzip, true, prepared.plain_bytes),
        (None, true) => {
            let Prepared { gzip, plain_bytes } = prepare(world.blob_body(blob));
            (gzip, true, plain_bytes)
        }
        (None, false) => {
            let body = world.blob_body(blob);
            let plain_bytes = body.len() as u64;
            (body, false, plain_bytes)
        }
    };
    world
        .counters
        .blob_bytes
        .fetch_add(plain_bytes, Ordering::Relaxed);
    let reply = reply(StatusCode::OK, "application/json; charset=utf-8", body);
    if is_gzip {
        with_header(reply, CONTENT_ENCODING, "gzip")
    } else {
        reply
    }
}

fn accepts_gzip(call: &Call) -> bool {
    let is_gzip = |encoding: &str| {
        let name = encoding.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("gzip")
    };
    call.header("accept-encoding")
        .is_some_and(|encodings| encodings.split(',').any(is_gzip))
}

/// A blob's body as it is served to those who accept gzip.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    gzip: Bytes,
    plain_bytes: u64,
}

/// Compresses a body.
pub(crate) fn prepare(body: Bytes) -> Prepared {
    Prepared {
        gzip: gzip(&body),
        plain_bytes: body.len() as u64,
    }
}

/// Compresses at the lowest level that does: the simulator shares its machine with the collector.
fn gzip(body: &[u8]) -> Bytes {
    thread_local! {
        // The buffer is kept, because it must have room for what does not compress at all.
        static COMPRESSOR: RefCell<(Compressor, Vec<u8>)> =
            RefCell::new((Compressor::new(level()), Vec::new()));
    }
    COMPRESSOR.with_borrow_mut(|(compressor, out)| {
        let bound = compressor.gzip_compress_bound(body.len());
        if out.len() < bound {
            out.resize(bound, 0);
        }
        let length = compressor
            .gzip_compress(body, out)
            .expect("the buffer has at least the bound's length");
        Bytes::copy_from_slice(out.get(..length).unwrap_or_default())
    })
}

/// Level 1; the crate's `fastest` is level 0, which only stores.
fn level() -> CompressionLvl {
    CompressionLvl::new(1).unwrap_or_default()
}

/// `GET resources/dlpSensitiveTypes`.
pub(crate) fn dlp_sensitive_types(call: &Call) -> Reply {
    if let Some(language) = call.header("accept-language") {
        if language.contains(',') {
            return refused(
                "AF20053",
                "Multiple languages were specified in the Accept-Language header.",
            );
        }
        let is_tag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !language.trim().split('-').all(is_tag) {
            return refused("AF20054", "Invalid syntax in the Accept-Language header.");
        }
    }
    let types = json!([
        {"id": "50842eb7-edc8-4019-85dd-5a5c1f2bb085", "name": "CreditCardNumber"},
        {"id": "a44669fe-0d48-453d-a9b1-2cc83f2cba77", "name": "U.S. Social Security Number (SSN)"},
        {"id": "e7dc4711-11b7-4cb0-b88b-2c394a771f0e", "name": "International Banking Account Number (IBAN)"},
    ]);
    json(StatusCode::OK, &types)
}
