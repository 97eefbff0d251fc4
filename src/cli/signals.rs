//! SIGTERM and SIGINT as a message: the seat ends in good order; a second signal ends the process at once. SIGHUP asks for
//! the configuration to be read again.

use std::io;

use async_signal::{Signal, Signals};
use smol::channel::Receiver;
use smol::stream::StreamExt as _;

/// A channel that says something at the first signal. Listens on a thread of its own.
pub(super) fn stop() -> io::Result<Receiver<()>> {
    listen(&[Signal::Term, Signal::Int], || ())
}

/// The same, and at every SIGHUP `reload` is called, on that thread: it may block.
#[cfg(feature = "gateway")]
pub(super) fn stop_and(reload: impl FnMut() + Send + 'static) -> io::Result<Receiver<()>> {
    listen(&[Signal::Term, Signal::Int, Signal::Hup], reload)
}

fn listen(which: &[Signal], mut reload: impl FnMut() + Send + 'static) -> io::Result<Receiver<()>> {
    let mut signals = Signals::new(which)?;
    let (told, stop) = smol::channel::bounded(1);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        smol::block_on(async {
            while let Some(Ok(Signal::Hup)) = signals.next().await {
                reload();
            }
            // A seat that is ending by itself no longer listens.
            let _ = told.send(()).await;
            // A SIGHUP that came with it, in whatever order they are told, is no second signal to end.
            while let Some(Ok(Signal::Hup)) = signals.next().await {}
            std::process::exit(i32::from(super::exit::FAILURE));
        });
    })?;
    Ok(stop)
}
