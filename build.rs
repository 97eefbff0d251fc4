//! Facts about the build, and the proof that the model files are those that their manifest names.
//!
//! What is not known (no git, no repository) is `unknown` and never fails the build. A model file that differs from
//! its manifest does: the binary would carry a model that nobody has measured.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    commit();
    let target = std::env::var("TARGET").unwrap_or_else(|_| "unknown".into());
    println!("cargo::rustc-env=OUTPOST_TARGET={target}");
    println!("cargo::rustc-env=OUTPOST_FEATURES={}", features().join(","));
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
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|o| o.status.success())?;
        String::from_utf8(output.stdout).ok().map(|s| s.trim().to_owned()).filter(|s| !s.is_empty())
    };
    // HEAD moves with a checkout, the log with every commit. A path that does not exist would rebuild for ever.
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|p| Path::new(p).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=OUTPOST_COMMIT={commit}");
}

fn features() -> Vec<&'static str> {
    let on = |name: &&str| std::env::var_os(format!("CARGO_FEATURE_{}", name.to_uppercase())).is_some();
    ["gateway", "aggregator", "demo", "tflite"].into_iter().filter(on).collect()
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
