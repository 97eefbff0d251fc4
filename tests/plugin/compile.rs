//! The test plug-in and the test delegate, made of their sources.

use std::path::Path;
use std::process::Command;

/// Compiles the shared library `out` of `tests/plugin/NAME.c`, with `more` told to the compiler.
pub fn compile(name: &str, out: &Path, more: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/plugin/{name}.c"));
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O3", "-o"]).arg(out).arg(source).args(more);
    assert!(cc.status().expect("a C compiler").success());
}
