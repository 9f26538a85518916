//! Six listeners and one way through: read the request, see whether a fault meets it, hand it to its service, count the answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{DATE, RETRY_AFTER};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::faults::FaultAction;
use crate::faults::body;
use crate::faults::requests::Harm;
use crate::http::{Call, Outgoing, Reply, empty, form, with_header};
use crate::microsoft::auth::Audience;
use crate::world::World;
use crate::{RequestKind, alertlogic, azure, control, hec, microsoft, times};

/// Which service a port belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Microsoft,
    AlertLogic,
    Hec,
    /// A host that has no business with any token.
    Stranger,
    ResourceManager,
    Identity,
}

impl Service {
    /// What it is called in a transcript.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Microsoft => "microsoft",
            Self::AlertLogic => "alertlogic",
            Self::Hec => "splunk_hec",
            Self::Stranger => "stranger",
            Self::ResourceManager => "resource_manager",
            Self::Identity => "identity",
        }
    }

    /// The managed identity's endpoint is plain HTTP at Microsoft too: it is on the machine itself.
    pub(crate) fn has_tls(self) -> bool {
        self != Self::Identity
    }

    /// The largest body that is read. Alert Logic's own limit is checked later, with its own answer.
    fn max_body_bytes(self) -> usize {
        match self {
            Self::Microsoft | Self::Stranger | Self::ResourceManager | Self::Identity => 1 << 20,
            Self::AlertLogic | Self::Hec => 64 << 20,
        }
    }
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(
    world: Arc<World>,
    service: Service,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the peer is gone already: neither ends the service.
                debug!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (world, tls, stop) = (Arc::clone(&world), tls.clone(), stop.clone());
        let open = match service {
            Service::AlertLogic => Some(&world.counters.ingest_connections),
            Service::Hec => Some(&world.counters.hec_connections),
            _ => None,
        };
        let open = open.map(OpenConnection::count);
        tasks.spawn(async move {
            let _open = open;
            let served = async {
                stream.set_nodelay(true)?;
                match tls {
                    Some(tls) => serve_connection(world, service, tls.accept(stream).await?).await,
                    None => serve_connection(world, service, stream).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                result = served => if let Err(error) = result {
                    debug!(%error, ?service, "a connection ended early");
                }
            }
        });
    }
}

/// Counted for as long as it lives.
struct OpenConnection(Arc<AtomicU64>);

impl OpenConnection {
    fn count(open: &Arc<AtomicU64>) -> Self {
        open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve_connection(
    world: Arc<World>,
    service: Service,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let answer = service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { answer(&world, service, request).await }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await
        .map_err(io::Error::other)
}

/// A request that is to get no answer: hyper closes the connection when a service fails.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
struct Hangup;

async fn answer(
    world: &Arc<World>,
    service: Service,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Hangup> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, service.max_body_bytes()).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            debug!(%error, "cannot read a request's body");
            return Ok(finish(world, empty(StatusCode::PAYLOAD_TOO_LARGE)));
        }
    };
    let call = Call {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        target: parts
            .uri
            .path_and_query()
            .map(|target| target.as_str().to_owned())
            .unwrap_or_default(),
        query: form(parts.uri.query().unwrap_or_default().as_bytes()),
        headers: parts.headers,
        body,
    };
    if let Some(path) = call.path.strip_prefix("/_simulator/") {
        return Ok(finish(world, control::answer(world, path, &call)));
    }
    if let Some(latency) = latency(world, service) {
        tokio::time::sleep(latency).await;
    }
    if is_leak(world, service, &call) {
        world.requests.note_leaked_token();
    }
    let kind = match service {
        Service::Microsoft => microsoft::kind_of(&call),
        Service::AlertLogic => alertlogic::kind_of(&call),
        Service::Hec => hec::kind_of(&call),
        Service::Stranger => RequestKind::Stranger,
        Service::ResourceManager => azure::resource_manager::kind_of(&call),
        Service::Identity => azure::identity::kind_of(&call),
    };
    let injected = world.faults.take(kind);
    let harm = match &injected {
        Some(FaultAction::Hangup) => Some(Harm::Silence(Duration::ZERO)),
        Some(action) => Some(Harm::Refusal(action.clone(), None)),
        None => weather(world, kind, &call).await,
    };
    // A sink's own look into the batch decides on these.
    let is_sinks = injected.is_none()
        && matches!(kind, RequestKind::Logmsgs | RequestKind::HecEvent)
        && harm.as_ref().is_some_and(Harm::refuses_batch);
    let harm = harm.as_ref();
    let reply = match harm {
        Some(Harm::Silence(after)) => {
            tokio::time::sleep(*after).await;
            return Err(hang_up(world, service, kind, &call));
        }
        Some(Harm::Refusal(action, retry_after)) if !is_sinks => {
            let reply = refuse(service, kind, &call, action);
            match retry_after {
                Some(secs) => with_header(reply, RETRY_AFTER, &secs.to_string()),
                None => reply,
            }
        }
        _ => {
            let reply = match service {
                Service::Microsoft => microsoft::answer(world, kind, &call, harm).await,
                Service::AlertLogic => alertlogic::answer(world, kind, &call, harm),
                Service::Hec => hec::answer(world, kind, &call, harm),
                Service::Stranger => empty(StatusCode::NOT_FOUND),
                Service::ResourceManager => azure::resource_manager::answer(world, kind, &call),
                Service::Identity => azure::identity::answer(world, kind, &call),
            };
            match harm {
                Some(Harm::AnswerLost) => return Err(hang_up(world, service, kind, &call)),
                Some(Harm::Body(harm, drawn)) if reply.status.is_success() => {
                    body::harm(reply, *harm, *drawn)
                }
                _ => reply,
            }
        }
    };
    world.requests.note(kind, reply.status.as_u16());
    world
        .transcript
        .note(world, service, kind, &call, reply.status.as_u16());
    Ok(finish(world, reply))
}

/// How long every answer of this service is kept back.
fn latency(world: &World, service: Service) -> Option<Duration> {
    let of_sink = match service {
        Service::AlertLogic | Service::Hec => world.options.sink_latency,
        _ => None,
    };
    of_sink.or_else(|| world.faults.latency())
}

/// What the storm has for this request.
async fn weather(world: &World, kind: RequestKind, call: &Call) -> Option<Harm> {
    let key = match kind {
        RequestKind::Blob => microsoft::feed::blob_key(world, call),
        RequestKind::Content => microsoft::feed::listing_key(world, call),
        _ => None,
    };
    let met = world.weather.meet(kind, key, world.now_ms());
    if !met.delay.is_zero() {
        tokio::time::sleep(met.delay).await;
    }
    met.harm
}

/// A service's own way to refuse.
fn refuse(service: Service, kind: RequestKind, call: &Call, action: &FaultAction) -> Reply {
    match service {
        Service::Microsoft => microsoft::fault(call, kind, action),
        Service::AlertLogic => alertlogic::fault(action),
        Service::Hec => hec::fault(action),
        Service::Stranger => empty(StatusCode::NOT_FOUND),
        Service::ResourceManager => azure::resource_manager::fault(action),
        Service::Identity => azure::identity::fault(action),
    }
}

fn hang_up(world: &World, service: Service, kind: RequestKind, call: &Call) -> Hangup {
    world.requests.note(kind, 0);
    world.transcript.note(world, service, kind, call, 0);
    Hangup
}

/// Whether a request carries a secret to a service that is not the one it is for.
fn is_leak(world: &World, service: Service, call: &Call) -> bool {
    let meant_for = |audience| {
        call.bearer()
            .and_then(|token| world.microsoft.tokens.audience(token))
            .is_some_and(|of_token| of_token != audience)
    };
    let bearer = match service {
        // A token that nobody issued tells nobody anything.
        Service::Microsoft => meant_for(Audience::Activity),
        Service::ResourceManager => meant_for(Audience::ResourceManager),
        _ => call.bearer().is_some(),
    };
    let aims = service != Service::AlertLogic && call.header("x-aims-auth-token").is_some();
    let identity = service != Service::Identity
        && (call.header("x-identity-header").is_some() || call.header("secret").is_some());
    bearer || aims || identity
}

/// Puts the simulated time into `Date`, from which collectors tell their clock's skew.
fn finish(world: &World, reply: Reply) -> Response<Outgoing> {
    let date = times::http_date(times::from_ms(world.service_now_ms()));
    with_header(reply, DATE, &date).into_response()
}
