//! Broken and hostile bytes against every reader, the same ones every time. `tests/fuzz` holds the readers and looks for more.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;
use std::sync::Once;

use fuzz::readers;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Of each reader; all of them together take a minute where nothing is optimised.
const ROUNDS: usize = 400;
/// What the whole process may ask for beyond what it has when a test begins.
const MEMORY_BYTES_MAX: u64 = 1 << 30;

#[test]
fn no_safetensors_header_harms() {
    feed("safetensors");
}

#[test]
fn no_index_harms() {
    feed("index");
}

#[test]
fn no_configuration_harms() {
    feed("config");
}

#[test]
fn no_generation_configuration_harms() {
    feed("generation");
}

#[test]
fn no_gguf_file_harms() {
    feed("gguf");
}

#[test]
fn no_onnx_file_harms() {
    feed("onnx");
}

#[test]
fn no_manifest_harms() {
    feed("manifest");
}

#[test]
fn no_small_models_manifest_harms() {
    feed("small-manifest");
}

#[test]
fn no_small_models_golden_file_harms() {
    feed("small-golden");
}

#[test]
fn no_saved_tokens_harm() {
    feed("kv");
}

#[test]
fn no_tokenizer_harms() {
    feed("tokenizer");
}

#[test]
fn no_template_harms() {
    feed("template");
}

#[test]
fn no_grammar_harms() {
    feed("grammar");
}

#[test]
fn no_schema_harms() {
    feed("schema");
}

#[test]
fn no_block_harms() {
    feed("block");
}

#[test]
fn no_acknowledgement_harms() {
    feed("ack");
}

#[test]
fn no_heartbeat_harms() {
    feed("heartbeat");
}

#[test]
fn no_agents_configuration_harms() {
    feed("agent");
}

#[test]
fn no_aggregators_configuration_harms() {
    feed("aggregator");
}

#[test]
fn no_order_of_events_harms_the_uplink() {
    feed("uplink");
}

#[test]
fn no_order_of_blocks_harms_the_intake() {
    feed("intake");
}

#[test]
fn no_modbus_answer_harms() {
    feed("modbus");
}

#[test]
fn no_dbc_file_harms() {
    feed("dbc");
}

#[test]
fn no_syslog_message_harms() {
    feed("syslog");
}

#[test]
fn no_kept_templates_harm() {
    feed("templates");
}

/// Fills the corpus of cargo-fuzz when `SEEDS` is set; otherwise only holds that there are seeds.
#[test]
fn seeds_can_be_written() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for reader in readers() {
        let seeds = (reader.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", reader.name);
        if std::env::var_os("SEEDS").is_some() {
            let dir = corpus.join(reader.name);
            std::fs::create_dir_all(&dir).expect("a directory can be made");
            for (n, seed) in seeds.iter().enumerate() {
                std::fs::write(dir.join(format!("golden-{n}")), seed).expect("a file can be written");
            }
        }
    }
}

/// Sound files first, then spoiled ones.
fn feed(name: &str) {
    bound_memory();
    let reader = readers().find(|reader| reader.name == name).expect("the reader is on the list");
    let seeds = (reader.seeds)();
    assert!((reader.read)(&seeds[0]), "the golden file itself is taken");
    let mut rng = fastrand::Rng::with_seed(3);
    let refused = (0..ROUNDS).filter(|round| {
        let bytes = fuzz::spoiled(&mut rng, &seeds[round % seeds.len()]);
        !(reader.read)(&bytes)
    });
    assert!(refused.count() > ROUNDS / 10, "hardly anything spoiled is refused");
}

/// A giant allocation ends the process, with a message that says how large it was.
fn bound_memory() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells what a process takes");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("its address space too");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("as a number");
        let limit = kib * 1024 + MEMORY_BYTES_MAX;
        let Rlimit { maximum, .. } = getrlimit(Resource::As);
        let current = Some(maximum.map_or(limit, |maximum| maximum.min(limit)));
        setrlimit(Resource::As, Rlimit { current, maximum }).expect("a process may bound itself");
    });
}
