//! A call in the wrapped form, and what the host makes of the handler's answer.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::Inner;
use super::diary::{Invocation, LogSource, Outcome};
use super::worker::{Instance, Order, State};
use crate::clock::real_now;

/// What the host calls itself in its headers.
pub(super) const HOST_VERSION: &str = "4.1037.0.0";

/// Calls a function of an instance and notes how it ended.
pub(super) async fn invoke(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    function: &str,
    data: Value,
    mut metadata: Value,
    message: Option<String>,
) -> Invocation {
    let started = Instant::now();
    let id = uuid::Uuid::new_v4().to_string();
    metadata["sys"] = json!({
        "MethodName": function,
        "UtcNow": real_now().to_string(),
        "RandGuid": uuid::Uuid::new_v4().to_string(),
    });
    let mut invocation = Invocation {
        id: id.clone(),
        function: function.to_owned(),
        instance: instance.number,
        status: None,
        duration: started.elapsed(),
        outcome: Outcome::Succeeded,
        message,
        answer: None,
    };
    let body = json!({"Data": data, "Metadata": metadata}).to_string();
    let called = call(inner, instance, &id, function, body, &mut invocation);
    let limit = inner.function_timeout();
    invocation.outcome = match tokio::time::timeout(limit, called).await {
        Ok(Ok(())) => Outcome::Succeeded,
        Ok(Err(reason)) => Outcome::Failed(reason),
        Err(_) => {
            // As the real host does: what does not come to an end is ended, and everything else that runs in it too.
            instance.order(Order::Replace);
            Outcome::TimedOut
        }
    };
    invocation.duration = started.elapsed();
    let text = format!("{function} {id}: {:?}", invocation.outcome);
    inner.diary.log(instance.number, LogSource::Host, text);
    inner.diary.note(invocation.clone());
    invocation
}

/// # Errors
/// Why the invocation failed.
async fn call(
    inner: &Inner,
    instance: &Instance,
    id: &str,
    function: &str,
    body: String,
    invocation: &mut Invocation,
) -> Result<(), String> {
    let State::Ready { port, pid } = instance.state() else {
        return Err("the handler is not ready".to_owned());
    };
    let sent = inner
        .client
        .post(format!("http://127.0.0.1:{port}/{function}"))
        .header("content-type", "application/json; charset=utf-8")
        .header("x-azure-functions-invocationid", id)
        .header("x-azure-functions-hostversion", HOST_VERSION)
        .header("user-agent", format!("Azure-Functions-Host/{HOST_VERSION}"))
        .body(body)
        .send()
        .await;
    let response = sent.map_err(|error| format!("no answer: {error}"))?;
    let status = response.status();
    invocation.status = Some(status.as_u16());
    let body = response
        .bytes()
        .await
        .map_err(|error| format!("the answer broke off: {error}"))?;
    if !status.is_success() {
        return Err(format!("the handler answered {status}"));
    }
    let answer = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|_| "the answer is not JSON".to_owned())?
    };
    if answer.is_null() {
        inner.diary.log(
            instance.number,
            LogSource::Host,
            format!("{function} {id}: the answer is empty, so the invocation does not end"),
        );
        let mut states = instance.states();
        let gone =
            |state: &State| !matches!(state, State::Ready { pid: other, .. } if *other == pid);
        // The end of the handler ends it; else the function timeout does.
        drop(states.wait_for(gone).await);
        return Err("the handler is gone".to_owned());
    }
    if !answer.is_object() {
        return Err("the answer is not a JSON object".to_owned());
    }
    for line in answer["Logs"].as_array().into_iter().flatten() {
        let text = line
            .as_str()
            .map_or_else(|| line.to_string(), str::to_owned);
        inner.diary.log(instance.number, LogSource::Function, text);
    }
    invocation.answer = Some(answer);
    Ok(())
}
