//! The main job on one machine: broker, certificates, both seats, a plant with faults.

pub mod broker;
pub mod fetch;
pub mod pki;
pub mod plant;
pub mod proxy;
pub mod report;
pub mod seats;
pub mod view;
