//! A queue service in memory, with the visibility, the pop receipts and the dequeue counts of the real one.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wire::{Request, Response, serve};

#[derive(Clone, Default)]
pub(super) struct QueueService {
    queues: Arc<Mutex<HashMap<String, Vec<Entry>>>>,
    port: u16,
}

struct Entry {
    id: u64,
    receipt: u64,
    count: u64,
    visible_at: Instant,
    xml: String,
}

impl QueueService {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let service = Self {
            port: listener.local_addr().unwrap().port(),
            ..Self::default()
        };
        let served = service.clone();
        serve(listener, move |request| served.answer(&request));
        service
    }

    pub(super) fn connection(&self) -> String {
        format!(
            "AccountName=test;AccountKey=dGVzdA==;QueueEndpoint=http://127.0.0.1:{}/test",
            self.port
        )
    }

    pub(super) fn put(&self, queue: &str, text: &str) {
        let mut queues = self.queues.lock().unwrap();
        let entries = queues.entry(queue.to_owned()).or_default();
        entries.push(entry(text.replace('&', "&amp;").replace('<', "&lt;")));
    }

    pub(super) fn texts(&self, queue: &str) -> Vec<String> {
        let queues = self.queues.lock().unwrap();
        let entries = queues.get(queue);
        entries.map_or(Vec::new(), |entries| {
            entries.iter().map(|entry| entry.xml.clone()).collect()
        })
    }

    /// Whether somebody has taken a message of the queue.
    pub(super) fn is_held(&self, queue: &str) -> bool {
        let queues = self.queues.lock().unwrap();
        let entries = queues.get(queue);
        entries.is_some_and(|entries| entries.iter().any(|entry| entry.count > 0))
    }

    /// Gives the queue's messages another text.
    pub(super) fn replace(&self, queue: &str, text: &str) {
        for entry in self.queues.lock().unwrap().get_mut(queue).unwrap() {
            entry.xml = text.to_owned();
        }
    }

    fn answer(&self, request: &Request) -> Response {
        assert!(
            request.headers.iter().any(
                |(name, value)| name == "authorization" && value.starts_with("SharedKey test:")
            )
        );
        let path: Vec<&str> = request.path().split('/').skip(2).collect();
        let hidden = Duration::from_secs(
            request
                .query("visibilitytimeout")
                .map_or(0, |text| text.parse().unwrap()),
        );
        let mut queues = self.queues.lock().unwrap();
        let mut response = Response::default();
        if let ["PUT", name] = [request.method.as_str(), path[0]]
            && path.len() == 1
        {
            queues.entry(name.to_owned()).or_default();
            response.status = 201;
            return response;
        }
        let Some(entries) = queues.get_mut(path[0]) else {
            response.status = 404;
            return response;
        };
        let receipt = request.query("popreceipt");
        let held = entries.iter().position(|entry| {
            path.get(2) == Some(&entry.id.to_string().as_str())
                && receipt.as_deref() == Some(&entry.receipt.to_string())
        });
        match (request.method.as_str(), held) {
            ("POST", _) => {
                let (_, text) = request.body.split_once("<MessageText>").unwrap();
                let (text, _) = text.split_once("</MessageText>").unwrap();
                entries.push(entry(text.to_owned()));
                response.status = 201;
            }
            ("GET", _) => {
                let count = request.query("numofmessages").unwrap().parse().unwrap();
                let visible = entries
                    .iter_mut()
                    .filter(|entry| entry.visible_at <= Instant::now());
                for entry in visible.take(count) {
                    entry.count += 1;
                    entry.receipt += 1;
                    entry.visible_at = Instant::now() + hidden;
                    response.body.extend_from_slice(format!(
                        "<QueueMessage><MessageId>{}</MessageId><PopReceipt>{}</PopReceipt><DequeueCount>{}</DequeueCount><MessageText>{}</MessageText></QueueMessage>",
                        entry.id, entry.receipt, entry.count, entry.xml
                    ).as_bytes());
                }
                response.status = 200;
            }
            ("PUT", Some(at)) => {
                let entry = &mut entries[at];
                entry.receipt += 1;
                entry.visible_at = Instant::now() + hidden;
                response.headers = vec![("x-ms-popreceipt", entry.receipt.to_string())];
                response.status = 204;
            }
            ("DELETE", Some(at)) => {
                entries.remove(at);
                response.status = 204;
            }
            _ => response.status = 404,
        }
        response
    }
}

fn entry(xml: String) -> Entry {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    Entry {
        id: NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        receipt: 0,
        count: 0,
        visible_at: Instant::now(),
        xml,
    }
}
