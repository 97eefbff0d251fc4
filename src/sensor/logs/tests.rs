//! Logs as a whole: rotations without end, restarts, floods, garbage, real sockets.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smol::channel::Receiver;

use super::tail::{Found, Place, Tail};
use super::*;
use crate::limits;
use crate::sensor::{Batch, FieldOptions, SourceHandle, SourceOptions, Stopper, spawn, stopper};

/// A program that logs, and whoever rotates its file.
struct Writer {
    path: PathBuf,
    file: Option<File>,
    written: u64,
}

const KEPT: u32 = 4;

impl Writer {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, written: 0 }
    }

    fn write(&mut self, count: u64) {
        let mut text = String::new();
        for _ in 0..count {
            text.push_str(&format!("{:09} something happened\n", self.written));
            self.written += 1;
        }
        let path = &self.path;
        let file =
            self.file.get_or_insert_with(|| OpenOptions::new().append(true).create(true).open(path).unwrap());
        file.write_all(text.as_bytes()).unwrap();
    }

    fn numbered(&self, n: u32) -> PathBuf {
        PathBuf::from(format!("{}.{n}", self.path.display()))
    }

    fn shift(&self) {
        for n in (1..KEPT).rev() {
            let _ = std::fs::rename(self.numbered(n), self.numbered(n + 1));
        }
    }

    fn rename(&mut self, create: bool) {
        self.shift();
        let _ = std::fs::rename(&self.path, self.numbered(1));
        if create {
            File::create(&self.path).unwrap();
        }
        self.file = None;
    }

    fn copy_and_truncate(&mut self) {
        self.write(0);
        self.shift();
        std::fs::copy(&self.path, self.numbered(1)).unwrap();
        self.file.as_ref().unwrap().set_len(0).unwrap();
    }
}

/// Takes lines and holds that each is the next one.
struct Reader {
    next: u64,
}

impl Reader {
    fn take(&mut self, piece: Piece<'_>) {
        let Piece::Line(line) = piece else { panic!("{piece:?}") };
        let number: u64 = std::str::from_utf8(&line[..9]).unwrap().parse().unwrap();
        assert_eq!(number, self.next, "a line was lost or doubled");
        self.next += 1;
    }

    fn drain(&mut self, tail: &mut Tail) {
        while tail.poll(u64::MAX, &mut |piece| self.take(piece)).map(|f| f == Found::More).unwrap() {}
    }
}

#[test]
fn ten_thousand_rotations_lose_and_double_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut rng = fastrand::Rng::with_seed(11);
    let mut writer = Writer::new(&path);
    let mut tail = Tail::at_end(path.clone()).unwrap();
    let mut reader = Reader { next: 0 };
    let mut rotations = 0;
    while rotations < 10_000 {
        for _ in 0..rng.u32(0..KEPT - 1) {
            writer.write(rng.u64(0..8));
            match rng.u8(0..3) {
                0 => writer.rename(rng.bool()),
                1 => writer.copy_and_truncate(),
                _ => continue,
            }
            rotations += 1;
        }
        writer.write(rng.u64(0..4));
        let bytes_max = [40, 200, u64::MAX][rng.usize(0..3)];
        assert_ne!(tail.poll(bytes_max, &mut |piece| reader.take(piece)).unwrap(), Found::Gap);
        if rng.u8(0..4) == 0 {
            // Restarted: nothing is left but what was written down.
            let place = serde_json::to_string(&tail.place()).unwrap();
            tail = Tail::new(path.clone(), serde_json::from_str::<Option<Place>>(&place).unwrap());
        }
        reader.drain(&mut tail);
        assert_eq!(reader.next, writer.written);
    }
}

#[test]
fn rotations_in_the_midst_of_reading_lose_and_double_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let (looks, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, over) = (Arc::clone(&looks), Arc::clone(&ended));
    let mut writer = Writer::new(&path);
    let writing = std::thread::spawn(move || {
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..600 {
            writer.write(rng.u64(0..6));
            if rng.bool() {
                writer.rename(rng.bool())
            } else {
                writer.copy_and_truncate()
            }
            writer.write(rng.u64(0..3));
            // A rotated file is kept for at least a look.
            let now = seen.load(Ordering::SeqCst);
            while seen.load(Ordering::SeqCst) < now + 2 {
                std::thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
        writer.written
    });
    let mut tail = Tail::new(path, None);
    let mut reader = Reader { next: 0 };
    while !ended.load(Ordering::SeqCst) {
        // Without a folder entry yet there is nothing to read.
        let found = tail.poll(u64::MAX, &mut |piece| reader.take(piece)).unwrap();
        assert_ne!(found, Found::Gap);
        looks.fetch_add(1, Ordering::SeqCst);
    }
    reader.drain(&mut tail);
    assert_eq!(reader.next, writing.join().unwrap());
}

#[test]
fn a_file_that_was_compressed_before_it_was_read_is_a_gap_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut writer = Writer::new(&path);
    writer.write(3);
    let mut tail = Tail::new(path.clone(), None);
    let mut reader = Reader { next: 0 };
    reader.drain(&mut tail);
    let place = tail.place().cloned();
    writer.write(2);
    writer.rename(false);
    std::fs::rename(writer.numbered(1), dir.path().join("app.log.1.gz")).unwrap();
    let mut tail = Tail::new(path, place);
    assert_eq!(tail.poll(u64::MAX, &mut |piece| reader.take(piece)).unwrap(), Found::All, "nothing came yet");
    writer.write(1);
    reader.next = 5;
    assert_eq!(tail.poll(u64::MAX, &mut |piece| reader.take(piece)).unwrap(), Found::Gap);
    assert_eq!(tail.poll(u64::MAX, &mut |piece| reader.take(piece)).unwrap(), Found::All);
    assert_eq!(reader.next, 6);
}

#[test]
fn what_is_there_at_the_first_look_is_left_alone_and_an_unfinished_line_waits_for_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    std::fs::write(&path, "old\nhalf").unwrap();
    let mut tail = Tail::at_end(path.clone()).unwrap();
    let mut seen = Vec::new();
    let mut look = |tail: &mut Tail| {
        tail.poll(u64::MAX, &mut |piece| {
            let Piece::Line(line) = piece else { panic!("too long") };
            seen.push(String::from_utf8_lossy(line).into_owned());
        })
        .unwrap();
        seen.len()
    };
    assert_eq!(look(&mut tail), 0);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b" and half\r\nun").unwrap();
    assert_eq!(look(&mut tail), 1);
    std::fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    std::fs::write(&path, "next\n").unwrap();
    assert_eq!(look(&mut tail), 3);
    assert_eq!(seen, ["half and half", "un", "next"], "a file that is left may lack its last end");
}

#[test]
fn a_line_without_end_is_told_once_and_the_next_one_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let mut long = vec![b'x'; 10 * limits::LINE_BYTES_MAX];
    long.extend_from_slice(b"\nnext\n");
    std::fs::write(&path, &long).unwrap();
    let mut tail = Tail::new(path, None);
    let (mut lines, mut too_long) = (Vec::new(), 0);
    let mut each = |piece: Piece<'_>| match piece {
        Piece::Line(line) => lines.push(line.to_vec()),
        Piece::TooLong(_) => too_long += 1,
    };
    tail.poll(u64::MAX, &mut each).unwrap();
    assert_eq!((lines, too_long), (vec![b"next".to_vec()], 1));
}

/// A running source of logs, and what it counted.
struct Running {
    handle: SourceHandle,
    batches: Receiver<Batch>,
    stopper: Stopper,
}

impl Running {
    fn start(input: LogInput, state_dir: Option<&Path>) -> Self {
        let (sender, batches) = smol::channel::bounded(64);
        let (stopper, stop) = stopper();
        let every = Duration::from_millis(100);
        let state_dir = state_dir.map(Path::to_owned);
        let options = LogsOptions { input, every, learn: Duration::ZERO, state_dir };
        let handle = spawn("app", SourceOptions::Field(FieldOptions::Logs(options)), sender, stop).unwrap();
        Self { handle, batches, stopper }
    }

    /// Takes windows until `count` lines were counted; answers their receipts if `durable`.
    fn lines(&self, count: u64, durable: bool) -> Vec<Batch> {
        let (mut sum, mut taken) = (0, Vec::new());
        let until = clock::mono() + Duration::from_secs(30);
        while sum < count {
            let late = async {
                smol::Timer::after(until.since(clock::mono())).await;
                panic!("{sum} of {count} lines in 30 s")
            };
            let batch = smol::block_on(smol::future::or(late, self.batches.recv())).unwrap();
            sum += counted(&batch, "app.lines");
            if durable && let Some(receipt) = &batch.receipt {
                let _ = receipt.try_send(Vec::new());
            }
            taken.push(batch);
        }
        assert_eq!(sum, count, "more lines than were written");
        taken
    }

    fn stop(self) {
        drop(self.stopper);
        // As the agent does: what is on its way at a stop is committed too.
        while let Ok(batch) = self.batches.recv_blocking() {
            assert_eq!(counted(&batch, "app.lines"), 0, "lines beyond those awaited");
            let _ = batch.receipt.map(|receipt| receipt.try_send(Vec::new()));
        }
        self.handle.join();
    }
}

fn counted(batch: &Batch, channel: &str) -> u64 {
    let values = batch.readings.iter().filter(|r| r.channel.as_str() == channel);
    values.map(|r| r.value.unwrap() as u64).sum()
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

#[test]
fn lines_become_counts_per_template_and_news_and_are_counted_once_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (path, state) = (dir.path().join("a.log"), dir.path().join("state"));
    std::fs::write(&path, "before\n").unwrap();
    let files = || LogInput::Files(vec![dir.path().join("*.log")]);
    let first = Running::start(files(), Some(&state));
    // The first window shows that the file was looked at.
    first.batches.recv_blocking().unwrap();
    append(&path, "pump 1 started\npump 2 started\nvalve open\n");
    let batches = first.lines(3, true);
    let own: Vec<u64> =
        batches.last().unwrap().readings.iter().skip(3).map(|r| r.value.unwrap() as u64).collect();
    assert_eq!(own, [2, 1]);
    let labels: Vec<&str> = batches.iter().flat_map(|b| &b.infos).map(|i| i.label.as_str()).collect();
    assert!(labels.contains(&"pump <*> started"), "{labels:?}");
    let told = &batches.iter().flat_map(|b| &b.notices).next().unwrap().text;
    assert!(told.contains("pump <*> started") && told.contains("valve open"), "{told}");
    first.stop();

    append(&path, "pump 3 started\n");
    let second = Running::start(files(), Some(&state));
    let batches = second.lines(1, false);
    assert!(batches.iter().all(|b| b.notices.is_empty()), "a template of the run before is no news");
    // Nobody has committed this window: after a crash its lines come again.
    let Running { handle, batches, stopper } = second;
    drop((batches, stopper));
    handle.join();
    let third = Running::start(files(), Some(&state));
    third.lines(1, true);
    third.stop();
}

/// The end of a file was where reading began, after every crash before the first commit: what was said meanwhile was lost.
#[test]
fn what_is_said_after_the_first_look_ever_survives_a_crash_before_the_first_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (path, state) = (dir.path().join("a.log"), dir.path().join("state"));
    std::fs::write(&path, "before\n").unwrap();
    let files = || LogInput::Files(vec![path.clone()]);
    let first = Running::start(files(), Some(&state));
    first.batches.recv_blocking().unwrap();
    append(&path, "one\ntwo\n");
    let Running { handle, batches, stopper } = first;
    drop((batches, stopper));
    handle.join();
    let second = Running::start(files(), Some(&state));
    second.lines(2, true);
    second.stop();
}

#[test]
fn a_peer_that_sends_byte_by_byte_is_heard_and_keeps_nobody_waiting() {
    let input = LogInput::Syslog { udp: None, tcp: Some(([127, 0, 0, 1], 0).into()), allow_remote: false };
    let running = Running::start(input, None);
    let connect = || std::net::TcpStream::connect(running.handle.address().unwrap()).unwrap();
    let (mut slow, mut quick) = (connect(), connect());
    slow.set_nodelay(true).unwrap();
    let (begin, rest) = b"<13>Nov 26 10:00:00 gw app: slow\n".split_at(20);
    for byte in begin {
        slow.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    quick.write_all(b"<13>Nov 26 10:00:00 gw app: quick\n").unwrap();
    running.lines(1, false);
    for byte in rest {
        slow.write_all(&[*byte]).unwrap();
    }
    running.lines(1, false);
    running.stop();
}

#[test]
fn a_flood_and_garbage_are_counted_and_stay_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    let state = dir.path().join("state");
    let running = Running::start(LogInput::Files(vec![path.clone()]), Some(&state));
    running.batches.recv_blocking().unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let flood: String = (0..100_000).map(|n| format!("job {n} of {} done\n", rng.u32(..))).collect();
    append(&path, &flood);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    let noise: Vec<u8> = (0..50_000).map(|_| rng.u8(..)).filter(|b| *b != b'\n').collect();
    file.write_all(&noise).unwrap();
    file.write_all(b"\nthe end\n").unwrap();
    let batches = running.lines(100_001, true);
    assert!(batches.last().unwrap().readings.len() <= 3 + limits::TEMPLATE_CHANNELS_MAX);
    assert_eq!(running.handle.stats().malformed, 1);
    running.stop();
}

#[test]
fn syslog_comes_over_udp_and_tcp_in_both_forms_and_garbage_is_counted() {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let tcp = Running::start(LogInput::Syslog { udp: None, tcp: any, allow_remote: false }, None);
    let mut stream = TcpStream::connect(tcp.handle.address().unwrap()).unwrap();
    let counted = "<34>1 2003-10-11T22:14:15Z host su - - - failed for lonvick";
    stream
        .write_all(
            format!("{} {counted}<13>Feb  5 17:32:18 host su[7]: failed for root\n", counted.len())
                .as_bytes(),
        )
        .unwrap();
    stream.write_all(b"garbage\n<13>1 - h app\n<9").unwrap();
    drop(stream);
    let batches = tcp.lines(2, true);
    let label = batches.iter().flat_map(|b| &b.infos).find(|i| i.label.starts_with("su:")).unwrap();
    assert_eq!(label.label, "su: failed for <*>", "both forms are one template");
    while tcp.handle.stats().malformed < 3 {
        tcp.batches.recv_blocking().unwrap();
    }
    tcp.stop();

    let udp = Running::start(LogInput::Syslog { udp: any, tcp: None, allow_remote: false }, None);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..50 {
        let message = format!("<13>1 1970-01-01T00:00:00Z h app - - - request {n} served");
        socket.send_to(message.as_bytes(), udp.handle.address().unwrap()).unwrap();
    }
    let batches = udp.lines(50, true);
    let at = batches[0].readings[0].at;
    assert!(at > limits::WALL_PLAUSIBLE_MIN, "a wrong clock in a message moves no count");
    udp.stop();
}

#[test]
fn syslog_from_elsewhere_must_be_allowed() {
    let any = Some(SocketAddr::from(([0, 0, 0, 0], 0)));
    for (udp, tcp) in [(any, None), (None, any)] {
        let (sender, _batches) = smol::channel::bounded(1);
        let (_stopper, stop) = stopper();
        let input = LogInput::Syslog { udp, tcp, allow_remote: false };
        let options =
            LogsOptions { input, every: Duration::from_secs(1), learn: Duration::ZERO, state_dir: None };
        let error = spawn("s", SourceOptions::Field(FieldOptions::Logs(options)), sender, stop).unwrap_err();
        assert!(matches!(error, SourceError::NotLoopback { .. }));
    }
}

/// What was written between an end and the next start was not heard once.
#[test]
fn the_journal_is_read_on_behind_the_entry_that_was_counted_last() {
    let dir = tempfile::tempdir().unwrap();
    let (told, state) = (dir.path().join("told"), dir.path().join("state"));
    let entry = r#"{"MESSAGE":"door opened","__CURSOR":"s=1;i=7"}"#;
    let script = format!("echo \"$@\" >> {}; echo '{entry}'; exec sleep 60", told.display());
    let journal = || LogInput::Journal(["sh", "-c", &script, "journal"].map(str::to_owned).to_vec());
    for _ in 0..2 {
        let running = Running::start(journal(), Some(&state));
        running.lines(1, true);
        running.stop();
    }
    let told = std::fs::read_to_string(told).unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), ["--lines=0", "--no-tail --after-cursor=s=1;i=7"]);
}

#[test]
fn the_journal_is_read_from_a_program_that_is_started_again_when_it_ends() {
    let entry = r#"{"MESSAGE":"door opened","SYSLOG_IDENTIFIER":"plc"}"#;
    let command = ["sh", "-c", &format!("echo '{entry}'; echo nonsense")].map(str::to_owned).to_vec();
    let running = Running::start(LogInput::Journal(command), None);
    let mut seen = 0;
    while seen < 2 {
        seen += counted(&running.batches.recv_blocking().unwrap(), "app.lines");
    }
    assert!(running.handle.stats().malformed >= 1);
    drop(running.stopper);
    running.handle.join();
    let missing = Running::start(LogInput::Journal(vec!["no-such-program".into()]), None);
    while !missing.handle.is_finished() {
        std::thread::yield_now();
    }
    assert!(missing.handle.failure().unwrap().contains("no-such-program"), "{:?}", missing.handle.failure());
}
