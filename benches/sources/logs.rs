//! Logs that are played: a program that writes a file and rotates it, a machine that sends syslog.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::Talk;

#[path = "../support/logs.rs"]
mod sample;

/// Lines of one piece.
const LINES: usize = 10_000;
/// The writer is not farther ahead of the reader.
const AHEAD_MAX: u64 = 2_000_000;
/// Twice as much as that lies in the file and in the one before.
const ROTATE_BYTES: u64 = 512 * 1024 * 1024;

/// Writes lines until it is over, as fast as they are counted.
pub fn write(path: &Path, talk: &Arc<Talk>) {
    let piece: String = sample::lines(LINES, 1).into_iter().map(|(_, line)| line + "\n").collect();
    let (mut file, mut written, mut bytes) = (File::create(path).expect("a file"), 0, 0);
    while !talk.is_over.load(Ordering::Relaxed) {
        if written > talk.said.load(Ordering::Relaxed) + AHEAD_MAX {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        if bytes > ROTATE_BYTES {
            fs::rename(path, path.with_extension("log.1")).expect("a rotation");
            (file, bytes) = (File::create(path).expect("a file"), 0);
        }
        file.write_all(piece.as_bytes()).expect("room on the disk");
        written += LINES as u64;
        bytes += piece.len() as u64;
    }
}

/// Sends messages of RFC 3164 over TCP until nobody takes them any more.
pub fn send(address: SocketAddr) {
    let message = |(_, line): (usize, String)| format!("<30>{line}\n");
    let piece: String = sample::lines(LINES, 1).into_iter().map(message).collect();
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    while stream.write_all(piece.as_bytes()).is_ok() {}
}
