//! Queues: messages put, taken for a while, and taken away.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use quick_xml::escape::escape as escape_xml;
use quick_xml::events::Event;

use super::Service;
use super::authorize::{Draft, escape};
use super::error::{Error, check};

/// Creates a queue; it is no failure when it is there.
#[must_use]
pub fn create(queue: &str) -> Draft {
    Draft::new(Service::Queues, Method::PUT, format!("/{queue}"))
}

/// Puts a message, plain text, that can be taken after `hidden` and is forgotten after `kept`.
#[must_use]
pub fn put(queue: &str, text: &str, hidden: Duration, kept: Duration) -> Draft {
    // Of what XML forbids, only control characters can stand in a text of ours, and JSON has them escaped.
    let body = format!(
        "<QueueMessage><MessageText>{}</MessageText></QueueMessage>",
        escape_xml(text)
    );
    Draft::new(Service::Queues, Method::POST, format!("/{queue}/messages"))
        .query("visibilitytimeout", hidden.as_secs().to_string())
        .query("messagettl", kept.as_secs().max(1).to_string())
        .body("application/xml", body)
}

/// Takes messages, which come back after `hidden` unless they are taken away before.
#[must_use]
pub fn get(queue: &str, max_count: usize, hidden: Duration) -> Draft {
    Draft::new(Service::Queues, Method::GET, format!("/{queue}/messages"))
        .query("numofmessages", max_count.clamp(1, 32).to_string())
        .query("visibilitytimeout", hidden.as_secs().max(1).to_string())
}

/// Takes a message away that was got.
#[must_use]
pub fn delete(queue: &str, message: &Message) -> Draft {
    let path = format!("/{queue}/messages/{}", escape(&message.id));
    Draft::new(Service::Queues, Method::DELETE, path).query("popreceipt", &message.receipt)
}

/// Asks about the queue itself; [`read_count`] reads it.
#[must_use]
pub fn about(queue: &str) -> Draft {
    Draft::new(Service::Queues, Method::GET, format!("/{queue}")).query("comp", "metadata")
}

/// A message that was got.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// Names it.
    pub id: String,
    /// Shows that it was got, until somebody else gets it.
    pub receipt: String,
    /// How often it was got, this time included.
    pub dequeue_count: u64,
    /// What it says.
    pub text: String,
}

/// Whether it was done, whatever it was.
///
/// # Errors
/// What the reply means instead.
pub fn read_done(reply: &Response<Bytes>) -> Result<(), Error> {
    match check(reply) {
        Err(Error::AlreadyExists) => Ok(()),
        other => other,
    }
}

/// About how many messages there are.
///
/// # Errors
/// What the reply means instead.
pub fn read_count(reply: &Response<Bytes>) -> Result<u64, Error> {
    check(reply)?;
    reply
        .headers()
        .get("x-ms-approximate-messages-count")
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .ok_or(Error::Malformed {
            what: "a queue has no count of messages",
        })
}

/// The messages that were got.
///
/// # Errors
/// What the reply means instead.
pub fn read_messages(reply: &Response<Bytes>) -> Result<Vec<Message>, Error> {
    check(reply)?;
    let malformed = || Error::Malformed {
        what: "a list of messages is no XML",
    };
    let text = std::str::from_utf8(reply.body()).map_err(|_| malformed())?;
    let mut reader = quick_xml::Reader::from_str(text.trim_start_matches('\u{feff}'));
    let mut messages = Vec::new();
    let mut message = Message::default();
    let mut element = String::new();
    loop {
        match reader.read_event().map_err(|_| malformed())? {
            Event::Start(start) => {
                element = start.local_name().as_ref().to_owned();
            }
            Event::Text(piece) => {
                take_piece(&mut message, &element, &piece)?;
            }
            Event::GeneralRef(reference) => {
                let whole = format!("&{};", &*reference);
                let piece = quick_xml::escape::unescape(&whole).map_err(|_| malformed())?;
                take_piece(&mut message, &element, &piece)?;
            }
            Event::End(end) => {
                if end.local_name().as_ref() == "QueueMessage" {
                    messages.push(std::mem::take(&mut message));
                }
                element.clear();
            }
            Event::Eof => return Ok(messages),
            _ => {}
        }
    }
}

fn take_piece(message: &mut Message, element: &str, piece: &str) -> Result<(), Error> {
    match element {
        "MessageId" => message.id.push_str(piece),
        "PopReceipt" => message.receipt.push_str(piece),
        "MessageText" => message.text.push_str(piece),
        "DequeueCount" => {
            message.dequeue_count = piece.trim().parse().map_err(|_| Error::Malformed {
                what: "a message's dequeue count is no number",
            })?;
        }
        _ => {}
    }
    Ok(())
}
