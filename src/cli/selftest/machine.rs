//! What depends on processor, C library and file system: unwinding, dates, arithmetic, models, a driver.

use std::fs::{File, FileTimes};
use std::panic;
use std::path::Path;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};

use super::{Finding, Ground};
use crate::glm::{kernels, student};
use crate::infer::{Bundle, Model, Onnx};
use crate::sensor::chips;
use crate::time::Wall;

/// Spool and model survive panics of what they stand on only where the unwinder works.
pub(super) fn unwinding(_: &Ground) -> Finding {
    let ended = thread::spawn(|| panic::resume_unwind(Box::new(7))).join();
    ensure!(
        ended.is_err_and(|what| what.downcast_ref() == Some(&7)),
        "a panic did not reach its thread's end"
    );
    Ok("a panic ends its thread alone".into())
}

/// 2040-02-29T12:00:00Z, beyond what 32 bits count to.
const LEAP_DAY_2040_SECS: u64 = 2_214_129_600;

/// Formats a date that 32 bits cannot hold, and sends it through C library, kernel and file system.
pub(super) fn dates(ground: &Ground) -> Finding {
    let text = Wall::from_secs(LEAP_DAY_2040_SECS as i64).rfc3339();
    ensure!(text == "2040-02-29T12:00:00.000Z", "29 February 2040 is written {text}");
    // Deprecated on musl, for it is to have 64 bits everywhere, which is what is asked here.
    #[allow(deprecated)]
    let bits = libc::time_t::BITS;
    ensure!(
        bits == 64,
        "the C library counts seconds in {bits} bits: take a -musl program of CROSS_WAY=debian cross/build.sh"
    );
    let path = ground.dir.join("of-2040");
    let at = UNIX_EPOCH + Duration::from_secs(LEAP_DAY_2040_SECS);
    let found = File::create(&path)
        .and_then(|file| file.set_times(FileTimes::new().set_modified(at)))
        .and_then(|()| path.metadata()?.modified())
        .with_context(|| format!("cannot date {}", path.display()))?;
    let off = found.duration_since(at).or_else(|_| at.duration_since(found)).unwrap_or_default();
    ensure!(off.is_zero(), "a file of 2040 is dated {} s off: its file system ends in 2038", off.as_secs());
    Ok(format!("{text} formatted and kept by a file"))
}

/// The kernels that would be chosen here, and those that would not.
pub(super) fn kernels(_: &Ground) -> Finding {
    let names: Vec<_> = kernels::selftest()?.iter().map(|isa| isa.name()).collect();
    Ok(format!("{} multiply alike", names.join(", ")))
}

/// The language model inside the program.
pub(super) fn student(_: &Ground) -> Finding {
    Ok(format!("{} tokens as the reference has them", student::selftest()?))
}

/// The small model inside the program, through tract as in service; one that is off its golden vectors is not loaded.
pub(super) fn model(_: &Ground) -> Finding {
    let model = Model::load("cold_room", Bundle::open(Path::new("cold_room"))?, &[Box::new(Onnx)], true)?;
    let serving = model.serving().next().context("no backend serves it")?;
    Ok(format!("{} is off by {} from its golden vectors", serving.file, serving.golden_error))
}

/// A driver on a scripted bus.
pub(super) fn sensor(_: &Ground) -> Finding {
    let (celsius, percent) = chips::selftest()?;
    ensure!(
        (celsius - 25.0).abs() < 0.05 && (percent - 50.0).abs() < 0.05,
        "an SHT4x of 25 °C and 50 % was read as {celsius} °C and {percent} %"
    );
    Ok(format!("an SHT4x says {celsius:.1} °C and {percent:.1} %"))
}
