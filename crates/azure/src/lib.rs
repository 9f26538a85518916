//! Azure's services as data: requests to send, replies to understand. Opens no socket, and knows neither the time nor the ledger.

pub mod functions;
pub mod identity;
pub mod resource_manager;
pub mod storage;
