//! Reads the sources and holds what no compiler holds: the layers, purity of the core, and the house rules.
//!
//! A rule here has a test of its own below that shows it failing; a rule that cannot fail holds nothing.

use std::path::{Path, PathBuf};

/// Every room with its layer, from the words at the bottom to the shell at the top.
const LAYERS: &[(Layer, &[&str])] = &[
    (Layer::Words, &["glob", "limits", "named", "reading", "time", "units"]),
    (
        Layer::Core,
        &[
            "ask",
            "calibrate",
            "detect",
            "digest",
            "episode",
            "facts",
            "features",
            "field",
            "frame",
            "sync",
            "templates",
            "window",
            "wire",
        ],
    ),
    (Layer::Footing, &["accel", "clock", "files", "hash", "observe", "tls"]),
    (Layer::Edges, &["glm", "http", "infer", "link", "sensor", "spool"]),
    (Layer::Compose, &["agent", "aggregator"]),
    (Layer::Shell, &["cli", "config", "demo"]),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Words,
    Core,
    Footing,
    Edges,
    Compose,
    Shell,
}

impl Layer {
    /// Rooms of words, core, footing and shell are one family each; edges meet only in the seats, and the seats never.
    fn rooms_know_each_other(self) -> bool {
        !matches!(self, Layer::Edges | Layer::Compose)
    }

    /// No clock, no input or output, no thread, no chance: all of that comes as an argument.
    fn is_pure(self) -> bool {
        self <= Layer::Core
    }
}

/// What pure code must not mention.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::io::stdin",
    "SystemTime",
    "Instant::now",
    "Rng::new(",
    "fastrand::bool(",
    "fastrand::f64(",
    "fastrand::u32(",
    "fastrand::u64(",
    "fastrand::usize(",
    "fastrand::shuffle(",
    "println!",
    "print!(",
];

/// What asks the operating system what time it is, which `clock` alone does: a second clock does not count the time
/// that a gateway was asleep, and cannot be told from outside.
const CLOCKS: &[&str] = &["SystemTime", "Instant::now", "clock_gettime", "Utc::now", "now_utc("];
const CLOCK_FILE: &str = "src/clock.rs";

/// The one crate that was made of a room, and where the product knows it by that name: all else says `glm::kernels`.
const KERNELS: (&str, &str) = ("outpost_kernels", "src/glm/mod.rs");

/// What ends a thread, and with it the agent, when somebody was wrong about what cannot happen.
const PANICS: &[&str] =
    &[".unwrap()", ".expect(", "panic!(", "unreachable!(", ".unwrap_err()", ".expect_err("];
/// Files that may, each with the reason why no input gets there.
const PANIC: &[(&str, &str)] = &[
    ("src/cli/args.rs", "the table of commands is a constant of this program"),
    (
        "src/config/document.rs",
        "the keys asked for are constants of this program, and every one is asked for by a test",
    ),
    ("src/wire/envelope.rs", "derived types without maps are written to memory"),
];

/// Files of tests that their module's name does not tell.
const TEST_FILES: &[&str] =
    &["src/digest/testing.rs", "src/glm/import/testing.rs", "src/glm/parity.rs", "src/glm/student/golden.rs"];

/// What is never left behind.
const LEFTOVERS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Paths of one machine, in pieces so that this file does not name them itself.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/tmp", "/w/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

const LINES_MAX: usize = 700;
/// Files that may be longer, such as tables.
const LONG: &[&str] = &[];
/// Files that may hold `unsafe`, each block with its reason.
const UNSAFE: &[&str] = &["src/clock.rs", "src/glm/memory.rs", "src/sensor/can/socket.rs"];
/// The rooms where every file may: what they give out is safe.
const UNSAFE_ROOMS: &[&str] = &["src/accel/ffi/", "src/glm/kernels/"];

#[test]
fn the_sources_keep_the_layers_and_the_house_rules() {
    let files = rust_files();
    assert!(files.len() > 40, "the sources were not found");
    let findings: Vec<String> = files.iter().flat_map(|(path, text)| look_at_rust(path, text)).collect();
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_room_of_the_library_has_a_layer() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let rooms = rooms_of(&lib);
    assert!(rooms.len() > 15, "the rooms were not found");
    let homeless: Vec<_> = rooms.iter().filter(|room| layer_of(room).is_none()).collect();
    assert!(homeless.is_empty(), "give each a layer in LAYERS: {homeless:?}");
    let gone = LAYERS.iter().flat_map(|(_, names)| *names).filter(|name| !rooms.iter().any(|r| r == *name));
    assert_eq!(gone.collect::<Vec<_>>(), Vec::<&&str>::new(), "rooms that are gone");
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let named = all_files().into_iter().filter_map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).ok()?;
        let found = MACHINE_PATHS.iter().find(|p| text.contains(**p))?;
        Some(format!("{}: {found}", path.display()))
    });
    assert_eq!(named.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn exceptions_are_still_needed() {
    for (path, text) in rust_files() {
        if LONG.contains(&path.as_str()) {
            assert!(text.lines().count() > LINES_MAX, "{path} needs no exception any more");
        }
        if UNSAFE.contains(&path.as_str()) {
            assert!(has_word(&code(&text), "unsafe"), "{path} needs no exception any more");
        }
        if PANIC.iter().any(|(file, _)| *file == path) {
            let product = without_tests(&path, &code(&text));
            assert!(PANICS.iter().any(|w| product.contains(w)), "{path} needs no exception any more");
        }
    }
    let files = all_files();
    let gone = TEST_FILES.iter().chain(PANIC.iter().map(|(path, _)| path)).chain(LONG).chain(UNSAFE);
    for path in gone {
        assert!(files.iter().any(|file| file == Path::new(path)), "{path} is gone");
    }
}

/// Everything wrong with one file, each as `path: what`.
fn look_at_rust(path: &str, text: &str) -> Vec<String> {
    let whole = code(text);
    let product = without_tests(path, &whole);
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push("does not open with //!, what it is for".into());
    }
    if text.lines().count() > LINES_MAX && !LONG.contains(&path) {
        found.push(format!("has more than {LINES_MAX} lines: part it by role"));
    }
    if has_word(&whole, "unsafe")
        && !UNSAFE.contains(&path)
        && !UNSAFE_ROOMS.iter().any(|room| path.starts_with(room))
    {
        found.push("holds unsafe and is not on the list".into());
    }
    found.extend(
        LEFTOVERS.iter().filter(|word| whole.contains(**word)).map(|word| format!("left behind: {word}")),
    );
    if path.starts_with("src/") && path != CLOCK_FILE {
        let asks = CLOCKS.iter().filter(|word| product.contains(**word));
        found.extend(asks.map(|word| format!("asks for the time itself ({word}): use crate::clock")));
    }
    if path.starts_with("src/") && path != KERNELS.1 && has_word(&product, KERNELS.0) {
        found.push(format!("goes past its layer ({}): use crate::glm::kernels", KERNELS.0));
    }
    if path.starts_with("src/") && !PANIC.iter().any(|(file, _)| *file == path) {
        let panics = PANICS.iter().filter(|word| product.contains(**word));
        found.extend(
            panics.map(|word| format!("can panic ({word}): handle it, or list it in PANIC with the reason")),
        );
    }
    if let Some((room, layer)) = room_of(path).and_then(|room| Some((room, layer_of(room)?))) {
        found.extend(imports(room, layer, path, &product));
        if layer.is_pure() {
            let flat = flat_imports(&product);
            let impure = IMPURE.iter().filter(|word| product.contains(**word) || flat.contains(**word));
            found.extend(impure.map(|word| format!("is pure and mentions {word}: take it as an argument")));
        }
    }
    found.into_iter().map(|what| format!("{path}: {what}")).collect()
}

fn imports(room: &str, layer: Layer, path: &str, product: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in crate_paths(product) {
        let Some(other) = layer_of(&name) else { continue };
        let allowed = name == room || other < layer || (other == layer && layer.rooms_know_each_other());
        if !allowed {
            found.push(format!("`{room}` ({layer:?}) uses `{name}` ({other:?}): imports point down only"));
        }
    }
    if longest_super_run(product) >= module_depth(path) {
        found.push("leaves its room through `super`: name it as crate::".into());
    }
    found
}

/// The names right below `crate` that the code mentions, `use crate::{a, b::c}` included.
fn crate_paths(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group_names(group)),
            None => names.push(identifier(rest)),
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The first name of each entry of an import group whose opening brace has been read.
fn group_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(identifier(group[start..i].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// Every `use a::{b, c::d};` of the code as `a::b` and `a::c`, one per line: what is grouped is imported all the same.
fn flat_imports(code: &str) -> String {
    let mut flat = String::new();
    for (at, _) in code.match_indices("::{") {
        let prefix: Vec<char> =
            code[..at].chars().rev().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
        let prefix: String = prefix.into_iter().rev().collect();
        for name in group_names(&code[at + "::{".len()..]) {
            flat.push_str(&format!("{prefix}::{name}\n"));
        }
    }
    flat
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// How many modules stand between the file and the crate: 1 for `src/a.rs` and `src/a/mod.rs`.
fn module_depth(path: &str) -> usize {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let parts = inner.split('/').count();
    if inner.ends_with("/mod") { parts - 1 } else { parts }
}

fn longest_super_run(code: &str) -> usize {
    let runs = code.match_indices("super::").map(|(at, word)| {
        let mut rest = &code[at..];
        let mut run = 0;
        while let Some(next) = rest.strip_prefix(word) {
            run += 1;
            rest = next;
        }
        run
    });
    runs.max().unwrap_or(0)
}

fn layer_of(room: &str) -> Option<Layer> {
    LAYERS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(layer, _)| *layer)
}

fn room_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    Some(inner.split_once('/').map_or_else(|| inner.trim_end_matches(".rs"), |(room, _)| room))
}

fn rooms_of(lib: &str) -> Vec<String> {
    lib.lines()
        .filter_map(|l| {
            let l = l.trim();
            l.strip_prefix("pub ").unwrap_or(l).strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
        })
        .collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let part_of_one = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].ends_with(part_of_one) && !code[at + word.len()..].starts_with(part_of_one)
    })
}

/// The code of the product: what stands before the test module, nothing of a file of tests.
fn without_tests(path: &str, code: &str) -> String {
    let named = path.ends_with("/tests.rs") || path.contains("/tests/") || path.ends_with("_tests.rs");
    if named || TEST_FILES.contains(&path) {
        return String::new();
    }
    let mut kept = String::new();
    let mut lines = code.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = line.starts_with("#[cfg(") && has_word(line, "test") && !line.contains("not(test");
        if opens_tests && lines.peek().is_some_and(|next| has_word(next, "mod") && next.ends_with('{')) {
            break;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// The text without comments and without what stands in quotes, line by line as it was.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = comment(rest).or_else(|| quoted(rest, out.chars().next_back()));
        match skipped {
            Some(length) => {
                out.push(' ');
                out.extend(rest[..length].chars().filter(|c| *c == '\n'));
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let bytes = rest.as_bytes();
    let mut i = 0;
    while i + 1 < bytes.len() {
        match &bytes[i..i + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return Some(i);
        }
    }
    Some(rest.len())
}

fn quoted(rest: &str, before: Option<char>) -> Option<usize> {
    let starts_word = !before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or(rest.strip_prefix('r')).filter(|_| starts_word);
    if let Some(after) = raw {
        let hashes = after.bytes().take_while(|b| *b == b'#').count();
        if after[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = rest.len() - after.len() + hashes + 1;
            return Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()));
        }
    }
    if rest.starts_with('"') {
        return Some(closing(rest, '"'));
    }
    // A character; a lifetime has no quote two places on, unless it is a character after all.
    let mut chars = rest.strip_prefix('\'')?.chars();
    match (chars.next()?, chars.next()?) {
        ('\\', _) => Some(closing(rest, '\'')),
        (c, '\'') => Some(2 + c.len_utf8()),
        _ => None,
    }
}

/// Length of a literal that begins with `quote`, escapes skipped.
fn closing(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

fn rust_files() -> Vec<(String, String)> {
    let rust = all_files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs"));
    rust.map(|path| {
        let text = std::fs::read_to_string(root().join(&path)).expect("a source file is UTF-8");
        (path.to_string_lossy().into_owned(), text)
    })
    .collect()
}

/// Every file of the project below the root, build output and version control aside.
fn all_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("folder").map(|e| e.expect("entry")) {
            let path = folder.join(entry.file_name());
            match entry.file_type().expect("file type") {
                kind if kind.is_dir() && !SKIPPED.contains(&entry.file_name().to_string_lossy().as_ref()) => {
                    folders.push(path);
                }
                kind if kind.is_file() => files.push(path),
                _ => {}
            }
        }
    }
    files.retain(|p| p != Path::new(".git"));
    files
}

const SKIPPED: &[&str] = &[".git", "target", "shared", "node_modules", "__pycache__"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rules, seen failing.
mod rules {
    use super::*;

    fn found(path: &str, body: &str) -> String {
        look_at_rust(path, &format!("//! A file.\n{body}")).join("\n")
    }

    #[test]
    fn an_import_that_points_up_is_found_however_it_is_written() {
        for body in [
            "use crate::agent::X;",
            "use crate::{limits, agent};",
            "use crate::{\n    limits::{A, B},\n    agent::{C, D},\n};",
            "fn f() { crate::agent::f() }",
            "pub(crate) use crate::agent;",
        ] {
            assert!(
                found("src/wire/mod.rs", body).contains("`wire` (Core) uses `agent` (Compose)"),
                "{body}"
            );
        }
        assert_eq!(found("src/wire/mod.rs", "use crate::{limits::A, digest::B};"), "");
    }

    #[test]
    fn edges_and_seats_do_not_know_their_neighbours() {
        assert!(
            found("src/spool/mod.rs", "use crate::link::X;").contains("`spool` (Edges) uses `link` (Edges)")
        );
        assert!(found("src/agent/mod.rs", "use crate::aggregator::X;").contains("Compose"));
        assert_eq!(
            found("src/spool/mod.rs", "use crate::clock; use crate::wire::Lane; use crate::spool::Y;"),
            ""
        );
    }

    #[test]
    fn the_kernels_crate_by_its_own_name_is_found() {
        assert!(found("src/infer/mod.rs", "use outpost_kernels::Matrix;").contains("goes past its layer"));
        assert_eq!(found("src/glm/mod.rs", "pub use outpost_kernels as kernels;"), "");
    }

    #[test]
    fn leaving_a_room_through_super_is_found() {
        assert!(found("src/spool/mod.rs", "use super::link::X;").contains("through `super`"));
        assert!(found("src/spool/a/b.rs", "use super::super::super::link::X;").contains("through `super`"));
        assert_eq!(found("src/spool/a/b.rs", "use super::super::X;"), "");
        assert_eq!(found("src/spool/mod.rs", "#[cfg(test)]\nmod tests {\n    use super::*;\n}"), "");
    }

    #[test]
    fn pure_code_that_looks_at_the_world_is_found() {
        for body in [
            "use std::fs;",
            "use std::{io, fs};",
            "use std::{\n    collections::{A, B},\n    thread,\n};",
            "fn f() { println!(); }",
            "let x = fastrand::u64(..);",
            "std::thread::sleep(d)",
        ] {
            assert!(found("src/sync/uplink.rs", body).contains("is pure and mentions"), "{body}");
        }
        assert_eq!(found("src/sync/uplink.rs", "// not std::fs\nfn f(rng: &mut fastrand::Rng) {}"), "");
        assert_eq!(found("src/sync/tests.rs", "use std::fs;"), "");
    }

    #[test]
    fn a_second_clock_is_found() {
        for body in [
            "let t = SystemTime::now();",
            "use std::time::{Duration, SystemTime};",
            "let t = time::Instant::now();",
        ] {
            assert!(found("src/link/mod.rs", body).contains("use crate::clock"), "{body}");
        }
        assert_eq!(found("src/clock.rs", "clock_gettime(x)"), "");
    }

    #[test]
    fn a_panic_in_the_product_is_found_and_one_in_its_tests_is_not() {
        for body in ["x.unwrap();", "x\n    .expect(\"y\");", "_ => unreachable!(\"z\"),", "panic!()"] {
            assert!(found("src/glm/mod.rs", body).contains("can panic"), "{body}");
            assert_eq!(found("src/cli/args.rs", body), "", "listed with its reason");
            let in_tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{body}\n}}");
            assert_eq!(found("src/glm/mod.rs", &in_tests), "");
            assert_eq!(found("src/glm/student/golden.rs", body), "");
        }
        assert_eq!(found("src/glm/mod.rs", "x.unwrap_or(1); // .unwrap()"), "");
    }

    #[test]
    fn leftovers_and_unsafe_are_found_in_code_and_not_in_words() {
        assert!(found("src/glm/mod.rs", "fn f() { todo!() }").contains("left behind: todo!"));
        assert!(found("tests/x.rs", "#[test]\n#[ignore]\nfn f() {}").contains("left behind: #[ignore"));
        assert!(found("src/glm/mod.rs", "unsafe { x() }").contains("holds unsafe"));
        let words = "/* unsafe /* todo!() */ */ // dbg!\n#![deny(unsafe_code)]\nlet s = \"todo!()\";";
        assert_eq!(found("src/glm/mod.rs", words), "");
    }

    #[test]
    fn a_file_without_its_opening_or_too_long_is_found() {
        assert_eq!(
            look_at_rust("src/glm/x.rs", "fn f() {}"),
            ["src/glm/x.rs: does not open with //!, what it is for"]
        );
        assert!(found("src/glm/x.rs", &"\n".repeat(LINES_MAX)).contains("more than 700 lines"));
    }

    #[test]
    fn quotes_and_lifetimes_are_told_apart() {
        let text = r##"let a = 'x'; let b = '\''; let c: &'static str = r#"un"safe"#; fn f<'a>(x: &'a str) { unsafe }"##;
        let code = code(text);
        assert!(
            has_word(&code, "unsafe") && !code.contains("un\"safe") && code.contains("'static"),
            "{code}"
        );
    }

    #[test]
    fn a_room_without_a_layer_is_found() {
        assert_eq!(
            rooms_of("pub mod wire;\n#[cfg(x)]\npub mod cellar;\nmod own;"),
            ["wire", "cellar", "own"]
        );
        assert_eq!(layer_of("cellar"), None);
    }
}
