//! How memory is asked of the system, and given back to it.

mod allocator;
mod huge;

pub use allocator::{MAPPED_FROM_BYTES, give_back_early};
pub use huge::{HUGE_PAGE_BYTES, prefer_huge_pages};
