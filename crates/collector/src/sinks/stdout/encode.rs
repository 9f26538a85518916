//! Records to lines: pure, and the same as in a file.

pub(super) use crate::sinks::file::push_line;
