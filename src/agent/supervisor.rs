//! What the service manager is told: that the agent is ready, is well, and stops. systemd's protocol, which is a datagram.
//!
//! The watchdog is kicked by a task of the seat that has just had an answer of the spool. So it stops where the seat's
//! thread hangs, and where the spool's does; a full disk or a line that is down are no reason for a restart, which would
//! mend neither.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::observe::{self, agent as events};

/// The way to the manager, if there is one.
pub(super) struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How long the manager waits for a kick; `None`: for ever.
    patience: Option<Duration>,
}

impl Supervisor {
    /// As the manager has put it into the environment.
    pub fn from_env() -> Supervisor {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let patience = number("WATCHDOG_USEC").filter(|us| *us > 0 && ours).map(Duration::from_micros);
        Supervisor::new(std::env::var_os("NOTIFY_SOCKET"), patience)
    }

    fn new(name: Option<OsString>, patience: Option<Duration>) -> Supervisor {
        let socket = name.and_then(|name| connect(&name).inspect_err(not_told).ok());
        Supervisor { socket, patience }
    }

    /// The agent takes readings.
    pub fn ready(&self) {
        self.tell("READY=1\nSTATUS=");
    }

    /// The agent can't begin yet, for that reason; the manager is to have patience for so much longer.
    pub fn waiting(&self, reason: &str, longer: Duration) {
        let reason = reason.replace('\n', " ");
        self.tell(&format!("STATUS=Waiting: {reason}\nEXTEND_TIMEOUT_USEC={}", longer.as_micros()));
    }

    /// The agent is ending in good order.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Kicks the watchdog three times as often as it must be, each time that `well` says so. Ends at once where nobody
    /// waits for a kick.
    pub async fn watch(&self, mut well: impl AsyncFnMut() -> bool) {
        let (Some(patience), true) = (self.patience, self.socket.is_some()) else { return };
        loop {
            if well().await {
                self.tell("WATCHDOG=1");
            }
            smol::Timer::after(patience / KICKS).await;
        }
    }

    fn tell(&self, what: &str) {
        if let Some(socket) = &self.socket {
            // A manager that is busy is told the next time.
            let told = socket.send(what.as_bytes()).map(drop);
            let _ = told.or_else(busy).inspect_err(not_told);
        }
    }
}

/// One that is late costs nothing.
const KICKS: u32 = 3;

/// A path, or a name in the abstract namespace after `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn busy(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

fn not_told(reason: &io::Error) {
    observe::emit(&events::ManagerNotTold { reason });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_it_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("outpost-test-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), format!("@{name}").into()),
        ];
        for (manager, name) in managers {
            let supervisor = Supervisor::new(Some(name), None);
            supervisor.ready();
            supervisor.stopping();
            assert_eq!((heard(&manager), heard(&manager)), ("READY=1\nSTATUS=".into(), "STOPPING=1".into()));
        }
    }

    #[test]
    fn the_watchdog_is_kicked_only_while_all_is_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let supervisor = Supervisor::new(Some(path.into()), Some(Duration::from_millis(3)));
        let mut looks = 0;
        // Ill three times, then well once, then it hangs.
        let watch = supervisor.watch(async || {
            looks += 1;
            if looks > 4 {
                std::future::pending::<()>().await;
            }
            looks == 4
        });
        let told = async {
            loop {
                if let Ok(text) = manager.recv(&mut [0; 64]).map(|_| ()) {
                    return text;
                }
                smol::Timer::after(Duration::from_millis(1)).await;
            }
        };
        smol::block_on(smol::future::or(watch, told));
        assert!(looks >= 4, "kicked at look {looks}");
        assert!(manager.recv(&mut [0; 64]).is_err(), "kicked more than once");
    }

    #[test]
    fn without_a_manager_nothing_happens_and_a_wrong_one_is_no_harm() {
        let nobody = Supervisor::new(None, Some(Duration::from_secs(1)));
        nobody.ready();
        smol::block_on(nobody.watch(async || true));
        Supervisor::new(Some("/nonexistent/notify".into()), None).ready();
    }
}
