//! The course of a fast IIO device, such as an accelerometer at some kHz, from its buffer in the kernel.
//!
//! The device's folder says which elements a sample has (`scan_elements`), the character device gives samples. Elements
//! that nobody enabled are enabled, a timestamp where there is one among them; without it a sample's time is reckoned from
//! the rate. What the pipeline can't take is dropped and counted; what the kernel's buffer can't is lost there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smol::Async;

use super::iio::{Conversion, DEVICES, device_name};
use super::scan::{Element, Layout};
use super::{number, part};
use crate::clock;
use crate::limits;
use crate::observe::{bus as events, emit};
use crate::reading::{ChannelId, ChannelInfo, NoData, Reading, value_from_f64};
use crate::sensor::SourceError;
use crate::sensor::host::files::Root;
use crate::sensor::names;
use crate::sensor::outlet::{Closed, Outlet};
use crate::time::Wall;

/// One device to be read from its buffer.
#[derive(Debug, Clone, PartialEq)]
pub struct BufferOptions {
    /// First part of the channels' names.
    pub prefix: String,
    /// The device as the kernel numbers it, such as `iio:device0`.
    pub device: String,
    /// Samples per second to ask the driver for; none: what it is set to.
    pub rate_hz: Option<f64>,
    /// Where `sys` and `dev` are; `/` but in tests and containers.
    pub root: PathBuf,
}

/// Reads until the pipeline is gone; a device that goes is looked for again.
pub(in crate::sensor) async fn run(options: BufferOptions, outlet: Outlet) -> Result<(), SourceError> {
    let mut channels: Vec<ChannelId> = Vec::new();
    let mut told = false;
    loop {
        let error = match stream(&options, &outlet, &mut channels, &mut told).await {
            Ok(Closed) => return Ok(()),
            Err(error) => error,
        };
        if !std::mem::replace(&mut told, true) {
            let device = &options.node();
            emit(&events::BusFailed { source: outlet.source(), device, error: &error });
        }
        let at = clock::wall();
        let missing = |channel: &ChannelId| Reading::new(channel.clone(), at, Err(NoData::ReadFailed));
        if let Err(Closed) = outlet.offer(channels.iter().map(missing).collect(), Vec::new()) {
            return Ok(());
        }
        smol::Timer::after(Duration::from_secs(limits::IIO_RETRY_S)).await;
    }
}

async fn stream(
    options: &BufferOptions,
    outlet: &Outlet,
    channels: &mut Vec<ChannelId>,
    told: &mut bool,
) -> io::Result<Closed> {
    let scan = Scan::set_up(options)?;
    *channels = scan.channels.iter().map(|(info, _)| info.id.clone()).collect();
    let node = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(options.node())?;
    let node = Async::new(node)?;
    let mut infos = scan.channels.iter().map(|(info, _)| info.clone()).collect();
    let mut bytes = vec![0; scan.layout.bytes() * scan.samples_max()];
    let mut filled = 0;
    loop {
        let read = node.read_with(|mut file: &File| file.read(&mut bytes[filled..])).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *told = false;
        filled += read;
        let whole = filled - filled % scan.layout.bytes();
        let readings = scan.readings(&bytes[..whole], clock::wall());
        bytes.copy_within(whole..filled, 0);
        filled -= whole;
        match outlet.offer(readings, infos) {
            Ok(unsent) => infos = unsent,
            Err(Closed) => return Ok(Closed),
        }
    }
}

impl BufferOptions {
    fn node(&self) -> PathBuf {
        self.root.join("dev").join(&self.device)
    }

    fn dir(&self) -> String {
        format!("{DEVICES}/{}", self.device)
    }
}

/// What the device gives.
struct Scan {
    layout: Layout,
    /// The channels of the elements, in order; a timestamp is the last element and has none.
    channels: Vec<(ChannelInfo, Conversion)>,
    has_time: bool,
    /// Between two samples, in microseconds; 0 if the driver does not say.
    interval_us: f64,
}

impl Scan {
    /// Enables what is needed and finds out what a sample looks like. The buffer is off meanwhile: only then can it change.
    fn set_up(options: &BufferOptions) -> io::Result<Self> {
        let (tree, dir) = (Root::new(options.root.clone()), options.dir());
        let at = |file: &str| options.root.join(&dir).join(file);
        if !at("").is_dir() {
            return Err(io::ErrorKind::NotFound.into());
        }
        write(&at("buffer/enable"), "0")?;
        if let Some(rate) = options.rate_hz {
            write(&at("sampling_frequency"), &format!("{rate}"))?;
        }
        let rate_hz = number(&tree, &format!("{dir}/sampling_frequency")).filter(|rate| *rate > 0.0);
        let mut elements = elements(&tree, &dir);
        if elements.is_empty() {
            return Err(io::Error::other("the device has no scan elements: it can't be read from a buffer"));
        }
        let called = device_name(&tree, &options.device);
        let mut channels = Vec::new();
        // A kind that nobody knows has no unit, so it stays off.
        elements.retain(|element| match channel(&tree, &dir, &options.prefix, &called, &element.name) {
            Some(channel) => {
                channels.push(channel);
                true
            }
            None => element.name == TIMESTAMP,
        });
        for element in &elements {
            write(&at(&format!("scan_elements/in_{}_en", element.name)), "1")?;
        }
        let samples = rate_hz.map_or(1.0, |rate| rate * WATERMARK_S).ceil().clamp(1.0, SAMPLES_MAX as f64);
        // Drivers without a watermark wake the reader as they like.
        let _ = write(&at("buffer/length"), &(SAMPLES_MAX * 2).to_string());
        let _ = write(&at("buffer/watermark"), &format!("{samples}"));
        if let Some(trigger) = trigger(&tree, options) {
            write(&at("trigger/current_trigger"), &trigger)?;
        }
        write(&at("buffer/enable"), "1")?;
        Ok(Self {
            has_time: elements.iter().any(|element| element.name == TIMESTAMP),
            layout: Layout::new(elements.iter().map(|element| element.stored)),
            channels,
            interval_us: rate_hz.map_or(0.0, |rate| 1e6 / rate),
        })
    }

    /// Samples that are taken at once at most, so that a batch stays within its bound.
    fn samples_max(&self) -> usize {
        (limits::SENSOR_BATCH_READINGS_MAX / self.channels.len().max(1)).max(1)
    }

    /// The readings of whole samples, of which the last was taken about `now`.
    fn readings(&self, bytes: &[u8], now: Wall) -> Vec<Reading> {
        let samples = bytes.chunks_exact(self.layout.bytes().max(1));
        let count = samples.len();
        let mut readings = Vec::with_capacity(count * self.channels.len());
        for (index, sample) in samples.enumerate() {
            let numbers: Vec<i64> = self.layout.read(sample).collect();
            let stamped = numbers.last().filter(|_| self.has_time).map(|ns| Wall(ns / 1000));
            let reckoned = now.0.saturating_sub(((count - 1 - index) as f64 * self.interval_us) as i64);
            let at = stamped.unwrap_or(Wall(reckoned));
            readings.extend(self.channels.iter().zip(&numbers).map(|((info, conversion), digits)| {
                Reading::new(info.id.clone(), at, value_from_f64(conversion.value(*digits as f64)))
            }));
        }
        readings
    }
}

/// The device's own trigger, by the name that drivers give it (`adxl345-dev0`), where one is needed and none is set.
fn trigger(tree: &Root, options: &BufferOptions) -> Option<String> {
    let dir = options.dir();
    tree.text(&format!("{dir}/trigger/current_trigger")).filter(|set| set.trim().is_empty())?;
    let device = tree.text(&format!("{dir}/name"))?;
    let own =
        format!("{}-dev{}", device.trim(), options.device.trim_start_matches(|c: char| !c.is_ascii_digit()));
    let triggers = tree.entries(DEVICES).into_iter().filter(|name| name.starts_with("trigger"));
    triggers
        .filter_map(|trigger| tree.text(&format!("{DEVICES}/{trigger}/name")))
        .find(|name| name.trim() == own)
}

/// One element of a sample as the folder describes it.
struct Described {
    index: u32,
    name: String,
    stored: Element,
}

/// In the order of their indices, the timestamp last, where the kernel puts it.
fn elements(tree: &Root, dir: &str) -> Vec<Described> {
    let scan = format!("{dir}/scan_elements");
    let files = tree.entries(&scan).into_iter();
    let described = files.filter_map(|file| {
        let name = file.strip_prefix("in_")?.strip_suffix("_en")?.to_owned();
        let stored = Element::parse(&tree.text(&format!("{scan}/in_{name}_type"))?)?;
        let index = number(tree, &format!("{scan}/in_{name}_index"))?;
        Some(Described { index: index as u32, name, stored })
    });
    let mut elements: Vec<_> = described.collect();
    elements.sort_by_key(|element| (element.name == TIMESTAMP, element.index));
    elements
}

fn channel(
    tree: &Root,
    dir: &str,
    prefix: &str,
    called: &str,
    name: &str,
) -> Option<(ChannelInfo, Conversion)> {
    let conversion = Conversion::of(tree, dir, name)?;
    let id = names::channel(&format!("{prefix}.{called}.{}", part(name))).ok()?;
    Some((ChannelInfo::given(&id, conversion.quantity, conversion.unit), conversion))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

const TIMESTAMP: &str = "timestamp";
/// How much the kernel collects before it wakes the reader, in seconds.
const WATERMARK_S: f64 = 0.05;
/// Most samples that the reader is woken for; the kernel's buffer holds twice as many.
const SAMPLES_MAX: usize = 4096;
