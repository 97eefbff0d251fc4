//! Syslog over the network: datagrams and connections into one book.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd as _;
use std::rc::Rc;

use smol::future::{or, yield_now};
use smol::io::{AsyncRead, AsyncReadExt as _};
use smol::{Async, Timer};

use super::memory::{Keeper, Kept, Reached};
use super::syslog::{Frames, syslog};
use super::{Book, LogsOptions, Piece, next};
use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::sensor::SourceError;
use crate::sensor::lines::{Idle, bind_tcp, serve};
use crate::sensor::outlet::{Closed, Outlet};

/// Bound sockets, ready to serve.
pub(in crate::sensor) struct Listener {
    udp: Option<UdpSocket>,
    tcp: Option<(TcpListener, SocketAddr)>,
    options: LogsOptions,
}

/// What those who read and those who end windows share.
pub(super) struct Shared {
    pub book: RefCell<Book>,
    pub outlet: Outlet,
    /// The journal's name for the entry that was counted last.
    pub cursor: RefCell<Option<String>>,
}

impl Listener {
    /// Binds what is to be listened on.
    pub(in crate::sensor) fn bind(
        udp: Option<SocketAddr>,
        tcp: Option<SocketAddr>,
        allow_remote: bool,
        options: LogsOptions,
    ) -> Result<Self, SourceError> {
        if let Some(address) = udp.filter(|a| !a.ip().is_loopback() && !allow_remote) {
            return Err(SourceError::NotLoopback { address });
        }
        let listen =
            |place: SocketAddr| move |source| SourceError::Listen { place: place.to_string(), source };
        let udp = udp.map(|at| UdpSocket::bind(at).map_err(listen(at))).transpose()?;
        let tcp = tcp.map(|at| bind_tcp(at, allow_remote)).transpose()?;
        Ok(Self { udp, tcp, options })
    }

    /// Where connections or else datagrams come in.
    pub(in crate::sensor) fn address(&self) -> Option<SocketAddr> {
        let udp = self.udp.as_ref().and_then(|socket| socket.local_addr().ok());
        self.tcp.as_ref().map(|(_, address)| *address).or(udp)
    }

    /// Serves until the pipeline is gone.
    pub(in crate::sensor) async fn run(self, outlet: Outlet) -> Result<(), SourceError> {
        let place = self.options.input.place();
        let fatal = |source| SourceError::Listen { place: place.clone(), source };
        let (mut keeper, Kept { tally, .. }) = Keeper::open(&self.options, outlet.source());
        let book = RefCell::new(Book::new(&self.options, &tally, &outlet));
        let shared = Rc::new(Shared { book, outlet, cursor: RefCell::default() });
        let udp = self.udp.map(Async::new).transpose().map_err(fatal)?;
        let tcp = self.tcp.map(|(listener, _)| Async::new(listener)).transpose().map_err(fatal)?;
        let drops = udp.as_ref().and_then(|socket| Drops::of(socket.get_ref()));
        let datagrams = async {
            match udp {
                Some(socket) => receive(socket, &shared).await,
                None => smol::future::pending().await,
            }
        };
        let connections = async {
            match tcp {
                Some(listener) => {
                    let accept = async || listener.accept().await.map(|(stream, _)| stream);
                    let each = |stream, idle| pump(stream, Rc::clone(&shared), idle);
                    serve(accept, &shared.outlet, each).await;
                }
                None => smol::future::pending().await,
            }
        };
        or(or(datagrams, connections), windows(&shared, &mut keeper, &self.options, drops)).await;
        Ok(())
    }
}

/// Ends one window after the other until the pipeline is gone.
pub(super) async fn windows(
    shared: &Shared,
    keeper: &mut Keeper,
    options: &LogsOptions,
    mut drops: Option<Drops>,
) {
    let mut due = clock::mono() + options.every;
    loop {
        Timer::after(due.since(clock::mono())).await;
        due = next(due, options.every);
        let handover = {
            let mut book = shared.book.borrow_mut();
            if let Some(lost @ 1..) = drops.as_mut().map(Drops::news) {
                book.lost(lost);
            }
            let reached = shared.cursor.borrow().clone().map(Reached::Journal);
            let receipt = keeper.promise(reached, book.memory_if_changed());
            book.close(&shared.outlet, receipt)
        };
        if shared.outlet.hand_over(handover).await.is_err() {
            return;
        }
    }
}

/// One message per datagram. A socket that always has more gives the others their turn after each.
async fn receive(socket: Async<UdpSocket>, shared: &Shared) {
    let mut datagram = vec![0; limits::LINE_BYTES_MAX];
    loop {
        match socket.recv(&mut datagram).await {
            Ok(len) => take(&mut shared.book.borrow_mut(), &datagram[..len]),
            Err(error) => {
                emit(&events::ConnectionFailed { source: shared.outlet.source(), error: &error });
                Timer::after(RECEIVE_PAUSE).await;
            }
        }
        yield_now().await;
    }
}

const RECEIVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Reads one connection to its end.
async fn pump(
    mut stream: impl AsyncRead + Unpin,
    shared: Rc<Shared>,
    idle_since: Rc<Cell<Idle>>,
) -> Result<(), Closed> {
    let mut chunk = vec![0; limits::LINE_BYTES_MAX];
    let mut frames = Frames::default();
    let each = |piece: Piece<'_>| match piece {
        Piece::Line(message) => take(&mut shared.book.borrow_mut(), message),
        long => shared.book.borrow_mut().piece(long),
    };
    loop {
        idle_since.set(Some(clock::mono()));
        match stream.read(&mut chunk).await {
            Ok(0) => {
                frames.finish(each);
                return Ok(());
            }
            Ok(len) => frames.feed(&chunk[..len], each),
            Err(error) => {
                emit(&events::ConnectionFailed { source: shared.outlet.source(), error: &error });
                return Ok(());
            }
        }
        yield_now().await;
    }
}

fn take(book: &mut Book, message: &[u8]) {
    match syslog(message) {
        Ok(message) if message.app.is_empty() => book.line(message.text.as_bytes()),
        Ok(message) => book.line(format!("{}: {}", message.app, message.text).as_bytes()),
        Err(reason) => book.malformed(&reason, message),
    }
}

/// Datagrams that the kernel had no room for, as it counts them per socket in `/proc/net/udp`.
pub(super) struct Drops {
    inode: String,
    seen: u64,
}

impl Drops {
    fn of(socket: &UdpSocket) -> Option<Self> {
        let inode = rustix::fs::fstat(socket.as_fd()).ok()?.st_ino.to_string();
        Some(Self { inode, seen: 0 })
    }

    /// Those since the last look.
    fn news(&mut self) -> u64 {
        let tables =
            ["/proc/net/udp", "/proc/net/udp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
        let Some(total) = tables.iter().find_map(|table| drops_in(table, &self.inode)) else { return 0 };
        total.saturating_sub(std::mem::replace(&mut self.seen, total))
    }
}

/// The last column of the line of `inode`, which is the tenth.
fn drops_in(table: &str, inode: &str) -> Option<u64> {
    let line = table.lines().find(|line| line.split_ascii_whitespace().nth(9) == Some(inode))?;
    line.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_count_of_a_full_socket_is_read() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut drops = Drops::of(&socket).unwrap();
        assert_eq!(drops.news(), 0);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..2000 {
            sender.send_to(&[b'x'; 4000], socket.local_addr().unwrap()).unwrap();
        }
        let lost = drops.news();
        assert!(lost > 0 && lost < 2000, "{lost}");
        assert_eq!(drops.news(), 0, "each is counted once");
    }
}
