//! One thread per I2C or SPI bus: its chips are read in turn, each at its own interval.
//!
//! A transfer blocks, and what it waits for is the slowest thing on the wire, so the rules are about neighbours:
//!
//! - The chip that has been due for longest goes first; a read that comes late is not made up for.
//! - A chip has [`ChipOptions::timeout`] for one read. After it the bus takes no further transfer of that read, and the
//!   chip's waits are cut short: it costs its neighbours its timeout and the transfer under way, which the kernel ends.
//! - After [`limits::CHIP_FAILURES_MAX`] failures in a row a chip rests, twice as long each time, up to
//!   [`limits::CHIP_REST_S_MAX`]. Meanwhile its channels go on saying why they have no value.
//! - A bus that is not there is looked for again at every read; no other source notices.

mod linux;
mod port;
mod schedule;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use super::SourceError;
use super::chips::{Chip, PartOptions};
use super::outlet::{Closed, Outlet};
use crate::clock;
use crate::limits;
use linux::{LinuxI2c, LinuxSpi};
use port::{Deadline, Patience, Port};
use schedule::Schedule;

/// One bus with its chips.
#[derive(Debug, Clone, PartialEq)]
pub struct BusOptions {
    /// `/dev/i2c-1`; for SPI the device without its chip select, such as `/dev/spidev0`.
    pub device: PathBuf,
    /// SPI, not I2C.
    pub spi: bool,
    /// At most [`limits::CHIPS_MAX`].
    pub chips: Vec<ChipOptions>,
}

/// One chip on a bus.
#[derive(Debug, Clone, PartialEq)]
pub struct ChipOptions {
    /// First part of its channels' names.
    pub name: String,
    /// What it is and where.
    pub part: PartOptions,
    /// Chip select on an SPI bus.
    pub select: u8,
    /// Between two reads.
    pub interval: Duration,
    /// Longest read.
    pub timeout: Duration,
}

/// Reads the chips of one bus until the pipeline is gone.
pub(super) async fn run(options: BusOptions, outlet: Outlet) -> Result<(), SourceError> {
    let deadline = Deadline::new(Rc::new(clock::mono));
    let mut delay = Patience::new(deadline.clone(), Box::new(std::thread::sleep));
    let mut schedule = Schedule::new(outlet.source(), deadline.clone(), clock::mono());
    for (chip, options) in drivers(&options, &deadline, outlet.source()) {
        schedule.add(chip, &options)?;
    }
    let mut infos = schedule.infos();
    loop {
        let mut readings = Vec::new();
        let begun = clock::mono();
        while let Some(slot) = schedule.due_before(begun) {
            schedule.poll(slot, clock::stamp(), &mut delay, &mut readings);
            // Between two chips there is time to be stopped.
            smol::future::yield_now().await;
        }
        if !readings.is_empty() {
            match outlet.offer(readings, infos) {
                Ok(unsent) => infos = unsent,
                Err(Closed) => return Ok(()),
            }
        }
        let wait = schedule.next_due().since(clock::mono());
        smol::Timer::after(wait.max(Duration::from_millis(limits::POLL_INTERVAL_MS_MIN))).await;
    }
}

fn drivers(options: &BusOptions, deadline: &Deadline, source: &str) -> Vec<(Box<dyn Chip>, ChipOptions)> {
    let i2c = Port::new(LinuxI2c::new(options.device.clone(), source), deadline.clone());
    let driver = |chip: &ChipOptions| {
        if !options.spi {
            return chip.part.on_i2c(i2c.clone());
        }
        let device = LinuxSpi::new(&options.device, chip.select, source);
        chip.part.on_spi(Port::new(device, deadline.clone()))
    };
    let known = options.chips.iter().take(limits::CHIPS_MAX);
    known.filter_map(|chip| driver(chip).map(|driver| (driver, chip.clone()))).collect()
}
