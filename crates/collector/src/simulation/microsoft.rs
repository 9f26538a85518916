//! Microsoft as the plan has it: tokens, subscriptions, listings in pages, blobs. It keeps count of what it really handed
//! out, because that is what the ledger may claim.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use activity_api::{ContentType, TenantId, Window};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::plan::{Fault, Plan, PlannedBlob};
use super::world::World;
use crate::http::{Body, Error, Transport};
use crate::testing::{blob_uri, gzip};

/// Over how long Microsoft counts requests.
const MINUTE: Duration = Duration::from_secs(60);

/// Every listing that was begun, and which subscriptions there are.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    subscribed: BTreeSet<(TenantId, ContentType)>,
    all: Vec<Listing>,
    /// When each tenant's last requests came, in the present life.
    requests: BTreeMap<TenantId, VecDeque<Instant>>,
    pub(crate) request_count: u64,
}

#[derive(Debug)]
struct Listing {
    tenant: TenantId,
    content_type: ContentType,
    window: Window,
    pages: Vec<Vec<usize>>,
    /// Pages that were handed out to their last byte, without an entry that cannot be used.
    handed_out: BTreeSet<usize>,
}

impl Listings {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut listings = Self::default();
        if plan.is_subscribed_at_first {
            for tenant in &plan.tenants {
                let all = plan.content_types.iter();
                listings
                    .subscribed
                    .extend(all.map(|content_type| (*tenant, *content_type)));
            }
        }
        listings
    }

    pub(crate) fn begin_life(&mut self) {
        self.requests.clear();
    }

    /// The blobs of each listing of exactly this window whose every page was handed out.
    pub(crate) fn completed(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        window: Window,
    ) -> Vec<BTreeSet<usize>> {
        let of_window = self.all.iter().filter(|listing| {
            (listing.tenant, listing.content_type, listing.window) == (tenant, content_type, window)
                && listing.handed_out.len() == listing.pages.len()
        });
        of_window
            .map(|listing| listing.pages.iter().flatten().copied().collect())
            .collect()
    }

    /// Every window of which some listing went to its last page.
    pub(crate) fn all_completed(&self, tenant: TenantId, content_type: ContentType) -> Vec<Window> {
        let of_stream = self.all.iter().filter(|listing| {
            (listing.tenant, listing.content_type) == (tenant, content_type)
                && listing.handed_out.len() == listing.pages.len()
        });
        of_stream.map(|listing| listing.window).collect()
    }

    /// One more request now; how many that are in the last minute.
    fn count(&mut self, tenant: TenantId) -> usize {
        self.request_count += 1;
        let now = Instant::now();
        let requests = self.requests.entry(tenant).or_default();
        requests.push_back(now);
        while requests
            .front()
            .is_some_and(|at| now.duration_since(*at) >= MINUTE)
        {
            requests.pop_front();
        }
        requests.len()
    }
}

/// The way to it.
pub(crate) struct SimulatedMicrosoft(pub(crate) Arc<World>);

/// What is asked for.
#[derive(Debug)]
enum Asked {
    Token,
    Subscriptions(TenantId),
    Start(TenantId, ContentType),
    FirstPage(TenantId, ContentType, Window),
    Page(TenantId, usize, usize),
    Blob(TenantId, String),
}

/// What is answered.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// It breaks off before this byte.
    breaks_at: Option<usize>,
    /// The listing and page that are handed out with it.
    page: Option<(usize, usize)>,
}

impl Answer {
    fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.into(),
            breaks_at: None,
            page: None,
        }
    }

    fn refusal(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"error":{{"code":"{code}","message":"no"}}}}"#);
        Self::new(status, body)
    }
}

impl SimulatedMicrosoft {
    fn answer(&self, asked: &Asked) -> Result<Answer, Error> {
        let world = &self.0;
        if let Asked::Token = asked {
            if world.goes_wrong(Fault::NoToken) {
                return Ok(Answer::new(503, ""));
            }
            return Ok(Answer::new(
                200,
                r#"{"token_type":"Bearer","expires_in":3600,"access_token":"a-token"}"#,
            ));
        }
        if let Some(refusal) = self.refusal()? {
            return Ok(refusal);
        }
        let mut answer = match asked {
            Asked::Token => unreachable!("answered above"),
            Asked::Subscriptions(tenant) => self.subscriptions(*tenant),
            Asked::Start(tenant, content_type) => {
                let mut state = world.state();
                state.listings.subscribed.insert((*tenant, *content_type));
                Answer::new(200, r#"{"status":"enabled"}"#)
            }
            Asked::FirstPage(tenant, content_type, window) => {
                match self.begin_listing(*tenant, *content_type, *window) {
                    Some(listing) => self.page(listing, 0),
                    None => Answer::refusal(400, "AF20022"),
                }
            }
            Asked::Page(_, listing, page) => {
                if world.goes_wrong(Fault::PageTokenRefused) {
                    return Ok(Answer::refusal(400, "AF20031"));
                }
                self.page(*listing, *page)
            }
            Asked::Blob(tenant, name) => self.blob(*tenant, name),
        };
        if answer.status == 200 {
            self.damage(&mut answer);
        }
        Ok(answer)
    }

    /// What any request may get instead of its answer.
    fn refusal(&self) -> Result<Option<Answer>, Error> {
        let world = &self.0;
        if world.goes_wrong(Fault::NoConnection) {
            return Err(reset());
        }
        if world.goes_wrong(Fault::TokenRefused) {
            return Ok(Some(Answer::new(401, "")));
        }
        if world.goes_wrong(Fault::ServerError) {
            return Ok(Some(Answer::refusal(500, "AF50000")));
        }
        if world.goes_wrong(Fault::Throttled) {
            let mut answer = Answer::refusal(403, "AF429");
            let wait = world.state().chance.below(30);
            if wait > 0 {
                answer.headers.push(("retry-after", wait.to_string()));
            }
            return Ok(Some(answer));
        }
        Ok(None)
    }

    /// What may happen to the body of a success.
    fn damage(&self, answer: &mut Answer) {
        let world = &self.0;
        if world.goes_wrong(Fault::Reset) {
            answer.breaks_at = Some(world.state().chance.below(answer.body.len() + 1));
        } else if world.goes_wrong(Fault::Truncated) && answer.body.len() > 2 {
            let left = world.state().chance.below(answer.body.len() - 1);
            answer.body.truncate(left);
            answer.page = None;
        } else if world.goes_wrong(Fault::Garbage) {
            answer.body = b"<html>Please sign in</html>".to_vec();
            answer.page = None;
        }
    }

    fn subscriptions(&self, tenant: TenantId) -> Answer {
        let state = self.0.state();
        let all = state.listings.subscribed.iter();
        let entries: Vec<_> = all
            .filter(|(of, _)| *of == tenant)
            .map(|(_, content_type)| {
                format!(r#"{{"contentType":"{content_type}","status":"enabled","webhook":null}}"#)
            })
            .collect();
        Answer::new(200, format!("[{}]", entries.join(",")))
    }

    fn begin_listing(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        window: Window,
    ) -> Option<usize> {
        let world = &self.0;
        let repeats = world.goes_wrong(Fault::RepeatedPage);
        let has_empty = world.goes_wrong(Fault::EmptyPage);
        let mut state = world.state();
        if !state.listings.subscribed.contains(&(tenant, content_type)) {
            return None;
        }
        let now = state.now();
        let is_listed = |blob: &PlannedBlob| {
            blob.tenant == tenant
                && blob.content_type == content_type
                && (window.start()..window.end()).contains(&blob.created_at)
                && blob.appears_at <= now
                && now < blob.expires_at
        };
        let blobs = world.plan.blobs.iter().enumerate();
        let mut listed: Vec<_> = blobs
            .filter(|(_, blob)| is_listed(blob))
            .map(|(index, _)| index)
            .collect();
        listed.sort_by_key(|index| world.plan.blobs[*index].appears_at);
        let mut pages: Vec<Vec<usize>> = listed
            .chunks(world.plan.page_size)
            .map(<[usize]>::to_vec)
            .collect();
        if repeats {
            pages.extend(pages.first().cloned());
        }
        if has_empty || pages.is_empty() {
            let at = state.chance.below(pages.len() + 1);
            pages.insert(at, Vec::new());
        }
        state.listings.all.push(Listing {
            tenant,
            content_type,
            window,
            pages,
            handed_out: BTreeSet::new(),
        });
        Some(state.listings.all.len() - 1)
    }

    fn page(&self, listing: usize, page: usize) -> Answer {
        let world = &self.0;
        let spoils = world.goes_wrong(Fault::UnusableEntry);
        let state = world.state();
        let Listing {
            tenant,
            content_type,
            pages,
            ..
        } = &state.listings.all[listing];
        let mut body = String::from("[");
        for (place, index) in pages[page].iter().enumerate() {
            let blob = &world.plan.blobs[*index];
            let uri = match spoils && place == 0 {
                true => "https://example.net/elsewhere".to_owned(),
                false => blob_uri(blob.tenant, &blob.id),
            };
            if place > 0 {
                body.push(',');
            }
            write!(
                body,
                r#"{{"contentType":"{content_type}","contentId":"{}","contentUri":"{uri}","contentCreated":"{}","contentExpiration":"{}"}}"#,
                blob.id, blob.created_at, blob.expires_at
            )
            .unwrap();
        }
        body.push(']');
        let mut answer = Answer::new(200, body);
        if page + 1 < pages.len() {
            let next = format!(
                "https://manage.office.com/api/v1.0/{tenant}/activity/feed/subscriptions/content?contentType={content_type}&nextPage={listing}.{}",
                page + 1
            );
            answer.headers.push(("nextpageuri", next));
        }
        let is_spoilt = spoils && !pages[page].is_empty();
        answer.page = (!is_spoilt).then_some((listing, page));
        answer
    }

    fn blob(&self, tenant: TenantId, name: &str) -> Answer {
        let world = &self.0;
        let now = world.state().now();
        let of_name = |blob: &&PlannedBlob| blob.tenant == tenant && name.starts_with(&blob.id);
        let Some(blob) = world.plan.blobs.iter().find(of_name) else {
            world.violate(format!("a blob was asked for that does not exist: {name}"));
            return Answer::new(404, "");
        };
        if now >= blob.expires_at {
            return Answer::refusal(404, "AF20051");
        }
        if world.goes_wrong(Fault::Missing) {
            return Answer::refusal(404, "AF20050");
        }
        let body = blob.body().into_bytes();
        match blob.is_gzip {
            false => Answer::new(200, body),
            true => Answer {
                headers: vec![("content-encoding", "gzip".to_owned())],
                ..Answer::new(200, gzip(&body))
            },
        }
    }

    /// The page was handed out to its end: its blobs are owed from here on.
    fn handed_out(world: &World, (listing, page): (usize, usize)) {
        let mut state = world.state();
        let state = &mut *state;
        let listing = &mut state.listings.all[listing];
        listing.handed_out.insert(page);
        state.truth.owed.extend(&listing.pages[page]);
    }

    fn body(&self, answer: Answer) -> Body {
        let world = Arc::clone(&self.0);
        let Answer {
            body,
            breaks_at,
            page,
            ..
        } = answer;
        let end = breaks_at.unwrap_or(body.len());
        let state = (world, Bytes::from(body), 0, page);
        Body::from_stream(futures::stream::unfold(state, move |state| async move {
            let (world, body, at, page) = state;
            if at >= end {
                if breaks_at.is_some() && at == end {
                    world.step(|| "connection reset".to_owned()).await;
                    return Some((Err(reset()), (world, body, at + 1, None)));
                }
                return None;
            }
            // Few large pieces or many small ones, so that a step can lie in the middle of a record.
            let most = match world.state().chance.below(3) {
                0 => 300,
                _ => 4_000,
            };
            let next = (at + most).min(end);
            world
                .step(|| format!("bytes {at}..{next} of {}", body.len()))
                .await;
            let piece = body.slice(at..next);
            if next == body.len()
                && let Some(page) = page
            {
                Self::handed_out(&world, page);
            }
            Some((Ok(piece), (world, body, next, page)))
        }))
    }
}

fn reset() -> Error {
    Error::Connection {
        what: "connection reset".to_owned(),
    }
}

#[async_trait]
impl Transport for SimulatedMicrosoft {
    async fn send(&self, request: http::Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let world = &self.0;
        let asked = read(&request);
        if let Some(tenant) = asked.tenant() {
            let mut state = world.state();
            let count = state.listings.count(tenant);
            let most = world.plan.requests_per_minute as usize;
            if count > most {
                state.violate(format!("{count} requests in a minute, {most} may be"));
            }
        }
        world
            .step(|| format!("microsoft is asked for {asked:?}"))
            .await;
        let answer = self.answer(&asked)?;
        if let Asked::Blob(tenant, name) = &asked {
            self.count_damage(*tenant, name, &answer);
        }
        world
            .step(|| format!("microsoft answers {}", answer.status))
            .await;
        let mut response = http::Response::builder().status(answer.status);
        for (name, value) in &answer.headers {
            response = response.header(*name, value);
        }
        Ok(response.body(self.body(answer)).unwrap())
    }
}

impl SimulatedMicrosoft {
    fn count_damage(&self, tenant: TenantId, name: &str, answer: &Answer) {
        let world = &self.0;
        let blobs = &world.plan.blobs;
        let index = blobs
            .iter()
            .position(|blob| blob.tenant == tenant && name.starts_with(&blob.id));
        if let Some(index) = index
            && answer.status == 200
            && (answer.breaks_at.is_some() || answer.body != whole(&blobs[index]))
        {
            *world.state().truth.damaged.entry(index).or_default() += 1;
        }
    }
}

fn whole(blob: &PlannedBlob) -> Vec<u8> {
    let body = blob.body().into_bytes();
    if blob.is_gzip { gzip(&body) } else { body }
}

impl Asked {
    /// Whose budget it is on.
    fn tenant(&self) -> Option<TenantId> {
        match self {
            Self::Token => None,
            Self::Subscriptions(tenant)
            | Self::Start(tenant, _)
            | Self::FirstPage(tenant, ..)
            | Self::Page(tenant, ..)
            | Self::Blob(tenant, _) => Some(*tenant),
        }
    }
}

fn read(request: &http::Request<Bytes>) -> Asked {
    let path = request.uri().path();
    if path.ends_with("/token") {
        return Asked::Token;
    }
    let tenant = path.split('/').nth(3).unwrap().parse().unwrap();
    let parameters: BTreeMap<_, _> =
        url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect();
    let content_type = || ContentType::parse(&parameters["contentType"]).unwrap();
    let time = |name: &str| -> Timestamp { parameters[name].parse().unwrap() };
    match path.rsplit('/').next().unwrap() {
        "list" => Asked::Subscriptions(tenant),
        "start" => Asked::Start(tenant, content_type()),
        "content" => match parameters.get("nextPage") {
            None => {
                let window = Window::new(time("startTime"), time("endTime")).unwrap();
                Asked::FirstPage(tenant, content_type(), window)
            }
            Some(token) => {
                let (listing, page) = token.split_once('.').unwrap();
                Asked::Page(tenant, listing.parse().unwrap(), page.parse().unwrap())
            }
        },
        name => Asked::Blob(tenant, name.to_owned()),
    }
}
