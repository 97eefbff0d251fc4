//! The pages: HTML made by the server, one style sheet, one small script, nothing from anywhere else.
//!
//! Whatever a device says is hostile until escaped: names, labels, reasons and texts go through [`crate::http::Escaped`].

mod chart;
mod device;
mod fleet;
mod html;
mod json;
mod ledger;
mod readings;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub(super) use html::count;

use super::ledger::Ledger;
use super::store::{DeviceRow, Reader, StoreError};
use super::topic;
use crate::http::{Request, Response};
use crate::time::Wall;
use crate::wire::heartbeat::Heartbeat;

/// Answers requests from the database.
pub struct Pages {
    /// One query at a time: the pages are for people, the machine's cores are for the desk.
    reader: Mutex<Reader>,
    silent_after: Duration,
    grace: Duration,
    /// What the latest [`Pages::survey`] found.
    wrong: Mutex<BTreeMap<String, u64>>,
}

impl Pages {
    /// Pages over `reader`; a device is shown as silent `silent_after` its latest heartbeat, and what it owes as missing
    /// after `grace`.
    pub fn new(reader: Reader, silent_after: Duration, grace: Duration) -> Self {
        Self { reader: Mutex::new(reader), silent_after, grace, wrong: Mutex::default() }
    }

    /// Devices whose ledger is not good, with the records that each has not declared; the fleet's page shows them from now
    /// on. Blocks on the database.
    pub fn survey(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        let reader = || self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wrong = BTreeMap::new();
        let fleet = reader().fleet()?;
        for device in fleet {
            // One device at a time: pages that people wait for come in between.
            let ledger = Ledger::read(&reader(), &device)?;
            if !ledger.is_good(self.grace) {
                wrong.insert(device.name, ledger.undeclared(self.grace));
            }
        }
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&wrong);
        Ok(wrong)
    }

    /// Answers `request`. Blocks on the database.
    pub fn respond(&self, request: &Request, now: Wall) -> Response {
        match request.path.as_str() {
            "/style.css" => return Response::new(200, "text/css; charset=utf-8", include_str!("style.css")),
            "/script.js" => {
                return Response::new(200, "text/javascript; charset=utf-8", include_str!("script.js"));
            }
            _ => {}
        }
        // A panic in another request left the connection as it was: it only reads.
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = View { reader: &reader, now, silent_after: self.silent_after, grace: self.grace, wrong };
        match view.respond(request) {
            Ok(response) => response.unwrap_or_else(|| html::not_found(&request.path)),
            Err(reason) => Response::text(503, format!("{reason}\n")),
        }
    }
}

/// One look at the fleet.
struct View<'a> {
    reader: &'a Reader,
    now: Wall,
    silent_after: Duration,
    grace: Duration,
    /// Devices whose ledger was not good when it was looked at last, with the records that each has not declared.
    wrong: BTreeMap<String, u64>,
}

impl View<'_> {
    fn respond(&self, request: &Request) -> Result<Option<Response>, StoreError> {
        let levels: Vec<&str> = request.path.split('/').skip(1).collect();
        Ok(Some(match levels[..] {
            [""] => fleet::page(self)?,
            ["api", "fleet"] => Response::json(&json::fleet(self)?),
            ["device", name] => match self.device(name)? {
                Some(device) => device::page(self, &device, request)?,
                None => return Ok(None),
            },
            ["api", "device", name] => match self.device(name)? {
                Some(device) => Response::json(&json::device(self, &device)?),
                None => return Ok(None),
            },
            ["api", "device", name, part @ ("ledger" | "digests" | "episodes")] => match self.device(name)? {
                Some(device) => Response::json(&match part {
                    "ledger" => json::ledger(self, &device)?,
                    "digests" => json::digests(self, &device)?,
                    _ => json::episodes(self, &device)?,
                }),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }

    fn device(&self, name: &str) -> Result<Option<Device>, StoreError> {
        if !topic::is_device_name(name) {
            return Ok(None);
        }
        Ok(self.reader.device(name)?.map(|row| self.stand(row)))
    }

    fn stand(&self, row: DeviceRow) -> Device {
        let beat = row
            .heartbeat
            .as_ref()
            .and_then(|(at, bytes)| Some(Beat { at: *at, beat: Heartbeat::decode(bytes).ok()? }));
        let standing = Standing::of(&row.state, beat.as_ref(), self.now, self.silent_after);
        Device { row, beat, standing }
    }
}

/// A device as the pages know it.
struct Device {
    row: DeviceRow,
    beat: Option<Beat>,
    standing: Standing,
}

/// The latest heartbeat and when it arrived.
struct Beat {
    at: Wall,
    beat: Heartbeat,
}

/// How a device stands, by what it said and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It should be heard and is not.
    Silent,
    /// Its last will or its goodbye.
    Offline,
    /// Nothing is known.
    Unknown,
    /// It said that it sleeps.
    Sleeping,
    /// Heard in time.
    Online,
}

impl Standing {
    fn of(state: &str, beat: Option<&Beat>, now: Wall, silent_after: Duration) -> Self {
        let heard = beat.map(|beat| beat.at + silent_after >= now);
        match (state, heard) {
            ("sleeping", _) => Self::Sleeping,
            ("offline", _) => Self::Offline,
            (_, Some(true)) => Self::Online,
            (_, Some(false)) => Self::Silent,
            ("online", None) => Self::Online,
            (_, None) => Self::Unknown,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Offline => "offline",
            Self::Unknown => "unknown",
            Self::Sleeping => "sleeping",
            Self::Online => "online",
        }
    }
}

#[cfg(test)]
mod tests;
