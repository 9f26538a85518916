//! Records to lines: pure.

use crate::record::Record;

/// Appends the record and a line feed.
///
/// A record is written byte for byte, with one exception: where its text has line breaks between tokens, they become
/// spaces, or the record would be more lines than one and no line of it JSON. JSON allows no bare line break inside a string
/// (RFC 8259, section 7), so that every CR and LF found is white space without meaning.
pub(in crate::sinks) fn push_line(lines: &mut Vec<u8>, record: &Record<'_>) {
    let start = lines.len();
    lines.extend_from_slice(record.text());
    if !record.is_compact() {
        for byte in &mut lines[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }
    lines.push(b'\n');
}
