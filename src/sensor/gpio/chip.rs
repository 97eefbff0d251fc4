//! A chip and its lines as the kernel gives them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use gpiocdev::line::{Bias as LineBias, EdgeDetection, EdgeKind, EventClock, Value};
use gpiocdev::request::Config;

use super::lines::Edge;
use super::{Bias, GpioOptions, LineMode};
use crate::limits;
use crate::time::Wall;

/// Lines that are ours while this lives. Readable when there is an edge.
pub struct Request(gpiocdev::Request);

impl Request {
    /// Asks the kernel for the lines.
    pub fn new(options: &GpioOptions) -> io::Result<Self> {
        let request = gpiocdev::Request::from_config(config(options)).with_consumer("outpost").request();
        request.map(Self).map_err(io::Error::other)
    }

    /// The next edge that waits. Does not block.
    pub fn edge(&self) -> io::Result<Option<Edge>> {
        if !self.0.has_edge_event().map_err(io::Error::other)? {
            return Ok(None);
        }
        let event = self.0.read_edge_event().map_err(io::Error::other)?;
        Ok(Some(Edge {
            offset: event.offset,
            rising: event.kind == EdgeKind::Rising,
            number: event.line_seqno,
            at: Wall(i64::try_from(event.timestamp_ns / 1000).unwrap_or(i64::MAX)),
        }))
    }

    /// Whether a line is active; `None` where it does not read.
    pub fn level(&self, offset: u32) -> Option<bool> {
        self.0.value(offset).ok().map(|level| level == Value::Active)
    }
}

impl AsFd for Request {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the chip calls itself, and how many lines it has.
pub fn info(device: &Path) -> io::Result<(String, u32)> {
    let info = gpiocdev::Chip::from_path(device).and_then(|chip| chip.info()).map_err(io::Error::other)?;
    Ok((info.label, info.num_lines))
}

/// What the kernel is asked for.
fn config(options: &GpioOptions) -> Config {
    let mut config = Config::default();
    config.on_chip(&options.device).as_input().with_event_clock(EventClock::Realtime);
    for line in options.lines.iter().take(limits::GPIO_LINES_MAX) {
        let edges = match line.mode {
            LineMode::Level => EdgeDetection::BothEdges,
            LineMode::Count => EdgeDetection::RisingEdge,
        };
        config.with_line(line.offset).with_edge_detection(edges);
        if line.active_low {
            config.as_active_low();
        }
        match line.bias {
            Bias::AsIs => {}
            Bias::PullUp => drop(config.with_bias(LineBias::PullUp)),
            Bias::PullDown => drop(config.with_bias(LineBias::PullDown)),
            Bias::Disabled => drop(config.with_bias(LineBias::Disabled)),
        }
        if !line.debounce.is_zero() {
            config.with_debounce_period(line.debounce);
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::options;
    use super::*;

    #[test]
    fn the_kernel_is_asked_for_what_each_line_needs() {
        let config = config(&options());
        let door = config.line_config(5).expect("line 5");
        assert_eq!(
            (door.edge_detection, door.bias),
            (Some(EdgeDetection::BothEdges), Some(LineBias::PullUp))
        );
        assert_eq!((door.active_low, door.debounce_period), (true, Some(Duration::from_millis(20))));
        assert_eq!(door.event_clock, Some(EventClock::Realtime));
        let water = config.line_config(6).expect("line 6");
        assert_eq!((water.edge_detection, water.bias), (Some(EdgeDetection::RisingEdge), None));
        assert_eq!((water.active_low, water.debounce_period), (false, None));
    }
}
