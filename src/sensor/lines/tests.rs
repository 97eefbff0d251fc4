//! Whole sources of lines, over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use smol::channel::Receiver;

use super::*;
use crate::sensor::{Batch, SourceError, SourceHandle, SourceOptions, SourceStats, Stopper, spawn, stopper};

struct Running {
    handle: SourceHandle,
    batches: Receiver<Batch>,
    stopper: Stopper,
}

impl Running {
    fn start(input: Input, capacity: usize) -> Result<Self, SourceError> {
        let (sender, batches) = smol::channel::bounded(capacity);
        let (stopper, stop) = stopper();
        let options = LinesOptions { input, precision: Precision::Nanos, allow_remote: false };
        let handle = spawn("feed", SourceOptions::Lines(options), sender, stop)?;
        Ok(Self { handle, batches, stopper })
    }

    fn on_tcp(capacity: usize) -> (Self, SocketAddr) {
        let running = Self::start(Input::Tcp(([127, 0, 0, 1], 0).into()), capacity).unwrap();
        let address = running.handle.address().unwrap();
        (running, address)
    }

    /// Waits for `count` readings.
    fn collect(&self, count: usize) -> Vec<Batch> {
        let (mut batches, mut seen) = (Vec::new(), 0);
        while seen < count {
            let late = async {
                smol::Timer::after(Duration::from_secs(30)).await;
                panic!("{seen} of {count} readings in 30 s")
            };
            let batch = smol::block_on(smol::future::or(self.batches.recv(), late)).unwrap();
            assert!(batch.readings.len() <= limits::SENSOR_BATCH_READINGS_MAX);
            seen += batch.readings.len();
            batches.push(batch);
        }
        batches
    }

    fn end(self) -> SourceStats {
        drop(self.stopper);
        // A batch is counted after it was handed over: only a source at its end has counted all.
        while !self.handle.is_finished() {
            std::thread::yield_now();
        }
        let stats = self.handle.stats();
        self.handle.join();
        stats
    }
}

fn names(batches: &[Batch]) -> Vec<&str> {
    batches.iter().flat_map(|b| &b.readings).map(|r| r.channel.as_str()).collect()
}

#[test]
fn lines_of_both_forms_arrive_over_tcp_with_their_descriptions() {
    let (running, address) = Running::on_tcp(4);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .write_all(b"{\"channel\":\"a.temp\",\"value\":1,\"unit\":\"K\"}\r\nm,t=x b=2\n{\"broken\n{\"c\":3}")
        .unwrap();
    drop(stream);
    let batches = running.collect(3);
    assert_eq!(names(&batches), ["a.temp", "m.x.b", "c"], "the last line may lack its end");
    assert_eq!((batches[0].source.as_ref(), batches[0].infos[0].unit.0.as_str()), ("feed", "K"));
    let stats = running.end();
    assert_eq!((stats.readings, stats.malformed), (3, 1));
}

#[test]
fn a_reading_waits_no_longer_than_its_batch_may() {
    let (running, address) = Running::on_tcp(4);
    let mut stream = TcpStream::connect(address).unwrap();
    // The connection stays open and the batch is far from full.
    stream.write_all(b"m a=1\n").unwrap();
    assert_eq!(names(&running.collect(1)), ["m.a"]);
    running.end();
}

#[test]
fn a_ten_megabyte_line_is_skipped_and_the_next_one_taken() {
    let (running, address) = Running::on_tcp(4);
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&vec![b'x'; 10 << 20]).unwrap();
    stream.write_all(b"\nm a=1\n").unwrap();
    assert_eq!(names(&running.collect(1)), ["m.a"]);
    assert_eq!(running.end().malformed, 1);
}

#[test]
fn a_full_pipeline_stops_the_sender_and_loses_nothing() {
    const LINES: usize = 300_000;
    let (running, address) = Running::on_tcp(1);
    let sender = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let text: String = (0..LINES).map(|n| format!("m value={n}\n")).collect();
        stream.write_all(text.as_bytes()).unwrap();
    });
    std::thread::sleep(Duration::from_millis(300));
    let waiting = running.handle.stats().readings;
    assert!(waiting < LINES as u64 / 2, "{waiting} readings went into a pipeline that holds one batch");
    let batches = running.collect(LINES);
    let values: Vec<_> =
        batches.iter().flat_map(|b| &b.readings).map(|r| r.value.unwrap() as usize).collect();
    assert!(values.into_iter().eq(0..LINES));
    sender.join().unwrap();
    assert_eq!(running.end().dropped, 0);
}

#[test]
fn connections_beyond_the_bound_are_closed_and_a_place_becomes_free_again() {
    let (running, address) = Running::on_tcp(64);
    let mut open: Vec<_> =
        (0..limits::LINE_CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut open {
        stream.write_all(b"m a=1\n").unwrap();
    }
    running.collect(open.len());
    let mut one_more = TcpStream::connect(address).unwrap();
    assert_eq!(one_more.read(&mut [0]).unwrap_or(0), 0, "it was not closed");
    drop(open);
    // Whether the ends of the others were seen by now is the scheduler's affair; a sender tries again.
    for _ in 0..100 {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(b"m b=1\n");
        std::thread::sleep(Duration::from_millis(20));
        if let Ok(batch) = running.batches.try_recv() {
            assert_eq!(batch.readings[0].channel.as_str(), "m.b");
            running.end();
            return;
        }
    }
    panic!("no place became free");
}

#[test]
fn a_unix_socket_is_private_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.sock");
    let running = Running::start(Input::Unix(path.clone()), 4).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    UnixStream::connect(&path).unwrap().write_all(b"{\"a\":1}\n").unwrap();
    assert_eq!(names(&running.collect(1)), ["a"]);
    let second = Running::start(Input::Unix(path.clone()), 4);
    assert!(second.is_err(), "a second source took a living socket");
    running.end();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_dead_socket_is_replaced_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    Running::start(Input::Unix(path.clone()), 4).unwrap().end();
    std::fs::write(&path, "precious").unwrap();
    assert!(Running::start(Input::Unix(path.clone()), 4).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let error = Running::start(Input::Tcp(([0, 0, 0, 0], 0).into()), 1).err().unwrap();
    assert!(error.to_string().contains("allow_remote"), "{error}");
}

#[test]
fn random_bytes_do_not_end_the_source() {
    let (running, address) = Running::on_tcp(4);
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..200_000).map(|_| random.u8(..)).collect();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&noise).unwrap();
    stream.write_all(b"\nm a=1\n").unwrap();
    assert_eq!(names(&running.collect(1)).last(), Some(&"m.a"));
    running.end();
}
