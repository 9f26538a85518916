//! Sinks' positions, small facts and named counters.

use std::collections::BTreeMap;

use crate::SinkName;

use super::failure::{Failure, count as read_count, optional_text, stored_count, text};
use super::session::Session;

pub(super) async fn position(
    session: &mut Session,
    sink: &SinkName,
) -> Result<Option<String>, Failure> {
    let select = session
        .statement("SELECT position FROM sink WHERE name = $1")
        .await?;
    let row = session.client.query_opt(&select, &[&sink.as_str()]).await?;
    match row {
        Some(row) => optional_text(&row, 0),
        None => Ok(None),
    }
}

pub(super) async fn remember(session: &mut Session, key: &str, value: &str) -> Result<(), Failure> {
    let upsert = session
        .statement(
            "INSERT INTO fact (key, value) VALUES ($1, $2)
             ON CONFLICT (sha256(key)) DO UPDATE SET value = excluded.value",
        )
        .await?;
    session
        .client
        .execute(&upsert, &[&key.as_bytes(), &value.as_bytes()])
        .await?;
    Ok(())
}

pub(super) async fn recall(session: &mut Session, key: &str) -> Result<Option<String>, Failure> {
    let select = session
        .statement("SELECT value FROM fact WHERE sha256(key) = sha256($1)")
        .await?;
    let row = session
        .client
        .query_opt(&select, &[&key.as_bytes()])
        .await?;
    row.map(|row| text(&row, 0)).transpose()
}

/// All of them in one statement: all are counted or none is.
pub(super) async fn count(
    session: &mut Session,
    increments: &[(String, u64)],
) -> Result<(), Failure> {
    // By name, which is the order in which their rows are locked.
    let mut sums: BTreeMap<&[u8], i64> = BTreeMap::new();
    for (name, increment) in increments {
        let sum = sums.entry(name.as_bytes()).or_default();
        *sum = sum.saturating_add(stored_count(*increment));
    }
    if sums.is_empty() {
        return Ok(());
    }
    let (names, sums): (Vec<&[u8]>, Vec<i64>) = sums.into_iter().unzip();
    // What would not fit stays at the largest number there is.
    let upsert = session
        .statement(
            "INSERT INTO counter (name, value)
             SELECT name, value FROM unnest($1::bytea[], $2::bigint[]) AS more (name, value) ORDER BY name
             ON CONFLICT (sha256(name)) DO UPDATE SET value = CASE
                 WHEN counter.value > 9223372036854775807 - excluded.value THEN 9223372036854775807
                 ELSE counter.value + excluded.value END",
        )
        .await?;
    session.client.execute(&upsert, &[&names, &sums]).await?;
    Ok(())
}

pub(super) async fn counters(
    session: &mut Session,
    prefix: &str,
) -> Result<Vec<(String, u64)>, Failure> {
    // All of them are looked at: there are dozens, and the index knows their hashes only. Bytes are ordered as Rust
    // orders text.
    let select = session
        .statement(
            "SELECT name, value FROM counter WHERE substring(name FROM 1 FOR length($1::bytea)) = $1 ORDER BY name",
        )
        .await?;
    let rows = session.client.query(&select, &[&prefix.as_bytes()]).await?;
    let counter = |row: &tokio_postgres::Row| Ok((text(row, 0)?, read_count(row, 1)?));
    rows.iter().map(counter).collect()
}
