//! Memory and start time of the real program, looked at from outside: `cargo bench --bench footprint`.
//!
//! The gateway seat runs with one `lines` source and no broker, first without the language model and then with it.
//! `anon` is what the program holds, `file` are pages of the program file that it has touched and that the kernel may
//! drop; both count as resident. With `--no-default-features --features gateway` the program is what a small gateway
//! would carry.

#[expect(dead_code, reason = "shared by benchmarks that look from outside; each uses its part")]
mod support;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use outpost::clock;
use support::{Program, connect, free_address};

fn main() {
    println!("{:<38}{:>10}{:>10}{:>10}", "resident, MB", "anon", "file", "all");
    let mut starts = Vec::new();
    for model in [false, true] {
        let name = if model { "with the student" } else { "without model" };
        let run = Run::start(model, &mut starts);
        thread::sleep(IDLE);
        run.report(&format!("{name}, idle"));
        run.feed(Duration::from_secs(10));
        run.report(&format!("{name}, after 1 000 readings/s"));
        thread::sleep(IDLE);
        run.report(&format!("{name}, idle again"));
        if model {
            run.report_words();
        }
    }
    for _ in starts.len()..STARTS {
        Run::start(true, &mut starts);
    }
    starts.sort();
    println!(
        "from spawn to the first reading taken: median {:.0} ms, worst {:.0} ms of {STARTS}",
        starts[STARTS / 2].as_secs_f64() * 1e3,
        starts[STARTS - 1].as_secs_f64() * 1e3
    );
}

struct Run {
    program: Program,
    lines: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Run {
    /// Starts the agent; notes how long it took until a reading was taken.
    fn start(model: bool, starts: &mut Vec<Duration>) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (lines, nobody) = (free_address(), free_address());
        let program = Program::start(
            dir.path(),
            "run",
            &format!(
                "device = \"bench\"\ndata_dir = \"data\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = {}\n\
                 tls = \"off-insecure\"\n[digest]\nenabled = {model}\nevery = \"1 s\"\n\
                 [[source]]\nname = \"lines\"\nkind = \"lines\"\ntcp = \"{lines}\"\n\
                 [channels.\"line0.bearing0.temp\"]\nlimit_high_warn = 75.0\n",
                nobody.port()
            ),
        );
        let mut stream = connect(lines);
        send(&mut stream, "{\"channel\":\"line0.bearing0.temp\",\"value\":40}\n");
        program.until("/api/status", Duration::from_millis(1), |page| page["readings"].as_u64() >= Some(1));
        starts.push(program.begun.elapsed());
        Self { program, lines, _dir: dir }
    }

    /// A hundred channels, each ten times a second; the first passes its limit every other second.
    fn feed(&self, time: Duration) {
        let mut stream = connect(self.lines);
        let mut random = fastrand::Rng::with_seed(7);
        let mut levels = [4_000_i64; 100];
        let begun = Instant::now();
        for turn in 0..u32::try_from(time.as_millis() / 100).unwrap_or(0) {
            let mut text = String::new();
            let at_ms = clock::wall().0 / 1000;
            for (channel, level) in levels.iter_mut().enumerate() {
                *level += random.i64(-1..=1);
                let fault = if channel == 0 && turn / 10 % 2 == 1 { 4_000 } else { 0 };
                let value = (*level + fault + random.i64(-3..=3)) as f64 / 100.0;
                let _ = writeln!(
                    text,
                    r#"{{"channel":"line{}.bearing{channel}.temp","value":{value},"ts":{at_ms}}}"#,
                    channel % 7
                );
            }
            send(&mut stream, &text);
            thread::sleep((begun + Duration::from_millis(100) * (turn + 1)).duration_since(Instant::now()));
        }
    }

    /// Who worded what happened: memory after wording means little where the template did it.
    fn report_words(&self) {
        let page = self.program.page("/api/status");
        let (glm, template) = (&page["digests_glm"], &page["digests_template"]);
        println!("digests worded: {glm} by the student, {template} by the template");
        let reason = page["last_digest"]["fallback_reason"].as_str().unwrap_or_default();
        if !reason.is_empty() {
            println!("the last one by the template: {reason}");
        }
    }

    fn report(&self, what: &str) {
        let memory = self.program.memory();
        let mb = |kib: u64| kib as f64 * 1024.0 / 1e6;
        let (anon, file) = (mb(memory.anon), mb(memory.file));
        println!("{what:<38}{anon:>10.1}{file:>10.1}{:>10.1}", anon + file);
    }
}

fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("the source reads");
}

const IDLE: Duration = Duration::from_secs(3);
const STARTS: usize = 11;
