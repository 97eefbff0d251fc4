//! The main job on one machine: broker, certificates, both seats, a plant with faults, a line that is cut.
//!
//! The seats are processes of this same executable with configuration files of their own, so what is seen is what an
//! installation does. Broker and line live here.

pub mod broker;
pub mod pki;
pub mod plant;
pub mod proxy;
pub mod report;
pub mod script;
pub mod seats;
pub mod view;

pub use crate::http::fetch;

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use smol::LocalExecutor;
use smol::channel::Receiver;

use crate::digest::Lang;
use report::Report;

/// What to show, and for how long.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// End after so long; without it the page stays up until the stop.
    pub length: Option<Duration>,
    /// How long the line is cut.
    pub cut: Duration,
    /// Language of the digests.
    pub lang: Lang,
    /// Folder to keep everything in; a temporary one that is removed at the end where there is none.
    pub dir: Option<PathBuf>,
}

/// Runs the demo; `done` gets the report as soon as it is made, while the page may stay up. Blocks until the length is
/// over or `stop` says something.
///
/// Errors are the machine's: no port, no disk, a seat that does not start. What the demo finds wrong is in the report.
pub fn run(options: &DemoOptions, stop: Receiver<()>, done: impl FnOnce(&Report)) -> io::Result<Report> {
    let dir = match &options.dir {
        // The seats are told of it in files of their own, from which a relative path would count.
        Some(dir) => std::path::absolute(dir)?,
        None => std::env::temp_dir().join(format!("outpost-demo-{}", std::process::id())),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    let executor = Rc::new(LocalExecutor::new());
    let result = smol::block_on(executor.run(script::play(&executor, options, &dir, stop, done)));
    if options.dir.is_none() {
        std::fs::remove_dir_all(&dir)?;
    }
    result
}
