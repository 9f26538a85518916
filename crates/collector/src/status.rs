//! The state of the collector as plain data, put together from the ledger's numbers and what the running pipeline
//! knows. The status page, `/api/status` and `o365-collector status` all show this and nothing else.

mod catch_up;
mod checkin;
mod forecast;
mod live;
mod quarantine;
pub(crate) mod text;
mod troubles;
mod update;
mod view;

#[cfg(test)]
mod tests;

pub use catch_up::CatchUpView;
pub use checkin::CheckinView;
pub use forecast::{ForecastView, LatenessBucket, LatenessView};
pub use live::Live;
pub use quarantine::QuarantineView;
pub use text::to_text;
pub use update::{UpdateEventView, UpdateView};
pub use view::{
    LedgerView, Rates, SinkStatus, SinkView, StatusView, StreamView, TenantStatus, TenantView,
    Totals, TroubleView, view, view_without_ledger,
};
