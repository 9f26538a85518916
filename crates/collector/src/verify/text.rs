//! The answer for a person, who may quote it: exact times, exact numbers, and whose word each line is.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::SignedDuration;

use super::view::{
    AgainView, GapReason, GapView, Head, Piece, StreamEnd, StreamView, StretchView,
    UndeliveredView, UnknownView, VerdictView,
};
use crate::status::text::{bytes, count, counted, duration, one_line};

/// A piece of the answer as lines, each ended.
#[must_use]
pub fn to_text(piece: &Piece) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, so the result says nothing.
    match piece {
        Piece::Head(head) => write_head(&mut out, head),
        Piece::Stream(stream) => write_stream(&mut out, stream),
        Piece::Undelivered(item) => write_undelivered(&mut out, item),
        Piece::Unknown(blob) => write_unknown(&mut out, blob),
        Piece::StreamEnd(end) => write_end(&mut out, end),
        Piece::Verdict(verdict) => write_verdict(&mut out, verdict),
    }
    .expect("a String takes every write");
    out
}

fn write_head(out: &mut String, head: &Head) -> std::fmt::Result {
    let source = match head.is_again {
        true => "from the ledger and from Microsoft, listed anew",
        false => "from the ledger",
    };
    writeln!(
        out,
        "o365-collector {}, asked at {:.0}, {source}",
        one_line(&head.version),
        head.checked_at
    )
}

fn write_stream(out: &mut String, stream: &StreamView) -> std::fmt::Result {
    writeln!(
        out,
        "\ntenant {}  {}{}",
        one_line(&stream.tenant),
        one_line(&stream.content_type),
        match stream.is_configured {
            true => "",
            false => "  (not configured, only in the ledger)",
        }
    )?;
    match &stream.range {
        Some(range) => writeln!(out, "  range        {}", stretch(range))?,
        None if stream.listing_began_at.is_none() => {
            writeln!(out, "  range        none: it was never listed")?;
        }
        None => writeln!(out, "  range        none: it ends before listing began")?,
    }
    if let Some(began_at) = stream.listing_began_at {
        writeln!(out, "  began        listing began at {began_at}")?;
    }
    for stretch_view in &stream.not_owed {
        writeln!(out, "  not owed     {}", stretch(stretch_view))?;
    }
    if let Some(range) = &stream.range {
        let whole = SignedDuration::from_secs(range.to.as_second() - range.from.as_second());
        write!(
            out,
            "  listed       {} of {}",
            duration(secs(stream.listed_secs)),
            duration(whole),
        )?;
        if let (Some(first), Some(last)) = (stream.first_listed_at, stream.last_listed_at) {
            write!(out, ", every page, between {first:.0} and {last:.0}")?;
        }
        if let Some(after) = stream.least_listed_after_secs {
            write!(
                out,
                "; each hour for the last time at least {} after it ended",
                duration(secs(after))
            )?;
        }
        writeln!(out)?;
    }
    for gap in &stream.not_listed {
        write_gap(out, gap)?;
    }
    writeln!(
        out,
        "  delivered    {}, {}, {}",
        counted(stream.delivered_blob_count, "blob"),
        counted(stream.delivered_record_count, "record"),
        bytes(stream.delivered_byte_count)
    )?;
    if stream.has_whole_days {
        writeln!(
            out,
            "               (with the whole of each day that the range cuts and of which only totals are kept)"
        )?;
    }
    let others = [
        ("pending", stream.pending_count, 0),
        (
            "quarantined",
            stream.quarantined_count,
            stream.quarantined_record_count,
        ),
        ("expired", stream.expired_count, 0),
        ("dropped", stream.dropped_count, stream.dropped_record_count),
    ];
    for (name, blob_count, record_count) in others {
        let counts = [(blob_count, "blob"), (record_count, "single record")];
        let there = counts.iter().filter(|(number, _)| *number > 0);
        let words: Vec<_> = there.map(|(number, noun)| counted(*number, noun)).collect();
        if !words.is_empty() {
            writeln!(out, "  {name:<12} {}", words.join(" and "))?;
        }
    }
    Ok(())
}

fn write_gap(out: &mut String, gap: &GapView) -> std::fmt::Result {
    let GapView { from, to, why, .. } = *gap;
    write!(
        out,
        "  NOT LISTED   {}: ",
        stretch(&StretchView { from, to })
    )?;
    match (why, gap.listable_until) {
        (GapReason::NotYet, Some(until)) => writeln!(
            out,
            "a running collector lists it by itself, `backfill` at once; all of it can be listed until {until}"
        ),
        (GapReason::TooOld | GapReason::NotYet, _) => writeln!(
            out,
            "it can be listed no more, as Microsoft lists seven days back"
        ),
        (GapReason::TooRecent, _) => writeln!(out, "too recent to be complete"),
    }
}

fn write_undelivered(out: &mut String, item: &UndeliveredView) -> std::fmt::Result {
    write!(out, "    {:<11} ", item.state.as_str())?;
    if let Some(index) = item.record_index {
        write!(out, "record {index} of ")?;
    }
    write!(
        out,
        "blob {}, created {}",
        one_line(&item.content_id),
        item.created_at
    )?;
    if let Some(at) = item.expires_at {
        write!(out, ", expires {at}")?;
    }
    write!(
        out,
        ", tried {}",
        counted(item.attempt_count.into(), "time")
    )?;
    if let Some(id) = item.quarantine_id {
        write!(out, ", quarantine id {id}")?;
    }
    if let Some(sink) = &item.sink {
        write!(out, ", refused by sink {}", one_line(sink))?;
    }
    match &item.reason {
        Some(reason) => writeln!(out, ": {}", one_line(reason)),
        None => writeln!(out),
    }
}

fn write_unknown(out: &mut String, blob: &UnknownView) -> std::fmt::Result {
    writeln!(
        out,
        "    NOT KNOWN   blob {}, created {}, expires {}: Microsoft lists it, the ledger does not have it",
        one_line(&blob.content_id),
        blob.created_at,
        blob.expires_at
    )
}

fn write_end(out: &mut String, end: &StreamEnd) -> std::fmt::Result {
    if let Some(again) = &end.again {
        write_again(out, again)?;
    }
    match end.is_complete {
        true => writeln!(out, "  verdict      complete"),
        false => writeln!(
            out,
            "  verdict      NOT complete: {}",
            end.missing.join("; ")
        ),
    }
}

fn write_again(out: &mut String, again: &AgainView) -> std::fmt::Result {
    let Some(range) = &again.range else {
        return writeln!(
            out,
            "  microsoft    nothing of the range can be listed any more"
        );
    };
    let AgainView {
        listed_blob_count,
        unknown_count,
        ..
    } = again;
    writeln!(
        out,
        "  microsoft    lists {} of {}, of which the ledger lacks {}",
        counted(*listed_blob_count, "blob"),
        stretch(range),
        count(*unknown_count)
    )?;
    if *unknown_count > 0 {
        writeln!(
            out,
            "               `backfill` over the same range collects them"
        )?;
    }
    match &again.error {
        Some(error) => writeln!(
            out,
            "               and could not be asked further: {}",
            one_line(error)
        ),
        None => Ok(()),
    }
}

fn write_verdict(out: &mut String, verdict: &VerdictView) -> std::fmt::Result {
    let what = format!(
        "{} in {} delivered",
        counted(verdict.delivered_record_count, "record"),
        counted(verdict.delivered_blob_count, "blob")
    );
    match verdict.is_complete {
        true => writeln!(out, "\nverdict: complete; {what}"),
        false => writeln!(
            out,
            "\nverdict: NOT complete: something is missing of {} of {}; {what}",
            count(verdict.incomplete_stream_count),
            counted(verdict.stream_count, "content type")
        ),
    }
}

/// `2026-07-16T09:00:00Z to 2026-07-17T09:00:00Z (1 d 0 h)`.
fn stretch(view: &StretchView) -> String {
    let length = SignedDuration::from_secs(view.to.as_second() - view.from.as_second());
    format!("{} to {} ({})", view.from, view.to, duration(length))
}

fn secs(secs: u64) -> SignedDuration {
    SignedDuration::try_from(Duration::from_secs(secs)).unwrap_or(SignedDuration::MAX)
}
