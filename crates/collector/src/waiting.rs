//! Waiting for whichever comes first.

#[cfg(not(test))]
pub(crate) use tokio::select;

/// [`tokio::select`], whose choice of the branch to look at first is a simulation's while one runs on this thread: tokio
/// offers no seed for it, and one seed is to be one history.
#[cfg(test)]
macro_rules! select {
    (biased; $($branches:tt)*) => { tokio::select! { biased; $($branches)* } };
    ($($branches:tt)*) => {
        tokio::select!(@{ start={ $crate::simulation::first_branch(BRANCHES) }; () } $($branches)*)
    };
}
#[cfg(test)]
pub(crate) use select;
