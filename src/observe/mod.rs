//! Named events: one struct per event; [`emit`] logs it and counts it in one place, so the two cannot drift apart.
//!
//! A room's events live in the file of that room's name here. Counters and gauges stand in [`metrics`], states in [`backends`].

pub mod backends;
mod logger;
pub mod metrics;

#[cfg(feature = "gateway")]
pub mod accel;
pub mod agent;
pub mod aggregator;
pub mod bus;
pub mod field;
pub mod glm;
#[cfg(feature = "gateway")]
pub mod infer;
pub mod judge;
pub mod link;
pub mod sensor;
pub mod spool;

pub use logger::{Format, init};

use std::fmt;

pub use log::Level;

/// Something worth naming that happened.
pub trait Event {
    /// Stable snake-case name.
    const NAME: &'static str;
    /// How loud.
    const LEVEL: Level;
    /// Key/value fields; never a secret.
    fn fields(&self, fields: &mut Fields<'_>);
    /// Counts it; the default counts nothing.
    fn count(&self) {}
}

/// Counts and logs `event`.
pub fn emit<E: Event>(event: &E) {
    event.count();
    if E::LEVEL <= log::max_level() {
        logger::write(E::NAME, E::LEVEL, |fields| event.fields(fields));
    }
}

/// Collects an event's fields.
pub struct Fields<'a> {
    put: &'a mut dyn FnMut(&'static str, &dyn fmt::Display),
}

impl Fields<'_> {
    /// Adds one field.
    pub fn put(&mut self, key: &'static str, value: impl fmt::Display) -> &mut Self {
        (self.put)(key, &value);
        self
    }
}
