//! A serial line that several sources ask, one for each device on it: one question and its answer at a time.
//!
//! Every source has its own thread and pace, and waits for its turn at the line, which goes to who has waited longest. A
//! device that does not answer costs its neighbours one time-out per look.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use super::Fault;
use super::serial::{Serial, SerialOptions};

/// One source's share in a line.
pub(super) struct Bus {
    options: SerialOptions,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    turns: Mutex<Turns>,
    over: Condvar,
}

/// A plain lock goes to who is quickest, which is whoever has just given it back.
#[derive(Default)]
struct Turns {
    next: u64,
    now: u64,
    /// None during a turn, and after a fault until somebody opens it again.
    serial: Option<Serial>,
}

/// The lines that are in use. A line belongs to the whole program: its sources know nothing of each other.
static LINES: Mutex<Vec<(SerialOptions, Weak<Line>)>> = Mutex::new(Vec::new());

impl Bus {
    /// Opens the line, unless another source has it open.
    ///
    /// Errors: the system's; another program, or a source with other options, has it.
    pub fn open(options: &SerialOptions) -> io::Result<Self> {
        let bus = Self { options: options.clone(), line: shared(options) };
        bus.with(|_| Ok(())).map_err(|fault| match fault {
            Fault::Io(error) => error,
            _ => io::ErrorKind::Other.into(),
        })?;
        Ok(bus)
    }

    /// Does something with the line while nobody else may.
    pub fn with<T>(&self, act: impl FnOnce(&mut Serial) -> Result<T, Fault>) -> Result<T, Fault> {
        let mut turn = Turn::wait(&self.line);
        let mut serial = match turn.serial.take() {
            Some(serial) => serial,
            None => Serial::open(&self.options)?,
        };
        let done = act(&mut serial);
        turn.serial = Some(serial).filter(|_| !matches!(done, Err(Fault::Io(_))));
        done
    }
}

/// One turn at the line, and what is given back at its end, however it ends.
struct Turn<'a> {
    line: &'a Line,
    serial: Option<Serial>,
}

impl<'a> Turn<'a> {
    fn wait(line: &'a Line) -> Self {
        let mut turns = locked(&line.turns);
        let own = turns.next;
        turns.next += 1;
        let turns = line.over.wait_while(turns, |turns| turns.now != own);
        let serial = turns.unwrap_or_else(PoisonError::into_inner).serial.take();
        Self { line, serial }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = locked(&self.line.turns);
        turns.serial = self.serial.take();
        turns.now += 1;
        self.line.over.notify_all();
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
