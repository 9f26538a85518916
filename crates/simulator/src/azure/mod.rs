//! Azure's side: the function app as Resource Manager has it, and the managed identity.

pub(crate) mod identity;
pub(crate) mod resource_manager;
mod site;

pub use site::{Role, Site, SiteChange, SiteState};

use crate::Options;

/// The state of the simulated Azure.
#[derive(Debug)]
pub(crate) struct Azure {
    pub(crate) site: site::SiteCell,
}

impl Azure {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            site: site::SiteCell::new(&options.azure),
        }
    }
}
