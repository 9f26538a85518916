//! `quarantine list|show|retry|drop`: what is set aside, and what a person decides about it. Works on the ledger itself,
//! beside a collector that is running or without one.

use std::io::{IsTerminal as _, stdout};
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use collector::clock::{Clock, SystemClock};
use collector::config::Config;
use collector::quarantine::{ItemView, to_text};
use ledger::{Ledger, QuarantinedItem};
use serde_json::json;

use super::opening;
use crate::args::{ChosenArgs, Format, QuarantineAction};
use crate::{exit, output};

/// Items read at a time. Their bytes are not among it.
const PAGE: usize = 500;

pub(super) async fn quarantine(
    config: &Config,
    action: QuarantineAction,
) -> anyhow::Result<ExitCode> {
    match action {
        QuarantineAction::List {
            tenant,
            content_type,
            format,
        } => {
            let ledger = opening::for_reading(config)?;
            let is_wanted = |item: &QuarantinedItem| {
                tenant.is_none_or(|tenant| item.tenant == tenant)
                    && content_type.is_none_or(|content_type| item.content_type == content_type)
            };
            list(&*ledger, &is_wanted, format).await
        }
        QuarantineAction::Show { id, raw, format } => {
            let ledger = opening::for_reading(config)?;
            show(&*ledger, id, raw, format).await
        }
        QuarantineAction::Retry { chosen } => {
            let ledger = opening::beside_a_collector(config)?;
            let ids = ids(&*ledger, chosen).await?;
            decide(&*ledger, &ids, None).await
        }
        QuarantineAction::Drop { chosen, reason } => {
            let ledger = opening::beside_a_collector(config)?;
            let ids = ids(&*ledger, chosen).await?;
            decide(&*ledger, &ids, Some(&reason)).await
        }
    }
}

async fn list(
    ledger: &dyn Ledger,
    is_wanted: &(dyn Fn(&QuarantinedItem) -> bool + Sync),
    format: Format,
) -> anyhow::Result<ExitCode> {
    let (mut after, mut item_count, mut byte_count) = (0, 0_u64, 0_u64);
    if format == Format::Json {
        output::write("{\"items\":[")?;
    }
    loop {
        let page = ledger.quarantined(after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.id;
        let mut text = String::new();
        for item in page.iter().filter(|item| is_wanted(item)) {
            let view = ItemView::new(item);
            match format {
                Format::Text => text.push_str(&to_text(&view)),
                Format::Json => {
                    text.push_str(if item_count > 0 { ",\n" } else { "\n" });
                    text.push_str(&serde_json::to_string(&view)?);
                }
            }
            item_count += 1;
            byte_count += item.byte_count;
        }
        output::write(text)?;
    }
    match format {
        Format::Text if item_count == 0 => output::write_line("nothing is in quarantine")?,
        Format::Text => output::write_line(format_args!(
            "{item_count} in quarantine, {byte_count} bytes"
        ))?,
        Format::Json => output::write_line(format_args!(
            "\n],\"item_count\":{item_count},\"byte_count\":{byte_count}}}"
        ))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(ledger: &dyn Ledger, id: u64, raw: bool, format: Format) -> anyhow::Result<ExitCode> {
    let item = match id.checked_sub(1) {
        Some(before) => ledger.quarantined(before, 1).await?.pop(),
        None => None,
    };
    let bytes = ledger.quarantined_bytes(id).await?;
    let (Some(item), Some(bytes)) = (item.filter(|item| item.id == id), bytes) else {
        output::say(format_args!("o365-collector: {}", absent(id)));
        return Ok(exit::FAILING.into());
    };
    let view = ItemView::new(&item);
    if format == Format::Json {
        let mut shown = serde_json::to_value(&view)?;
        let (key, value) = match String::from_utf8(bytes) {
            Ok(text) => ("text", text),
            Err(error) => ("base64", STANDARD.encode(error.as_bytes())),
        };
        if let Some(shown) = shown.as_object_mut() {
            shown.insert(key.to_owned(), json!(value));
        }
        output::write_line(format_args!("{shown:#}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    if !raw {
        output::say(to_text(&view).trim_end());
    }
    if !raw && stdout().is_terminal() {
        // They come from elsewhere, and a terminal obeys what is written to it.
        output::write_line(harmless(&bytes))?;
    } else {
        output::write(bytes)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids that were typed, or all that are there now.
async fn ids(ledger: &dyn Ledger, chosen: ChosenArgs) -> anyhow::Result<Vec<u64>> {
    if !chosen.all {
        return Ok(chosen.ids);
    }
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let page = ledger.quarantined(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(ids);
        };
        after = last.id;
        let wanted = page.iter().filter(|item| {
            chosen.tenant.is_none_or(|tenant| item.tenant == tenant)
                && chosen
                    .content_type
                    .is_none_or(|content_type| item.content_type == content_type)
        });
        ids.extend(wanted.map(|item| item.id));
    }
}

/// Has them tried again, or drops them when there is a reason for that. One that cannot be is no reason to leave the
/// others: they were asked for.
async fn decide(
    ledger: &dyn Ledger,
    ids: &[u64],
    dropped_for: Option<&str>,
) -> anyhow::Result<ExitCode> {
    let mut done_count = 0;
    let mut written = Ok(());
    for id in ids {
        let now = SystemClock.now();
        let (is_done, what) = match dropped_for {
            None => (ledger.retry_quarantined(*id, now).await?, "retried"),
            Some(reason) => (ledger.drop_quarantined(*id, reason, now).await?, "dropped"),
        };
        if is_done {
            done_count += 1;
            written = written.and(output::write_line(format_args!("{what} {id}")));
        } else {
            output::say(format_args!("o365-collector: {}", absent(*id)));
        }
    }
    output::or_closed(written)?;
    if dropped_for.is_none() && done_count > 0 {
        output::say(
            "a running collector takes them up within seconds, or else the next `run`; they leave the quarantine when they are delivered",
        );
    }
    Ok(match done_count == ids.len() {
        true => ExitCode::SUCCESS,
        false => exit::FAILING.into(),
    })
}

fn absent(id: u64) -> String {
    format!("nothing with the id {id} is in quarantine; `quarantine list` shows what is")
}

/// Text in which nothing moves the cursor.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\t' => shown.push(char),
            char if char.is_control() => shown.extend(char.escape_default()),
            char => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        assert_eq!(
            harmless(b"{\"a\":\"\x1b[2J\"}\n\xff"),
            "{\"a\":\"\\u{1b}[2J\"}\n\u{fffd}"
        );
    }
}
