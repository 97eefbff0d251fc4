//! A serial line that several sources ask, one for each device on it: one question and its answer at a time.
//!
//! Every source has its own thread and pace, and waits for its turn at the line. A device that does not answer costs its
//! neighbours one time-out per look.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Fault;
use super::serial::{Serial, SerialOptions};

/// One source's share in a line.
pub(super) struct Bus {
    options: SerialOptions,
    line: Arc<Line>,
}

/// None after a fault, until somebody opens it again.
type Line = Mutex<Option<Serial>>;

/// The lines that are in use. A line belongs to the whole program: its sources know nothing of each other.
static LINES: Mutex<Vec<(SerialOptions, Weak<Line>)>> = Mutex::new(Vec::new());

impl Bus {
    /// Opens the line, unless another source has it open.
    ///
    /// Errors: the system's; another program, or a source with other options, has it.
    pub fn open(options: &SerialOptions) -> io::Result<Self> {
        let bus = Self { options: options.clone(), line: shared(options) };
        bus.opened().map(drop)?;
        Ok(bus)
    }

    /// Does something with the line while nobody else may.
    pub fn with<T>(&self, act: impl FnOnce(&mut Serial) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut line = self.opened()?;
        let Some(serial) = line.as_mut() else { return Err(Fault::TimedOut) };
        let done = act(serial);
        if matches!(done, Err(Fault::Io(_))) {
            *line = None;
        }
        done
    }

    fn opened(&self) -> io::Result<MutexGuard<'_, Option<Serial>>> {
        let mut line = locked(&self.line);
        if line.is_none() {
            *line = Some(Serial::open(&self.options)?);
        }
        Ok(line)
    }
}

/// The line of these options, which others may share.
fn shared(options: &SerialOptions) -> Arc<Line> {
    let mut lines = locked(&LINES);
    lines.retain(|(_, line)| line.strong_count() > 0);
    if let Some(line) = lines.iter().find(|(of, _)| of == options).and_then(|(_, line)| line.upgrade()) {
        return line;
    }
    let line = Arc::default();
    lines.push((options.clone(), Arc::downgrade(&line)));
    line
}

/// Whoever panicked with a line in hand left nothing behind that the next question minds.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
