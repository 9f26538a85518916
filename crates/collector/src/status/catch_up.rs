//! What a start had to list of the past, and how far that has come.

use activity_api::{ContentType, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Live;

/// What of a content type was over and not listed when the process began: after a pause, or at the first start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CatchUpView {
    /// From where.
    #[serde(
        serialize_with = "super::view::instant",
        deserialize_with = "super::view::read_instant"
    )]
    pub from: Timestamp,
    /// To where.
    #[serde(
        serialize_with = "super::view::instant",
        deserialize_with = "super::view::read_instant"
    )]
    pub to: Timestamp,
    /// Hours in between that were to be listed.
    pub hour_count: u64,
    /// Those that are still to be.
    pub left_count: u64,
}

impl Live {
    /// The first round of listing has this much to list of the past.
    pub fn catching_up(
        &self,
        tenant: TenantId,
        content_type: ContentType,
        from: Timestamp,
        to: Timestamp,
        hour_count: u64,
    ) {
        self.stream(tenant, content_type, |stream| {
            stream.catch_up = Some(Box::new(CatchUpView {
                from,
                to,
                hour_count,
                left_count: hour_count,
            }));
        });
    }

    /// An hour of the past was listed.
    pub fn caught_up_one(&self, tenant: TenantId, content_type: ContentType) {
        self.stream(tenant, content_type, |stream| {
            if let Some(catch_up) = &mut stream.catch_up {
                catch_up.left_count = catch_up.left_count.saturating_sub(1);
            }
        });
    }
}
