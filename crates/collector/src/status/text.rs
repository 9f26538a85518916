//! The status as lines for a terminal, and how counts, sizes and instants are written wherever people read them.

use std::fmt::Write;

use jiff::{SignedDuration, Timestamp};

use super::{
    CatchUpView, CheckinView, SinkStatus, StatusView, StreamView, TenantStatus, TroubleView,
    UpdateView,
};

/// The whole status as text, without colors, every line ended.
#[must_use]
pub fn to_text(view: &StatusView) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail, so the result says nothing.
    write_text(&mut text, view).expect("a String takes every write");
    text
}

fn write_text(out: &mut String, view: &StatusView) -> std::fmt::Result {
    write!(out, "o365-collector {}", one_line(&view.version))?;
    if let (Some(started_at), Some(uptime)) = (view.started_at, view.uptime_seconds) {
        let verb = if view.is_running == Some(true) {
            "collecting"
        } else {
            "not collecting"
        };
        let uptime = duration(SignedDuration::from_secs(
            i64::try_from(uptime).unwrap_or(i64::MAX),
        ));
        write!(
            out,
            ", {verb}, started {} ({uptime} ago)",
            instant(started_at)
        )?;
    }
    writeln!(out, "\n")?;
    if view.troubles.is_empty() {
        writeln!(out, "{}", verdict(view))?;
    }
    for trouble in &view.troubles {
        writeln!(out, "! {}", one_line(trouble))?;
    }
    for tenant in &view.tenants {
        let state = match tenant.state {
            TenantStatus::Collecting => ", collecting",
            TenantStatus::Stopped => ", STOPPED",
            TenantStatus::Unknown => "",
        };
        writeln!(out, "\ntenant {}{state}", one_line(&tenant.id))?;
        if let Some(stopped) = &tenant.stopped {
            writeln!(out, "  {}", trouble(stopped, view.taken_at))?;
        }
        if let Some(forecast) = &tenant.forecast
            && forecast.waiting_count > 0
        {
            writeln!(out, "  {}", forecast.sentence(view.taken_at))?;
        }
        write_streams(out, &tenant.streams, view.taken_at)?;
    }
    if !view.sinks.is_empty() {
        writeln!(out, "\nsinks")?;
    }
    for sink in &view.sinks {
        let state = match sink.state {
            SinkStatus::Ok => "ok",
            SinkStatus::Failing => "FAILING",
            SinkStatus::Idle => "idle",
        };
        write!(
            out,
            "  {:<20}  {state:<7}  {}",
            one_line(&sink.name),
            counted(sink.record_count, "record")
        )?;
        if let Some(at) = sink.last_delivery_at {
            write!(out, ", last {}", relative(at, view.taken_at))?;
        }
        writeln!(out)?;
        if let Some(error) = sink
            .last_error
            .as_ref()
            .filter(|_| sink.state == SinkStatus::Failing)
        {
            writeln!(out, "    {}", trouble(error, view.taken_at))?;
        }
    }
    write_checkins(out, view)?;
    writeln!(
        out,
        "\ntotal: {} in {}, {}; {} waiting",
        counted(view.totals.record_count, "record"),
        counted(view.totals.delivered_count, "blob"),
        bytes(view.totals.record_bytes),
        counted(
            view.totals
                .pending_count
                .saturating_add(view.totals.leased_count),
            "blob"
        ),
    )?;
    if let Some(rates) = &view.rates {
        writeln!(
            out,
            "rate:  {}",
            rate(rates.records_per_second, rates.bytes_per_second)
        )?;
    }
    if !view.lateness.is_empty() {
        writeln!(
            out,
            "\nlateness, from a blob's creation to the first listing that had it"
        )?;
    }
    for lateness in &view.lateness {
        writeln!(
            out,
            "  {:<26} {}, tenant {}",
            one_line(&lateness.content_type),
            lateness.sentence(),
            one_line(&lateness.tenant)
        )?;
    }
    if let Some(update) = &view.update {
        write_update(out, update, view.taken_at)?;
    }
    Ok(())
}

/// Steps of the updater that are shown; all that are kept are in the JSON.
const SHOWN_STEPS: usize = 8;

fn write_update(out: &mut String, update: &UpdateView, now: Timestamp) -> std::fmt::Result {
    write!(out, "\nupdate: {}", one_line(&update.summary))?;
    if let Some(at) = update.next_try_at {
        write!(out, "; next try {}", relative(at, now))?;
    }
    writeln!(out)?;
    let hidden = update.events.len().saturating_sub(SHOWN_STEPS);
    for event in update.events.iter().skip(hidden) {
        writeln!(out, "  {}  {}", instant(event.at), one_line(&event.what))?;
    }
    Ok(())
}

fn write_checkins(out: &mut String, view: &StatusView) -> std::fmt::Result {
    if !view.checkins.is_empty() {
        writeln!(out, "\ncheck-ins with alert logic")?;
    }
    for checkin in &view.checkins {
        let state = checkin_state(checkin);
        let source = checkin.source_id.as_deref().unwrap_or("not registered");
        write!(
            out,
            "  {:<20}  {state:<7}  {}, tenant {}",
            one_line(&checkin.sink),
            one_line(source),
            one_line(&checkin.tenant)
        )?;
        if let Some(at) = checkin.taken_at {
            write!(out, ", last {}", relative(at, view.taken_at))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// How a log source is, in a word: what failed stands among the troubles.
pub(crate) fn checkin_state(checkin: &CheckinView) -> &'static str {
    match (&checkin.error, &checkin.error_code) {
        (Some(_), _) => "FAILING",
        (None, Some(_)) => "error",
        (None, None) if checkin.taken_at.is_none() => "idle",
        (None, None) => "ok",
    }
}

fn write_streams(out: &mut String, streams: &[StreamView], now: Timestamp) -> std::fmt::Result {
    if streams.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "  {:<26} {:>9} {:>7} {:>11} {:>11} {:>7} {:>13} {:>10}  {:<21} last poll",
        "",
        "waiting",
        "leased",
        "delivered",
        "quarantined",
        "expired",
        "records",
        "size",
        "listed until"
    )?;
    for stream in streams {
        let line = format!(
            "  {:<26} {:>9} {:>7} {:>11} {:>11} {:>7} {:>13} {:>10}  {:<21} {}",
            one_line(&stream.content_type),
            count(stream.pending_count),
            count(stream.leased_count),
            count(stream.delivered_count),
            count(stream.quarantined_count),
            count(stream.expired_count),
            count(stream.record_count),
            bytes(stream.record_bytes),
            stream.listed_until.map_or_else(|| "-".to_owned(), instant),
            stream
                .last_poll_at
                .map_or_else(|| "-".to_owned(), |at| relative(at, now)),
        );
        writeln!(out, "{}", line.trim_end())?;
        if let Some(catch_up) = &stream.catch_up {
            writeln!(out, "    {}", catching_up(catch_up))?;
        }
        for error in [&stream.listing_error, &stream.blob_error]
            .into_iter()
            .flatten()
        {
            writeln!(out, "    {}", trouble(error, now))?;
        }
    }
    Ok(())
}

/// What a start had to list of the past, in one line.
pub(crate) fn catching_up(catch_up: &CatchUpView) -> String {
    let (from, to) = (instant(catch_up.from), instant(catch_up.to));
    let hours = counted(catch_up.hour_count, "hour");
    let left = match catch_up.left_count {
        0 => "all listed".to_owned(),
        left => format!("{} still to list", count(left)),
    };
    format!("began with {hours} to catch up, from {from} to {to}: {left}")
}

/// What to say when there is no trouble: no more than is known.
pub(crate) fn verdict(view: &StatusView) -> &'static str {
    if view.is_running.is_some() {
        "All is well."
    } else {
        "Nothing in the ledger wants attention."
    }
}

/// A trouble in one line: what, since when, when it is tried again.
pub(crate) fn trouble(trouble: &TroubleView, now: Timestamp) -> String {
    let mut text = format!(
        "since {}: {}",
        instant(trouble.since),
        one_line(&trouble.what)
    );
    if let Some(at) = trouble.retry_at {
        text.push_str("; next try ");
        text.push_str(&relative(at, now));
    }
    text
}

/// A count with separators: `1,234,567`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 blob`, `2 blobs`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// A size: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        // What would be rounded up to a whole larger unit is written in that unit.
        if size < 1_023.95 {
            break;
        }
        size /= 1_024.0;
        unit = larger;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{size:.1} {unit}")
    }
}

/// A speed: `12.3 records/s, 1.5 MiB/s`.
pub(crate) fn rate(records_per_second: f64, bytes_per_second: f64) -> String {
    // A rate is never negative and far below 2^53, so nothing is cut off but the fraction.
    format!(
        "{records_per_second:.1} records/s, {}/s",
        bytes(bytes_per_second as u64)
    )
}

/// An instant to the second, UTC: `2026-07-15 20:03:19Z`.
pub(crate) fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// How far an instant is: `5 s ago`, `in 3 min`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    let ahead = at.duration_since(now);
    if ahead.is_positive() {
        format!("in {}", duration(ahead))
    } else {
        format!("{} ago", duration(-ahead))
    }
}

/// A duration in its one or two largest units: `59 s`, `3 min`, `2 h 5 min`, `6 d 23 h`.
pub(crate) fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Text that quotes a server, kept from moving the terminal's cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect()
}
