//! Lines of a GPIO chip through the kernel's character device: levels that are told at every edge, pulses that are counted.
//!
//! | mode | channels | readings |
//! |---|---|---|
//! | level | `<line>` | 0 or 1, at every edge with the time of the interrupt, and once per interval |
//! | count | `<line>.count`, `<line>.rate` | pulses since the start, and pulses per second, once per interval |
//!
//! The kernel debounces, stamps and numbers the edges. Where they come faster than they are fetched, those that its
//! buffer lost are counted by their numbers: a meter does not run slow. A chip that is gone is looked for again.

// The library's newest release takes 32-bit musl for one whose times end in 2038, and does not compile for one whose do not.
#[cfg_attr(all(target_env = "musl", target_pointer_width = "32"), path = "absent.rs")]
mod chip;
mod lines;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use smol::Async;
use smol::future::FutureExt as _;

use super::SourceError;
use super::outlet::{Closed, Outlet};
use crate::clock;
use crate::limits;
use crate::observe::{bus as events, emit};
use crate::reading::{Reading, named_enum};
use chip::Request;
pub use chip::info;
use lines::Lines;

/// Lines of one chip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpioOptions {
    /// `/dev/gpiochip0`.
    pub device: PathBuf,
    /// Between two readings of everything.
    pub interval: Duration,
    /// At most [`limits::GPIO_LINES_MAX`].
    pub lines: Vec<LineOptions>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineOptions {
    /// Its channel, or the first part of its channels' names.
    pub name: String,
    /// Its number on the chip.
    pub offset: u32,
    /// What is read of it.
    pub mode: LineMode,
    /// Low counts as 1, and a falling edge as a pulse.
    pub active_low: bool,
    /// A resistor inside the chip.
    pub bias: Bias,
    /// How long a level must last before it counts; zero: as it comes.
    pub debounce: Duration,
}

named_enum! {
    /// What is read of a line.
    LineMode { Level = "level", Count = "count" }
}

named_enum! {
    /// A resistor inside the chip.
    Bias { AsIs = "as_is", PullUp = "pull_up", PullDown = "pull_down", Disabled = "disabled" }
}

/// Reads until the pipeline is gone.
pub(super) async fn run(options: GpioOptions, outlet: Outlet) -> Result<(), SourceError> {
    let mut lines = Lines::new(&options.lines, clock::mono())?;
    let mut told = false;
    loop {
        let error = match watch(&options, &mut lines, &outlet, &mut told).await {
            Ok(Closed) => return Ok(()),
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            emit(&events::BusFailed { source: outlet.source(), device: &options.device, error: &error });
        }
        if outlet.offer(lines.missing(clock::wall()), Vec::new()).is_err() {
            return Ok(());
        }
        smol::Timer::after(options.interval).await;
    }
}

/// Ends with an error when the chip can't be read.
async fn watch(
    options: &GpioOptions,
    lines: &mut Lines,
    outlet: &Outlet,
    told: &mut bool,
) -> io::Result<Closed> {
    let request = Async::new(Request::new(options)?)?;
    *told = false;
    lines.restart();
    let mut infos = lines.infos();
    let mut due = clock::mono();
    loop {
        let mut readings = Vec::new();
        let now = clock::mono();
        if due <= now {
            due = (due + options.interval).max(now);
            lines.tick(clock::stamp(), |offset| request.get_ref().level(offset), &mut readings);
        }
        fetch(request.get_ref(), lines, &mut readings)?;
        if !readings.is_empty() {
            match outlet.offer(readings, infos) {
                Ok(unsent) => infos = unsent,
                Err(Closed) => return Ok(Closed),
            }
        }
        let awaited = async {
            smol::Timer::after(due.since(clock::mono())).await;
            Ok(())
        };
        request.readable().or(awaited).await?;
    }
}

/// Every edge that waits, up to a batch.
fn fetch(request: &Request, lines: &mut Lines, out: &mut Vec<Reading>) -> io::Result<()> {
    while out.len() < limits::SENSOR_BATCH_READINGS_MAX
        && let Some(edge) = request.edge()?
    {
        lines.edge(&edge, out);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::NoData;
    use crate::sensor::{self, SourceOptions};

    pub(super) fn options() -> GpioOptions {
        let line = |name: &str, offset, mode| LineOptions {
            name: name.into(),
            offset,
            mode,
            active_low: false,
            bias: Bias::AsIs,
            debounce: Duration::ZERO,
        };
        let door = LineOptions {
            active_low: true,
            bias: Bias::PullUp,
            debounce: Duration::from_millis(20),
            ..line("door", 5, LineMode::Level)
        };
        GpioOptions {
            device: "/nowhere/gpiochip0".into(),
            interval: Duration::from_millis(20),
            lines: vec![door, line("water", 6, LineMode::Count)],
        }
    }

    #[test]
    fn a_chip_that_is_not_there_is_looked_for_again_and_its_channels_say_so() {
        let (out, batches) = smol::channel::bounded(16);
        let (stopper, stop) = sensor::stopper();
        let handle = sensor::spawn("io", SourceOptions::Gpio(options()), out, stop).unwrap();
        for _ in 0..3 {
            let batch = batches.recv_blocking().unwrap();
            let said: Vec<_> = batch.readings.iter().map(|r| (r.channel.as_str(), r.value)).collect();
            let missing = Err(NoData::ReadFailed);
            assert_eq!(said, [("door", missing), ("water.count", missing), ("water.rate", missing)]);
        }
        drop(stopper);
        handle.join();
    }
}
