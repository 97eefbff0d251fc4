//! Logs: lines into counts per template, and into news when there is a template that was never seen before.
//!
//! | channel | what it counts, per window of [`LogsOptions::every`] |
//! |---|---|
//! | `<source>.lines` | lines |
//! | `<source>.new` | templates that began |
//! | `<source>.t<hex>` | lines of one template; its text is the channel's label |
//! | `<source>.other` | lines of templates beyond [`crate::limits::TEMPLATE_CHANNELS_MAX`] |
//!
//! Times are those of the count, not those that lines claim: a wrong clock in a log can disturb nothing.
//!
//! **What is counted how often.** Where each file is read on is written down when what came of the counts has been committed
//! to the spool: the counts themselves where single readings are kept (`raw.keep`), else the summary that they went into. So
//! no line is lost, and none is counted twice after an orderly stop; after a crash the lines of the last summary, or count, may
//! be counted once more. The journal is read on behind the entry that was noted likewise, from the second start on. What comes
//! over a socket while nobody listens is not heard.

mod book;
mod files;
mod journal;
mod memory;
mod serve;
mod syslog;
mod tail;
#[cfg(test)]
mod tests;

pub(in crate::sensor) use journal::listen;
pub(super) use serve::Listener;
pub use syslog::{Syslog, SyslogError, syslog};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::SourceError;
use super::lines::{Piece, Splitter};
use super::outlet::Outlet;
use crate::clock;
use crate::time::Mono;
use book::Book;
use files::{Files, Looked};
use memory::{Keeper, Reached};

/// Which log, and how it is counted.
#[derive(Debug, Clone, PartialEq)]
pub struct LogsOptions {
    /// Where lines come from.
    pub input: LogInput,
    /// Length of a window.
    pub every: Duration,
    /// Time in which new templates are no news, over all runs.
    pub learn: Duration,
    /// Folder for templates and places; nothing is kept without one.
    pub state_dir: Option<PathBuf>,
}

/// Where log lines come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogInput {
    /// Files, and patterns of files with `*` and `?` in the last part of the path.
    Files(Vec<PathBuf>),
    /// Syslog (RFC 5424, RFC 3164) over UDP, TCP, or both.
    Syslog {
        /// Where datagrams come in.
        udp: Option<SocketAddr>,
        /// Where connections come in.
        tcp: Option<SocketAddr>,
        /// Whether others than this machine may send. Syslog is neither authenticated nor encrypted.
        allow_remote: bool,
    },
    /// What this program, started with its arguments, writes: `journalctl -f -o json`. It is told from where on.
    Journal(Vec<String>),
}

impl LogInput {
    pub(super) fn place(&self) -> String {
        match self {
            LogInput::Files(paths) => {
                paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
            }
            LogInput::Syslog { udp, tcp, .. } => {
                let named = [("udp", udp), ("tcp", tcp)];
                let given = named.iter().filter_map(|(name, at)| Some(format!("{name} {}", at.as_ref()?)));
                given.collect::<Vec<_>>().join(", ")
            }
            LogInput::Journal(command) => command.join(" "),
        }
    }
}

/// Follows the files of `options` until the pipeline is gone.
pub(super) async fn follow(
    options: LogsOptions,
    patterns: Vec<PathBuf>,
    outlet: Outlet,
) -> Result<(), SourceError> {
    let (mut keeper, memory) = Keeper::open(&options, outlet.source());
    let mut book = Book::new(&options, &memory.tally, &outlet);
    let mut is_first_look = memory.places.is_none();
    let mut files = Files::new(patterns, memory.places);
    let (mut scan_at, mut close_at) = (clock::mono(), clock::mono() + options.every);
    loop {
        let mut looked = Looked::default();
        if clock::mono() >= scan_at {
            files.scan(&mut looked);
            if std::mem::take(&mut is_first_look) {
                keeper.begin(files.places());
            }
            scan_at = clock::mono() + SCAN;
        }
        files.poll(&mut looked, &mut |piece| book.piece(piece));
        looked.gaps.iter().for_each(|path| book.gap(path));
        book.left_out(looked.left_out);
        looked.failed.iter().for_each(|(path, error)| book.unreadable(path, error));
        keeper.look();
        if clock::mono() >= close_at {
            close_at = next(close_at, options.every);
            let receipt = keeper.promise(Some(Reached::Files(files.places())), book.memory_if_changed());
            let handover = book.close(&outlet, receipt);
            if outlet.hand_over(handover).await.is_err() {
                return Ok(());
            }
        }
        if looked.more {
            smol::future::yield_now().await;
        } else {
            smol::Timer::after(LOOK.min(close_at.since(clock::mono()))).await;
        }
    }
}

/// Between two looks at files that say nothing.
const LOOK: Duration = Duration::from_millis(200);
/// Between two looks for files that are new.
const SCAN: Duration = Duration::from_secs(1);

/// The end of the next window; those that were slept through are left out.
fn next(due: Mono, every: Duration) -> Mono {
    let now = clock::mono();
    let next = due + every;
    if next > now { next } else { now + every }
}
