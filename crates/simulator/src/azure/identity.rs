//! The managed identity's three protocols: App Service's of today, App Service's older one, and that of virtual machines.

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Value, json};

use crate::RequestKind;
use crate::faults::FaultAction;
use crate::http::{Call, Reply, empty, json, status, with_header};
use crate::microsoft::auth::{Audience, mint};
use crate::world::World;

/// Which of the protocols a request speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    AppService,
    OldAppService,
    VirtualMachine,
}

/// What a request on the identity's port asks for.
pub(crate) fn kind_of(call: &Call) -> RequestKind {
    let is_known = matches!(
        call.segments().as_slice(),
        ["msi", "token"] | ["metadata", "identity", "oauth2", "token"]
    );
    if is_known && call.method == Method::GET {
        RequestKind::IdentityToken
    } else {
        RequestKind::Unknown
    }
}

/// Answers a request on the identity's port.
pub(crate) fn answer(world: &World, kind: RequestKind, call: &Call) -> Reply {
    if kind != RequestKind::IdentityToken {
        return empty(StatusCode::NOT_FOUND);
    }
    token(world, call).unwrap_or_else(|refused| refused)
}

/// The answer to a request that meets a fault.
pub(crate) fn fault(action: &FaultAction) -> Reply {
    let (FaultAction::Status { status: code } | FaultAction::Throttled { status: code }) = action
    else {
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let error = match code {
        404 => "not_found",
        410 => "gone",
        429 => "too_many_requests",
        500.. => "unknown",
        _ => "invalid_request",
    };
    let reply = json(
        status(*code),
        &json!({"error": error, "error_description": "simulated fault"}),
    );
    if *code == 429 {
        with_header(reply, RETRY_AFTER, "2")
    } else {
        reply
    }
}

/// # Errors
/// The reply that refuses.
fn token(world: &World, call: &Call) -> Result<Reply, Reply> {
    let protocol = admit(world, call)?;
    let Some(resource) = call.parameter("resource") else {
        return Err(refused(
            "invalid_request",
            "Required query variable 'resource' is missing",
        ));
    };
    let Some(audience) = Audience::of(world, resource) else {
        let text =
            format!("AADSTS50001: The application named {resource} was not found in the tenant.");
        return Err(refused("invalid_resource", &text));
    };
    check_identity(world, call, protocol)?;
    let application = &world.options.azure.identity_client_id;
    let (access_token, expires_at) = mint(world, 0, application, resource, audience);
    let begins = world.clock.now().as_second() - 300;
    let seconds = |at: i64| Value::from(at.to_string());
    let body = match protocol {
        Protocol::AppService => json!({
            "access_token": access_token, "expires_on": seconds(expires_at.as_second()),
            "resource": resource, "token_type": "Bearer", "client_id": application,
        }),
        Protocol::OldAppService => json!({
            "access_token": access_token, "expires_on": dated(expires_at, world.options.azure.am_pm_dates),
            "resource": resource, "token_type": "Bearer",
        }),
        Protocol::VirtualMachine => json!({
            "access_token": access_token, "refresh_token": "", "client_id": application,
            "expires_in": world.options.token_lifetime.as_secs().to_string(),
            "expires_on": seconds(expires_at.as_second()), "ext_expires_in": "86399",
            "not_before": seconds(begins), "resource": resource, "token_type": "Bearer",
        }),
    };
    Ok(json(StatusCode::OK, &body))
}

/// The protocol, if the request has what the protocol wants of it.
fn admit(world: &World, call: &Call) -> Result<Protocol, Reply> {
    let version = call.parameter("api-version").unwrap_or_default();
    let header = Some(world.options.azure.identity_header.as_str());
    if call.segments().first() == Some(&"metadata") {
        if call.header("metadata") != Some("true") {
            let text = "Required metadata header not specified";
            return Err(refused("bad_request_102", text));
        }
        // A proxy on the way would show itself so, and a forwarded request is refused by the real one.
        if call.header("x-forwarded-for").is_some() {
            return Err(refused("bad_request_103", "A proxy is not allowed"));
        }
        return match version {
            "2018-02-01" | "2019-08-01" | "2021-02-01" => Ok(Protocol::VirtualMachine),
            _ => Err(refused("bad_request_101", "Invalid or missing api-version")),
        };
    }
    let (protocol, sent) = match version {
        "2019-08-01" => (Protocol::AppService, call.header("x-identity-header")),
        "2017-09-01" => (Protocol::OldAppService, call.header("secret")),
        _ => {
            return Err(refused(
                "invalid_request",
                "The api-version is not supported",
            ));
        }
    };
    if sent != header {
        return Err(json(
            StatusCode::UNAUTHORIZED,
            &json!({"statusCode": 401, "message": "The header of the identity is missing or wrong"}),
        ));
    }
    Ok(protocol)
}

/// Without an id the system's identity is meant, which is the only one here.
fn check_identity(world: &World, call: &Call, protocol: Protocol) -> Result<(), Reply> {
    let options = &world.options.azure;
    let (client, principal) = match protocol {
        Protocol::AppService => ("client_id", "principal_id"),
        Protocol::OldAppService => ("clientid", "principalid"),
        Protocol::VirtualMachine => ("client_id", "object_id"),
    };
    let is_ours = [
        (client, &options.identity_client_id),
        (principal, &options.principal_id),
    ]
    .into_iter()
    .all(|(name, ours)| {
        call.parameter(name)
            .is_none_or(|sent| sent.eq_ignore_ascii_case(ours))
    });
    if is_ours {
        Ok(())
    } else {
        Err(refused("invalid_request", "Identity not found"))
    }
}

/// The old protocol's text: `09/14/2017 02:05:06 PM +00:00`, or `09/14/2017 14:05:06 +00:00`.
fn dated(at: Timestamp, am_pm: bool) -> String {
    let time = Offset::UTC.to_datetime(at);
    let date = format!("{:02}/{:02}/{:04}", time.month(), time.day(), time.year());
    let (minute, second) = (time.minute(), time.second());
    if am_pm {
        let hour = match time.hour() % 12 {
            0 => 12,
            hour => hour,
        };
        let half = if time.hour() < 12 { "AM" } else { "PM" };
        format!("{date} {hour:02}:{minute:02}:{second:02} {half} +00:00")
    } else {
        format!("{date} {:02}:{minute:02}:{second:02} +00:00", time.hour())
    }
}

fn refused(error: &str, description: &str) -> Reply {
    json(
        StatusCode::BAD_REQUEST,
        &json!({"error": error, "error_description": description}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_protocol_writes_dates_as_both_systems_do() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for (time, windows, linux) in [
            (
                "2017-09-14T14:05:06Z",
                "09/14/2017 02:05:06 PM +00:00",
                "09/14/2017 14:05:06 +00:00",
            ),
            (
                "2017-09-14T00:00:00Z",
                "09/14/2017 12:00:00 AM +00:00",
                "09/14/2017 00:00:00 +00:00",
            ),
            (
                "2017-09-14T12:00:00Z",
                "09/14/2017 12:00:00 PM +00:00",
                "09/14/2017 12:00:00 +00:00",
            ),
        ] {
            assert_eq!(dated(at(time), true), windows);
            assert_eq!(dated(at(time), false), linux);
        }
    }
}
