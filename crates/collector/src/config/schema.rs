//! `config schema`: what the reader would ask for, as a JSON Schema (draft 2020-12) for editors and checks.

use serde_json::{Map, Value, json};

use super::keys::{Element, Item, Key, Kind, Presence, Setting};

/// The GUIDs that [`std::str::FromStr`] of our ids takes.
const GUID: &str = "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$";

/// The schema of a file whose root has these keys.
pub(super) fn render(keys: &[Key]) -> Value {
    let mut schema = table(keys);
    schema.insert(
        "$schema".to_owned(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".to_owned(), json!("o365-collector configuration"));
    schema.into()
}

fn table(keys: &[Key]) -> Map<String, Value> {
    let properties = keys.iter().map(|key| (key.name.clone(), property(key)));
    let properties: Map<_, _> = properties.collect();
    let mut schema = Map::new();
    schema.insert("type".to_owned(), json!("object"));
    schema.insert("properties".to_owned(), properties.into());
    schema.insert("additionalProperties".to_owned(), json!(false));
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = match &key.item {
        Item::Setting(setting) => return described_setting(key.doc, setting),
        Item::Table { keys, .. } => table(keys),
        Item::Tables { tag, elements } => {
            let mut variants: Vec<Value> = elements
                .iter()
                .map(|element| variant(element, *tag))
                .collect();
            let items = match tag {
                Some(_) => json!({ "oneOf": variants }),
                None => variants.pop().unwrap_or_default(),
            };
            let mut schema = Map::new();
            schema.insert("type".to_owned(), json!("array"));
            schema.insert("items".to_owned(), items);
            schema
        }
    };
    schema.insert("description".to_owned(), json!(key.doc));
    schema.into()
}

fn variant(element: &Element, tag: Option<&str>) -> Value {
    let mut schema = table(&element.keys);
    if let (Some(tag), Some(variant)) = (tag, element.variant) {
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            properties.insert(tag.to_owned(), json!({ "const": variant }));
        }
        schema.insert("title".to_owned(), json!(variant));
        schema.insert("required".to_owned(), json!([tag]));
    }
    schema.into()
}

fn described_setting(doc: &str, setting: &Setting) -> Value {
    let mut schema = kind(&setting.kind);
    let description = match &setting.presence {
        Presence::Required => format!("{doc} Required, here or in the environment."),
        Presence::Optional(otherwise) => format!("{doc} When it is not set: {otherwise}."),
        Presence::Default(_) => doc.to_owned(),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(description));
        if let Presence::Default(value) = &setting.presence {
            schema.insert("default".to_owned(), json!(value));
        }
    }
    schema
}

fn kind(kind: &Kind) -> Value {
    match kind {
        Kind::Text | Kind::Path => json!({ "type": "string", "minLength": 1 }),
        Kind::Guid => json!({ "type": "string", "pattern": GUID }),
        Kind::Url => json!({ "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://" }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Kind::Choices(choices) => json!({
            "type": "array",
            "items": { "type": "string", "enum": choices },
            "minItems": 1,
            "uniqueItems": true,
        }),
        Kind::Secret => json!({
            "oneOf": [
                { "type": "string", "minLength": 1 },
                reference("env", "The environment variable that holds it."),
                reference("file", "The file that holds it; a line's end behind it is removed."),
            ],
        }),
    }
}

/// `{ env = "NAME" }` and its like.
fn reference(name: &str, doc: &str) -> Value {
    json!({
        "type": "object",
        "properties": { name: { "type": "string", "minLength": 1, "description": doc } },
        "required": [name],
        "additionalProperties": false,
    })
}
