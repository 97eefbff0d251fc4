//! The line of the demo: a TCP relay between the agent and the broker that can be cut and mended.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use smol::LocalExecutor;
use smol::channel::{Receiver, Sender};
use smol::future::FutureExt as _;
use smol::net::{TcpListener, TcpStream};

/// A relay from a loopback port of its own to `target`. Cheap to clone; all clones are one line.
#[derive(Clone)]
pub struct Line {
    addr: SocketAddr,
    state: Rc<RefCell<State>>,
}

struct State {
    /// Closing this ends every relayed connection; `None` while the line is cut.
    alive: Option<(Sender<()>, Receiver<()>)>,
}

impl Line {
    /// Opens the line on `127.0.0.1`, port chosen by the system. It runs as long as `executor` does.
    pub async fn open(executor: &Rc<LocalExecutor<'static>>, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let state = Rc::new(RefCell::new(State { alive: Some(smol::channel::bounded(1)) }));
        let line = Self { addr: listener.local_addr()?, state };
        let (spawner, of_task) = (executor.clone(), line.clone());
        executor.spawn(async move { of_task.accept(&spawner, listener, target).await }).detach();
        Ok(line)
    }

    /// Where the agent connects.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks every connection and refuses new ones.
    pub fn cut(&self) {
        if let Some((sender, _)) = self.state.borrow_mut().alive.take() {
            sender.close();
        }
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.state.borrow_mut().alive.get_or_insert_with(|| smol::channel::bounded(1));
    }

    async fn accept(&self, executor: &Rc<LocalExecutor<'static>>, listener: TcpListener, target: SocketAddr) {
        while let Ok((near, _)) = listener.accept().await {
            // While the line is cut, `near` is dropped here: the agent sees its connection refused or reset.
            let Some(cut) = self.state.borrow().alive.as_ref().map(|(_, receiver)| receiver.clone()) else {
                continue;
            };
            let relay = async move {
                let Ok(far) = TcpStream::connect(target).await else { return };
                let up = smol::io::copy(near.clone(), far.clone());
                let down = smol::io::copy(far, near);
                // However the relay ends, both sockets close, and that is all the peers need to know.
                let _ = up.or(down).await;
            };
            let until_cut = async move {
                let _ = cut.recv().await;
            };
            executor.spawn(relay.or(until_cut)).detach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Sends one byte through the line to an echo server; what comes back, if anything.
    async fn ping(addr: SocketAddr) -> Option<u8> {
        let mut stream = TcpStream::connect(addr).await.ok()?;
        stream.write_all(b"x").await.ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await.ok().map(|()| byte[0])
    }

    #[test]
    fn a_cut_line_breaks_what_runs_and_refuses_what_comes_until_it_is_mended() {
        let executor = Rc::new(LocalExecutor::new());
        smol::block_on(executor.run(async {
            let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let target = echo.local_addr().unwrap();
            let spawner = executor.clone();
            executor
                .spawn(async move {
                    while let Ok((s, _)) = echo.accept().await {
                        spawner.spawn(smol::io::copy(s.clone(), s)).detach();
                    }
                })
                .detach();
            let line = Line::open(&executor, target).await.unwrap();
            assert_eq!(ping(line.addr()).await, Some(b'x'));

            let mut running = TcpStream::connect(line.addr()).await.unwrap();
            running.write_all(b"y").await.unwrap();
            running.read_exact(&mut [0]).await.unwrap();
            line.cut();
            assert!(
                !matches!(running.read(&mut [0]).await, Ok(1..)),
                "the running connection survived the cut"
            );
            assert_eq!(ping(line.addr()).await, None);

            line.mend();
            assert_eq!(ping(line.addr()).await, Some(b'x'));
        }));
    }
}
