//! Labelled log lines as machines write them: thirty-odd messages of services, the kernel and controllers, the commonest a
//! thousand times as common as the rarest, some with a header of date, host and pid, the others with a date of their own.

/// `count` lines, each with the number of the message that it came from.
pub fn lines(count: usize, seed: u64) -> Vec<(usize, String)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|at| {
            // Zipf's law, roughly.
            let label = (MESSAGES.len() as f64).powf(rng.f64()) as usize % MESSAGES.len();
            (label, line(MESSAGES[label], at, &mut rng))
        })
        .collect()
}

/// `%n` a number, `%i` an address, `%x` an id, `%u` a user, `%p` a path, `%f` a fraction.
const MESSAGES: &[&str] = &[
    "sshd: Accepted password for %u from %i port %n ssh2",
    "sshd: Failed password for invalid user %u from %i port %n ssh2",
    "sshd: Connection closed by %i port %n",
    "sshd: pam_unix(sshd:session): session opened for user %u by (uid=%n)",
    "sshd: pam_unix(sshd:session): session closed for user %u",
    "sshd: Received disconnect from %i port %n: disconnected by user",
    "kernel: eth%n: link down",
    "kernel: eth%n: link up, %nMbps, full-duplex",
    "kernel: Out of memory: Killed process %n (%u) total-vm:%nkB",
    "kernel: EXT4-fs (mmcblk0p%n): mounted filesystem with ordered data mode",
    "kernel: usb %n-%n: new high-speed USB device number %n using ehci",
    "kernel: usb %n-%n: USB disconnect, device number %n",
    "kernel: CPU%n: Core temperature above threshold, cpu clock throttled (total events = %n)",
    "kernel: CPU%n: Core temperature/speed normal",
    "systemd: Started Session %n of user %u.",
    "systemd: Starting Daily apt upgrade and clean activities...",
    "systemd: outpost.service: Main process exited, code=exited, status=%n/FAILURE",
    "systemd: outpost.service: Scheduled restart job, restart counter is at %n.",
    "CRON: (%u) CMD (%p)",
    "nginx: %i - - \"GET %p HTTP/1.1\" 200 %n",
    "nginx: %i - - \"POST %p HTTP/1.1\" 201 %n",
    "nginx: upstream timed out (110: Connection timed out) while reading response header from upstream, client: %i",
    "plc: pump %n started, pressure=%f flow=%f",
    "plc: pump %n stopped after %n s",
    "plc: valve %n position %f does not follow its setpoint %f",
    "plc: watchdog of module %n expired, restarting module",
    "plc: cycle %n took %f ms",
    "modem: registered to network %n, signal -%n dBm",
    "modem: lost registration, searching",
    "modem: SIM card not inserted",
    "mqttd: New client connected from %i as %x (p2, c1, k60, u'%u').",
    "mqttd: Client %x disconnected due to protocol error.",
    "mqttd: Socket error on client %x, disconnecting.",
    "hdfs: Received block blk_%n of size %n from %i",
    "hdfs: PacketResponder %n for block blk_%n terminating",
    "hdfs: Deleting block blk_%n file %p/%x",
];

fn line(message: &str, at: usize, rng: &mut fastrand::Rng) -> String {
    let (program, words) = message.split_once(": ").unwrap_or(("app", message));
    let text = filled(words, rng);
    let (minute, second) = (at / 60 % 60, at % 60);
    match program {
        "nginx" | "hdfs" => {
            format!("2026-11-26T10:{minute:02}:{second:02}.{:03}Z {program} {text}", at % 1000)
        }
        _ => format!("Nov 26 10:{minute:02}:{second:02} gw-17 {program}[{}]: {text}", rng.u16(1..)),
    }
}

fn filled(words: &str, rng: &mut fastrand::Rng) -> String {
    let mut out = String::new();
    let mut rest = words;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let (kind, tail) = behind.split_at(1);
        rest = tail;
        out.push_str(&match kind {
            "n" => rng.u32(0..100_000).to_string(),
            "i" => format!("10.{}.{}.{}", rng.u8(..), rng.u8(..), rng.u8(..)),
            "x" => format!("{:016x}", rng.u64(..)),
            "u" => ["root", "alice", "bob", "operator", "www-data"][rng.usize(0..5)].to_owned(),
            "p" => format!("/srv/data/{}/{}", ["north", "south", "east"][rng.usize(0..3)], rng.u16(..)),
            _ => format!("{:.2}", rng.f64() * 100.0),
        });
    }
    out + rest
}
