//! The place where both seats meet: broker, certificates, configuration, a line that can be cut, the books.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use outpost::aggregator::store::{RawBlock, Reader};
use outpost::demo::proxy::Line;
use outpost::glm::import::{ImportOptions, import};
use outpost::link::{self, Link, LinkOptions, Protocol};
use outpost::reading::Reading;
use outpost::spool::{self, SpoolStat};
use outpost::time::Wall;
use outpost::wire::block::block_length_at;
use outpost::wire::{Lane, Record, decode_block, decode_header, epoch_text};
use serde_json::Value;
use smol::LocalExecutor;
use smol::channel::Sender;
use tempfile::TempDir;

use super::eventually;
use super::seat::Seat;
use super::support::{self, TestBroker};

pub const DEVICE: &str = "gw-1";
/// The channel that counts up.
pub const CHANNEL: &str = "pump1.count";

/// A broker, a folder, and topics that no other test has.
pub struct Site {
    pub broker: TestBroker,
    pub prefix: String,
    dir: TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self::at(support::broker())
    }

    /// With a broker of the test's own.
    pub fn at(broker: TestBroker) -> Self {
        let prefix = format!("test/{:x}", fastrand::u64(..));
        Self { broker, prefix, dir: tempfile::tempdir().unwrap() }
    }

    pub fn topic(&self, leaf: &str) -> String {
        format!("{}/{DEVICE}/{leaf}", self.prefix)
    }

    pub fn spool_dir(&self) -> PathBuf {
        self.dir.path().join("data").join("spool")
    }

    pub fn aggregator(&self) -> Seat {
        self.aggregator_with("")
    }

    /// The same with more at the top of its file.
    pub fn aggregator_with(&self, more: &str) -> Seat {
        let toml = format!(
            "{more}{mqtt}[store]\npath = {db:?}\n[http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n",
            mqtt = self.mqtt("aggregator", self.broker.addr, self.shared()),
            db = self.database(),
        );
        Seat::start("aggregate", self.dir.path(), &toml)
    }

    /// An agent that takes lines over TCP and finds the broker at `broker`. `more` follows the table `mqtt` of its file.
    pub fn agent(&self, broker: SocketAddr, more: &str) -> Seat {
        self.agent_with(broker, more, "")
    }

    /// The same with more in the table `digest`.
    pub fn agent_with(&self, broker: SocketAddr, more: &str, digest: &str) -> Seat {
        let toml = format!(
            "device = \"{DEVICE}\"\ndata_dir = {data:?}\n{mqtt}\
             [raw]\nkeep = true\n[windows]\nlength = \"1 s\"\nlateness = \"0 ms\"\n[digest]\nevery = \"5 s\"\noffline_after = \"1 s\"\n{digest}\
             [http]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\nlevel = \"debug\"\n\
             [[source]]\nname = \"plc\"\nkind = \"lines\"\ntcp = \"127.0.0.1:0\"\n",
            data = self.dir.path().join("data"),
            mqtt = self.mqtt("gateway", broker, &format!("heartbeat_every = \"5 s\"\n{more}")),
        );
        Seat::start("run", self.dir.path(), &toml)
    }

    /// An agent without a line and with a language model of its own, made in `dir`: tiny, random, its context long enough for
    /// instructions. `glm` goes into the table of that name.
    pub fn agent_with_model(&self, dir: &Path, glm: &str) -> Seat {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge");
        let (source, bundle) = (dir.join("source"), dir.join("tiny.bundle"));
        std::fs::create_dir(&source).unwrap();
        for name in ["generation_config.json", "model.safetensors", "tokenizer.json"] {
            std::fs::copy(golden.join(name), source.join(name)).unwrap();
        }
        let config = std::fs::read_to_string(golden.join("config.json")).unwrap();
        let (short, long) = ("\"max_position_embeddings\": 512", "\"max_position_embeddings\": 4096");
        assert!(config.contains(short), "{config}");
        std::fs::write(source.join("config.json"), config.replace(short, long)).unwrap();
        import(&source, &bundle, &ImportOptions::default(), &mut |_| {}).unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let digest = format!("model = {bundle:?}\n");
        self.agent_with(nowhere, &format!("[glm]\nthreads = 1\n{glm}"), &digest)
    }

    /// Brokers that know no MQTT 5 need not know shared subscriptions: aedes takes one for a topic like any other, grants
    /// it, and never sends anything.
    fn shared(&self) -> &'static str {
        if self.broker.protocol == Protocol::V311 { "shared = false\n" } else { "" }
    }

    fn mqtt(&self, name: &str, addr: SocketAddr, more: &str) -> String {
        let files = self.broker.pki.tls_files(name);
        let (cert, key) = files.identity.unwrap();
        format!(
            "[mqtt]\nhost = {host:?}\nport = {port}\nclient_id = \"{name}-{id}\"\nprefix = \"{prefix}\"\nca = {ca:?}\n\
             cert = {cert:?}\nkey = {key:?}\nbackoff_min = \"100 ms\"\nbackoff_max = \"1 s\"\nprotocol = \"{protocol}\"\n{more}",
            protocol = self.broker.protocol,
            host = self.broker.options(name).host,
            port = addr.port(),
            id = self.prefix.replace('/', "-"),
            prefix = self.prefix,
            ca = files.ca,
        )
    }

    /// A third party on the broker, connected and subscribed to `topics`.
    pub fn watcher(&self, topics: Vec<String>) -> Link {
        let watcher =
            link::spawn(LinkOptions { subscriptions: topics, ..self.broker.options("watcher") }).unwrap();
        smol::block_on(support::up(&watcher));
        watcher
    }

    /// Waits until the aggregator hears the agent and nothing waits any more, then ends both in good order and holds
    /// their books against each other.
    pub fn settle(&self, agent: &mut Seat, aggregator: &mut Seat) -> SpoolStat {
        // The agent's last words are heard by nobody otherwise, and it does not wait until they are due again.
        eventually("both lines", || (is_up(agent) && is_up(aggregator)).then_some(()));
        eventually("a spool that is drained", || (pending(agent) == 0).then_some(()));
        assert!(agent.stop().success(), "the agent's end");
        let books = spool::stat(&self.spool_dir()).unwrap();
        let ledger = aggregator.json(&format!("/api/device/{DEVICE}/ledger")).unwrap();
        for (lane, own) in Lane::ALL.iter().zip(&books.ledger) {
            assert_eq!(own.admitted, own.acknowledged + own.pending + own.evicted_total(), "{lane}: {own:?}");
            assert_eq!(own.pending, 0, "{lane}: {own:?}");
            let far = row(&ledger, *lane, own.epoch);
            let count = |key: &str| far[key].as_u64().unwrap_or(0);
            assert_eq!(count("held") + count("gaps"), own.admitted, "{lane}: {own:?} and {far}");
            // A block that was on its way when it was given up may arrive all the same.
            assert!(count("gaps") <= own.evicted_total(), "{lane}: {own:?} and {far}");
            assert!(far["ok"].as_bool().unwrap_or(own.admitted == 0), "{lane}: {far}");
            assert_eq!(count("holes"), 0, "{lane}: {far}");
        }
        assert!(aggregator.stop().success(), "the aggregator's end");
        books
    }

    /// Every raw reading that the aggregator keeps, in order of sequence; panics if a number comes twice.
    pub fn delivered(&self) -> Vec<Reading> {
        let reader = Reader::open(&self.database()).unwrap();
        let device = reader.device(DEVICE).unwrap().expect("a device that has delivered");
        let blocks = reader.raw(device.key, Wall(i64::MIN), Wall(i64::MAX), 1 << 20).unwrap();
        let mut numbered = Vec::new();
        for RawBlock { first, last, payload, .. } in blocks {
            let block = decode_block(&payload).unwrap();
            assert!(block.header.first <= first && last <= block.header.last());
            for (seq, record) in (block.header.first..).zip(block.records) {
                let Record::Reading(reading) = record else { panic!("{record:?} in lane raw") };
                if (first..=last).contains(&seq) {
                    numbered.push(((block.header.epoch, seq), reading));
                }
            }
        }
        numbered.sort_by_key(|(number, _)| *number);
        assert!(numbered.windows(2).all(|two| two[0].0 < two[1].0), "a record is kept twice");
        numbered.into_iter().map(|(_, reading)| reading).collect()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("fleet.sqlite")
    }
}

/// The row of one lane of one spool in an aggregator's ledger.
fn row(ledger: &Value, lane: Lane, epoch: u64) -> Value {
    let is = |row: &&Value| row["lane"] == lane.name() && row["epoch"] == epoch_text(epoch);
    ledger["lanes"].as_array().unwrap().iter().find(is).cloned().unwrap_or_default()
}

/// Whether a seat's line is up, as it logs.
fn is_up(seat: &Seat) -> bool {
    let lines = ["line_up", "line_down"].map(Value::from);
    let last = seat.events().into_iter().rfind(|event| lines.contains(&event["event"]));
    last.is_some_and(|event| event["event"] == lines[0])
}

/// Records that wait in an agent's spool.
pub fn pending(agent: &Seat) -> u64 {
    agent.json("/api/status").unwrap()["spool"]["pending_records"].as_u64().unwrap()
}

/// Raw readings that an agent has promised to keep.
pub fn promised(agent: &Seat) -> u64 {
    admitted(agent, "raw")
}

/// Records of a lane that an agent has promised to keep.
pub fn admitted(agent: &Seat, lane: &str) -> u64 {
    let status = agent.json("/api/status").unwrap();
    let is_lane = |row: &&Value| row["lane"] == lane;
    status["ledger"].as_array().unwrap().iter().find(is_lane).unwrap()["admitted"].as_u64().unwrap()
}

/// Where an agent takes lines.
pub fn lines_of(agent: &Seat) -> TcpStream {
    let status = agent.json("/api/status").unwrap();
    let state = status["sources"][0]["state"].as_str().unwrap();
    TcpStream::connect(state.trim_start_matches("running on ").parse::<SocketAddr>().unwrap()).unwrap()
}

/// Sends the numbers of `range` as readings; the error says that the agent is gone.
pub fn send(lines: &mut TcpStream, range: std::ops::RangeInclusive<u64>) -> std::io::Result<()> {
    for n in range {
        lines.write_all(format!("{{\"channel\":\"{CHANNEL}\",\"value\":{n}}}\n").as_bytes())?;
    }
    lines.flush()
}

/// The line between agent and broker on a thread of its own.
pub struct Cable {
    pub addr: SocketAddr,
    up: Sender<bool>,
}

impl Cable {
    /// Lays one to the broker of `site`.
    pub fn lay(site: &Site) -> Self {
        let (told, addr) = smol::channel::bounded(1);
        let (up, wanted) = smol::channel::unbounded::<bool>();
        let target = site.broker.addr;
        std::thread::spawn(move || {
            let executor = Rc::new(LocalExecutor::new());
            smol::block_on(executor.clone().run(async {
                let line = Line::open(&executor, target).await.unwrap();
                told.send(line.addr()).await.unwrap();
                while let Ok(up) = wanted.recv().await {
                    if up { line.mend() } else { line.cut() }
                }
            }));
        });
        Self { addr: addr.recv_blocking().unwrap(), up }
    }

    /// Breaks the line.
    pub fn cut(&self) {
        self.up.send_blocking(false).unwrap();
    }

    /// Lets it through again.
    pub fn mend(&self) {
        self.up.send_blocking(true).unwrap();
    }
}

/// Spoils a spool's database: its head, and every copy of the raw blocks that begin before `first`.
pub fn damage(database: &Path, first: u64) {
    let mut bytes = std::fs::read(database).unwrap();
    let raw = |at: usize| {
        let block = block_length_at(&bytes[at..]).and_then(|length| bytes.get(at..at + length));
        let header = block.and_then(|block| decode_header(block).ok());
        header.is_some_and(|h| h.lane == Lane::Raw && h.first < first)
    };
    let blocks: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'O' && raw(at)).collect();
    assert!(!blocks.is_empty(), "{} holds no such block", database.display());
    blocks.iter().for_each(|at| bytes[at + 40] ^= 0xff);
    bytes[..2048].fill(0xff);
    std::fs::write(database, bytes).unwrap();
}
