//! A small JSON value that keeps its fields' order and is written as Microsoft's service writes it: compact, slashes escaped
//! by some workloads and not by others. A JSON library would write each text in one way only.

use std::fmt::Write as _;

/// A value to write. Fields may repeat and come in any order.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(&'static str, Json)>),
}

impl Json {
    /// The text of the value, with `/` as `\/` when asked for.
    pub(crate) fn write(&self, escape_slashes: bool) -> String {
        let mut out = String::with_capacity(2048);
        self.write_to(&mut out, escape_slashes);
        out
    }

    fn write_to(&self, out: &mut String, escape_slashes: bool) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) => write!(out, "{value}").expect("writing to a String cannot fail"),
            Self::Text(value) => write_text(value, out, escape_slashes),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.write_to(out, escape_slashes);
                }
                out.push(']');
            }
            Self::Object(fields) => {
                out.push('{');
                for (at, (name, value)) in fields.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_text(name, out, false);
                    out.push(':');
                    value.write_to(out, escape_slashes);
                }
                out.push('}');
            }
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Json {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Vec<Json>> for Json {
    fn from(values: Vec<Json>) -> Self {
        Self::List(values)
    }
}

impl From<Vec<(&'static str, Json)>> for Json {
    fn from(fields: Vec<(&'static str, Json)>) -> Self {
        Self::Object(fields)
    }
}

fn write_text(text: &str, out: &mut String, escape_slashes: bool) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' if escape_slashes => out.push_str("\\/"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if u32::from(control) < 0x20 => {
                write!(out, "\\u{:04x}", u32::from(control))
                    .expect("writing to a String cannot fail");
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json_and_reads_back() {
        let value = Json::from(vec![
            ("Url", Json::from("https://a/b \"q\" \\ \n\u{1} é日🙂")),
            (
                "List",
                Json::from(vec![Json::Null, Json::from(true), Json::from(-5)]),
            ),
        ]);
        for escape in [false, true] {
            let text = value.write(escape);
            let read: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["Url"], "https://a/b \"q\" \\ \n\u{1} é日🙂");
            assert_eq!(text.contains("\\/"), escape);
        }
    }
}
