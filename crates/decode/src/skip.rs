//! Finding where an element of the array ends that is no JSON: by brackets and quotes alone.

/// Walks to the end of one element. It keeps its state between pieces, so that an element of any length needs no buffer.
#[derive(Debug, Default)]
pub(super) struct Skipper {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Skipper {
    /// How many bytes of `text` belong to the element, and whether it ends there. It ends behind the bracket that
    /// closes its first one, or before a comma or closing bracket of the array around it.
    pub(super) fn skip(&mut self, text: &[u8]) -> (usize, bool) {
        for (at, &byte) in text.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b',' | b']' if self.depth == 0 => return (at, true),
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ => {}
            }
        }
        (text.len(), false)
    }
}
