//! What is set aside for a person: how it is shown, and the bound on how much of it there may be.

mod bound;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use bound::{Bound, NoRoom, ROOM_AGAIN, held};
pub use bound::{Full, Level};
pub use view::{ItemView, to_text};
