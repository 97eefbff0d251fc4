//! The sockets: bind, accept, read, and hand on.
//!
//! One thread serves every connection of a source, each as a task on one local executor, with one parser among them.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use std::{fs, io};

use smol::future::{or, yield_now};
use smol::io::{AsyncRead, AsyncReadExt};
use smol::{Async, LocalExecutor, Task, Timer, Unblock};

use super::splitter::{Piece, Splitter};
use super::{Input, LineParser, LinesOptions, Malformed};
use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::reading::{ChannelInfo, Reading};
use crate::sensor::SourceError;
use crate::sensor::malformed::MalformedLog;
use crate::sensor::outlet::{Closed, Outlet};
use crate::time::{Mono, Wall};

/// A bound source of lines, ready to serve.
pub(in crate::sensor) struct Server {
    listener: Listener,
    options: LinesOptions,
}

enum Listener {
    Stdin,
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, SocketAddr),
}

impl Server {
    /// Binds the socket, if there is one to bind.
    pub(in crate::sensor) fn bind(options: LinesOptions) -> Result<Self, SourceError> {
        let listener = match &options.input {
            Input::Stdin => Listener::Stdin,
            Input::Unix(path) => {
                let listen = |source| SourceError::Listen { place: path.display().to_string(), source };
                let (listener, file) = bind_private(path).map_err(listen)?;
                Listener::Unix(listener, file)
            }
            Input::Tcp(address) => {
                let (listener, bound) = bind_tcp(*address, options.allow_remote)?;
                Listener::Tcp(listener, bound)
            }
        };
        Ok(Self { listener, options })
    }

    pub(in crate::sensor) fn place(&self) -> String {
        match &self.listener {
            Listener::Stdin => "stdin".into(),
            Listener::Unix(_, file) => file.0.display().to_string(),
            Listener::Tcp(_, address) => address.to_string(),
        }
    }

    pub(in crate::sensor) fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(_, address) => Some(*address),
            Listener::Stdin | Listener::Unix(..) => None,
        }
    }

    /// Serves until the pipeline is gone, or standard input ends.
    pub(in crate::sensor) async fn run(self, outlet: Outlet) -> Result<(), SourceError> {
        let place = self.place();
        let fatal = |source| SourceError::Listen { place, source };
        let parser = LineParser::new(self.options.precision);
        let malformed = MalformedLog::new(outlet.source());
        let shared = Rc::new(Shared { intake: RefCell::new(Intake { parser, malformed }), outlet });
        match self.listener {
            Listener::Stdin => {
                let stdin = Unblock::with_capacity(limits::LINE_BYTES_MAX, io::stdin());
                if pump(stdin, Rc::clone(&shared), Rc::default()).await.is_ok() {
                    // The pipeline may be gone by now; then nobody needs to know.
                    let _ = shared.outlet.send(Vec::new(), Vec::new(), true).await;
                }
            }
            Listener::Unix(listener, _file) => {
                let listener = Async::new(listener).map_err(fatal)?;
                let accept = async || listener.accept().await.map(|(stream, _)| stream);
                let each = |stream, idle| pump(stream, Rc::clone(&shared), idle);
                serve(accept, &shared.outlet, each).await;
            }
            Listener::Tcp(listener, _) => {
                let listener = Async::new(listener).map_err(fatal)?;
                let accept = async || listener.accept().await.map(|(stream, _)| stream);
                let each = |stream, idle| pump(stream, Rc::clone(&shared), idle);
                serve(accept, &shared.outlet, each).await;
            }
        }
        Ok(())
    }
}

/// A listener on `address`, which others may reach only if that is allowed.
pub(in crate::sensor) fn bind_tcp(
    address: SocketAddr,
    allow_remote: bool,
) -> Result<(TcpListener, SocketAddr), SourceError> {
    if !address.ip().is_loopback() && !allow_remote {
        return Err(SourceError::NotLoopback { address });
    }
    let listen = |source| SourceError::Listen { place: address.to_string(), source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    Ok((listener, bound))
}

/// Removes the socket when the source ends.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have removed it; the next start replaces what is left.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds a Unix socket of mode 0600 at `path`, in place of one that nobody listens on.
///
/// The socket is made in a private directory and moved to its place, so that at no moment another user could connect.
fn bind_private(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    let mut nest = path.as_os_str().to_owned();
    nest.push(format!(".{}", std::process::id()));
    let nest = PathBuf::from(nest);
    fs::DirBuilder::new().mode(0o700).create(&nest)?;
    let born = nest.join("s");
    let bound = UnixListener::bind(&born).and_then(|listener| {
        fs::set_permissions(&born, fs::Permissions::from_mode(0o600))?;
        fs::rename(&born, path)?;
        Ok((listener, SocketFile(path.to_owned())))
    });
    // On failure the socket may still lie there; on success there is only the directory.
    let _ = fs::remove_file(&born);
    let _ = fs::remove_dir(&nest);
    bound
}

/// What the connections of one source share.
struct Shared {
    intake: RefCell<Intake>,
    outlet: Outlet,
}

struct Intake {
    parser: LineParser,
    malformed: MalformedLog,
}

/// A connection being served.
struct Served {
    task: Task<Result<(), Closed>>,
    idle_since: Rc<Cell<Idle>>,
}

/// Since when nothing was heard on a connection; `None` while there is anything of it to hand on.
pub(in crate::sensor) type Idle = Option<Mono>;

/// The connection that gives way when all places are taken: the one that has been idle longest, if that is long enough.
/// A peer that vanished without a word would hold its place for ever.
fn idlest(idle: impl Iterator<Item = Idle>, now: Mono) -> Option<usize> {
    let long = Duration::from_secs(limits::LINE_IDLE_S_MIN);
    let idle = idle.enumerate().filter_map(|(i, since)| Some((since?, i)));
    idle.min().filter(|(since, _)| now.since(*since) >= long).map(|(_, i)| i)
}

/// Accepts connections, [`limits::LINE_CONNECTIONS_MAX`] at once, and gives each to `pump`, until the pipeline is gone.
pub(in crate::sensor) async fn serve<S, P>(
    accept: impl AsyncFn() -> io::Result<S>,
    outlet: &Outlet,
    pump: impl Fn(S, Rc<Cell<Idle>>) -> P,
) where
    P: Future<Output = Result<(), Closed>>,
{
    let executor = LocalExecutor::new();
    let accepting = async {
        let mut served: Vec<Served> = Vec::new();
        loop {
            let accepted = accept().await;
            served.retain(|one| !one.task.is_finished());
            if outlet.is_closed() {
                return;
            }
            match accepted {
                Ok(stream) => {
                    if served.len() >= limits::LINE_CONNECTIONS_MAX {
                        let (source, connections) = (outlet.source(), served.len());
                        emit(&events::ConnectionRefused { source, connections });
                        match idlest(served.iter().map(|one| one.idle_since.get()), clock::mono()) {
                            Some(index) => drop(served.swap_remove(index)),
                            None => continue,
                        }
                    }
                    let idle_since = Rc::<Cell<Idle>>::default();
                    let task = executor.spawn(pump(stream, Rc::clone(&idle_since)));
                    served.push(Served { task, idle_since });
                }
                Err(error) => {
                    emit(&events::ConnectionFailed { source: outlet.source(), error: &error });
                    // Out of file descriptors: trying again at once would only burn the processor.
                    Timer::after(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    executor.run(accepting).await;
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Reads one stream to its end.
async fn pump(
    mut stream: impl AsyncRead + Unpin,
    shared: Rc<Shared>,
    idle_since: Rc<Cell<Idle>>,
) -> Result<(), Closed> {
    let shared = &*shared;
    let mut chunk = vec![0; limits::LINE_BYTES_MAX];
    let mut splitter = Splitter::default();
    let mut pending = Pending::default();
    loop {
        idle_since.set(pending.due.is_none().then(clock::mono));
        let arrived = match &mut pending.due {
            None => stream.read(&mut chunk).await,
            Some(due) => {
                let read = or(async { Some(stream.read(&mut chunk).await) }, async {
                    due.await;
                    None
                });
                match read.await {
                    Some(arrived) => arrived,
                    None => {
                        pending.flush(shared).await?;
                        continue;
                    }
                }
            }
        };
        idle_since.set(None);
        let arrival = clock::wall();
        match arrived {
            Ok(0) => {
                splitter.finish(|piece| pending.take(piece, arrival, shared));
                return pending.flush(shared).await;
            }
            Ok(len) => {
                splitter.feed(&chunk[..len], |piece| pending.take(piece, arrival, shared));
                pending.settle(shared).await?;
                // A stream that always has more must not starve the others.
                yield_now().await;
            }
            Err(error) => {
                emit(&events::ConnectionFailed { source: shared.outlet.source(), error: &error });
                return pending.flush(shared).await;
            }
        }
    }
}

/// Readings of one connection that are not handed over yet.
#[derive(Default)]
struct Pending {
    readings: Vec<Reading>,
    infos: Vec<ChannelInfo>,
    /// Runs while there is anything to hand over.
    due: Option<Timer>,
}

impl Pending {
    fn take(&mut self, piece: Piece<'_>, arrival: Wall, shared: &Shared) {
        let intake = &mut *shared.intake.borrow_mut();
        let (result, line) = match piece {
            Piece::Line(line) => (intake.parser.parse(line, arrival, &mut self.readings), line),
            Piece::TooLong(start) => (Err(Malformed::TooLong), start),
        };
        if let Err(reason) = result {
            intake.malformed.note(&reason, line);
        }
    }

    /// After a chunk: hands over full batches and starts the timer for the rest.
    async fn settle(&mut self, shared: &Shared) -> Result<(), Closed> {
        self.collect(shared);
        while self.readings.len() >= limits::SENSOR_BATCH_READINGS_MAX {
            let rest = self.readings.split_off(limits::SENSOR_BATCH_READINGS_MAX);
            let full = std::mem::replace(&mut self.readings, rest);
            shared.outlet.send(full, std::mem::take(&mut self.infos), false).await?;
        }
        let waiting = !self.readings.is_empty() || !self.infos.is_empty();
        self.due = match self.due.take() {
            Some(due) if waiting => Some(due),
            None if waiting => Some(Timer::after(Duration::from_millis(limits::SENSOR_BATCH_WAIT_MS_MAX))),
            _ => None,
        };
        Ok(())
    }

    async fn flush(&mut self, shared: &Shared) -> Result<(), Closed> {
        self.settle(shared).await?;
        if self.due.take().is_some() {
            let (readings, infos) = (std::mem::take(&mut self.readings), std::mem::take(&mut self.infos));
            shared.outlet.send(readings, infos, false).await?;
        }
        Ok(())
    }

    fn collect(&mut self, shared: &Shared) {
        let intake = &mut *shared.intake.borrow_mut();
        self.infos.extend(intake.parser.take_infos());
        let counters = shared.outlet.counters();
        counters.set_malformed(intake.malformed.total());
        counters.set_ignored(intake.parser.ignored());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_connection_that_has_long_been_idle_gives_way_the_idlest_first() {
        let at = |s: u64| Some(Mono(s * 1_000_000));
        let (now, long) = (Mono(1000 * 1_000_000), limits::LINE_IDLE_S_MIN);
        assert_eq!(idlest([at(1000 - long), None, at(3), at(2)].into_iter(), now), Some(3));
        assert_eq!(idlest([at(1001 - long), None].into_iter(), now), None);
        assert_eq!(idlest([None].into_iter(), now), None);
    }
}
