//! A leased blob → its records: the request, the inflating, and the pull through `decode`, piece by piece, so that a
//! blob of any size passes through two buffers. What is retried from quarantine comes from the ledger instead, the same way.

mod source;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use activity_api::NextStep;
use decode::{Advance, Cut, Decoder, Limits, PART_BYTES, Totals, Undecodable, Whole};
use ledger::{Ledger, quarantined_item_of};

use self::source::Source;
use crate::memory::{Memory, Reader, WholeText, part_bytes};
use crate::microsoft::{self, Microsoft, is_gzip};
use crate::quarantine::{Full, NoRoom, ROOM_AGAIN};
use crate::record::{BlobPart, BlobTag, Layout};

/// Where a blob's pieces go while it is read.
pub(crate) trait Outlet: Send {
    /// Takes a part. It waits for nothing: the part carries its memory, which bounds how many there are.
    fn part(&mut self, part: BlobPart);

    /// Sets stretches aside that are no records.
    ///
    /// # Errors
    /// When the ledger did not take them, or has no room for them: the blob must be fetched again.
    fn undecodable(
        &mut self,
        stretches: Vec<Undecodable>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// A blob that was read to its end.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The last part, held back so that who delivers it can know that it is the last.
    pub(crate) last_part: Option<BlobPart>,
    pub(crate) totals: Totals,
    /// The body is no whole JSON array: why, and the bytes that could not be placed.
    pub(crate) broken: Option<decode::Broken>,
}

/// Why a blob could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Microsoft did not hand it out.
    #[error(transparent)]
    Microsoft(#[from] microsoft::Error),
    /// The body broke off, or is no gzip although it is said to be.
    #[error("the blob's body is damaged: {what}")]
    Damaged {
        /// How, for a person.
        what: String,
    },
    /// The ledger did not take what had to be set aside, or did not give what is set aside.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// There is no room for what had to be set aside.
    #[error(transparent)]
    QuarantineFull(#[from] Full),
    /// It was to be retried, and is not in quarantine any more.
    #[error("item {item} is not in quarantine any more")]
    NotInQuarantine {
        /// Its id.
        item: u64,
    },
}

impl From<NoRoom> for Error {
    fn from(error: NoRoom) -> Self {
        match error {
            NoRoom::Full(full) => Self::QuarantineFull(full),
            NoRoom::Ledger(error) => Self::Ledger(error),
        }
    }
}

impl Error {
    /// What to do now.
    #[must_use]
    pub fn next_step(&self) -> NextStep {
        match self {
            Self::Microsoft(error) => error.next_step(),
            Self::Damaged { .. } | Self::Ledger(_) | Self::NotInQuarantine { .. } => {
                NextStep::RetryAfter(None)
            }
            Self::QuarantineFull(_) => NextStep::RetryAfter(Some(ROOM_AGAIN)),
        }
    }
}

/// Fetches the blob at `uri` and hands its parts to `outlet`, except for the last, which is returned. A uri of the scheme
/// `quarantine:` is an item in the ledger's quarantine, anything else an address at Microsoft.
///
/// # Errors
/// What [`Error::next_step`] tells. Parts that were handed out before are whole and may be delivered all the same.
///
/// # If interrupted
/// The lease runs out and the blob is fetched again. A sink sees the parts again that it had not acknowledged.
pub(crate) async fn fetch_blob(
    microsoft: &Microsoft,
    ledger: &dyn Ledger,
    uri: &str,
    tag: &Arc<BlobTag>,
    memory: &Memory,
    outlet: &mut impl Outlet,
) -> Result<Fetched, Error> {
    let mut reader = memory.reader().await;
    let (mut source, mut body) = match quarantined_item_of(uri) {
        Some(item) => (from_quarantine(ledger, item, &mut reader).await?, None),
        None => {
            let opened = microsoft.open_blob(tag.content_type, uri).await?;
            let (head, body) = opened.into_parts();
            let length = length_of(&head.headers);
            let room = memory.body(length).await;
            let is_gzip = is_gzip(&head.headers);
            (Source::new(body, is_gzip, length), Some(room))
        }
    };
    // Its room is there before its text is, so that what waits here for room is small.
    if let Some(bytes) = source.gather(body.as_mut()).await? {
        let mut text = reader.whole(bytes).await;
        if source.inflate_whole(text.bytes_mut()) {
            return read_whole(text, tag, reader, outlet).await;
        }
        reader.give_back(text);
    }
    read_stream(source, tag, reader, outlet).await
}

fn limits() -> Limits {
    Limits {
        part_bytes: part_bytes(),
        ..Limits::PIPELINE
    }
}

/// Reads a text that is there as a whole. Its parts lie where it was inflated.
async fn read_whole(
    mut text: WholeText,
    tag: &Arc<BlobTag>,
    reader: Reader,
    outlet: &mut impl Outlet,
) -> Result<Fetched, Error> {
    let mut whole = Whole::new(limits(), text.bytes());
    let mut cuts = Vec::new();
    while let Some(cut) = whole.advance() {
        cuts.push((cut, whole.take_undecodable()));
    }
    let (last_cut, totals, broken) = whole.finish();
    let last_undecodable = whole.take_undecodable();
    let mut lay = |cut: Cut| {
        let bytes = text.bytes_mut().get_mut(cut.text.clone());
        let layout = Layout::of(cut.first_record, cut.spans, bytes.unwrap_or_default());
        (layout, cut.text)
    };
    let cuts: Vec<_> = cuts
        .into_iter()
        .map(|(cut, undecodable)| (lay(cut), undecodable))
        .collect();
    let last_cut = last_cut.map(lay);
    let text = reader.share(text);
    let part =
        |(layout, range)| BlobPart::in_text(Arc::clone(tag), layout, Arc::clone(&text), range);
    for (cut, undecodable) in cuts {
        outlet.part(part(cut));
        set_aside(undecodable, outlet).await?;
    }
    set_aside(last_undecodable, outlet).await?;
    Ok(Fetched {
        last_part: last_cut.map(part),
        totals,
        broken,
    })
}

/// Reads a text as it comes.
async fn read_stream(
    mut source: Source,
    tag: &Arc<BlobTag>,
    mut reader: Reader,
    outlet: &mut impl Outlet,
) -> Result<Fetched, Error> {
    let mut decoder = Decoder::new(limits());
    loop {
        match decoder.advance() {
            Advance::Read => match source.read(decoder.room()).await? {
                0 => break,
                count => decoder.filled(count),
            },
            Advance::Part(part) => {
                let room = reader.part(part.capacity_bytes(), decoder.buffer_bytes());
                outlet.part(BlobPart::new(Arc::clone(tag), part, Some(room)));
                set_aside(decoder.take_undecodable(), outlet).await?;
                reader.grow(decoder.buffer_bytes()).await;
            }
            Advance::Grow(bytes) => {
                reader.grow(bytes).await;
                if bytes <= part_bytes() {
                    let smaller = decoder.grow_into(reader.buffer(bytes));
                    reader.recycle(smaller);
                } else {
                    decoder.grow(bytes);
                }
            }
            Advance::Broken => break,
        }
    }
    let (part, totals, broken) = decoder.finish();
    set_aside(decoder.take_undecodable(), outlet).await?;
    let last_part = part.map(|mut part| {
        let room = reader.last_part(&mut part.text);
        BlobPart::new(Arc::clone(tag), part, Some(room))
    });
    Ok(Fetched {
        last_part,
        totals,
        broken,
    })
}

/// How long the head says that the body is.
fn length_of(headers: &http::HeaderMap) -> Option<u64> {
    let length = headers.get(http::header::CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// What is set aside as a blob's text: a record makes an array of one.
///
/// An item over a part's size is read like a record that is: only one such is in memory at a time.
async fn from_quarantine(
    ledger: &dyn Ledger,
    item: u64,
    reader: &mut Reader,
) -> Result<Source, Error> {
    let gone = Error::NotInQuarantine { item };
    let Some(before) = item.checked_sub(1) else {
        return Err(gone);
    };
    let found = ledger.quarantined(before, 1).await?.pop();
    let Some(known) = found.filter(|known| known.id == item) else {
        return Err(gone);
    };
    if known.byte_count > PART_BYTES as u64 {
        reader.oversize().await;
    }
    let Some(bytes) = ledger.quarantined_bytes(item).await? else {
        return Err(gone);
    };
    Ok(match known.record_index {
        Some(_) => Source::stored([b"[".as_slice().into(), bytes.into(), b"]".as_slice().into()]),
        None => Source::stored([bytes.into()]),
    })
}

async fn set_aside(stretches: Vec<Undecodable>, outlet: &mut impl Outlet) -> Result<(), Error> {
    if stretches.is_empty() {
        Ok(())
    } else {
        Ok(outlet.undecodable(stretches).await?)
    }
}
