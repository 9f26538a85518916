//! The counts of settled blobs, which are kept as they settle.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error as SqlError, Row, Statement};

use super::failure::{Failure, stored_count};
use super::session::Session;

/// What an operation adds to a stream's counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Change {
    pub(super) delivered_count: i64,
    pub(super) delivered_record_count: i64,
    pub(super) delivered_byte_count: i64,
    pub(super) quarantined_count: i64,
    pub(super) quarantined_record_count: i64,
    pub(super) quarantined_byte_count: i64,
    pub(super) expired_count: i64,
    pub(super) dropped_count: i64,
    pub(super) dropped_record_count: i64,
}

impl Change {
    /// One more delivered blob.
    pub(super) fn deliver(&mut self, record_count: u64, byte_count: u64) {
        self.delivered_count += 1;
        let add = |sum: i64, count| sum.saturating_add(stored_count(count));
        self.delivered_record_count = add(self.delivered_record_count, record_count);
        self.delivered_byte_count = add(self.delivered_byte_count, byte_count);
    }
}

/// What an operation adds, by stream. In the order of the streams, which is the one in which their rows are locked.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<i64, Change>);

impl Changes {
    pub(super) fn of(&mut self, stream: i64) -> &mut Change {
        self.0.entry(stream).or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds them, after everything else of the transaction: these rows are everybody's, and are locked until it ends.
    pub(super) async fn add(
        &self,
        client: &Client,
        statement: &Statement,
    ) -> Result<Vec<Row>, SqlError> {
        let streams: Vec<i64> = self.0.keys().copied().collect();
        let column = |of: fn(&Change) -> i64| self.0.values().map(of).collect::<Vec<i64>>();
        client
            .query(
                statement,
                &[
                    &streams,
                    &column(|change| change.delivered_count),
                    &column(|change| change.delivered_record_count),
                    &column(|change| change.delivered_byte_count),
                    &column(|change| change.quarantined_count),
                    &column(|change| change.quarantined_record_count),
                    &column(|change| change.quarantined_byte_count),
                    &column(|change| change.expired_count),
                    &column(|change| change.dropped_count),
                    &column(|change| change.dropped_record_count),
                ],
            )
            .await
    }
}

/// The statement that [`Changes::add`] wants.
pub(super) async fn statement(session: &mut Session) -> Result<Statement, Failure> {
    session
        .statement(
            "INSERT INTO total
             SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                 $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[]) AS more (stream) ORDER BY stream
             ON CONFLICT (stream) DO UPDATE SET
                 delivered_count = total.delivered_count + excluded.delivered_count,
                 delivered_record_count = total.delivered_record_count + excluded.delivered_record_count,
                 delivered_byte_count = total.delivered_byte_count + excluded.delivered_byte_count,
                 quarantined_count = total.quarantined_count + excluded.quarantined_count,
                 quarantined_record_count = total.quarantined_record_count + excluded.quarantined_record_count,
                 quarantined_byte_count = total.quarantined_byte_count + excluded.quarantined_byte_count,
                 expired_count = total.expired_count + excluded.expired_count,
                 dropped_count = total.dropped_count + excluded.dropped_count,
                 dropped_record_count = total.dropped_record_count + excluded.dropped_record_count",
        )
        .await
}
