//! A collector small enough to be read at a glance, and an encoder of ingest's protobuf by hand.

use std::io::{Read as _, Write as _};
use std::sync::Once;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::ZlibEncoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use reqwest::header::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};
use simulator::{Options, Simulator};

pub(crate) struct Client {
    pub(crate) simulator: Simulator,
    pub(crate) http: reqwest::Client,
    pub(crate) token: String,
    pub(crate) aims_token: String,
    pub(crate) source_id: String,
    pub(crate) host_id: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// `status code` of an error of the Activity API.
    pub(crate) fn af(&self) -> String {
        format!(
            "{} {}",
            self.status,
            self.json()["error"]["code"].as_str().unwrap_or("-")
        )
    }
}

pub(crate) async fn read(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = response.bytes().await.unwrap().to_vec();
    if headers
        .get("content-encoding")
        .is_some_and(|encoding| encoding == "gzip")
    {
        let mut plain = Vec::new();
        GzDecoder::new(body.as_slice())
            .read_to_end(&mut plain)
            .unwrap();
        body = plain;
    }
    Answer {
        status,
        headers,
        body,
    }
}

impl Client {
    /// Starts a simulator and gets a token from it.
    pub(crate) async fn start(options: Options) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            rustls::crypto::ring::default_provider()
                .install_default()
                .unwrap()
        });
        let simulator = Simulator::start(options).await.unwrap();
        let roots = simulator
            .ca_pem()
            .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(roots)
            .build()
            .unwrap();
        let mut client = Self {
            simulator,
            http,
            token: String::new(),
            aims_token: String::new(),
            source_id: String::new(),
            host_id: String::new(),
        };
        client.token = client.microsoft_token(0).await;
        client
    }

    pub(crate) async fn microsoft_token(&self, tenant: usize) -> String {
        let tenant = &self.simulator.tenants()[tenant];
        let answer = self
            .post_token(
                "oauth2/v2.0/token",
                &tenant.client_id,
                &tenant.client_secret,
                "scope",
                "https://manage.office.com/.default",
            )
            .await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn post_token(
        &self,
        path: &str,
        id: &str,
        secret: &str,
        name: &str,
        resource: &str,
    ) -> Answer {
        let url = format!(
            "{}/{}/{path}",
            self.simulator.microsoft_origin(),
            self.tenant_id()
        );
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "client_credentials"),
                ("client_id", id),
                ("client_secret", secret),
                (name, resource),
            ])
            .finish();
        read(
            self.http
                .post(url)
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body),
        )
        .await
    }

    pub(crate) fn tenant_id(&self) -> &str {
        &self.simulator.tenants()[0].tenant_id
    }

    pub(crate) fn feed(&self, tail: &str) -> String {
        let publisher = if tail.contains('?') { "&" } else { "?" };
        let tenant = self.tenant_id();
        format!(
            "{}/api/v1.0/{tenant}/activity/feed/{tail}{publisher}PublisherIdentifier={tenant}",
            self.simulator.microsoft_origin()
        )
    }

    pub(crate) async fn get(&self, url: &str) -> Answer {
        read(
            self.http
                .get(url)
                .bearer_auth(&self.token)
                .header("accept-encoding", "gzip"),
        )
        .await
    }

    pub(crate) async fn start_subscription(
        &self,
        content_type: &str,
        body: &'static str,
    ) -> Answer {
        let url = self.feed(&format!("subscriptions/start?contentType={content_type}"));
        read(self.http.post(url).bearer_auth(&self.token).body(body)).await
    }

    /// Every blob of a content type in the last 23 hours, page by page.
    pub(crate) async fn list_all(&self, content_type: &str) -> Vec<Value> {
        let now = self.simulator.clock().now();
        let start = now - jiff::SignedDuration::from_hours(23);
        let mut url = self.feed(&format!(
            "subscriptions/content?contentType={content_type}&startTime={start:.0}&endTime={now:.3}"
        ));
        let mut rows = Vec::new();
        loop {
            let answer = self.get(&url).await;
            assert_eq!(
                answer.status,
                200,
                "{}",
                String::from_utf8_lossy(&answer.body)
            );
            rows.extend(answer.json().as_array().unwrap().clone());
            match answer.headers.get("nextpageuri") {
                None => return rows,
                Some(next) => {
                    url = format!(
                        "{}&PublisherIdentifier={}",
                        next.to_str().unwrap(),
                        self.tenant_id()
                    )
                }
            }
        }
    }

    /// A blob's records as exact bytes.
    pub(crate) async fn fetch(&self, row: &Value) -> Vec<String> {
        let url = format!(
            "{}?PublisherIdentifier={}",
            row["contentUri"].as_str().unwrap(),
            self.tenant_id()
        );
        let answer = self.get(&url).await;
        assert_eq!(
            answer.status,
            200,
            "{}",
            String::from_utf8_lossy(&answer.body)
        );
        let records: Vec<Box<RawValue>> = serde_json::from_slice(&answer.body).unwrap();
        records
            .into_iter()
            .map(|record| record.get().to_owned())
            .collect()
    }

    /// Everything there is to collect, as exact bytes.
    pub(crate) async fn collect(&self) -> Vec<String> {
        let mut records = Vec::new();
        for content_type in simulator::ContentType::ALL {
            self.start_subscription(content_type.as_str(), "").await;
            for row in self.list_all(content_type.as_str()).await {
                records.extend(self.fetch(&row).await);
            }
        }
        records
    }

    /// Gets a token of AIMS and registers a source.
    pub(crate) async fn register(&mut self) {
        let options = self.simulator.options().alertlogic.clone();
        let answer = self
            .authenticate(&options.access_key_id, &options.secret_key)
            .await;
        self.aims_token = answer.json()["authentication"]["token"]
            .as_str()
            .unwrap()
            .to_owned();
        let url = format!(
            "{}/azcollect/v1/{}/azure/o365/sub/group/app",
            self.simulator.alertlogic_origin(),
            options.account_id
        );
        let tenant = self.tenant_id();
        let body = json!({"version": "1.0.0", "app_tenant_id": tenant, "client_id": "c",
            "config": {"type": "o365", "office_tenant_id": tenant, "content_streams": ["Audit.Exchange"]}});
        let answer = self
            .alertlogic(self.http.post(url).body(body.to_string()))
            .await;
        assert_eq!(answer.status, 201);
        self.source_id = answer.json()["source"]["id"].as_str().unwrap().to_owned();
        self.host_id = answer.json()["source"]["host"]["id"]
            .as_str()
            .unwrap()
            .to_owned();
    }

    pub(crate) async fn authenticate(&self, id: &str, secret: &str) -> Answer {
        let url = format!(
            "{}/aims/v1/authenticate",
            self.simulator.alertlogic_origin()
        );
        let basic = STANDARD.encode(format!("{id}:{secret}"));
        read(
            self.http
                .post(url)
                .header("authorization", format!("Basic {basic}")),
        )
        .await
    }

    pub(crate) async fn alertlogic(&self, request: reqwest::RequestBuilder) -> Answer {
        read(
            request
                .header("x-aims-auth-token", &self.aims_token)
                .header("accept", "application/json"),
        )
        .await
    }

    pub(crate) async fn post_logmsgs(&self, batch: &[u8]) -> Answer {
        self.post_deflated(deflate(batch)).await
    }

    pub(crate) async fn post_deflated(&self, body: Vec<u8>) -> Answer {
        let account = &self.simulator.options().alertlogic.account_id;
        let url = format!(
            "{}/ingest/v1/{account}/data/logmsgs",
            self.simulator.alertlogic_origin()
        );
        let request = self
            .http
            .post(url)
            .header("content-type", "alertlogic.com/lm3-protobuf")
            .header("x-invoked-by", "azure_function")
            .header("content-encoding", "deflate")
            .body(body);
        self.alertlogic(request).await
    }

    pub(crate) fn batch(&self, records: &[String]) -> Vec<u8> {
        let mut batch = bytes_field(1, self.source_id.as_bytes());
        batch.extend(bytes_field(2, &metadata(&self.host_id)));
        for record in records {
            batch.extend(bytes_field(3, &message(record)));
        }
        bytes_field(1, &batch)
    }
}

pub(crate) fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn message(record: &str) -> Vec<u8> {
    let parsed: Value = serde_json::from_str(record).unwrap();
    let time: DateTime = parsed["CreationTime"].as_str().unwrap().parse().unwrap();
    let secs = time
        .to_zoned(TimeZone::UTC)
        .unwrap()
        .timestamp()
        .as_second();
    let mut message = fixed64_field(2, secs.try_into().unwrap());
    message.extend(fixed32_field(3, 11));
    message.extend(bytes_field(4, b"o365webhook"));
    message.extend(bytes_field(6, record.as_bytes()));
    message.extend(bytes_field(7, b"json/azure.o365"));
    message.extend(bytes_field(8, parsed["RecordType"].to_string().as_bytes()));
    message
}

pub(crate) fn metadata(host_id: &str) -> Vec<u8> {
    let element = |key: &str, value: &str| {
        let value = bytes_field(3, value.as_bytes());
        bytes_field(
            1,
            &[bytes_field(1, key.as_bytes()), bytes_field(2, &value)].concat(),
        )
    };
    let data = bytes_field(
        4,
        &[
            element("host_type", "azure_fun"),
            element("local_hostname", "host.example"),
        ]
        .concat(),
    );
    let host = bytes_field(1, host_id.as_bytes());
    let checksum = Sha1::digest([host.clone(), bytes_field(2, b""), data.clone()].concat());
    let timestamp = [varint(3 << 3), varint(1_784_145_799)].concat();
    [host, bytes_field(2, &checksum), timestamp, data].concat()
}

pub(crate) fn bytes_field(number: u64, value: &[u8]) -> Vec<u8> {
    [
        varint((number << 3) | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

pub(crate) fn fixed64_field(number: u64, value: u64) -> Vec<u8> {
    [varint((number << 3) | 1), value.to_le_bytes().to_vec()].concat()
}

pub(crate) fn fixed32_field(number: u64, value: u32) -> Vec<u8> {
    [varint((number << 3) | 5), value.to_le_bytes().to_vec()].concat()
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
