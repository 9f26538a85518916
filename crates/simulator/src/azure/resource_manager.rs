//! Azure Resource Manager: reading the function app, listing and replacing its app settings, and both kinds of sync.

use std::collections::BTreeMap;

use http::header::{HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use crate::faults::FaultAction;
use crate::http::{Call, Reply, empty, json, status, with_header};
use crate::microsoft::auth::Audience;
use crate::world::World;
use crate::{RequestKind, times};

/// The first of the versions that were seen to work, a date.
const FIRST_API_VERSION: &str = "2016-08-01";

/// What a throttled caller is told to wait, in seconds.
const RETRY_AFTER_SECS: &str = "3";

/// What a request on Resource Manager's port asks for. Names in paths are compared without case, as it does.
pub(crate) fn kind_of(call: &Call) -> RequestKind {
    let Some((_, operation)) = place(call) else {
        return RequestKind::Unknown;
    };
    let operation: Vec<&str> = operation.iter().map(String::as_str).collect();
    match (&call.method, operation.as_slice()) {
        (&Method::GET, []) => RequestKind::Site,
        (&Method::POST, ["config", "appsettings", "list"]) => RequestKind::ListSettings,
        (&Method::PUT, ["config", "appsettings"]) => RequestKind::PutSettings,
        (&Method::POST, ["sync"]) => RequestKind::SyncRepository,
        (&Method::POST, ["syncfunctiontriggers"] | ["host", "default", "sync"]) => {
            RequestKind::SyncTriggers
        }
        _ => RequestKind::Unknown,
    }
}

/// Subscription, resource group and name of a site, and the lower-case segments that follow.
fn place(call: &Call) -> Option<([String; 3], Vec<String>)> {
    let segments: Vec<String> = call
        .segments()
        .into_iter()
        .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
        .collect();
    let (head, operation) = segments.split_at_checked(8)?;
    let [
        subscriptions,
        id,
        groups,
        group,
        providers,
        provider,
        sites,
        name,
    ] = head
    else {
        return None;
    };
    let is = |text: &String, expected: &str| text.eq_ignore_ascii_case(expected);
    let is_site = is(subscriptions, "subscriptions")
        && is(groups, "resourceGroups")
        && is(providers, "providers")
        && is(provider, "Microsoft.Web")
        && is(sites, "sites");
    is_site.then(|| {
        let operation = operation
            .iter()
            .map(|segment| segment.to_ascii_lowercase())
            .collect();
        ([id.clone(), group.clone(), name.clone()], operation)
    })
}

/// Answers a request on Resource Manager's port.
pub(crate) fn answer(world: &World, kind: RequestKind, call: &Call) -> Reply {
    decorate(match admit(world, kind, call) {
        Err(refused) => refused,
        Ok(()) => match kind {
            RequestKind::Site => site(world),
            RequestKind::ListSettings => settings(world),
            RequestKind::PutSettings => put_settings(world, call),
            RequestKind::SyncRepository => {
                world.azure.site.sync_repository();
                empty(StatusCode::OK)
            }
            _ => {
                world.azure.site.sync_triggers();
                empty(StatusCode::NO_CONTENT)
            }
        },
    })
}

/// The answer to a request that meets a fault.
pub(crate) fn fault(action: &FaultAction) -> Reply {
    let (FaultAction::Status { status: code } | FaultAction::Throttled { status: code }) = action
    else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let (name, message) = match code {
        401 => (
            "InvalidAuthenticationToken",
            "The access token is invalid.".to_owned(),
        ),
        403 => (
            "AuthorizationFailed",
            "The client does not have authorization to perform the action.".to_owned(),
        ),
        404 => ("ResourceNotFound", "The Resource was not found.".to_owned()),
        409 => (
            "Conflict",
            "Cannot modify this site because another operation is in progress.".to_owned(),
        ),
        412 => ("PreconditionFailed", "Precondition failed.".to_owned()),
        429 => (
            "TooManyRequests",
            format!("The request is throttled. Retry after {RETRY_AFTER_SECS} seconds."),
        ),
        503 => (
            "ServerTimeout",
            "The request timed out. Retry the request.".to_owned(),
        ),
        _ => ("InternalServerError", "Encountered an error.".to_owned()),
    };
    let reply = error(status(*code), name, &message);
    decorate(if matches!(code, 429 | 503) {
        with_header(reply, RETRY_AFTER, RETRY_AFTER_SECS)
    } else {
        reply
    })
}

/// # Errors
/// The reply that refuses: no good token, no or a wrong api-version, no permission, no such thing.
fn admit(world: &World, kind: RequestKind, call: &Call) -> Result<(), Reply> {
    let Some(token) = call
        .bearer()
        .and_then(|bearer| world.microsoft.tokens.find(bearer))
    else {
        return Err(unauthorized(
            "InvalidAuthenticationToken",
            "The access token is missing or invalid.",
        ));
    };
    if token.audience != Audience::ResourceManager {
        let text = "The access token has been obtained for the wrong audience or resource.";
        return Err(unauthorized("InvalidAuthenticationToken", text));
    }
    if world.clock.now() >= token.expires_at {
        return Err(unauthorized(
            "ExpiredAuthenticationToken",
            "The access token expiry UTC time is in the past.",
        ));
    }
    // The subscription is the first tenant's.
    if token.tenant != 0 {
        let text = "The access token is from the wrong issuer. It must match the tenant associated with this subscription.";
        return Err(unauthorized("InvalidAuthenticationTokenTenant", text));
    }
    check_api_version(call)?;
    let Some(([subscription, group, name], operation)) = place(call) else {
        return Err(error(
            StatusCode::NOT_FOUND,
            "InvalidResourceType",
            "The resource type could not be found.",
        ));
    };
    if kind == RequestKind::Unknown {
        return Err(error(
            StatusCode::NOT_FOUND,
            "NotFound",
            "No such operation on a site.",
        ));
    }
    let ours = &world.options.azure;
    if !subscription.eq_ignore_ascii_case(&ours.subscription_id) {
        let text = format!("The subscription '{subscription}' could not be found.");
        return Err(error(StatusCode::NOT_FOUND, "SubscriptionNotFound", &text));
    }
    let action = match kind {
        RequestKind::Site => "Microsoft.Web/sites/read",
        RequestKind::ListSettings => "Microsoft.Web/sites/config/list/action",
        RequestKind::PutSettings => "Microsoft.Web/sites/config/write",
        RequestKind::SyncRepository => "Microsoft.Web/sites/sync/action",
        _ if operation.first().is_some_and(|first| first == "host") => {
            "Microsoft.Web/sites/host/sync/action"
        }
        _ => "Microsoft.Web/sites/syncfunctiontriggers/action",
    };
    if !world.azure.site.lock().role.allows(action) {
        let text = format!(
            "The client '{principal}' with object id '{principal}' does not have authorization to perform action '{action}' over scope '{scope}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            principal = ours.principal_id,
            scope = ours.resource_id(),
        );
        return Err(error(StatusCode::FORBIDDEN, "AuthorizationFailed", &text));
    }
    if !group.eq_ignore_ascii_case(&ours.resource_group) {
        let text = format!("Resource group '{group}' could not be found.");
        return Err(error(StatusCode::NOT_FOUND, "ResourceGroupNotFound", &text));
    }
    if !name.eq_ignore_ascii_case(&ours.site_name) {
        let text = format!(
            "The Resource 'Microsoft.Web/sites/{name}' under resource group '{group}' was not found."
        );
        return Err(error(StatusCode::NOT_FOUND, "ResourceNotFound", &text));
    }
    Ok(())
}

fn check_api_version(call: &Call) -> Result<(), Reply> {
    let Some(version) = call.parameter("api-version") else {
        let text = "The api-version query parameter (?api-version=) is required for all requests.";
        return Err(error(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            text,
        ));
    };
    let date = version.strip_suffix("-preview").unwrap_or(version);
    let is_date = date.len() == 10 && times::parse_request(date).is_some();
    if is_date && date >= FIRST_API_VERSION {
        return Ok(());
    }
    let text =
        format!("The api-version '{version}' is not supported for the resource type 'sites'.");
    Err(error(
        StatusCode::BAD_REQUEST,
        "NoRegisteredProviderFound",
        &text,
    ))
}

fn site(world: &World) -> Reply {
    let ours = &world.options.azure;
    let state = world.azure.site.lock().state.clone();
    let hostname = ours.hostname();
    json(
        StatusCode::OK,
        &json!({
            "id": ours.resource_id(),
            "name": ours.site_name,
            "type": "Microsoft.Web/sites",
            "kind": "functionapp,linux",
            "location": ours.location,
            "tags": {},
            "identity": {
                "type": "SystemAssigned",
                "tenantId": world.tenants.first().map(|tenant| tenant.tenant_id.as_str()),
                "principalId": ours.principal_id,
            },
            "properties": {
                "name": ours.site_name,
                "state": state.state,
                "hostNames": [hostname],
                "repositorySiteName": ours.site_name,
                "usageState": state.usage_state,
                "enabled": state.enabled,
                "adminEnabled": true,
                "enabledHostNames": [hostname, format!("{}.scm.azurewebsites.net", ours.site_name)],
                "availabilityState": state.availability_state,
                "runtimeAvailabilityState": "Normal",
                "contentAvailabilityState": "Normal",
                "siteDisabledReason": 0,
                "sku": state.sku,
                "defaultHostName": hostname,
                "httpsOnly": true,
                "lastModifiedTimeUtc": "2026-01-01T00:00:00.000",
            },
        }),
    )
}

/// The dictionary of the app settings, every secret in clear.
fn settings(world: &World) -> Reply {
    let ours = &world.options.azure;
    let properties: Map<String, Value> = world
        .azure
        .site
        .lock()
        .settings
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    json(
        StatusCode::OK,
        &json!({
            "id": format!("{}/config/appsettings", ours.resource_id()),
            "name": "appsettings",
            "type": "Microsoft.Web/sites/config",
            "location": ours.location,
            "tags": {},
            "properties": properties,
        }),
    )
}

/// Replaces the whole set: what the request does not name is gone.
fn put_settings(world: &World, call: &Call) -> Reply {
    let body: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    let Some(properties) = body.get("properties").and_then(Value::as_object) else {
        return error(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            "The request content was invalid and could not be deserialized.",
        );
    };
    let mut settings = BTreeMap::new();
    for (name, value) in properties {
        let Some(value) = value.as_str() else {
            let text = format!("The value of app setting '{name}' is not text.");
            return error(StatusCode::BAD_REQUEST, "BadRequest", &text);
        };
        settings.insert(name.clone(), value.to_owned());
    }
    world.azure.site.replace_settings(settings);
    self::settings(world)
}

fn unauthorized(code: &str, message: &str) -> Reply {
    with_header(
        error(StatusCode::UNAUTHORIZED, code, message),
        WWW_AUTHENTICATE,
        "Bearer authorization_uri=\"https://login.microsoftonline.com/\", error=\"invalid_token\"",
    )
}

fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    json(
        status,
        &json!({"error": {"code": code, "message": message}}),
    )
}

/// The headers that each answer has.
fn decorate(mut reply: Reply) -> Reply {
    let request = uuid::Uuid::new_v4().to_string();
    for (name, value) in [
        ("x-ms-request-id", request.as_str()),
        ("x-ms-correlation-request-id", request.as_str()),
        ("x-ms-ratelimit-remaining-subscription-reads", "11999"),
        ("x-ms-ratelimit-remaining-subscription-writes", "1199"),
    ] {
        reply = with_header(reply, HeaderName::from_static(name), value);
    }
    reply
}
