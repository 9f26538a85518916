//! The answer as one JSON document, written piece by piece.

use serde::Serialize;

use super::view::{Piece, StreamEnd};

/// Turns the pieces, in their order, into the text of one JSON document. The document is as large as the answer; what is
/// held of it is one piece.
#[derive(Debug, Default)]
pub struct Json {
    has_stream: bool,
    list: List,
    has_item: bool,
}

/// The lists of a stream, in the order in which they are written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum List {
    #[default]
    Undelivered,
    Unknown,
}

impl Json {
    /// The document's next stretch.
    pub fn piece(&mut self, piece: &Piece) -> String {
        match piece {
            Piece::Head(head) => format!("{},\"streams\":[", open(head)),
            Piece::Stream(stream) => {
                let comma = if self.has_stream { ",\n" } else { "\n" };
                self.has_stream = true;
                self.list = List::Undelivered;
                self.has_item = false;
                format!("{comma}{},\"undelivered\":[", open(stream))
            }
            Piece::Undelivered(item) => self.item(List::Undelivered, item),
            Piece::Unknown(blob) => self.item(List::Unknown, blob),
            Piece::StreamEnd(end) => self.end(end),
            Piece::Verdict(verdict) => {
                // Written without its opening brace, as the document's last keys.
                let verdict = text(verdict);
                format!("\n],{}\n", verdict.strip_prefix('{').unwrap_or(&verdict))
            }
        }
    }

    fn item(&mut self, list: List, item: &impl Serialize) -> String {
        let mut out = self.turn_to(list);
        out.push_str(if self.has_item { ",\n" } else { "\n" });
        self.has_item = true;
        out.push_str(&text(item));
        out
    }

    fn end(&mut self, end: &StreamEnd) -> String {
        let mut out = self.turn_to(List::Unknown);
        let end = text(end);
        out.push_str("],");
        out.push_str(end.strip_prefix('{').unwrap_or(&end));
        out
    }

    /// Goes on in `list`.
    fn turn_to(&mut self, list: List) -> String {
        if list == self.list {
            return String::new();
        }
        self.list = list;
        self.has_item = false;
        "],\"unknown\":[".to_owned()
    }
}

/// An object without its closing brace.
fn open(object: &impl Serialize) -> String {
    let mut text = text(object);
    text.pop();
    text
}

fn text(object: &impl Serialize) -> String {
    serde_json::to_string(object).expect("plain data with text for keys")
}
