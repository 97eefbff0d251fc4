//! The cloud seat: takes what devices deliver, keeps it, acknowledges it, shows it.

mod desk;
pub mod store;
mod topic;
