//! The app's public address: finds the function whose route and method fit, and passes the request on as it came.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::Inner;
use super::app::{App, Trigger};
use super::diary::{Invocation, LogSource, Outcome};
use super::invoke::HOST_VERSION;
use super::worker::{Instance, State};

/// The real front end takes this much.
const MAX_BODY_BYTES: usize = 100 << 20;

/// Serves until the host is stopped.
pub(super) async fn serve(inner: Arc<Inner>, listener: TcpListener, tls: Option<TlsAcceptor>) {
    loop {
        let accepted = tokio::select! {
            () = inner.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, or the peer is gone already.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let (tls, served) = (tls.clone(), Arc::clone(&inner));
        inner.tasks.spawn(async move {
            let stop = served.stop.clone();
            let serving = async {
                match tls {
                    Some(tls) => serve_connection(served, tls.accept(stream).await?).await,
                    None => serve_connection(served, stream).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                result = serving => if let Err(error) = result {
                    tracing::debug!(%error, "a connection to the functions host ended early");
                }
            }
        });
    }
}

async fn serve_connection(
    inner: Arc<Inner>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let answer = service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { Ok::<_, io::Error>(answer(&inner, request).await.map(Full::new)) }
    });
    http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await
        .map_err(io::Error::other)
}

async fn answer(inner: &Arc<Inner>, request: Request<Incoming>) -> Response<Bytes> {
    if let Some(site) = &inner.options.site
        && site.state().state == "Stopped"
    {
        return plain(
            StatusCode::FORBIDDEN,
            "Error 403 - This web app is stopped.",
        );
    }
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/" {
        return plain(
            StatusCode::OK,
            "Your Functions host stand-in is up and running.",
        );
    }
    let app = inner.app();
    // An unfit method is answered like an unknown route, which the real host does too (azure-functions-host, issue 10098).
    let Some(function) = find(inner, &app, &parts.method, parts.uri.path()) else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    let Some(Trigger::Http {
        is_anonymous,
        is_plain,
        ..
    }) = app.functions.get(&function)
    else {
        return plain(StatusCode::NOT_FOUND, "");
    };
    if !is_anonymous {
        // Keys are not simulated, so no request has a right one.
        return plain(StatusCode::UNAUTHORIZED, "");
    }
    if !is_plain || !app.forwards_http {
        let text = format!("{function}: only forwarded HTTP is played here");
        inner.diary.log(0, LogSource::Host, text);
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
    }
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "");
    };
    let Some(instance) = inner.next_instance().await else {
        return plain(
            StatusCode::SERVICE_UNAVAILABLE,
            "Function host is not running.",
        );
    };
    forward(inner, &instance, &function, parts, body.to_bytes()).await
}

/// The function for a path and a method.
fn find(inner: &Inner, app: &App, method: &Method, path: &str) -> Option<String> {
    let prefix = app.route_prefix.as_str();
    let mut path = path.trim_matches('/');
    if !prefix.is_empty() {
        path = path.strip_prefix(prefix)?.strip_prefix('/')?;
    }
    let method = method.as_str().to_ascii_lowercase();
    app.functions.iter().find_map(|(name, trigger)| {
        let Trigger::Http { methods, route, .. } = trigger else {
            return None;
        };
        let fits = (methods.is_empty() || methods.contains(&method))
            && route_fits(route, path)
            && !inner.is_disabled(name);
        fits.then(|| name.clone())
    })
}

/// Names are compared without case; `{name}` stands for one segment, `{*name}` for all that are left.
fn route_fits(route: &str, path: &str) -> bool {
    let mut path = path.split('/');
    for segment in route.trim_matches('/').split('/') {
        if segment.starts_with("{*") {
            return true;
        }
        let Some(given) = path.next() else {
            return false;
        };
        let is_any = segment.starts_with('{') && segment.ends_with('}');
        if !is_any && !segment.eq_ignore_ascii_case(given) {
            return false;
        }
    }
    path.next().is_none()
}

/// Passes the request on with its own method, headers and whole path, and the answer back.
async fn forward(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    function: &str,
    parts: http::request::Parts,
    body: Bytes,
) -> Response<Bytes> {
    let started = Instant::now();
    let id = uuid::Uuid::new_v4().to_string();
    let State::Ready { port, .. } = instance.state() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "");
    };
    let target = parts
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut headers = parts.headers;
    if let Some(host) = headers.remove(HOST) {
        headers.insert(HeaderName::from_static("x-forwarded-host"), host);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        headers.remove(name);
    }
    for (name, value) in [
        ("x-azure-functions-invocationid", id.as_str()),
        ("x-azure-functions-hostversion", HOST_VERSION),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let sending = inner
        .client
        .request(parts.method, format!("http://127.0.0.1:{port}{target}"))
        .headers(headers)
        .body(body)
        .send();
    let forwarded = async {
        let response = sending.await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
    };
    let (mut status, mut reply) = (None, plain(StatusCode::INTERNAL_SERVER_ERROR, ""));
    let outcome = match tokio::time::timeout(inner.function_timeout(), forwarded).await {
        Ok(Ok((code, headers, bytes))) => {
            status = Some(code.as_u16());
            reply = Response::new(bytes);
            *reply.status_mut() = code;
            for (name, value) in &headers {
                if ![CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH].contains(name) {
                    reply.headers_mut().append(name, value.clone());
                }
            }
            Outcome::Succeeded
        }
        Ok(Err(error)) => Outcome::Failed(format!("no answer: {error}")),
        Err(_) => {
            instance.order(super::worker::Order::Replace);
            Outcome::TimedOut
        }
    };
    inner.diary.note(Invocation {
        id,
        function: function.to_owned(),
        instance: instance.number,
        status,
        duration: started.elapsed(),
        outcome,
        message: None,
        answer: None,
    });
    reply
}

fn plain(status: StatusCode, text: &'static str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(text.as_bytes()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::route_fits;

    #[test]
    fn a_route_fits_whole_paths_only() {
        assert!(route_fits("o365/webhook", "O365/WebHook"));
        assert!(!route_fits("o365/webhook", "o365/webhook/more"));
        assert!(!route_fits("o365/webhook", "o365"));
        assert!(route_fits("{*rest}", "a/b/c"));
        assert!(route_fits("a/{id}", "a/1"));
    }
}
