//! Readers of a small model's files. What they take is loaded, too, as the agent would load it.

use std::path::Path;

use outpost::frame::Frame;
use outpost::hash::Sha256;
use outpost::infer::{Bundle, Model, Onnx};
use outpost::time::Wall;

use super::{Reader, golden_dir, scratch};

/// All of them.
pub const READERS: &[Reader] = &[
    Reader { name: "small-manifest", read: manifest, seeds: || vec![shipped(MANIFEST)] },
    Reader { name: "small-golden", read: golden, seeds: || vec![shipped(GOLDEN)] },
];

const MANIFEST: &str = "manifest.json";
const GOLDEN: &str = "golden.json";

/// The manifest of a bundle whose other files are sound.
pub fn manifest(bytes: &[u8]) -> bool {
    with(&[(MANIFEST, bytes), (GOLDEN, &shipped(GOLDEN))])
}

/// Golden vectors, with the hash that they should have, which none would guess.
pub fn golden(bytes: &[u8]) -> bool {
    let manifest = String::from_utf8(shipped(MANIFEST)).expect("a manifest is text");
    let hash = |bytes: &[u8]| Sha256::of(bytes).to_string();
    let manifest = manifest.replace(&hash(&shipped(GOLDEN)), &hash(bytes));
    with(&[(MANIFEST, manifest.as_bytes()), (GOLDEN, bytes)])
}

/// The shipped bundle with `files` in the place of its own.
fn with(files: &[(&str, &[u8])]) -> bool {
    let dir = scratch();
    let graph = "cold_room.f32.onnx";
    for (name, bytes) in files.iter().copied().chain([(graph, shipped(graph).as_slice())]) {
        std::fs::write(dir.path().join(name), bytes).expect("a file can be written");
    }
    let Ok(bundle) = Bundle::open(dir.path()) else { return false };
    let vectors = bundle.golden.clone();
    let Ok(mut model) = Model::load("fuzz", bundle, &[Box::new(Onnx)], false) else { return false };
    let length = model.manifest().input.length;
    for vector in vectors {
        let rows = vector.window.chunks(length).map(<[f64]>::to_vec).collect();
        let scored = model.judge(&Frame { at: Wall(0), start: Wall(0), rows });
        assert!(scored.is_none_or(|scored| scored.score.is_finite()), "a score that is no number");
    }
    true
}

fn shipped(name: &str) -> Vec<u8> {
    let models = golden_dir().join("../../models/cold_room");
    std::fs::read(Path::new(&models).join(name)).expect("the model's files are there")
}
