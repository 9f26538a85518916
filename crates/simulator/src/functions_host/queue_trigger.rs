//! Functions that a queue starts: takes messages, hands them to the instance's handler, and settles each by how that ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::app::{QueueRules, Trigger};
use super::diary::LogSource;
use super::storage::{Message, Queues};
use super::worker::{Instance, State};
use super::{Inner, expand, invoke};

/// The shortest pause after an empty look.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// A function with its queue.
#[derive(Clone)]
struct Listener {
    function: String,
    binding: String,
    queue: String,
    queues: Queues,
    rules: QueueRules,
    in_flight: Arc<AtomicUsize>,
}

/// Listens to all queues for one instance until that is stopped.
pub(super) async fn run(inner: Arc<Inner>, instance: Arc<Instance>) {
    let mut in_flight: HashMap<String, Arc<AtomicUsize>> = HashMap::new();
    let mut pause = SHORTEST_PAUSE;
    loop {
        if !matches!(instance.state(), State::Ready { .. }) {
            instance.settled().await;
        }
        let mut found = 0;
        if matches!(instance.state(), State::Ready { .. }) {
            for listener in listeners(&inner, &mut in_flight) {
                found += look(&inner, &instance, &listener).await;
            }
        }
        // As the host does, the pause grows while there is nothing, so that an idle app costs little.
        pause = if found > 0 {
            SHORTEST_PAUSE
        } else {
            (pause * 2).min(inner.options.queue_pause)
        };
        tokio::time::sleep(pause).await;
    }
}

/// The functions as the app has them at this moment.
fn listeners(
    inner: &Arc<Inner>,
    in_flight: &mut HashMap<String, Arc<AtomicUsize>>,
) -> Vec<Listener> {
    let app = inner.app();
    let settings = inner.settings();
    let mut listeners = Vec::new();
    for (function, trigger) in &app.functions {
        let Trigger::Queue {
            binding,
            queue,
            connection,
        } = trigger
        else {
            continue;
        };
        if inner.is_disabled(function) {
            continue;
        }
        let account = inner
            .options
            .queue_connection
            .as_ref()
            .or_else(|| settings.get(connection))
            .or_else(|| inner.environment.get(connection));
        let Some(queues) = account.and_then(|text| Queues::connect(text, inner.client.clone()))
        else {
            inner.diary.log(
                0,
                LogSource::Host,
                format!("{function}: app setting {connection} is no connection string"),
            );
            continue;
        };
        let mut rules = app.queues.clone();
        if let Some(hidden) = inner.options.visibility_timeout {
            rules.visibility_timeout = hidden;
        }
        listeners.push(Listener {
            function: function.clone(),
            binding: binding.clone(),
            queue: expand(queue, &settings),
            queues,
            rules,
            in_flight: Arc::clone(in_flight.entry(function.clone()).or_default()),
        });
    }
    listeners
}

/// Takes one batch, when there is room for it. How many messages there were.
async fn look(inner: &Arc<Inner>, instance: &Arc<Instance>, listener: &Listener) -> usize {
    if listener.in_flight.load(Ordering::SeqCst) > listener.rules.new_batch_threshold {
        return 0;
    }
    let lease = inner.options.message_lease;
    let taken = listener
        .queues
        .take(&listener.queue, listener.rules.batch_size, lease)
        .await;
    let messages = match taken {
        Ok(messages) => messages,
        Err(error) => {
            inner.diary.log(instance.number, LogSource::Host, error);
            return 0;
        }
    };
    let count = messages.len();
    for message in messages {
        listener.in_flight.fetch_add(1, Ordering::SeqCst);
        let (inner, instance, listener) =
            (Arc::clone(inner), Arc::clone(instance), listener.clone());
        inner.tasks.clone().spawn(async move {
            let lost = inner.lost.clone();
            tokio::select! {
                // The machine is gone, and with it whoever would settle the message.
                () = lost.cancelled() => {}
                () = process(&inner, &instance, &listener, message) => {}
            }
            listener.in_flight.fetch_sub(1, Ordering::SeqCst);
        });
    }
    count
}

/// One message from its delivery to its end: deleted, visible again, or among the poisoned ones.
async fn process(
    inner: &Arc<Inner>,
    instance: &Arc<Instance>,
    listener: &Listener,
    mut message: Message,
) {
    let text = if listener.rules.is_base64 {
        let decoded = STANDARD.decode(&message.text).ok();
        decoded.and_then(|bytes| String::from_utf8(bytes).ok())
    } else {
        Some(message.text.clone())
    };
    let is_done = match text {
        None => {
            let text = format!("{}: a message is not Base64", listener.function);
            inner.diary.log(instance.number, LogSource::Host, text);
            // It will never be: no second try.
            message.dequeue_count = message.dequeue_count.max(listener.rules.max_dequeue_count);
            false
        }
        Some(text) => {
            let mut data = serde_json::Map::new();
            // Text in JSON in JSON: the host serialises the text once more than a reader expects.
            data.insert(
                listener.binding.clone(),
                Value::from(Value::from(text.as_str()).to_string()),
            );
            let metadata = json!({
                "DequeueCount": message.dequeue_count,
                "ExpirationTime": message.expires,
                "Id": message.id,
                "InsertionTime": message.inserted,
                "NextVisibleTime": message.next_visible,
                "PopReceipt": message.pop_receipt,
                "QueueTrigger": text,
            });
            let invoking = invoke::invoke(
                inner,
                instance,
                &listener.function,
                Value::Object(data),
                metadata,
                Some(text.clone()),
            );
            tokio::pin!(invoking);
            loop {
                tokio::select! {
                    invocation = &mut invoking => break invocation.succeeded(),
                    () = tokio::time::sleep(inner.options.message_lease / 2) => {
                        let lease = inner.options.message_lease;
                        match listener.queues.hide(&listener.queue, &message, lease).await {
                            Ok(receipt) => message.pop_receipt = receipt,
                            Err(error) => inner.diary.log(instance.number, LogSource::Host, error),
                        }
                    }
                }
            }
        }
    };
    if let Err(error) = settle(listener, &message, is_done).await {
        inner.diary.log(instance.number, LogSource::Host, error);
    }
}

async fn settle(listener: &Listener, message: &Message, is_done: bool) -> Result<(), String> {
    let (queue, rules) = (&listener.queue, &listener.rules);
    if is_done {
        return listener.queues.delete(queue, message).await;
    }
    if message.dequeue_count >= rules.max_dequeue_count {
        let poison = format!("{queue}-poison");
        listener.queues.put(&poison, &message.text).await?;
        return listener.queues.delete(queue, message).await;
    }
    let hidden = rules.visibility_timeout;
    listener.queues.hide(queue, message, hidden).await.map(drop)
}
