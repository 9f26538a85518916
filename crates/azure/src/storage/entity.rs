//! Entities: what a table's rows are made of, to JSON and back.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::Error;

/// A property's value, of those types that are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// At most 32,768 UTF-16 units.
    Text(String),
    /// A whole number.
    Int64(i64),
    /// Yes or no.
    Bool(bool),
    /// At most 65,536 bytes.
    Binary(Vec<u8>),
}

/// A row of a table. At most 1 MiB and 252 properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Within one, several rows can be changed in one transaction.
    pub partition: String,
    /// Unique within the partition, and its order.
    pub row: String,
    /// Everything else.
    pub properties: BTreeMap<String, Value>,
}

/// An entity as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The row.
    pub entity: Entity,
    /// Names this state of it.
    pub etag: String,
}

impl Entity {
    /// A row without properties.
    #[must_use]
    pub fn new(partition: impl Into<String>, row: impl Into<String>) -> Self {
        Self {
            partition: partition.into(),
            row: row.into(),
            properties: BTreeMap::new(),
        }
    }

    /// Sets a property.
    pub fn set(&mut self, name: impl Into<String>, value: Value) {
        self.properties.insert(name.into(), value);
    }

    /// A whole number, if it has it.
    #[must_use]
    pub fn int64(&self, name: &str) -> Option<i64> {
        match self.properties.get(name) {
            Some(Value::Int64(number)) => Some(*number),
            _ => None,
        }
    }

    /// A text, if it has it.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.properties.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// Bytes, if it has them.
    #[must_use]
    pub fn binary(&self, name: &str) -> Option<&[u8]> {
        match self.properties.get(name) {
            Some(Value::Binary(bytes)) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut map = Map::new();
        map.insert("PartitionKey".into(), json!(self.partition));
        map.insert("RowKey".into(), json!(self.row));
        for (name, value) in &self.properties {
            let (written, kind) = match value {
                Value::Text(text) => (json!(text), None),
                // As text, because many readers of JSON keep 53 bits of a number.
                Value::Int64(number) => (json!(number.to_string()), Some("Edm.Int64")),
                Value::Bool(is) => (json!(is), None),
                Value::Binary(bytes) => (json!(STANDARD.encode(bytes)), Some("Edm.Binary")),
            };
            if let Some(kind) = kind {
                map.insert(format!("{name}@odata.type"), json!(kind));
            }
            map.insert(name.clone(), written);
        }
        Json::Object(map).to_string().into_bytes()
    }
}

impl Stored {
    pub(super) fn from_json(json: Json) -> Result<Self, Error> {
        let malformed = |what| Error::Malformed { what };
        let Json::Object(map) = json else {
            return Err(malformed("an entity is no object"));
        };
        let text = |name: &str| map.get(name).and_then(Json::as_str);
        let key = |name: &'static str, what| text(name).map(str::to_owned).ok_or(malformed(what));
        let partition = key("PartitionKey", "an entity has no PartitionKey")?;
        let row = key("RowKey", "an entity has no RowKey")?;
        // Left out where only some properties are asked for.
        let etag = text("odata.etag").unwrap_or_default().to_owned();
        let mut properties = BTreeMap::new();
        for (name, value) in &map {
            if name.contains("odata.") || matches!(name.as_str(), "PartitionKey" | "RowKey") {
                continue;
            }
            let kind = text(&format!("{name}@odata.type"));
            if let Some(value) = read_value(value, kind).map_err(malformed)? {
                properties.insert(name.clone(), value);
            }
        }
        Ok(Self {
            entity: Entity {
                partition,
                row,
                properties,
            },
            etag,
        })
    }
}

/// Nothing for a value of a type that is not used here, such as a time.
fn read_value(value: &Json, kind: Option<&str>) -> Result<Option<Value>, &'static str> {
    Ok(match (value, kind) {
        (Json::String(text), None | Some("Edm.String")) => Some(Value::Text(text.clone())),
        (Json::String(text), Some("Edm.Int64")) => {
            let number = text.parse().map_err(|_| "an Edm.Int64 is no number")?;
            Some(Value::Int64(number))
        }
        (Json::String(text), Some("Edm.Binary")) => {
            let bytes = STANDARD
                .decode(text)
                .map_err(|_| "an Edm.Binary is no base64")?;
            Some(Value::Binary(bytes))
        }
        (Json::Number(number), None | Some("Edm.Int32")) => number.as_i64().map(Value::Int64),
        (Json::Bool(is), _) => Some(Value::Bool(*is)),
        _ => None,
    })
}
