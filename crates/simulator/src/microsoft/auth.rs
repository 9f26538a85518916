//! Tokens of Entra, and who may call the Activity API: token, tenant, role, publisher, quota.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use super::{NO_PUBLISHER, error_body, refused, throttled, unauthorized};
use crate::clock::real_now;
use crate::http::{Call, Reply, form, json};
use crate::random::{Random, parse_guid};
use crate::world::World;
use crate::{RequestKind, SimulatedTenant, times};

/// The roots of the Activity API in Microsoft's clouds, which are the resources that tokens are for.
const ACTIVITY_RESOURCES: [&str; 5] = [
    "https://manage.office.com",
    "https://manage-gcc.office.com",
    "https://manage.office365.us",
    "https://manage.protection.apps.mil",
    "https://manage.office365.cn",
];

/// Azure Resource Manager's, one of them with the name that its first clients knew; the Activity API refuses tokens for them.
const RESOURCE_MANAGERS: [&str; 4] = [
    "https://management.azure.com",
    "https://management.core.windows.net",
    "https://management.usgovcloudapi.net",
    "https://management.chinacloudapi.cn",
];

/// The storage services' of every cloud.
const STORAGE: &str = "https://storage.azure.com";

/// Of a token that stands in the place of a secret.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Activity,
    ResourceManager,
    Storage,
}

impl Audience {
    /// None for a resource that the tenant does not have.
    pub(crate) fn of(world: &World, resource: &str) -> Option<Self> {
        let bare = resource.trim_end_matches('/');
        if bare == world.origins.microsoft || ACTIVITY_RESOURCES.contains(&bare) {
            Some(Self::Activity)
        } else if bare == world.origins.resource_manager || RESOURCE_MANAGERS.contains(&bare) {
            Some(Self::ResourceManager)
        } else if bare == STORAGE {
            Some(Self::Storage)
        } else {
            None
        }
    }
}

/// The tokens that were issued.
#[derive(Debug)]
pub(crate) struct Tokens {
    inner: Mutex<Issued>,
}

#[derive(Debug)]
struct Issued {
    random: Random,
    tokens: HashMap<String, Token>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    pub(crate) tenant: usize,
    pub(crate) expires_at: Timestamp,
    pub(crate) audience: Audience,
    has_role: bool,
}

impl Tokens {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            inner: Mutex::new(Issued {
                random: Random::new(seed, 0x70_6b_6e),
                tokens: HashMap::new(),
            }),
        }
    }

    /// The token with this text, expired or not.
    pub(crate) fn find(&self, text: &str) -> Option<Token> {
        self.lock().tokens.get(text).copied()
    }

    /// What the token with this text is for.
    pub(crate) fn audience(&self, text: &str) -> Option<Audience> {
        self.find(text).map(|token| token.audience)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Issued> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `POST /{tenant}/oauth2/token` and `POST /{tenant}/oauth2/v2.0/token`.
pub(crate) fn token(world: &World, call: &Call) -> Reply {
    let segments = call.segments();
    let is_v2 = segments.contains(&"v2.0");
    let tenant_text = segments.first().copied().unwrap_or_default();
    let now = world.clock.now();
    let Some((number, tenant)) = find_tenant(&world.tenants, tenant_text) else {
        let text = format!("AADSTS90002: Tenant '{tenant_text}' not found.");
        return token_error(
            now,
            StatusCode::BAD_REQUEST,
            "invalid_request",
            90002,
            &text,
        );
    };
    let fields = form(&call.body);
    let field = |name: &str| {
        fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    match field("grant_type") {
        Some("client_credentials") => {}
        Some(_) => {
            let text = "AADSTS70003: The app requested an unsupported grant type.";
            return token_error(
                now,
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                70003,
                text,
            );
        }
        None => {
            let text = "AADSTS900144: The request body must contain the following parameter: 'grant_type'.";
            return token_error(
                now,
                StatusCode::BAD_REQUEST,
                "invalid_request",
                900_144,
                text,
            );
        }
    }
    let basic = basic_credentials(call);
    let client_id = field("client_id")
        .or(basic.as_ref().map(|(id, _)| id.as_str()))
        .unwrap_or_default();
    // The simulated issuer signs nothing: the token of its that the application trusts is the application's secret.
    let is_assertion = field("client_assertion_type") == Some(ASSERTION_TYPE);
    let assertion = field("client_assertion").filter(|_| is_assertion);
    let (trusted, statement) = match assertion {
        Some(token) if token == tenant.client_secret => (Some(token), None),
        other => (None, other),
    };
    let secret = field("client_secret")
        .or(trusted)
        .or(basic.as_ref().map(|(_, secret)| secret.as_str()));
    if !client_id.eq_ignore_ascii_case(&tenant.client_id) {
        let text = format!(
            "AADSTS700016: Application with identifier '{client_id}' was not found in the directory."
        );
        return token_error(
            now,
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            700_016,
            &text,
        );
    }
    let certificate = world.microsoft.certificate.as_ref();
    let stated = statement.zip(certificate).map(|(statement, certificate)| {
        let audience = format!("{}{}", world.origins.microsoft, call.path);
        certificate.check(statement, client_id, &audience, now)
    });
    if let Some(Err((code, text))) = stated {
        return token_error(now, StatusCode::UNAUTHORIZED, "invalid_client", code, text);
    }
    match secret {
        _ if stated.is_some() => {}
        Some(secret) if secret == tenant.client_secret => {}
        Some(_) => {
            let text = "AADSTS7000215: Invalid client secret provided.";
            return token_error(
                now,
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_215,
                text,
            );
        }
        None if field("client_assertion").is_some() => {
            let text = "AADSTS700027: The certificate with identifier used to sign the client assertion is not registered on application.";
            return token_error(
                now,
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                700_027,
                text,
            );
        }
        None => {
            let text = "AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'.";
            return token_error(
                now,
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                7_000_218,
                text,
            );
        }
    }
    let resource = if is_v2 {
        match field("scope").map(|scope| scope.strip_suffix("/.default")) {
            Some(Some(resource)) => resource,
            _ => {
                let text =
                    "AADSTS70011: The provided value for the input parameter 'scope' is not valid.";
                return token_error(now, StatusCode::BAD_REQUEST, "invalid_scope", 70011, text);
            }
        }
    } else {
        field("resource").unwrap_or_default()
    };
    let Some(audience) = Audience::of(world, resource) else {
        let text = format!(
            "AADSTS500011: The resource principal named {resource} was not found in the tenant."
        );
        return token_error(
            now,
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            500_011,
            &text,
        );
    };
    let now = world.clock.now();
    let lifetime = world.options.token_lifetime.as_secs();
    let (access_token, expires_at) = mint(world, number, &tenant.client_id, resource, audience);
    let body = if is_v2 {
        json!({"token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime, "access_token": access_token})
    } else {
        // The v1 endpoint writes every number as text.
        json!({
            "token_type": "Bearer", "expires_in": lifetime.to_string(), "ext_expires_in": "0",
            "expires_on": expires_at.as_second().to_string(), "not_before": (now.as_second() - 300).to_string(),
            "resource": resource, "access_token": access_token,
        })
    };
    json(StatusCode::OK, &body)
}

/// A fresh token of a tenant for an application, and the end of its life.
pub(crate) fn mint(
    world: &World,
    tenant: usize,
    application: &str,
    resource: &str,
    audience: Audience,
) -> (String, Timestamp) {
    let now = world.clock.now();
    let expires_at = now
        .checked_add(world.options.token_lifetime)
        .unwrap_or(Timestamp::MAX);
    let tenant_id = world
        .tenants
        .get(tenant)
        .map_or("", |tenant| tenant.tenant_id.as_str());
    let has_role = world.options.grant_roles && audience == Audience::Activity;
    // Who reads a token for storage is a real service with a real clock, which may not be ours.
    let (mut begins, mut ends) = (now, expires_at);
    let mut audience_text = resource;
    if audience == Audience::Storage {
        let real = real_now();
        begins = begins.min(real);
        ends = ends.max(
            real.checked_add(world.options.token_lifetime)
                .unwrap_or(Timestamp::MAX),
        );
        audience_text = STORAGE;
    }
    let mut claims = json!({
        "aud": audience_text, "iss": format!("https://sts.windows.net/{tenant_id}/"),
        "iat": begins.as_second(), "nbf": begins.as_second() - 300, "exp": ends.as_second(),
        "ver": "1.0", "tid": tenant_id, "appid": application, "appidacr": "1",
    });
    if has_role {
        claims["roles"] = json!(["ActivityFeed.Read", "ActivityFeed.ReadDlp"]);
    }
    let mut issued = world.microsoft.tokens.lock();
    let header = URL_SAFE_NO_PAD.encode(br#"{"typ":"JWT","alg":"RS256"}"#);
    // The signature is random: the API here knows its tokens by heart, and a collector must not look into them.
    let signature = URL_SAFE_NO_PAD.encode(issued.random.hex(256));
    let access_token = format!(
        "{header}.{}.{signature}",
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    issued.tokens.insert(
        access_token.clone(),
        Token {
            tenant,
            expires_at,
            audience,
            has_role,
        },
    );
    (access_token, expires_at)
}

fn token_error(now: Timestamp, status: StatusCode, error: &str, code: u64, text: &str) -> Reply {
    let timestamp = times::spaced(now);
    let (trace, correlation) = (
        "5f1e6d5c-8a43-4c7e-9b1a-3d2f4b6a8c00",
        "0b9c2f4e-7d61-4e0a-8f35-6a1b2c3d4e5f",
    );
    let description = format!(
        "{text}\r\nTrace ID: {trace}\r\nCorrelation ID: {correlation}\r\nTimestamp: {timestamp}"
    );
    let body = json!({
        "error": error, "error_description": description, "error_codes": [code], "timestamp": timestamp,
        "trace_id": trace, "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    json(status, &body)
}

/// Client id and secret in HTTP Basic, each form-encoded before (RFC 6749), which Entra accepts too.
fn basic_credentials(call: &Call) -> Option<(String, String)> {
    let encoded = call.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |text: &str| {
        form(format!("v={text}").as_bytes())
            .pop()
            .map(|(_, value)| value)
    };
    Some((decode(id)?, decode(secret)?))
}

fn find_tenant<'a>(
    tenants: &'a [SimulatedTenant],
    text: &str,
) -> Option<(usize, &'a SimulatedTenant)> {
    // As it is written first: the comparison of ten thousand in both cases takes longer than the rest of an answer.
    let exact = tenants.iter().position(|tenant| tenant.tenant_id == text);
    let any_case = |tenant: &SimulatedTenant| tenant.tenant_id.eq_ignore_ascii_case(text);
    let number = exact.or_else(|| tenants.iter().position(any_case))?;
    Some((number, tenants.get(number)?))
}

/// Whether a request to the Activity API may go on; then the tenant's number, else the answer that refuses it.
///
/// # Errors
/// The reply: 401 without a good token, AF20013, AF20010, AF20011, AF10001, AF20001, AF429.
pub(crate) fn admit(world: &World, kind: RequestKind, call: &Call) -> Result<usize, Reply> {
    let segments = call.segments();
    let tenant_text = segments.get(2).copied().unwrap_or_default();
    let token = call
        .bearer()
        .and_then(|bearer| world.microsoft.tokens.find(bearer));
    let token = token
        .filter(|token| {
            token.audience == Audience::Activity && world.clock.now() < token.expires_at
        })
        .ok_or_else(unauthorized)?;
    if parse_guid(tenant_text.as_bytes()).is_none() {
        return Err(refused(
            "AF20013",
            &format!("The tenant ID passed in the URL ({tenant_text}) is not a valid GUID."),
        ));
    }
    let Some((number, tenant)) = find_tenant(&world.tenants, tenant_text) else {
        return Err(refused(
            "AF20011",
            &format!(
                "Specified tenant ID ({tenant_text}) does not exist in the system or has been deleted."
            ),
        ));
    };
    if number != token.tenant {
        let text = format!(
            "The tenant ID passed in the URL ({}) does not match the tenant ID passed in the access token.",
            tenant.tenant_id
        );
        return Err(refused("AF20010", &text));
    }
    if !token.has_role {
        let text =
            "The permission set () sent in the request does not include the expected permission.";
        return Err(json(StatusCode::UNAUTHORIZED, &error_body("AF10001", text)));
    }
    let publisher = call.parameter("PublisherIdentifier");
    if publisher.is_none() {
        world.requests.note_without_publisher();
        if world.options.require_publisher {
            return Err(refused(
                "AF20001",
                "Missing parameter: PublisherIdentifier.",
            ));
        }
    }
    if publisher.is_some_and(|publisher| parse_guid(publisher.as_bytes()).is_none()) {
        return Err(refused(
            "AF20002",
            "Invalid parameter type: PublisherIdentifier. Expected type: guid",
        ));
    }
    let publisher = publisher.unwrap_or(NO_PUBLISHER);
    if !world.microsoft.quotas.take(world, number, publisher) {
        return Err(throttled(kind, publisher, 403));
    }
    Ok(number)
}

/// What is left of each pool's requests. Without a publisher all tenants share one pool.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    pools: Mutex<HashMap<(Option<usize>, String), Pool>>,
}

#[derive(Debug)]
struct Pool {
    left: f64,
    at: Timestamp,
}

impl Quotas {
    fn take(&self, world: &World, tenant: usize, publisher: &str) -> bool {
        let Some(per_minute) = world.options.requests_per_minute else {
            return true;
        };
        let capacity = f64::from(per_minute);
        let now = world.clock.now();
        let owner = (publisher != NO_PUBLISHER).then_some(tenant);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = pools
            .entry((owner, publisher.to_ascii_lowercase()))
            .or_insert(Pool {
                left: capacity,
                at: now,
            });
        let passed = Duration::try_from(now.duration_since(pool.at)).unwrap_or_default();
        pool.left = (pool.left + passed.as_secs_f64() * capacity / 60.0).min(capacity);
        pool.at = now;
        let is_granted = pool.left >= 1.0;
        if is_granted {
            pool.left -= 1.0;
        }
        is_granted
    }
}
