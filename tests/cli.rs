//! The real binary in fresh folders: help, exit codes, mistakes told at once, documents that cannot drift.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A folder of its own, and the binary run inside it.
struct Shop {
    dir: tempfile::TempDir,
}

impl Shop {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("temp dir") }
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let shop = Self::new();
        for (name, text) in files {
            std::fs::write(shop.dir.path().join(name), text).expect("write");
        }
        shop
    }

    fn run(&self, line: &str) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args(line.split_whitespace())
            .current_dir(self.dir.path())
            .env_remove("NO_COLOR")
            .stdin(std::process::Stdio::null())
            .output()
            .expect("the binary starts");
        Said::from(output)
    }
}

struct Said {
    out: String,
    err: String,
    code: i32,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            out: text(output.stdout),
            err: text(output.stderr),
            code: output.status.code().expect("an exit code"),
        }
    }
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// Takes any port, no certificates: a configuration that is good on every machine.
const LONELY: &str = "[mqtt]\ntls = \"off-insecure\"\nport = 1883\n[http]\nlisten = \"127.0.0.1:0\"\n\
                      [spool]\nbytes_max = \"4 MiB\"\n";

#[test]
fn the_front_page_names_every_command_and_every_page_shows_an_example() {
    let shop = Shop::new();
    let front = shop.run("--help");
    assert_eq!((front.code, front.err.as_str()), (0, ""));
    assert_eq!(front.out, shop.run("").out);
    for command in ["demo", "replay", "check", "run", "aggregate", "spool", "version"] {
        assert!(front.out.contains(&format!("\n  {command} ")), "{command}");
        let page = shop.run(&format!("{command} --help"));
        assert_eq!(page.code, 0);
        assert!(page.out.contains("Examples:\n  outpost ") && page.out.contains("--json"), "{}", page.out);
        assert_eq!(page.out, shop.run(&format!("help {command}")).out);
    }
}

#[test]
fn nothing_is_coloured_unless_a_person_looks_or_asks() {
    let shop = Shop::new();
    assert!(!shop.run("help").out.contains('\x1b'));
    assert!(shop.run("help --color always").out.contains('\x1b'));
    assert!(!shop.run("help --color never").out.contains('\x1b'));
}

#[test]
fn a_command_line_that_cannot_be_understood_ends_with_two_and_a_hint() {
    let shop = Shop::new();
    for (line, hint) in [
        ("chekc", "did you mean `check`?"),
        ("check --ofline", "did you mean `--offline`?"),
        ("check --config", "`outpost help check` explains it"),
        ("demo --for 1s", "at least 30 s"),
    ] {
        let said = shop.run(line);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{line}");
        assert!(said.err.contains(hint), "{line}: {}", said.err);
    }
}

#[test]
fn a_good_configuration_is_said_to_be_fine_and_nothing_is_written() {
    let shop = Shop::with(&[("outpost.toml", LONELY)]);
    let said = shop.run("check --offline --json");
    let report = said.json();
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["errors"], 0);
    // Plaintext is a warning: it was asked for by name, and it is still worth saying.
    assert_eq!(said.code, 10);
    assert_eq!(std::fs::read_dir(shop.dir.path()).expect("folder").count(), 1, "only outpost.toml");
}

#[test]
fn all_mistakes_of_a_file_come_at_once_with_their_lines() {
    let shop = Shop::with(&[("outpost.toml", "devise = \"x\"\n[mqtt]\nport = 0\n[windows]\nlength = 5\n")]);
    let said = shop.run("check --offline");
    assert_eq!(said.code, 20);
    for part in [
        "outpost.toml:1: devise",
        "outpost.toml:3: mqtt.port = 0",
        "outpost.toml:5: windows.length = 5",
        "3 to mend",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    let report = shop.run("check --offline --json").json();
    assert_eq!((&report["ok"], &report["errors"]), (&Value::from(false), &Value::from(3)));
}

#[test]
fn missing_certificates_and_recordings_are_told_with_the_next_step() {
    let file = "[http]\nlisten = \"127.0.0.1:0\"\n[[source]]\nname = \"plant\"\nkind = \"replay\"\npaths = \"gone.csv\"\n";
    let shop = Shop::with(&[("outpost.toml", file)]);
    let report = shop.run("check --offline --json").json();
    let findings = report["findings"].as_array().expect("findings");
    for area in ["certificates", "source"] {
        let finding = findings.iter().find(|f| f["area"] == area && f["mark"] == "error").expect(area);
        assert_ne!(finding["next"], "", "{finding}");
    }
}

#[test]
fn a_broker_that_is_not_there_is_told() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("address");
    let file = LONELY.replace("port = 1883", &format!("port = {}\nhost = \"127.0.0.1\"", free.port()));
    let shop = Shop::with(&[("outpost.toml", &file)]);
    let said = shop.run("check");
    assert_eq!(said.code, 20);
    assert!(said.out.contains("nothing listens there"), "{}", said.out);
}

#[test]
fn the_seat_is_told_by_the_name_of_the_file_or_by_option() {
    let shop = Shop::with(&[("aggregator.toml", LONELY), ("x.toml", "silent_after = \"1 min\"")]);
    let seat = |line: &str| shop.run(line).json()["seat"].clone();
    assert_eq!(seat("check --json --offline -c aggregator.toml"), "aggregator");
    assert_eq!(seat("check --json --offline -c x.toml"), "agent");
    assert_eq!(seat("check --json --offline -c x.toml --seat aggregator"), "aggregator");
}

#[cfg(feature = "gateway")]
#[test]
fn a_stopped_spool_tells_its_books_its_blocks_and_its_records() {
    use outpost::clock;
    use outpost::reading::{ChannelId, Reading};
    use outpost::spool::{Options, open_dir};
    use outpost::wire::Record;

    let shop = Shop::new();
    let dir = shop.dir.path().join("outpost-data/spool");
    let (mut spool, _) = open_dir(&dir, Options::default(), clock::stamp()).expect("a new spool");
    for n in 0..3 {
        let channel = ChannelId::new("pump1.temp").expect("a name");
        spool.admit(vec![Record::Reading(Reading::new(channel, clock::wall(), Ok(f64::from(n))))]);
    }
    spool.commit(clock::stamp()).expect("a commit");
    let held = shop.run("spool stat --dir outpost-data/spool");
    assert_eq!(held.code, 1);
    assert!(held.err.contains("in use"), "{}", held.err);
    drop(spool);

    let stat = shop.run("spool stat --json --dir outpost-data/spool").json();
    assert_eq!(stat["lanes"]["raw"]["admitted"], 3, "{stat:#}");
    assert_eq!(
        (&stat["lanes"]["raw"]["pending"], &stat["lanes"]["raw"]["balances"]),
        (&3.into(), &true.into())
    );
    let configured = Shop::with(&[("outpost.toml", LONELY)]);
    std::fs::rename(shop.dir.path().join("outpost-data"), configured.dir.path().join("outpost-data"))
        .expect("moved");
    assert!(configured.run("spool stat").out.contains("admitted ="), "by the configuration's data_dir");
    assert!(configured.run("spool ls").out.starts_with("raw:1-3 "));
    let exported = configured.run("spool export").out;
    assert_eq!(exported.lines().count(), 3);
    let first: Value = serde_json::from_str(exported.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&first["lane"], &first["seq"]), (&"raw".into(), &1.into()));

    let none = configured.run("spool stat --dir nowhere --json");
    assert_eq!((none.code, &none.json()["ok"]), (1, &false.into()));
}

#[cfg(feature = "gateway")]
#[test]
fn what_init_writes_is_what_check_finds_nothing_wrong_with_but_missing_certificates() {
    let shop = Shop::new();
    let written = shop.run("init");
    assert!(written.code == 0 && written.out.contains("outpost check -c outpost.toml"), "{}", written.err);
    let file = std::fs::read_to_string(shop.dir.path().join("outpost.toml")).expect("written");
    assert_eq!(shop.run("init --to -").out, file, "a machine that stays the same");
    let report = shop.run("check --offline --json").json();
    let errors = report["findings"].as_array().unwrap().iter().filter(|f| f["mark"] == "error");
    let areas: Vec<_> = errors.map(|f| f["area"].as_str().unwrap()).collect();
    assert_eq!(areas, ["certificates", "certificates"], "{report}");
    let again = shop.run("init");
    assert!(again.code == 1 && again.err.contains("--replace takes its place"), "{}", again.err);
    assert_eq!(shop.run("init --replace --json").json()["file"], "outpost.toml");
}

#[cfg(feature = "gateway")]
#[test]
fn the_survey_of_this_machine_is_told_to_people_and_to_scripts() {
    let shop = Shop::new();
    let people = shop.run("sensors");
    assert!(
        people.code == 0 && ["I2C", "SPI", "GPIO", "Serial"].iter().all(|s| people.out.contains(s)),
        "{}",
        people.out
    );
    let json = shop.run("sensors --json").json();
    assert!(
        ["i2c", "spi", "gpio", "published", "buffers", "serial"].iter().all(|key| json[key].is_array()),
        "{json}"
    );
}

#[test]
fn the_program_proves_its_parts_and_leaves_nothing_behind() {
    let shop = Shop::new();
    let said = shop.run("selftest --dir . --json");
    let report = said.json();
    let names: Vec<_> = report["checks"].as_array().expect("checks").iter().map(|c| &c["name"]).collect();
    assert_eq!(
        names,
        ["unwinding", "dates", "kernels", "student", "model", "sensor", "spool", "tls", "mqtt"]
    );
    assert_eq!((said.code, &report["ok"]), (0, &Value::Bool(true)), "{report}");
    assert_eq!(std::fs::read_dir(shop.dir.path()).expect("folder").count(), 0);
    let people = shop.run("selftest --dir .").out;
    assert_eq!(people.lines().filter(|line| line.starts_with("ok ")).count(), names.len(), "{people}");
}

#[test]
fn a_part_that_fails_is_named_and_the_others_are_checked_all_the_same() {
    let shop = Shop::new();
    // The process that would be killed is another program, which promises nothing.
    let said = shop.run("selftest --dir . --json --runner true");
    let report = said.json();
    let failed: Vec<_> =
        report["checks"].as_array().expect("checks").iter().filter(|c| c["ok"] == false).collect();
    assert!(said.code == 1 && failed.len() == 1 && failed[0]["name"] == "spool", "{report}");
    assert!(failed[0]["says"].as_str().is_some_and(|why| why.contains("ended by itself")), "{report}");
    let nowhere = shop.run("selftest --dir missing");
    assert!(nowhere.code == 1 && nowhere.err.contains("--dir"), "{}", nowhere.err);
}

#[test]
fn a_service_manager_hears_that_the_agent_is_ready_is_well_and_stops() {
    let shop = Shop::with(&[("outpost.toml", LONELY)]);
    let path = shop.dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).expect("socket");
    let mut agent = Command::new(env!("CARGO_BIN_EXE_outpost"))
        .arg("run")
        .current_dir(shop.dir.path())
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .env_remove("WATCHDOG_PID")
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the binary starts");
    let heard = || {
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).expect("a message");
        String::from_utf8(bytes[..length].to_vec()).expect("UTF-8")
    };
    assert_eq!([heard(), heard(), heard()], ["READY=1\nSTATUS=", "WATCHDOG=1", "WATCHDOG=1"]);
    let agent_id = rustix::process::Pid::from_child(&agent);
    rustix::process::kill_process(agent_id, rustix::process::Signal::TERM).expect("signal");
    while heard() != "STOPPING=1" {}
    assert!(agent.wait().expect("its end").success());
}

#[test]
fn the_version_names_the_build() {
    let version = Shop::new().run("version --json").json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(["commit", "target", "rustc"].iter().all(|fact| version[fact].is_string()), "{version}");
    let features = version["features"].as_array().expect("features");
    for (name, is_on) in [("gateway", cfg!(feature = "gateway")), ("websocket", cfg!(feature = "websocket"))]
    {
        assert_eq!(features.iter().any(|f| f == name), is_on, "{name}: {version}");
    }
    let line = Shop::new().run("--version").out;
    assert!(line.starts_with(concat!("outpost ", env!("CARGO_PKG_VERSION"), " (")), "{line}");
    let program = std::fs::read(env!("CARGO_BIN_EXE_outpost")).expect("the binary");
    let is_whole = program.windows(line.len()).any(|bytes| bytes == line.as_bytes());
    assert!(is_whole, "packages find out by it what they hold: {line}");
}

/// What the script of the build, run in `dir`, says of the commit; and whether it warns.
fn commit_built_in(dir: &Path, path: Option<&str>) -> (String, bool) {
    let builds = Path::new(env!("OUT_DIR")).ancestors().nth(2).expect("the folder of build scripts");
    let scripts = std::fs::read_dir(builds).expect("folder").flatten();
    let scripts = scripts.filter(|entry| entry.file_name().to_string_lossy().starts_with("outpost-"));
    let scripts = scripts.map(|entry| entry.path().join("build-script-build"));
    // Of builds with other features some are older.
    let newest = scripts
        .filter(|script| script.is_file())
        .max_by_key(|script| script.metadata().and_then(|m| m.modified()).expect("its time"))
        .expect("the script was built");
    let mut script = Command::new(newest);
    script.current_dir(dir).env("TARGET", "here");
    if let Some(path) = path {
        script.env("PATH", path);
    }
    let output = script.output().expect("the script runs");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let commit = said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=OUTPOST_COMMIT="));
    (commit.expect("a commit").into(), said.contains("cargo::warning="))
}

#[test]
fn a_build_names_its_own_commit_or_warns_that_it_knows_none() {
    let clone = tempfile::tempdir().expect("temp dir");
    let git = |line: &str| {
        let config = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.invalid"];
        let output =
            Command::new("git").args(config).args(line.split_whitespace()).current_dir(&clone).output();
        assert!(output.as_ref().is_ok_and(|o| o.status.success()), "git {line}: {output:?}");
    };
    assert_eq!(commit_built_in(clone.path(), None), ("unknown".into(), true), "in no repository");
    std::fs::create_dir(clone.path().join("src")).expect("folder");
    std::fs::write(clone.path().join("src/main.rs"), "fn main() {}").expect("write");
    git("init --quiet");
    assert_eq!(commit_built_in(clone.path(), None), ("unknown".into(), true), "before the first commit");
    git("add src");
    git("commit --quiet --message=first");
    let (commit, has_warned) = commit_built_in(clone.path(), None);
    assert!(commit.len() == 12 && commit.bytes().all(|b| b.is_ascii_hexdigit()) && !has_warned, "{commit}");
    // An unpacked archive in it.
    assert_eq!(commit_built_in(&clone.path().join("src"), None), ("unknown".into(), true));
    assert_eq!(commit_built_in(clone.path(), Some("/nowhere")), ("unknown".into(), true), "without git");
    // What does not go into the program does not change it.
    std::fs::write(clone.path().join("README"), "notes").expect("write");
    assert_eq!(commit_built_in(clone.path(), None), (commit.clone(), false));
    std::fs::write(clone.path().join("src/main.rs"), "fn main() { println!(); }").expect("write");
    assert_eq!(commit_built_in(clone.path(), None), (format!("{commit}-dirty"), false));
}

#[test]
fn the_example_files_are_those_that_the_binary_prints() {
    for (seat, name) in [("agent", "outpost.toml"), ("aggregator", "aggregator.toml")] {
        let printed = Shop::new().run(&format!("check --example {seat}")).out;
        let kept = project_file(&format!("examples/{name}"));
        assert!(printed == kept, "write it anew: outpost check --example {seat} > examples/{name}");
    }
}

#[test]
fn the_reference_in_the_readme_is_the_one_that_the_binary_prints() {
    let readme = project_file("README.md");
    for seat in ["agent", "aggregator"] {
        let printed = Shop::new().run(&format!("check --reference {seat}")).out;
        let (begin, end) = (format!("<!-- reference:{seat} -->"), format!("<!-- /reference:{seat} -->"));
        let kept =
            readme.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end)).expect("both markers").0;
        assert!(
            kept.trim() == printed.trim(),
            "put the output of `outpost check --reference {seat}` between its markers"
        );
    }
}

fn project_file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A gateway promised ten records of which four have arrived; a stopped agent's spool, and an aggregator's database.
#[cfg(feature = "demo")]
#[test]
fn the_ledger_is_verified_on_either_side() {
    use outpost::aggregator::store::{Content, Delivery, Retention, Signs, Store, Trust};
    use outpost::spool;
    use outpost::wire::heartbeat::{Health, Heartbeat, LaneBeat};
    use outpost::wire::{GapReason, Lane, Notice, Record};

    let shop = Shop::new();
    let now = outpost::clock::stamp();
    let notice =
        || Record::Notice(Notice { code: "n".into(), text: "something to say".into(), at: now.wall });
    let (mut spool, _) =
        spool::open_dir(&shop.dir.path().join("spool"), spool::Options::default(), now).unwrap();
    spool.admit((0..10).map(|_| notice()).collect());
    spool.commit(now).unwrap();
    let epoch = spool.epoch();
    drop(spool);
    let gateway = shop.run("ledger --spool spool");
    assert!(gateway.code == 0 && gateway.out.contains("✓ every record"), "{}{}", gateway.out, gateway.err);
    let alarm = shop.run("ledger --spool spool --json").json()["lanes"][0].clone();
    assert_eq!((alarm["pending"].as_u64(), alarm["found"].as_u64()), (Some(10), Some(10)));
    let none = shop.run("ledger --spool nowhere");
    assert!(none.code == 1 && none.err.contains("there is no spool"), "{}", none.err);
    let nobody = shop.run("ledger --url http://127.0.0.1:1");
    assert!(nobody.code == 1 && nobody.err.contains("--spool"), "{}", nobody.err);

    let mut store = Store::open(&shop.dir.path().join("fleet.sqlite"), Retention::default()).unwrap();
    let delivery = |first, last, content| Delivery {
        device: "gw-1".into(),
        lane: Lane::Alarm,
        epoch,
        first,
        last,
        sealed: now,
        content,
    };
    let records = Content::Records { records: (0..4).map(|_| notice()).collect(), payload: Vec::new() };
    let mut lanes = [LaneBeat { epoch: epoch.to_be_bytes(), ..LaneBeat::default() }; 4];
    lanes[0] =
        LaneBeat { admitted: 10, acknowledged: 4, evicted: 6, by_reason: [0, 6, 0, 0, 0, 0], ..lanes[0] };
    let beat = Heartbeat {
        serial: 1,
        at: now,
        uptime_s: 1,
        version: "1".into(),
        model_hash_prefix: [0; 8],
        health: Health(0),
        lanes,
        oldest_age_s: 0,
        spool_bytes: 0,
        episodes_open: 0,
    };
    let signs = Signs { heartbeat: Some((beat.encode(), Trust::Unsigned)), ..Signs::default() };
    let signs = [("gw-1".to_owned(), signs)].into();
    store.write(now.wall, &[delivery(1, 4, records)], &signs).unwrap();
    let young = shop.run("ledger --store fleet.sqlite --grace 1h");
    assert!(young.code == 0 && young.out.contains("6 records on their way"), "{}{}", young.out, young.err);
    let gap = shop.run("ledger --store fleet.sqlite --grace 0s --device gw-1");
    assert!(gap.code == 1 && gap.out.contains("5–10") && gap.out.contains("disk_full: 6"), "{}", gap.out);
    let json = shop.run("ledger --store fleet.sqlite --grace 0s --json");
    assert_eq!((json.code, json.json()["devices"][0]["undeclared"].as_u64()), (1, Some(6)));
    store.write(now.wall, &[delivery(5, 10, Content::Gap(GapReason::DiskFull))], &[].into()).unwrap();
    assert_eq!(shop.run("ledger --store fleet.sqlite --grace 0s").code, 0);
    let unknown = shop.run("ledger --store fleet.sqlite --device gw-2");
    assert!(unknown.code == 1 && unknown.err.contains("no device gw-2"), "{}", unknown.err);
}

#[test]
#[cfg(feature = "gateway")]
fn a_recording_is_judged_row_by_row_with_a_reason() {
    use std::fmt::Write as _;
    let mut text = String::from("timestamp,value\n");
    for n in 0..2000 {
        let x = 20.0 + f64::from(n % 7) + if n == 1500 { 80.0 } else { 0.0 };
        writeln!(text, "{},{x}", 1_790_000_000 + 60 * n).unwrap();
        if n == 1000 {
            text += "yesterday,20\n";
        }
    }
    let shop = Shop::with(&[("cpu.csv", &text)]);
    let said = shop.run("detect cpu.csv");
    assert_eq!((said.code, said.out.lines().count()), (0, 2001));
    let flagged: Vec<_> = said.out.lines().filter(|line| line.contains(",1,")).collect();
    assert_eq!(flagged.len(), 1, "{flagged:?}");
    assert!(flagged[0].contains(",102,") || flagged[0].contains("above every value"), "{flagged:?}");
    assert!(said.err.contains("line 1003: "), "{}", said.err);
    let json = shop.run("detect --json cpu.csv").json();
    assert_eq!((&json["flag"], &json["channel"]), (&1.into(), &"cpu".into()));
    let refused = shop.run("detect --column gpu cpu.csv");
    assert!(refused.code == 1 && refused.err.contains("there are: cpu"), "{}", refused.err);
}
