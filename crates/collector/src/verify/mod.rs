//! Is anything missing? What was listed and what became of it, for each tenant and content type, from the ledger alone; and
//! on request held against what Microsoft lists. Reads only: it may run beside a collector.

mod again;
mod json;
mod judge;
mod text;
mod view;

#[cfg(test)]
mod tests;

use std::time::Duration;

use activity_api::{ContentType, TenantId, Window};
use jiff::Timestamp;
use ledger::{Coverage, Ledger, ListedWindow, UndeliveredBlob, UndeliveredState};

pub use again::Doors;
pub use json::Json;
pub use judge::{FARTHEST_BACK, Gap, Judged, Why, default_end, hours, judge, margin, uncovered};
pub use text::to_text;
pub use view::{
    AgainView, GapReason, GapView, Head, Piece, State, StreamEnd, StreamView, StretchView,
    UndeliveredView, UnknownView, VerdictView,
};

use crate::status::text::counted;

/// How many undelivered blobs are read and told at a time.
const PAGE: usize = 500;

/// The year 9999 begins. Microsoft's expiries lie weeks ahead, and the ledger's own word for "never" behind this.
const FAR_FUTURE: i64 = 253_370_764_800;

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct Question {
    /// The tenants and content types that are configured. Those that only the ledger has are added.
    pub configured: Vec<(TenantId, ContentType)>,
    /// The first instant. Nothing: where listing began.
    pub from: Option<Timestamp>,
    /// The first instant not asked for. Nothing: the end of the last hour that ended [`Question::margin`] ago.
    pub to: Option<Timestamp>,
    /// How long after its end an hour is asked for: see [`margin`].
    pub margin: Duration,
}

/// Verifies, telling piece by piece. With `doors` Microsoft's side is listed anew and compared.
///
/// # Errors
/// When the ledger cannot be read. That Microsoft cannot be asked is part of the answer.
///
/// # If interrupted
/// Nothing was changed.
pub async fn verify(
    ledger: &dyn Ledger,
    doors: Option<&Doors>,
    question: &Question,
    now: Timestamp,
    tell: &mut (dyn FnMut(Piece) + Send),
) -> Result<VerdictView, ledger::Error> {
    let recent = default_end(now, question.margin);
    let to = question.to.unwrap_or(recent);
    tell(Piece::Head(Head {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        checked_at: now,
        from: question.from,
        to,
        is_again: doors.is_some(),
    }));
    let mut verdict = VerdictView {
        is_complete: true,
        ..VerdictView::default()
    };
    for (tenant, content_type, is_configured) in streams(ledger, question, now).await? {
        let stream = Stream {
            ledger,
            tenant,
            content_type,
            is_configured,
        };
        let (seen, range) = stream.look(question.from, to, now, recent).await?;
        tell(Piece::Stream(seen.clone()));
        if let Some(range) = range {
            stream.name_undelivered(range, tell).await?;
        }
        let again = match doors {
            Some(doors) => {
                Some(again::compare(ledger, doors, (tenant, content_type), range, now, tell).await?)
            }
            None => None,
        };
        let missing = missing(&seen, again.as_ref());
        verdict.stream_count += 1;
        verdict.delivered_blob_count += seen.delivered_blob_count;
        verdict.delivered_record_count += seen.delivered_record_count;
        if !missing.is_empty() {
            verdict.is_complete = false;
            verdict.incomplete_stream_count += 1;
        }
        tell(Piece::StreamEnd(StreamEnd {
            is_complete: missing.is_empty(),
            again,
            missing,
        }));
    }
    tell(Piece::Verdict(verdict.clone()));
    Ok(verdict)
}

/// Those that are configured, and then those that only the ledger has.
async fn streams(
    ledger: &dyn Ledger,
    question: &Question,
    now: Timestamp,
) -> Result<Vec<(TenantId, ContentType, bool)>, ledger::Error> {
    let mut streams: Vec<_> = question
        .configured
        .iter()
        .map(|(tenant, content_type)| (*tenant, *content_type, true))
        .collect();
    for known in ledger.summary(now).await?.streams {
        let stream = (known.tenant, known.content_type);
        if !question.configured.contains(&stream) {
            streams.push((known.tenant, known.content_type, false));
        }
    }
    Ok(streams)
}

struct Stream<'a> {
    ledger: &'a dyn Ledger,
    tenant: TenantId,
    content_type: ContentType,
    is_configured: bool,
}

impl Stream<'_> {
    async fn coverage(&self, range: Window) -> Result<Coverage, ledger::Error> {
        self.ledger
            .coverage(self.tenant, self.content_type, range)
            .await
    }

    async fn look(
        &self,
        from: Option<Timestamp>,
        to: Timestamp,
        now: Timestamp,
        recent: Timestamp,
    ) -> Result<(StreamView, Option<Window>), ledger::Error> {
        // The whole of time for the one fact that says where to begin would read every blob there is.
        let probe = Window::new(now, now + Duration::from_secs(1)).ok();
        let began_at = match probe {
            Some(probe) => self.coverage(probe).await?.began_at,
            None => None,
        };
        let asked = from.or(began_at);
        let range = asked.and_then(|from| Window::new(from, to).ok());
        let coverage = match range {
            Some(range) => self.coverage(range).await?,
            None => Coverage::default(),
        };
        let windows: Vec<_> = coverage
            .windows
            .iter()
            .map(|listed| listed.window)
            .collect();
        let judged = judge(
            from,
            to,
            began_at,
            self.is_configured,
            &windows,
            now,
            recent,
        );
        let view = self.view(began_at, &judged, &coverage, &windows);
        Ok((view, range))
    }

    fn view(
        &self,
        began_at: Option<Timestamp>,
        judged: &Judged,
        coverage: &Coverage,
        windows: &[Window],
    ) -> StreamView {
        let listed = &coverage.windows;
        let listed_secs = judged
            .range
            .map_or(0, |range| judge::covered(range, windows).as_secs());
        let after = |listed: &ListedWindow| {
            let after = listed.last_listed_at.as_second() - listed.window.end().as_second();
            u64::try_from(after).unwrap_or(0)
        };
        StreamView {
            tenant: self.tenant.to_string(),
            content_type: self.content_type.as_str().to_owned(),
            is_configured: self.is_configured,
            listing_began_at: began_at,
            range: judged.range.map(stretch),
            listed_secs,
            listed_window_count: listed.len() as u64,
            first_listed_at: listed.iter().map(|listed| listed.first_listed_at).min(),
            last_listed_at: listed.iter().map(|listed| listed.last_listed_at).max(),
            least_listed_after_secs: listed.iter().map(after).min(),
            not_owed: judged.not_owed.iter().copied().map(stretch).collect(),
            not_listed: judged.gaps.iter().map(gap).collect(),
            delivered_blob_count: coverage.delivered.blob_count,
            delivered_record_count: coverage.delivered.record_count,
            delivered_byte_count: coverage.delivered.byte_count,
            pending_count: coverage.pending_count,
            quarantined_count: coverage.quarantined_count,
            expired_count: coverage.expired_count,
            dropped_count: coverage.dropped_count,
            quarantined_record_count: coverage.quarantined_record_count,
            dropped_record_count: coverage.dropped_record_count,
            has_whole_days: coverage.has_whole_days,
        }
    }

    async fn name_undelivered(
        &self,
        range: Window,
        tell: &mut (dyn FnMut(Piece) + Send),
    ) -> Result<(), ledger::Error> {
        let mut after = None;
        loop {
            let page = self
                .ledger
                .undelivered(self.tenant, self.content_type, range, after, PAGE)
                .await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.place);
            for item in page {
                tell(Piece::Undelivered(undelivered(item)));
            }
        }
    }
}

/// What is missing, in words. Nothing: it is complete.
fn missing(stream: &StreamView, again: Option<&AgainView>) -> Vec<String> {
    let mut missing = Vec::new();
    if stream.listing_began_at.is_none() && stream.is_configured {
        missing.push("it was never listed".to_owned());
    }
    if !stream.not_listed.is_empty() {
        let gaps = counted(stream.not_listed.len() as u64, "stretch");
        // The one plural here that takes more than an s.
        missing.push(format!(
            "{} not listed",
            gaps.replace("stretchs", "stretches")
        ));
    }
    let counts = [
        (stream.pending_count, "blob", "pending"),
        (stream.quarantined_count, "blob", "in quarantine"),
        (stream.quarantined_record_count, "record", "in quarantine"),
        (stream.expired_count, "blob", "expired"),
        (stream.dropped_count, "blob", "dropped"),
        (stream.dropped_record_count, "record", "dropped"),
    ];
    let there = counts.iter().filter(|(count, ..)| *count > 0);
    missing.extend(there.map(|(count, noun, what)| format!("{} {what}", counted(*count, noun))));
    if let Some(again) = again {
        if again.unknown_count > 0 {
            missing.push(format!(
                "{} that only Microsoft knows of",
                counted(again.unknown_count, "blob")
            ));
        }
        if again.error.is_some() {
            missing.push("Microsoft could not be asked to the end".to_owned());
        }
    }
    missing
}

fn stretch(window: Window) -> StretchView {
    StretchView {
        from: window.start(),
        to: window.end(),
    }
}

fn gap(gap: &Gap) -> GapView {
    let (why, listable_until) = match gap.why {
        Why::TooOld => (GapReason::TooOld, None),
        Why::NotYet => (
            GapReason::NotYet,
            gap.window.start().checked_add(FARTHEST_BACK).ok(),
        ),
        Why::TooRecent => (GapReason::TooRecent, None),
    };
    GapView {
        from: gap.window.start(),
        to: gap.window.end(),
        why,
        listable_until,
    }
}

fn undelivered(item: UndeliveredBlob) -> UndeliveredView {
    UndeliveredView {
        state: match item.state {
            UndeliveredState::Pending => State::Pending,
            UndeliveredState::Leased => State::Leased,
            UndeliveredState::Quarantined => State::Quarantined,
            UndeliveredState::Expired => State::Expired,
            UndeliveredState::Dropped => State::Dropped,
        },
        content_id: item.content_id.to_string(),
        record_index: item.record_index,
        quarantine_id: item.place.item(),
        sink: item.sink.map(|sink| sink.to_string()),
        created_at: item.created_at,
        expires_at: Some(item.expires_at).filter(|at| at.as_second() < FAR_FUTURE),
        attempt_count: item.attempts,
        reason: item.reason,
    }
}
