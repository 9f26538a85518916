//! The backends. SQL and table layout live here and nowhere else.

pub mod sqlite;
