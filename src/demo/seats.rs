//! The two seats of the demo as processes of their own: their configuration, their start, their end, a look at them.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use smol::future::FutureExt as _;
use smol::process::{Child, Command, Stdio};

use crate::demo::fetch;
use crate::digest::Lang;
use crate::time::Wall;

/// The device name of the demo's agent.
pub const DEVICE: &str = "demo-gateway";

/// What both configurations need to know.
pub struct Site {
    /// Folder of everything that the demo writes.
    pub dir: PathBuf,
    /// Where the aggregator finds the broker.
    pub broker: SocketAddr,
    /// Where the agent finds it: the line that can be cut.
    pub line: SocketAddr,
    /// Certificates: the authority's, then certificate and key of each seat.
    pub ca: PathBuf,
    /// The agent's certificate and key.
    pub agent_pem: (PathBuf, PathBuf),
    /// The aggregator's certificate and key.
    pub aggregator_pem: (PathBuf, PathBuf),
    /// The recording that the agent replays.
    pub recording: PathBuf,
    /// When it begins, and how many seconds it is long.
    pub plant_start: Wall,
    pub plant_s: u32,
    /// How much faster than it was recorded.
    pub speed: u32,
    /// Language of the digests.
    pub lang: Lang,
}

/// One running seat.
pub struct Seat {
    name: &'static str,
    child: Child,
    /// Where its page is.
    pub http: SocketAddr,
    log: PathBuf,
}

impl Site {
    /// Starts the cloud seat and waits until it is ready.
    pub async fn start_aggregator(&self) -> io::Result<Seat> {
        let http = free_port(AGGREGATOR_PORT)?;
        self.start("aggregate", "aggregator", http, &self.aggregator_toml(http)).await
    }

    /// Starts the gateway seat and waits until it is ready.
    pub async fn start_agent(&self) -> io::Result<Seat> {
        let http = free_port(AGENT_PORT)?;
        self.start("run", "outpost", http, &self.agent_toml(http)).await
    }

    /// The agent's spool.
    pub fn spool_dir(&self) -> PathBuf {
        self.dir.join("agent").join("spool")
    }

    /// The aggregator's log, one JSON object per line.
    pub fn aggregator_log(&self) -> PathBuf {
        self.dir.join("aggregator.log")
    }

    async fn start(
        &self,
        command: &str,
        name: &'static str,
        http: SocketAddr,
        toml: &str,
    ) -> io::Result<Seat> {
        let config = self.dir.join(format!("{name}.toml"));
        std::fs::write(&config, toml)?;
        let log = self.dir.join(format!("{name}.log"));
        let child = Command::new(std::env::current_exe()?)
            .arg(command)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        let mut seat = Seat { name, child, http, log };
        seat.ready().await?;
        Ok(seat)
    }

    fn agent_toml(&self, http: SocketAddr) -> String {
        format!(
            "device = {device}\ndata_dir = {data}\nlanguage = \"{lang}\"\n\n{mqtt}heartbeat_every = \"5 s\"\n\n[digest]\nevery = \"30 s\"\n\
             offline_after = \"3 s\"\n\n[http]\nlisten = \"{http}\"\n\n\
             [[source]]\nname = \"host\"\nkind = \"host\"\ninterval = \"1 s\"\n\n\
             [[source]]\nname = \"plant\"\nkind = \"replay\"\npaths = [{recording}]\nspeed = {speed}\n\n{plant}",
            device = quoted(DEVICE),
            data = quoted_path(&self.dir.join("agent")),
            lang = self.lang,
            mqtt = self.mqtt_toml(self.line, &self.agent_pem),
            recording = quoted_path(&self.recording),
            speed = self.speed,
            plant = PLANT_TOML,
        )
    }

    fn aggregator_toml(&self, http: SocketAddr) -> String {
        format!(
            "{mqtt}\n[store]\npath = {db}\n\n[http]\nlisten = \"{http}\"\n\n\
             [log]\nformat = \"json\"\nlevel = \"debug\"\n",
            mqtt = self.mqtt_toml(self.broker, &self.aggregator_pem),
            db = quoted_path(&self.dir.join("aggregator.sqlite")),
        )
    }

    fn mqtt_toml(&self, addr: SocketAddr, (cert, key): &(PathBuf, PathBuf)) -> String {
        format!(
            "[mqtt]\nhost = \"localhost\"\nport = {}\nca = {}\ncert = {}\nkey = {}\nbackoff_max = \"2 s\"\n",
            addr.port(),
            quoted_path(&self.ca),
            quoted_path(cert),
            quoted_path(key)
        )
    }
}

/// What a plant engineer would say of it: what belongs together, and limits. Everything else the detectors learn.
pub(super) const PLANT_TOML: &str = r#"
[[group]]
name = "pump1"
channels = ["pump1.bearing_temp", "pump1.vibration", "pump1.current", "pump1.flow"]
every = "5 s"

[channels."pump*.bearing_temp"]
limit_high_warn = 75.0
limit_high_critical = 90.0

# Zone boundaries C and D of ISO 20816-3 for machines of this size.
[channels."pump*.vibration"]
limit_high_warn = 4.5
limit_high_critical = 7.1

[channels."cold1.temp"]
limit_high_warn = -15.0
"#;

impl Seat {
    /// Asks the seat to stop and waits for it; kills it if it takes longer than `patience`.
    pub async fn stop(&mut self, patience: Duration) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        }
        let patiently = async { self.child.status().await.map(Some) };
        let done = patiently.or(async {
            smol::Timer::after(patience).await;
            Ok(None)
        });
        match done.await? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.failure(&format!("ended with {status}"))),
            None => {
                self.child.kill()?;
                Err(self.failure(&format!("did not stop within {patience:?} and was killed")))
            }
        }
    }

    /// Fails if the seat has ended by itself.
    pub fn check_alive(&mut self) -> io::Result<()> {
        match self.child.try_status()? {
            None => Ok(()),
            Some(status) => Err(self.failure(&format!("ended by itself with {status}"))),
        }
    }

    async fn ready(&mut self) -> io::Result<()> {
        for _ in 0..START_LOOKS {
            self.check_alive()?;
            if fetch::get(self.http, "/health").await.is_ok() {
                return Ok(());
            }
            smol::Timer::after(LOOK_EVERY).await;
        }
        Err(self.failure("did not open its page in time"))
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(5).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        io::Error::other(format!("the {} seat {what}; its log ends with:\n{}", self.name, tail.join("\n")))
    }
}

/// The ports that the configuration's defaults name, if nobody has them.
const AGENT_PORT: u16 = 9750;
const AGGREGATOR_PORT: u16 = 9751;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ten seconds.
const START_LOOKS: u32 = 200;

/// `preferred` on loopback if nobody has it, else any free port.
fn free_port(preferred: u16) -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", preferred)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?.local_addr()
}

/// As a TOML basic string: JSON's escapes are a subset of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
