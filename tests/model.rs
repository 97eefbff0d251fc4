//! `outpost model` as it is typed: the real binary, a real checkpoint, a fresh folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A tiny checkpoint with a tokenizer; see `tests/golden/glm/README.md`.
fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm").join(name)
}

/// Runs `outpost` in `dir`.
fn outpost(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_outpost"))
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}{}", said(output)))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Imports `name` as `tiny.bundle` into a fresh folder.
fn shop(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let source = checkpoint(name);
    let made = outpost(dir.path(), &["model", "import", source.to_str().unwrap(), "--to", "tiny.bundle"]);
    assert!(made.status.success(), "{}", said(&made));
    dir
}

#[test]
fn a_checkpoint_becomes_a_bundle_that_is_listed_and_verified() {
    let dir = shop("glm_edge");
    let listed = json(&outpost(dir.path(), &["model", "list", "--json"]));
    let row = &listed[0];
    assert_eq!(
        (&row["name"], &row["family"], &row["layers"]),
        (&"tiny.bundle".into(), &"glm".into(), &2.into())
    );
    assert_eq!((&row["tokenizer"], &row["vocab"]), (&true.into(), &288.into()));
    let verified = json(&outpost(dir.path(), &["model", "verify", "tiny.bundle", "--json"]));
    assert_eq!((&verified["ok"], &verified["model"]), (&true.into(), &row["model"]));
    assert_eq!(verified["golden_tokens"], 32);
    let again = outpost(
        dir.path(),
        &["model", "import", checkpoint("glm_edge").to_str().unwrap(), "--to", "tiny.bundle"],
    );
    assert_eq!(again.status.code(), Some(1), "a bundle of that name is not replaced unasked");
    assert!(said(&again).contains("exists already"), "{}", said(&again));
}

#[test]
fn one_flipped_bit_in_the_weights_is_found() {
    let dir = shop("glm4_bias");
    let weights = dir.path().join("tiny.bundle/weights.bin");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&weights, bytes).unwrap();
    let verified = outpost(dir.path(), &["model", "verify", "tiny.bundle"]);
    assert_eq!(verified.status.code(), Some(1));
    assert!(said(&verified).contains("import"), "the next step: {}", said(&verified));
}

#[test]
fn what_is_no_checkpoint_is_refused_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.gguf"), b"GGUF\x03\0\0\0 and then something else").unwrap();
    let refused = outpost(dir.path(), &["model", "import", "notes.gguf"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{}", said(&refused));
    let missing = outpost(dir.path(), &["model", "verify", "nowhere"]);
    assert_eq!(missing.status.code(), Some(1));
    let unsaid = outpost(dir.path(), &["model", "imprt", "x"]);
    assert_eq!(unsaid.status.code(), Some(2));
    assert!(said(&unsaid).contains("did you mean `import`"), "{}", said(&unsaid));
}

#[test]
fn what_an_import_that_could_go_on_leaves_behind_is_told() {
    let dir = tempfile::tempdir().unwrap();
    // A folder where the weights should go: they can't be written, and the checkpoint is right.
    std::fs::create_dir_all(dir.path().join("tiny.bundle.partial/weights.bin")).unwrap();
    let source = checkpoint("glm_edge");
    let args = ["model", "import", source.to_str().unwrap(), "--to", "tiny.bundle"];
    let failed = outpost(dir.path(), &args);
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    let told = said(&failed);
    assert!(told.contains("is kept in tiny.bundle.partial: the same command goes on there"), "{told}");
}

#[test]
fn a_bundle_and_the_student_inside_are_measured() {
    let dir = shop("glm_edge");
    let args = "model bench tiny.bundle --prompt 40 --generate 5 --depth 3 --repeat 2 --threads 1 --kv int8 --isa portable --json";
    let args: Vec<&str> = args.split(' ').collect();
    let measured = json(&outpost(dir.path(), &args));
    let listed = json(&outpost(dir.path(), &["model", "list", "--json"]));
    assert_eq!(measured["model"], listed[0]["model"]);
    assert_eq!((&measured["isa"], &measured["kv_format"]), (&"portable".into(), &"int8".into()));
    for key in ["prefill_tokens_per_s", "decode_tokens_per_s"] {
        let speeds = measured[key]["all"].as_array().unwrap();
        assert_eq!(speeds.len(), 2, "{key}: {measured}");
        assert!(measured[key]["mean"].as_f64().unwrap() > 1.0, "{key}: {measured}");
    }
    let [load, first] = ["load_ms", "first_token_ms"].map(|key| measured[key].as_f64().unwrap());
    assert!(0.0 < load && load < first, "{measured}");
    assert!(measured["rss_bytes_peak"].as_u64().unwrap() >= measured["rss_bytes"].as_u64().unwrap());

    let args = "model bench builtin --repeat 1 --generate 0 --json";
    let student = json(&outpost(dir.path(), &args.split(' ').collect::<Vec<_>>()));
    assert_eq!((&student["format"], &student["decode_tokens_per_s"]["mean"]), (&"f32".into(), &Value::Null));
    let nowhere = outpost(dir.path(), &["model", "bench", "tiny.bundle", "--isa", "abacus"]);
    assert!(said(&nowhere).contains("use one of portable"), "{}", said(&nowhere));
    let long = outpost(dir.path(), &["model", "bench", "tiny.bundle", "--prompt", "900000"]);
    assert!(said(&long).contains("context_tokens = 900000 is not possible"), "{}", said(&long));
}

#[test]
fn a_chat_of_one_message_streams_one_answer_and_the_same_seed_gives_the_same() {
    use std::io::Write as _;
    let dir = shop("glm_edge");
    let answer = |args: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args(["model", "chat", "tiny.bundle", "--max-tokens", "30"])
            .args(args.split(' '))
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all("What is a pump?\n".as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(answer("--seed 7 --temperature 1"), answer("--seed 7 --temperature 1"));
    assert_ne!(answer("--seed 7 --temperature 1"), answer("--seed 8 --temperature 1"));
    assert!(answer("--temperature 0").len() > 5);
    let mute = shop("glm4_deep");
    let refused = outpost(mute.path(), &["model", "chat", "tiny.bundle"]);
    assert!(said(&refused).contains("no tokenizer.json"), "{}", said(&refused));
}

#[test]
fn ctrl_c_ends_the_answer_and_not_the_program() {
    use std::io::{Read as _, Write as _};
    let dir = shop("glm_edge");
    let answer = |interrupt: bool| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args([
                "model",
                "chat",
                "tiny.bundle",
                "--context",
                "512",
                "--max-tokens",
                "480",
                "--temperature",
                "0",
            ])
            .args(["--threads", "1"])
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
        let mut text = vec![0; 1];
        let mut out = child.stdout.take().unwrap();
        out.read_exact(&mut text).unwrap();
        if interrupt {
            let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        }
        out.read_to_end(&mut text).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}");
        text
    };
    let (whole, cut) = (answer(false), answer(true));
    assert!(cut.len() < whole.len() / 2, "{} of {} bytes", cut.len(), whole.len());
    assert!(whole.starts_with(cut.trim_ascii_end()), "what was written is the beginning of the whole");
}
