//! Events of the `link` room.

use std::fmt::Display;
use std::time::Duration;

use super::{Event, Fields, Level, metrics};
use crate::time::humane;

/// Connected, subscribed and announced.
pub struct LineUp<'a> {
    /// The broker.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// Publishes that may be unanswered.
    pub window: usize,
}

impl Event for LineUp<'_> {
    const NAME: &'static str = "line_up";
    const LEVEL: Level = Level::Info;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("broker", format_args!("{}:{}", self.host, self.port)).put("window", self.window);
    }
}

/// Not connected.
pub struct LineDown<'a> {
    /// In plain words.
    pub reason: &'a str,
    /// When the next attempt begins.
    pub retry_in: Duration,
    /// Whether it had been connected; a failed attempt is no further fall.
    pub was_up: bool,
}

impl Event for LineDown<'_> {
    const NAME: &'static str = "line_down";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("reason", self.reason).put("retry_in", humane(self.retry_in)).put("was_up", self.was_up);
    }

    fn count(&self) {
        if self.was_up {
            metrics::LINK_DOWNS.inc();
        }
    }
}

/// The certificate files have changed and cannot be used; the session goes on with those it has.
pub struct CertificatesUnusable<'a> {
    /// What is wrong with them, and the next step.
    pub why: &'a dyn Display,
}

impl Event for CertificatesUnusable<'_> {
    const NAME: &'static str = "certificates_unusable";
    const LEVEL: Level = Level::Warn;

    fn fields(&self, fields: &mut Fields<'_>) {
        fields.put("why", self.why);
    }
}
