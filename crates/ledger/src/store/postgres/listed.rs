//! Which windows were listed, and the stretches that they make, merged where they touch.
//!
//! Whoever changes them has the stream's row locked, so that two who list the same hours do it one after the other.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::store::stored;
use crate::store::windows::StoredWindow;
use crate::{ListedStretch, Listing};

use super::failure::{Failure, NoSuchRow, corrupt, count, get, instant, stored_count, to_instant};
use super::session::{Batch, Session};

/// Locks the stream's row.
pub(super) const LOCK_STREAM: &str = "SELECT id FROM stream WHERE id = $1 FOR UPDATE";

pub(super) async fn begin_listing(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
    from: Timestamp,
) -> Result<Timestamp, Failure> {
    let stream = session.stream((tenant, content_type)).await?;
    let select = session
        .statement("SELECT began_at FROM stream WHERE id = $1 AND began_at IS NOT NULL")
        .await?;
    // Nearly always it is known.
    if let Some(row) = session.client.query_opt(&select, &[&stream]).await? {
        return instant(&row, 0);
    }
    let update = session
        .statement(
            "UPDATE stream SET began_at = coalesce(began_at, $2) WHERE id = $1 RETURNING began_at",
        )
        .await?;
    let row = session
        .client
        .query_opt(&update, &[&stream, &stored(from)])
        .await?;
    instant(&row.ok_or_else(|| corrupt("a stream", NoSuchRow))?, 0)
}

pub(super) async fn note_listed(
    session: &mut Session,
    listing: &Listing,
    now: Timestamp,
) -> Result<(), Failure> {
    let stream = session
        .stream((listing.tenant, listing.content_type))
        .await?;
    let lock = session.statement(LOCK_STREAM).await?;
    let within = session
        .statement(
            "SELECT start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at FROM listed_window
             WHERE stream = $1 AND start_at >= $2 AND start_at < $3 AND end_at <= $3",
        )
        .await?;
    let touching = session
        .statement(
            "SELECT min(start_at), max(end_at), count(*) FROM listed
             WHERE stream = $1 AND start_at <= $3 AND end_at >= $2",
        )
        .await?;
    let take_windows = session
        .statement(
            "DELETE FROM listed_window WHERE stream = $1 AND start_at >= $2 AND start_at < $3 AND end_at <= $3",
        )
        .await?;
    let add_window = session.statement(ADD_WINDOW).await?;
    let take_stretches = session
        .statement("DELETE FROM listed WHERE stream = $1 AND start_at <= $3 AND end_at >= $2")
        .await?;
    let add_stretch = session
        .statement("INSERT INTO listed (stream, start_at, end_at) VALUES ($1, $2, $3)")
        .await?;
    let extend = session
        .statement(
            "UPDATE stream SET listed_until = $3
             WHERE id = $1 AND (listed_until IS NULL OR (listed_until >= $2 AND listed_until < $3))",
        )
        .await?;

    let (start, end) = (stored(listing.window.start()), stored(listing.window.end()));
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&lock, &[&stream]).await });
    batch.add(async { client.query(&within, &[&stream, &start, &end]).await });
    batch.add(async { client.query(&touching, &[&stream, &start, &end]).await });
    let found = batch.run().await?;
    let (within, touching) = match found.as_slice() {
        [_, _, within, touching] => (within, touching),
        _ => return Err(corrupt("a listed window", NoSuchRow)),
    };
    let mut window = StoredWindow::new(listing, stored(now));
    for row in within {
        window.absorb(&stored_window(row, 0)?);
    }
    let touching = touching
        .first()
        .ok_or_else(|| corrupt("a listed stretch", NoSuchRow))?;
    let (first, last): (Option<i64>, Option<i64>) = (get(touching, 0)?, get(touching, 1)?);
    let merged_start = first.map_or(start, |at| at.min(start));
    let merged_end = last.map_or(end, |at| at.max(end));
    // Nearly always an hour is listed again, and what was listed without a gap does not end within a stretch.
    let is_within =
        get::<i64>(touching, 2)? == 1 && first == Some(merged_start) && last == Some(merged_end);

    let columns = WindowColumns::of(stream, &[window]);
    let mut batch = Batch::new();
    if !within.is_empty() {
        batch.add(async { client.query(&take_windows, &[&stream, &start, &end]).await });
    }
    batch.add(columns.add(client, &add_window));
    if !is_within {
        batch.add(async {
            client
                .query(&take_stretches, &[&stream, &start, &end])
                .await
        });
        batch.add(async {
            client
                .query(&add_stretch, &[&stream, &merged_start, &merged_end])
                .await
        });
        batch.add(async {
            client
                .query(&extend, &[&stream, &merged_start, &merged_end])
                .await
        });
    }
    batch.commit(client).await?;
    Ok(())
}

/// The statement of [`WindowColumns::add`].
pub(super) const ADD_WINDOW: &str = "
    INSERT INTO listed_window (stream, start_at, end_at, blob_count, listing_count, first_listed_at, last_listed_at)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])";

/// Windows of one stream, column by column.
#[derive(Default)]
pub(super) struct WindowColumns {
    streams: Vec<i64>,
    starts: Vec<i64>,
    ends: Vec<i64>,
    blob_counts: Vec<i64>,
    listing_counts: Vec<i64>,
    firsts: Vec<i64>,
    lasts: Vec<i64>,
}

impl WindowColumns {
    fn of(stream: i64, windows: &[StoredWindow]) -> Self {
        let mut columns = Self::default();
        for window in windows {
            columns.push(stream, window);
        }
        columns
    }

    pub(super) fn push(&mut self, stream: i64, window: &StoredWindow) {
        self.streams.push(stream);
        self.starts.push(window.start_at);
        self.ends.push(window.end_at);
        self.blob_counts.push(stored_count(window.blob_count));
        self.listing_counts.push(stored_count(window.listing_count));
        self.firsts.push(window.first_listed_at);
        self.lasts.push(window.last_listed_at);
    }

    pub(super) async fn add(
        &self,
        client: &tokio_postgres::Client,
        statement: &tokio_postgres::Statement,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        client
            .query(
                statement,
                &[
                    &self.streams,
                    &self.starts,
                    &self.ends,
                    &self.blob_counts,
                    &self.listing_counts,
                    &self.firsts,
                    &self.lasts,
                ],
            )
            .await
    }
}

/// The window that a row's columns hold, from `column` on.
pub(super) fn stored_window(row: &Row, column: usize) -> Result<StoredWindow, Failure> {
    Ok(StoredWindow {
        start_at: get(row, column)?,
        end_at: get(row, column + 1)?,
        blob_count: count(row, column + 2)?,
        listing_count: count(row, column + 3)?,
        first_listed_at: get(row, column + 4)?,
        last_listed_at: get(row, column + 5)?,
    })
}

pub(super) async fn note_unlistable(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
    before: Timestamp,
) -> Result<(), Failure> {
    let Some(stream) = session.known_stream((tenant, content_type)).await? else {
        return Ok(());
    };
    let lock = session.statement(LOCK_STREAM).await?;
    // A stretch that reaches to `before` or over it is where listing continues from.
    let update = session
        .statement(
            "UPDATE stream SET listed_until = coalesce(
                 (SELECT max(end_at) FROM listed WHERE stream = $1 AND start_at <= $2 AND end_at >= $2), $2)
             WHERE id = $1 AND listed_until < $2",
        )
        .await?;
    let before = stored(before);
    let client = &session.client;
    let mut batch = Batch::begin(client);
    batch.add(async { client.query(&lock, &[&stream]).await });
    batch.add(async { client.query(&update, &[&stream, &before]).await });
    batch.commit(client).await?;
    Ok(())
}

pub(super) async fn listed_until(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Option<Timestamp>, Failure> {
    let select = session
        .statement("SELECT listed_until FROM stream WHERE tenant = $1 AND content_type = $2")
        .await?;
    let row = session
        .client
        .query_opt(&select, &[&tenant.to_string(), &content_type.as_str()])
        .await?;
    match row {
        Some(row) => get::<Option<i64>>(&row, 0)?.map(to_instant).transpose(),
        None => Ok(None),
    }
}

pub(super) async fn listed_stretches(
    session: &mut Session,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Vec<ListedStretch>, Failure> {
    let select = session
        .statement(
            "SELECT start_at, end_at FROM listed JOIN stream ON stream.id = listed.stream
             WHERE tenant = $1 AND content_type = $2 ORDER BY start_at",
        )
        .await?;
    let rows = session
        .client
        .query(&select, &[&tenant.to_string(), &content_type.as_str()])
        .await?;
    let stretch = |row: &Row| {
        Ok(ListedStretch {
            start: instant(row, 0)?,
            end: instant(row, 1)?,
        })
    };
    rows.iter().map(stretch).collect()
}
