//! A client of the Queue service, small and on its own: it signs with the account's key, and knows what a trigger needs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use ring::hmac;

use crate::clock::real_now;
use crate::times;

/// The version of the service's protocol.
const VERSION: &str = "2021-12-02";

/// The queues of one storage account.
#[derive(Clone)]
pub(super) struct Queues {
    client: reqwest::Client,
    account: String,
    key: hmac::Key,
    /// Without a slash at its end; with the account's name in its path on an emulator.
    endpoint: url::Url,
}

/// A message that is ours until it becomes visible again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) pop_receipt: String,
    pub(super) dequeue_count: u64,
    pub(super) text: String,
    pub(super) inserted: String,
    pub(super) expires: String,
    pub(super) next_visible: String,
}

impl Queues {
    /// None for a text that is no connection string with a key.
    pub(super) fn connect(connection: &str, client: reqwest::Client) -> Option<Self> {
        let part = |name: &str| {
            connection.split(';').find_map(|part| {
                let (key, value) = part.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let account = part("AccountName")?.to_owned();
        let key = STANDARD.decode(part("AccountKey")?).ok()?;
        let endpoint = match part("QueueEndpoint") {
            Some(endpoint) => endpoint.to_owned(),
            None => format!(
                "{}://{account}.queue.{}",
                part("DefaultEndpointsProtocol").unwrap_or("https"),
                part("EndpointSuffix").unwrap_or("core.windows.net")
            ),
        };
        Some(Self {
            client,
            account,
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            endpoint: endpoint.trim_end_matches('/').parse().ok()?,
        })
    }

    /// At most this many messages, hidden from others for this long. A queue that does not exist is empty.
    pub(super) async fn take(
        &self,
        queue: &str,
        count: usize,
        hidden: Duration,
    ) -> Result<Vec<Message>, String> {
        let query = [
            ("numofmessages", count.clamp(1, 32).to_string()),
            ("visibilitytimeout", hidden.as_secs().max(1).to_string()),
        ];
        let path = format!("{queue}/messages");
        let (status, _, body) = self.send(Method::GET, &path, &query, "").await?;
        match status {
            200 => Ok(read_messages(&body)),
            404 => Ok(Vec::new()),
            status => Err(format!("taking from {queue} was answered {status}")),
        }
    }

    /// Hides a message for this long from now, and gives its next pop receipt.
    pub(super) async fn hide(
        &self,
        queue: &str,
        message: &Message,
        hidden: Duration,
    ) -> Result<String, String> {
        let query = [
            ("popreceipt", message.pop_receipt.clone()),
            ("visibilitytimeout", hidden.as_secs().to_string()),
        ];
        let path = format!("{queue}/messages/{}", message.id);
        let body = write_message(&message.text);
        let (status, receipt, _) = self.send(Method::PUT, &path, &query, &body).await?;
        receipt
            .filter(|_| status == 204)
            .ok_or_else(|| format!("updating a message of {queue} was answered {status}"))
    }

    pub(super) async fn delete(&self, queue: &str, message: &Message) -> Result<(), String> {
        let query = [("popreceipt", message.pop_receipt.clone())];
        let path = format!("{queue}/messages/{}", message.id);
        let (status, _, _) = self.send(Method::DELETE, &path, &query, "").await?;
        if status == 204 {
            Ok(())
        } else {
            Err(format!("deleting from {queue} was answered {status}"))
        }
    }

    /// Puts a message into a queue, which is made when it does not exist.
    pub(super) async fn put(&self, queue: &str, text: &str) -> Result<(), String> {
        let path = format!("{queue}/messages");
        let body = write_message(text);
        let (mut status, _, _) = self.send(Method::POST, &path, &[], &body).await?;
        if status == 404 {
            self.send(Method::PUT, queue, &[], "").await?;
            (status, _, _) = self.send(Method::POST, &path, &[], &body).await?;
        }
        if status == 201 {
            Ok(())
        } else {
            Err(format!("putting into {queue} was answered {status}"))
        }
    }

    /// Status, the next pop receipt, and the body.
    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: &str,
    ) -> Result<(u16, Option<String>, String), String> {
        let mut url = self.endpoint.clone();
        url.set_path(&format!(
            "{}/{path}",
            self.endpoint.path().trim_end_matches('/')
        ));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let date = times::http_date(real_now());
        let length = if body.is_empty() {
            String::new()
        } else {
            body.len().to_string()
        };
        let mut canonical = format!("/{}{}", self.account, url.path());
        let mut sorted = query.to_vec();
        sorted.sort();
        for (name, value) in &sorted {
            canonical.push_str(&format!("\n{name}:{value}"));
        }
        // The empty lines are Content-Encoding, Content-Language, Content-MD5, Content-Type, Date, the four conditions, Range.
        let to_sign = format!(
            "{method}\n\n\n{length}\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{VERSION}\n{canonical}"
        );
        let signature = STANDARD.encode(hmac::sign(&self.key, to_sign.as_bytes()));
        let mut request = self
            .client
            .request(method, url)
            .timeout(Duration::from_secs(30))
            .header("x-ms-date", date)
            .header("x-ms-version", VERSION)
            .header(
                "authorization",
                format!("SharedKey {}:{signature}", self.account),
            );
        if body.is_empty() {
            request = request.header("content-length", "0");
        } else {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.map_err(|error| {
            // Without the address: a pop receipt is in it.
            format!("the queue service does not answer: {}", error.without_url())
        })?;
        let receipt = response
            .headers()
            .get("x-ms-popreceipt")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let status = response.status().as_u16();
        let body = response
            .text()
            .await
            .map_err(|error| error.without_url().to_string())?;
        Ok((status, receipt, body))
    }
}

fn write_message(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<QueueMessage><MessageText>{escaped}</MessageText></QueueMessage>")
}

fn read_messages(body: &str) -> Vec<Message> {
    let message = |xml: &str| {
        let element = |name: &str| {
            let (_, rest) = xml.split_once(&format!("<{name}>"))?;
            let (text, _) = rest.split_once(&format!("</{name}>"))?;
            Some(unescape(text))
        };
        Some(Message {
            id: element("MessageId")?,
            pop_receipt: element("PopReceipt")?,
            dequeue_count: element("DequeueCount")?.parse().ok()?,
            text: element("MessageText").unwrap_or_default(),
            inserted: element("InsertionTime").unwrap_or_default(),
            expires: element("ExpirationTime").unwrap_or_default(),
            next_visible: element("TimeNextVisible").unwrap_or_default(),
        })
    };
    body.split("<QueueMessage>")
        .skip(1)
        .filter_map(message)
        .collect()
}

/// The ampersand last, so that what was written twice is read once.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&#xD;", "\r")
        .replace("&#xA;", "\n")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_messages_is_read() {
        let body = "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><QueueMessagesList><QueueMessage><MessageId>1</MessageId>\
            <InsertionTime>a</InsertionTime><ExpirationTime>b</ExpirationTime><PopReceipt>r</PopReceipt><TimeNextVisible>c</TimeNextVisible>\
            <DequeueCount>2</DequeueCount><MessageText>{\"a\":\"&lt;&amp;lt;\"}</MessageText></QueueMessage></QueueMessagesList>";
        let messages = read_messages(body);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].text, "{\"a\":\"<&lt;\"}");
        assert_eq!(messages[0].dequeue_count, 2);
        assert!(write_message("<&>").contains("&lt;&amp;&gt;"));
    }

    #[tokio::test]
    #[ignore = "needs Azurite"]
    async fn the_official_emulator_takes_what_is_signed_here() {
        #[expect(
            clippy::disallowed_methods,
            reason = "where the emulator is installed, only who runs the tests knows"
        )]
        let modules = std::env::var("O365_TEST_AZURITE_NODE_MODULES")
            .expect("O365_TEST_AZURITE_NODE_MODULES names a folder");
        let azurite = crate::Azurite::start(modules.as_ref()).await.unwrap();
        let tls = crate::tls::client_config(&[]).unwrap();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .build()
            .unwrap();
        let queues = Queues::connect(&azurite.connection_string(), client).unwrap();
        let (lease, none) = (Duration::from_secs(60), Duration::ZERO);
        assert_eq!(queues.take("work", 32, lease).await, Ok(Vec::new()));
        let text = "{\"a\":\"<b> & 'c' \u{e9}\"}";
        queues.put("work", text).await.unwrap();
        let mut message = queues.take("work", 32, lease).await.unwrap().remove(0);
        assert_eq!((message.text.as_str(), message.dequeue_count), (text, 1));
        assert_eq!(queues.take("work", 1, lease).await, Ok(Vec::new()));
        message.pop_receipt = queues.hide("work", &message, none).await.unwrap();
        let again = queues.take("work", 1, lease).await.unwrap().remove(0);
        assert_eq!((again.text.as_str(), again.dequeue_count), (text, 2));
        let old_receipt = queues.delete("work", &message).await;
        assert!(old_receipt.is_err());
        queues.delete("work", &again).await.unwrap();
        assert_eq!(queues.take("work", 1, none).await, Ok(Vec::new()));
    }
}
