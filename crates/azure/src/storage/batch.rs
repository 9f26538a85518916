//! Several changes to one partition in one transaction: Azure's entity group transaction, which is multipart/mixed.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use super::account::{Account, Service};
use super::authorize::Draft;
use super::error::{Code, Error, check, code_in, meaning};
use super::tables::{Change, JSON};

/// The most changes that one transaction takes.
pub const MAX_CHANGES: usize = 100;

/// The most bytes that one transaction takes, 4 MiB, less room for what the estimate of a change leaves out.
pub const MAX_BYTES: usize = 4 * 1024 * 1024 - 256 * 1024;

/// A line of this cannot stand in a body: JSON is one line, and its texts have their line ends escaped.
const BATCH: &str = "batch_o365";
const CHANGES: &str = "changes_o365";

impl Account {
    /// All of the changes or none. They must be of one partition, and no two of the same row.
    #[must_use]
    pub fn batch(&self, table: &str, changes: &[Change]) -> Draft {
        let mut body =
            format!("--{BATCH}\r\nContent-Type: multipart/mixed; boundary={CHANGES}\r\n\r\n")
                .into_bytes();
        for change in changes {
            let (method, path, etag, json) = change.parts(table);
            let endpoint = self.endpoint(Service::Tables);
            let mut head = format!(
                "--{CHANGES}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n\
                 {method} {endpoint}{path} HTTP/1.1\r\n\
                 Accept: application/json;odata=minimalmetadata\r\nDataServiceVersion: 3.0;\r\n"
            );
            if method == Method::POST {
                head.push_str("Prefer: return-no-content\r\n");
            }
            if let Some(etag) = etag {
                // An etag comes from a reply: a line end in it would begin a header of somebody else's.
                let etag: String = etag.chars().filter(|letter| !letter.is_control()).collect();
                head.push_str(&format!("If-Match: {etag}\r\n"));
            }
            if let Some(json) = &json {
                head.push_str(&format!(
                    "Content-Type: {JSON}\r\nContent-Length: {}\r\n",
                    json.len()
                ));
            }
            head.push_str("\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(&json.unwrap_or_default());
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("--{CHANGES}--\r\n--{BATCH}--\r\n").as_bytes());
        Draft::new(Service::Tables, Method::POST, "/$batch")
            .header(
                HeaderName::from_static("dataserviceversion"),
                HeaderValue::from_static("3.0;"),
            )
            .header(
                http::header::ACCEPT,
                HeaderValue::from_static("application/json;odata=minimalmetadata"),
            )
            .body("multipart/mixed; boundary=batch_o365", body)
    }
}

/// Why nothing of a transaction was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which change could not be made, counted from 0, where storage says so.
    pub index: Option<usize>,
    /// What is wrong with it.
    pub error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { index: None, error }
    }
}

/// The new etags in the order of the changes, where they are said; nothing of it was done otherwise.
///
/// # Errors
/// [`Failed`]. [`Error::Malformed`] when the reply cannot be read: then it is not known whether it was done.
pub fn read(reply: &Response<Bytes>, change_count: usize) -> Result<Vec<Option<String>>, Failed> {
    check(reply)?;
    let text = String::from_utf8_lossy(reply.body());
    let mut etags = Vec::new();
    for part in text.split("HTTP/1.1 ").skip(1) {
        let status = part
            .get(..3)
            .and_then(|digits| StatusCode::from_bytes(digits.as_bytes()).ok())
            .ok_or(Error::Malformed {
                what: "a part of a transaction's reply has no status",
            })?;
        let (head, body) = split_head(part);
        if !status.is_success() {
            return Err(read_failure(status, head, body));
        }
        etags.push(header(head, "etag").map(str::to_owned));
    }
    if etags.len() == change_count {
        Ok(etags)
    } else {
        Err(Failed::from(Error::Malformed {
            what: "a transaction's reply has another number of parts",
        }))
    }
}

fn split_head(part: &str) -> (&str, &str) {
    part.split_once("\r\n\r\n")
        .or_else(|| part.split_once("\n\n"))
        .unwrap_or((part, ""))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found
            .trim()
            .eq_ignore_ascii_case(name)
            .then(|| value.trim())
    })
}

fn read_failure(status: StatusCode, head: &str, body: &str) -> Failed {
    // Behind the JSON comes the end of the multipart, and before it, in some replies, a line with a length.
    let json = body
        .find('{')
        .zip(body.rfind('}'))
        .and_then(|(start, end)| body.get(start..=end))
        .unwrap_or(body);
    let code = match header(head, "x-ms-error-code").map(Code::read) {
        Some(code) if code != Code::default() => code,
        _ => code_in(json.as_bytes()),
    };
    // The message begins with the change's number: "7:The specified entity already exists."
    let index = json
        .split_once("\"value\":")
        .map(|(_, rest)| rest.trim_start().trim_start_matches('"'))
        .and_then(|message| message.split_once(':'))
        .and_then(|(number, _)| number.parse().ok());
    Failed {
        index,
        error: meaning(status, code),
    }
}
