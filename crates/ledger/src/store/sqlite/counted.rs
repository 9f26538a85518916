//! Named counters.

use rusqlite::{Connection, params};

use super::books::Books;
use super::failure::{Failure, count as read_count, stored_count};
use super::schema::format_number;

/// The file's format from which on there is a table of counters.
const FIRST_WITH_COUNTERS: i64 = 2;

pub(super) fn count(books: &mut Books, increments: &[(String, u64)]) -> Result<(), Failure> {
    // What would not fit stays at the largest number there is: SQLite would make a fraction of it, which a strict
    // table refuses, and with it every other increment.
    let mut statement = books.statement(
        "INSERT INTO counter (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = iif(value > 9223372036854775807 - ?2, 9223372036854775807, value + ?2)",
    )?;
    for (name, increment) in increments {
        statement.execute(params![name, stored_count(*increment)])?;
    }
    Ok(())
}

pub(super) fn counters(
    connection: &Connection,
    prefix: &str,
) -> Result<Vec<(String, u64)>, Failure> {
    // A ledger of an earlier format can be read, and has counted nothing yet.
    if format_number(connection)? < FIRST_WITH_COUNTERS {
        return Ok(Vec::new());
    }
    let mut statement = connection
        .prepare_cached("SELECT name, value FROM counter WHERE name >= ?1 ORDER BY name")?;
    let mut rows = statement.query([prefix])?;
    let mut counters = Vec::new();
    // Both SQLite and Rust order text by its bytes, so those that begin with the prefix lie together.
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        if !name.starts_with(prefix) {
            break;
        }
        counters.push((name, read_count(row.get(1)?)?));
    }
    Ok(counters)
}
