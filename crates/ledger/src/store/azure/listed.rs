//! Which stretches of time were listed, merged where they touch: one small row per tenant and content type.

use std::sync::Arc;

use activity_api::{ContentType, TenantId};
use azure::storage::Error as StorageError;
use azure::storage::entity::{Entity, Value};
use azure::storage::tables::Change;
use jiff::Timestamp;

use crate::store::stored;
use crate::store::windows::StoredWindow;
use crate::{Error, ListedStretch, Listing};

use super::books::{Books, MAX_RACES, TooManyRaces};
use super::door::refused;
use super::names::{began_row, listed_row, partition_of};
use super::rows::{corrupt, corrupt_by, instant, set_instant, set_text, text, to_instant};
use super::windows;

/// Stretches kept: one ends where a gap begins, and a year of a gap a day is far fewer. Beyond it the oldest are
/// dropped, which shows as more not listed than there is.
const MAX_STRETCHES: usize = 4_000;

/// What was listed, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) until: Option<i64>,
    pub(super) stretches: Vec<(i64, i64)>,
}

impl Listed {
    fn note(&mut self, start: i64, end: i64) {
        let touches = |&(from, to): &(i64, i64)| from <= end && to >= start;
        let (touching, mut apart): (Vec<_>, Vec<_>) =
            self.stretches.iter().copied().partition(touches);
        let start = touching.iter().map(|(from, _)| *from).fold(start, i64::min);
        let end = touching.iter().map(|(_, to)| *to).fold(end, i64::max);
        apart.push((start, end));
        apart.sort_unstable();
        let surplus = apart.len().saturating_sub(MAX_STRETCHES);
        self.stretches = apart.split_off(surplus);
        self.until = match self.until {
            Some(until) if until < start || until >= end => Some(until),
            _ => Some(end),
        };
    }

    fn pass(&mut self, before: i64) {
        if self.until.is_none_or(|until| until >= before) {
            return;
        }
        // A stretch that reaches to `before` or over it is where listing continues from.
        let over = self
            .stretches
            .iter()
            .filter(|(from, to)| *from <= before && *to >= before);
        self.until = Some(over.map(|(_, to)| *to).max().unwrap_or(before));
    }

    pub(super) fn read(entity: &Entity) -> Result<Self, Error> {
        let text = text(entity, "Stretches").ok_or_else(|| corrupt("listed stretches"))?;
        let stretches =
            serde_json::from_str(&text).map_err(|error| corrupt_by("listed stretches", error))?;
        Ok(Self {
            until: entity.int64("Until"),
            stretches,
        })
    }

    fn to_entity(&self, tenant: TenantId, content_type: ContentType) -> Entity {
        let mut entity = Entity::new(partition_of(tenant), listed_row(content_type));
        let stretches = serde_json::to_string(&self.stretches).expect("pairs of numbers make JSON");
        set_text(&mut entity, "Type", content_type.as_str());
        set_text(&mut entity, "Stretches", &stretches);
        if let Some(until) = self.until {
            entity.set("Until", Value::Int64(until));
        }
        entity
    }
}

/// What the first caller says is a fact like any other, which no later one gets to put in its place.
pub(super) async fn begin_listing(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    from: Timestamp,
) -> Result<Timestamp, Error> {
    books.register(tenant).await?;
    let partition = partition_of(tenant);
    let mut row = Entity::new(partition.clone(), began_row(content_type));
    set_instant(&mut row, "BeganAt", from);
    match books.door.change(&Change::Insert(row)).await? {
        Ok(_) | Err(StorageError::AlreadyExists) => {}
        Err(error) => return Err(refused("noting where listing begins", error)),
    }
    let row = books.door.get(&partition, &began_row(content_type)).await?;
    let row = row.ok_or_else(|| corrupt("where listing began"))?;
    instant(&row.entity, "BeganAt")
}

pub(super) async fn note_listed(
    books: &Books,
    listing: &Listing,
    now: Timestamp,
) -> Result<(), Error> {
    let (tenant, content_type) = (listing.tenant, listing.content_type);
    books.register(tenant).await?;
    let window = StoredWindow::new(listing, stored(now));
    let (start, end) = window.bounds();
    windows::note(books, tenant, content_type, window).await?;
    amend(books, tenant, content_type, |listed| {
        let mut listed = listed.unwrap_or_default();
        listed.note(start, end);
        Some(listed)
    })
    .await
}

pub(super) async fn note_unlistable(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    before: Timestamp,
) -> Result<(), Error> {
    amend(books, tenant, content_type, |listed| {
        let mut listed = listed?;
        listed.pass(stored(before));
        Some(listed)
    })
    .await
}

/// Changes the row, however often others change it meanwhile. The same change made twice comes to the same, so an
/// earlier try whose answer did not come does no harm.
async fn amend(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    change: impl Fn(Option<Listed>) -> Option<Listed>,
) -> Result<(), Error> {
    for _ in 0..MAX_RACES {
        let row = books
            .door
            .get(&partition_of(tenant), &listed_row(content_type))
            .await?;
        let before = row
            .as_ref()
            .map(|row| Listed::read(&row.entity))
            .transpose()?;
        let after = change(before.clone());
        let Some(listed) = after.filter(|after| before.as_ref() != Some(after)) else {
            return Ok(());
        };
        let entity = listed.to_entity(tenant, content_type);
        let change = match row {
            None => Change::Insert(entity),
            Some(row) => Change::Replace {
                entity,
                etag: row.etag,
            },
        };
        match books.door.change(&change).await? {
            Ok(_) => return Ok(()),
            Err(StorageError::Changed | StorageError::NotFound | StorageError::AlreadyExists) => {}
            Err(error) => return Err(refused("noting what was listed", error)),
        }
    }
    Err(Error::Busy(Arc::new(TooManyRaces)))
}

async fn read(books: &Books, tenant: TenantId, content_type: ContentType) -> Result<Listed, Error> {
    let row = books
        .door
        .get(&partition_of(tenant), &listed_row(content_type))
        .await?;
    row.map_or(Ok(Listed::default()), |row| Listed::read(&row.entity))
}

/// Whether a time lies in what was listed.
pub(super) async fn is_listed(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
    at: i64,
) -> Result<bool, Error> {
    let listed = read(books, tenant, content_type).await?;
    let mut stretches = listed.stretches.into_iter();
    Ok(stretches.any(|(from, to)| from <= at && at < to))
}

pub(super) async fn listed_until(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Option<Timestamp>, Error> {
    let listed = read(books, tenant, content_type).await?;
    listed.until.map(to_instant).transpose()
}

pub(super) async fn listed_stretches(
    books: &Books,
    tenant: TenantId,
    content_type: ContentType,
) -> Result<Vec<ListedStretch>, Error> {
    let listed = read(books, tenant, content_type).await?;
    listed
        .stretches
        .into_iter()
        .map(|(start, end)| {
            Ok(ListedStretch {
                start: to_instant(start)?,
                end: to_instant(end)?,
            })
        })
        .collect()
}
