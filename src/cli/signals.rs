//! SIGTERM and SIGINT as a message: the seat ends in good order; a second signal ends the process at once.

use std::io;

use async_signal::{Signal, Signals};
use smol::channel::Receiver;
use smol::stream::StreamExt as _;

/// A channel that says something at the first signal. Listens on a thread of its own.
pub(super) fn stop() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([Signal::Term, Signal::Int])?;
    let (told, stop) = smol::channel::bounded(1);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        smol::block_on(async {
            signals.next().await;
            // A seat that is ending by itself no longer listens.
            let _ = told.send(()).await;
            signals.next().await;
            std::process::exit(i32::from(super::exit::FAILURE));
        });
    })?;
    Ok(stop)
}
