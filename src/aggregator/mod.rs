//! The cloud seat: takes what devices deliver, keeps it, acknowledges it, shows it.

pub mod store;
