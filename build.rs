//! Facts about the build, and the proof that the model files are those that their manifest names.
//!
//! What is not known (no git, no repository) is `unknown`, with a warning, and never fails the build. A model file that
//! differs from its manifest does: the binary would carry a model that nobody has measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    commit();
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=OUTPOST_TARGET={target}");
    println!("cargo::rustc-env=OUTPOST_FEATURES={}", features().join(" "));
    println!("cargo::rustc-env=OUTPOST_RUSTC={}", rustc().unwrap_or_else(|| "unknown".into()));
    for dir in model_dirs(Path::new("models")) {
        if let Err(problem) = models(&dir) {
            println!("cargo::error={problem}");
        }
    }
}

/// Every folder of a model, in order of name.
fn model_dirs(root: &Path) -> Vec<PathBuf> {
    println!("cargo::rerun-if-changed={}", root.display());
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

fn commit() {
    let commit = own_commit().unwrap_or_else(|why| {
        println!(
            "cargo::warning=the program will name no commit, as there is none to be found ({why}); to have it named, install \
             git and build in a clone of Outpost's repository"
        );
        "unknown".into()
    });
    println!("cargo::rustc-env=OUTPOST_COMMIT={commit}");
}

/// The commit of these sources, with `-dirty` if what goes into the program differs from it; or why there is none.
fn own_commit() -> Result<String, String> {
    // An unpacked archive may lie in somebody's repository, whose commits say nothing of it.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return Err("the folder belongs to another repository".into());
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // HEAD moves with a checkout, the log with every commit.
    for name in ["HEAD", "logs/HEAD"] {
        if let Ok(path) = git(&["rev-parse", "--git-path", name]) {
            rerun_if_changed(&path);
        }
    }
    // Whatever changes there has the program compiled anew, so asking anew costs nothing more.
    INTO_THE_PROGRAM.iter().for_each(|path| rerun_if_changed(path));
    let changes =
        git(&[&["status", "--porcelain", "--untracked-files=no", "--"], INTO_THE_PROGRAM].concat())?;
    Ok(if changes.is_empty() { commit } else { commit + "-dirty" })
}

const INTO_THE_PROGRAM: &[&str] = &["build.rs", "Cargo.toml", "Cargo.lock", "src", "models"];

/// What git prints, or what it says is wrong.
fn git(args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .arg("--no-optional-locks")
        .args(args)
        .output()
        .map_err(|e| format!("git: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("git: {}", text(&output.stderr).lines().next().unwrap_or_default()))
}

/// A path that does not exist would have everything built anew for ever.
fn rerun_if_changed(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn features() -> Vec<&'static str> {
    let on = |name: &&str| std::env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase())).is_some();
    ["gateway", "aggregator", "demo", "websocket", "tflite"].into_iter().filter(on).collect()
}

/// The compiler's version, which is that of the standard library inside the program.
fn rustc() -> Option<String> {
    let output = Command::new(std::env::var_os("RUSTC")?).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().nth(1).map(str::to_owned)
}

/// Holds every file that `manifest.json` names against its SHA-256.
fn models(dir: &Path) -> Result<(), String> {
    let manifest = dir.join("manifest.json");
    println!("cargo::rerun-if-changed={}", dir.display());
    let Ok(text) = std::fs::read(&manifest) else {
        println!("cargo::warning={} is missing: the model's files are not checked", manifest.display());
        return Ok(());
    };
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|e| {
        format!("{} is not JSON ({e}); restore it: git checkout -- models", manifest.display())
    })?;
    let Some(files) = json["files"].as_object() else {
        return Err(format!("{} names no files; restore it: git checkout -- models", manifest.display()));
    };
    for (name, entry) in files {
        let wanted = entry["sha256"].as_str().or(entry.as_str()).unwrap_or_default();
        let path = dir.join(name);
        let bytes = std::fs::read(&path)
            .map_err(|e| format!("{}: {e}; restore it: git checkout -- models", path.display()))?;
        let found = hex(&Sha256::digest(&bytes));
        if found != wanted {
            return Err(format!(
                "{} is not the file that manifest.json names (found sha256 {found}, wanted {wanted}); restore both with \
                 `git checkout -- models`, or export the model anew so that the manifest is written with it",
                path.display()
            ));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}
