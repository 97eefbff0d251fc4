//! When the model waits: the machine is hot, or other programs need its processors.
//!
//! Looks at the hottest thermal zone and at the share of the processors that everybody but this process and its workers uses: the
//! model's own work must not make it stop. Once paused it goes on only clearly below the bound, so that it does not flutter. Alarms are
//! exempt: their digest takes a moment, and it is what the gateway is for.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::accel::worker;
use crate::limits;
use crate::time::Mono;

/// Bounds above which the model pauses; none: it does not look.
#[derive(Debug, Clone, PartialEq)]
pub struct GovernorOptions {
    /// Degrees Celsius of the hottest thermal zone.
    pub temperature_max_celsius: Option<f64>,
    /// Share of the processors used by other programs, above 0 and below 1.
    pub load_max: Option<f64>,
    /// The directory under which `proc` and `sys` are.
    pub root: PathBuf,
}

impl Default for GovernorOptions {
    /// Never pauses.
    fn default() -> Self {
        Self { temperature_max_celsius: None, load_max: None, root: "/".into() }
    }
}

/// Why the model waits.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Pause {
    /// The machine is too hot.
    #[error("the machine is at {celsius:.0} °C")]
    Hot {
        /// The hottest zone.
        celsius: f64,
    },
    /// Other programs need the processors.
    #[error("other programs use {:.0} % of the processors", share * 100.0)]
    Busy {
        /// Their share.
        share: f64,
    },
}

/// Looks at the machine at most once per [`limits::GOVERNOR_LOOK_MS`].
#[derive(Debug)]
pub struct Governor {
    options: GovernorOptions,
    paused: Option<Pause>,
    looked: Option<Mono>,
    ticks: Option<Ticks>,
}

/// Processor time in ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    total: u64,
    own: u64,
}

impl Governor {
    /// Begins unpaused.
    pub fn new(options: GovernorOptions) -> Self {
        Self { options, paused: None, looked: None, ticks: None }
    }

    /// Whether it ever pauses.
    pub fn is_on(&self) -> bool {
        self.options.temperature_max_celsius.is_some() || self.options.load_max.is_some()
    }

    /// Why the model should wait at `now`, if it should.
    pub fn look(&mut self, now: Mono) -> Option<Pause> {
        let recently = self.looked.is_some_and(|then| now.since(then) < LOOK_EVERY);
        if !self.is_on() || recently {
            return self.paused;
        }
        self.looked = Some(now);
        let celsius = self.options.temperature_max_celsius.and_then(|_| self.hottest_celsius());
        let share = self.options.load_max.and_then(|_| self.others_share());
        self.paused = decide(self.paused, celsius, share, &self.options);
        self.paused
    }

    fn hottest_celsius(&self) -> Option<f64> {
        let zones = fs::read_dir(self.options.root.join("sys/class/thermal")).ok()?;
        let names = zones.flatten().filter_map(|zone| zone.file_name().into_string().ok());
        let zones = names.filter(|name| name.starts_with("thermal_zone")).take(limits::HOST_ENTRIES_MAX);
        let celsius = zones.filter_map(|zone| {
            let milli: f64 = self.text(&format!("sys/class/thermal/{zone}/temp"))?.trim().parse().ok()?;
            // A zone without a sensor shows what it was set to.
            Some(milli / 1000.0).filter(|c| PLAUSIBLE_CELSIUS.contains(c))
        });
        celsius.reduce(f64::max)
    }

    /// Since the last look; none at the first one.
    fn others_share(&mut self) -> Option<f64> {
        let mut now = ticks(&self.text("proc/stat")?, &self.text("proc/self/stat")?)?;
        // One that has just ended is nobody's for one look.
        let workers = worker::pids().into_iter().filter_map(|pid| self.text(&format!("proc/{pid}/stat")));
        now.own = workers.filter_map(|stat| used(&stat)).fold(now.own, u64::saturating_add);
        let before = self.ticks.replace(now)?;
        let total = now.total.checked_sub(before.total).filter(|total| *total > 0)?;
        let others = now.busy.saturating_sub(before.busy).saturating_sub(now.own.saturating_sub(before.own));
        Some((others as f64 / total as f64).min(1.0))
    }

    fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let file = fs::File::open(self.options.root.join(path)).ok()?;
        file.take(limits::HOST_FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A figure that can't be read pauses nothing and ends a pause.
fn decide(
    before: Option<Pause>,
    celsius: Option<f64>,
    share: Option<f64>,
    options: &GovernorOptions,
) -> Option<Pause> {
    let was_hot = matches!(before, Some(Pause::Hot { .. }));
    let was_busy = matches!(before, Some(Pause::Busy { .. }));
    let hot = celsius
        .zip(options.temperature_max_celsius)
        .is_some_and(|(celsius, max)| celsius > if was_hot { max - COOLER_CELSIUS } else { max });
    let busy = share
        .zip(options.load_max)
        .is_some_and(|(share, max)| share > if was_busy { max - CALMER_SHARE } else { max });
    match (celsius, share) {
        (Some(celsius), _) if hot => Some(Pause::Hot { celsius }),
        (_, Some(share)) if busy => Some(Pause::Busy { share }),
        _ => None,
    }
}

fn ticks(stat: &str, own: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal; guest time is inside user time already.
    let all: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|t| t.parse().ok()).collect();
    let total = all.iter().try_fold(0_u64, |sum, t| sum.checked_add(*t))?;
    let idle = all.get(3)?.checked_add(all.get(4).copied().unwrap_or(0))?;
    Some(Ticks { busy: total.checked_sub(idle)?, total, own: used(own)? })
}

/// Ticks that a process has used, as its `stat` says.
fn used(stat: &str) -> Option<u64> {
    // The program's name stands in brackets and may hold anything; utime and stime are the 12th and 13th field behind it.
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_ascii_whitespace().skip(11).map_while(|t| t.parse::<u64>().ok());
    fields.next()?.checked_add(fields.next()?)
}

const LOOK_EVERY: Duration = Duration::from_millis(limits::GOVERNOR_LOOK_MS);
/// How far below its bound a temperature must fall before the model goes on.
const COOLER_CELSIUS: f64 = 5.0;
/// How far below its bound the load must fall.
const CALMER_SHARE: f64 = 0.1;
const PLAUSIBLE_CELSIUS: std::ops::Range<f64> = -40.0..150.0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn at(s: u64) -> Mono {
        Mono(s * 10_000_000)
    }

    #[test]
    fn it_pauses_above_the_temperature_and_goes_on_clearly_below() {
        let dir = tempfile::tempdir().unwrap();
        let options = GovernorOptions {
            temperature_max_celsius: Some(80.0),
            root: dir.path().into(),
            ..GovernorOptions::default()
        };
        let mut governor = Governor::new(options);
        put(dir.path(), "sys/class/thermal/thermal_zone0/temp", "30000\n");
        put(dir.path(), "sys/class/thermal/cooling_device0/temp", "999\n");
        let mut paused = |s: u64, milli: &str| {
            put(dir.path(), "sys/class/thermal/thermal_zone7/temp", milli);
            governor.look(at(s)).is_some()
        };
        let said = [
            paused(1, "80000"),
            paused(2, "80100"),
            paused(3, "76000"),
            paused(4, "74900"),
            paused(5, "79000"),
            paused(6, "999000"),
        ];
        assert_eq!(said, [false, true, true, false, false, false]);
        assert!(paused(7, "81000"));
        assert!(!paused(8, "no number"), "what can't be read pauses nothing");
    }

    #[test]
    fn its_own_work_does_not_make_it_pause_and_that_of_others_does() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            GovernorOptions { load_max: Some(0.5), root: dir.path().into(), ..GovernorOptions::default() };
        let mut governor = Governor::new(options);
        let mut paused = |s: u64, busy: u64, total: u64, own: u64| {
            put(dir.path(), "proc/stat", &format!("cpu  {busy} 0 0 {} 0 0 0 0 9 9\ncpu0 1\n", total - busy));
            let before = "1 (out) post) S 1 1 1 0 -1 0 0 0 0 0";
            put(dir.path(), "proc/self/stat", &format!("{before} {own} 0 0 0 20 0"));
            governor.look(at(s))
        };
        assert_eq!(paused(1, 0, 0, 0), None, "the first look has nothing to compare with");
        assert_eq!(paused(2, 100, 100, 95), None, "all of it is ours");
        assert_eq!(paused(3, 170, 200, 105), Some(Pause::Busy { share: 0.6 }));
        assert!(paused(4, 215, 300, 105).is_some(), "45 % is not clearly below");
        assert_eq!(paused(5, 245, 400, 105), None);
    }

    #[test]
    fn it_looks_once_a_while_and_never_when_it_is_off() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "sys/class/thermal/thermal_zone0/temp", "90000\n");
        let on = GovernorOptions {
            temperature_max_celsius: Some(80.0),
            root: dir.path().into(),
            ..GovernorOptions::default()
        };
        let mut governor = Governor::new(on);
        assert!(governor.look(Mono(0)).is_some());
        put(dir.path(), "sys/class/thermal/thermal_zone0/temp", "20000\n");
        assert!(governor.look(Mono(1000)).is_some(), "it has just looked");
        assert!(governor.look(at(1)).is_none());
        assert!(!Governor::new(GovernorOptions::default()).is_on());
    }
}
