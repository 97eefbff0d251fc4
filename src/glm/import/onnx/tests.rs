//! ONNX models in and weights out, held against the constants as tract's protocol buffer reader sees them.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb;
use tract_onnx::prelude::Framework as _;

use super::probe::{Probe, probe};
use super::wire::{Span, Value, Wire};
use crate::glm::arch::{Arch, Family};
use crate::glm::bundle::Bundle;
use crate::glm::import::blob::Blob;
use crate::glm::import::{ImportError, ImportOptions, import, read_onnx};
use crate::glm::kernels::Format;

const STUDENT: &[u8] = include_bytes!("../../../../models/student/student.onnx");

/// Dequantised constants of the student: name -> (columns, numbers), in the file's orientation.
fn constants() -> HashMap<String, (usize, Vec<f32>)> {
    let mut bytes = STUDENT;
    let model = tract_onnx::onnx().proto_model_for_read(&mut bytes).unwrap();
    let graph = model.graph.unwrap();
    let find = |name: &str| graph.initializer.iter().find(|t| t.name == name).unwrap();
    let mut all = HashMap::new();
    for tensor in &graph.initializer {
        let floats = |t: &pb::TensorProto| -> Vec<f32> {
            t.raw_data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let cols = tensor.dims.last().map_or(1, |d| *d as usize);
        match tensor.name.strip_suffix(".codes") {
            Some(name) => {
                let scale = floats(find(&format!("{name}.scale")));
                let by_row = name == "embedding";
                let number = |(i, b): (usize, &u8)| {
                    f32::from(*b as i8) * scale[if by_row { i / cols } else { i % cols }]
                };
                all.insert(name.to_owned(), (cols, tensor.raw_data.iter().enumerate().map(number).collect()));
            }
            None if tensor.data_type == 1 => {
                all.insert(tensor.name.clone(), (cols, floats(tensor)));
            }
            None => {}
        }
    }
    all
}

#[test]
fn the_student_comes_out_number_by_number_in_glms_order() {
    let weights = read_onnx("student.onnx", STUDENT, Format::F32).unwrap();
    let arch = weights.arch.clone();
    assert_eq!(
        arch,
        Arch {
            family: Family::Glm,
            hidden: 128,
            layers: arch.layers,
            heads: 4,
            kv_heads: 2,
            head_dim: 32,
            inter: 352,
            vocab: 598,
            rotary_dim: 16,
            rope_theta: 10_000.0,
            rms_eps: 1e-5,
            qkv_bias: false,
            tied_head: false,
            context_tokens_max: 256,
        }
    );
    let constants = constants();
    let column = |name: &str, col: usize| -> Vec<f32> {
        let (cols, numbers) = &constants[name];
        numbers.iter().skip(col).step_by(*cols).copied().collect()
    };
    let row = |matrix: &crate::glm::kernels::Matrix, row: usize| {
        let mut out = vec![0.0; matrix.cols()];
        matrix.row(row, &mut out);
        out
    };
    for token in [0, 1, 597] {
        assert_eq!(row(&weights.embed, token), constants["embedding"].1[token * 128..][..128]);
        assert_eq!(row(weights.head.as_ref().unwrap(), token), column("logits.weight", token));
    }
    for (n, layer) in weights.layers.iter().enumerate() {
        let name = |what: &str| format!("layer{n}.{what}.weight");
        assert_eq!(layer.attn_norm, constants[&name("norm_attention")].1);
        assert_eq!(layer.mlp_norm, constants[&name("norm_mlp")].1);
        // Pairs (0, 1), (2, 3) .. turn: the exporter has them at (0, 16), (1, 17) ..; then what passes.
        for (ours, theirs) in [(0, 0), (1, 16), (2, 1), (15, 23), (16, 8), (23, 15), (24, 24), (31, 31)] {
            assert_eq!(row(&layer.qkv, 32 + ours), column(&name("q"), 32 + theirs), "query row {ours}");
            assert_eq!(row(&layer.qkv, 128 + 32 + ours), column(&name("k"), 32 + theirs), "key row {ours}");
            assert_eq!(row(&layer.qkv, 192 + 32 + ours), column(&name("v"), 32 + ours), "value row {ours}");
        }
        for inter in [0, 15, 16, 351] {
            let gate = inter / 16 * 32 + inter % 16;
            assert_eq!(row(&layer.gate_up, gate), column(&name("gate"), inter));
            assert_eq!(row(&layer.gate_up, gate + 16), column(&name("up"), inter));
        }
        assert_eq!(row(&layer.o, 77), column(&name("o"), 77));
        assert_eq!(row(&layer.down, 5), column(&name("down"), 5));
    }
    assert_eq!(weights.norm, constants["norm.weight"].1);
}

#[test]
fn the_students_graph_agrees_with_the_engine_and_a_changed_weight_does_not() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/student/student.onnx");
    let mut weights = read_onnx("student.onnx", STUDENT, Format::F32).unwrap();
    assert_eq!(probe(&path, &weights).unwrap(), Probe::Agrees);
    weights.layers[1].attn_norm[3] *= 1.02;
    let error = probe(&path, &weights).unwrap_err();
    assert!(matches!(error, ImportError::Probe { .. }), "{error}");
    let nothing = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(probe(nothing.path(), &weights).unwrap(), Probe::NotRun(_)));
}

#[test]
fn the_students_codes_are_kept_in_q8_0_blocks() {
    let exact = read_onnx("student.onnx", STUDENT, Format::F32).unwrap();
    let blocks = read_onnx("student.onnx", STUDENT, Format::Q8_0).unwrap();
    let (mut a, mut b) = (vec![0.0; 352], vec![0.0; 352]);
    for row in 0..128 {
        exact.layers[0].down.row(row, &mut a);
        blocks.layers[0].down.row(row, &mut b);
        // Only the scale is rounded, to 11 bits.
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= a.abs() / 2048.0, "row {row}: {a} became {b}");
        }
    }
}

#[test]
fn no_cut_and_no_flipped_byte_of_the_student_makes_the_reader_panic() {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut refused = 0;
    for _ in 0..60 {
        let mut bytes = STUDENT[..rng.usize(0..STUDENT.len())].to_vec();
        refused += usize::from(read_onnx("cut.onnx", &bytes, Format::Q8_0).is_err());
        bytes = STUDENT.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..bytes.len());
            bytes[at] = rng.u8(..);
        }
        let _ = read_onnx("flipped.onnx", &bytes, Format::Q8_0);
    }
    assert!(refused > 55, "only {refused} of 60 cut files were refused");
}

#[test]
fn what_is_no_onnx_is_refused_as_such() {
    for bytes in [&b""[..], b"\x08\x0b", b"GGUF\x03\0\0\0", &[0xff; 64]] {
        let error = read_onnx("x.onnx", bytes, Format::F32).unwrap_err();
        assert!(matches!(error, ImportError::NoCheckpoint { .. } | ImportError::Damaged { .. }), "{error}");
    }
}

/// Gives a part written anew.
type Part<'a> = &'a mut dyn FnMut(&mut Wire, u64, Span) -> Option<Vec<u8>>;

/// A message with some of its parts written anew: `part` gives what stands in a part's place, `None` leaves it.
fn rebuilt(wire: &mut Wire, message: Span, part: Part<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = wire.fields(message, |wire, field, value| {
        match value {
            Value::Number(n) => out.extend([varint(field << 3), varint(n)].concat()),
            Value::Bytes(span) => {
                let same = |wire: &Wire| bytes_field(field, &wire.blob.part(span.at, span.len).unwrap());
                out.extend(part(wire, field, span).unwrap_or_else(|| same(wire)));
            }
            other => panic!("{other:?} in field {field}"),
        }
        Ok(())
    });
    fields.unwrap();
    out
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 128 {
        out.push(n as u8 | 128);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn bytes_field(field: u64, bytes: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(bytes.len() as u64), bytes].concat()
}

/// The student's graph with its weights in the file `location`, and those.
fn student_outside(location: &str) -> (Vec<u8>, Vec<u8>) {
    const GRAPH: u64 = 7;
    const INITIALIZER: u64 = 5;
    const RAW: u64 = 9;
    let mut beside = Vec::new();
    let mut wire = Wire::new(Blob::memory("student.onnx", STUDENT.to_vec()));
    let all = wire.all();
    let mut raw = |wire: &mut Wire, field, span: Span| {
        if field != RAW || span.len < 256 {
            return None;
        }
        let place = [("location", location.to_owned()), ("offset", beside.len().to_string())];
        let place = place.into_iter().chain([("length", span.len.to_string())]);
        beside.extend(wire.blob.part(span.at, span.len).unwrap());
        let entry = |(key, text): (&str, String)| {
            bytes_field(13, &[bytes_field(1, key.as_bytes()), bytes_field(2, text.as_bytes())].concat())
        };
        let external = [varint(14 << 3), varint(1)].concat();
        Some(place.flat_map(entry).chain(external).collect())
    };
    let mut tensor = |wire: &mut Wire, field, span| {
        (field == INITIALIZER).then(|| bytes_field(field, &rebuilt(wire, span, &mut raw)))
    };
    let graph = rebuilt(&mut wire, all, &mut |wire, field, span| {
        (field == GRAPH).then(|| bytes_field(field, &rebuilt(wire, span, &mut tensor)))
    });
    (graph, beside)
}

#[test]
fn an_export_with_its_weights_beside_it_becomes_the_bundle_that_it_becomes_in_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (graph, weights) = student_outside("weights.data");
    assert!(graph.len() < STUDENT.len() / 2, "the weights are still inside");
    for (name, bytes) in [("whole.onnx", STUDENT), ("parted.onnx", &graph), ("weights.data", &weights)] {
        std::fs::write(path(name), bytes).unwrap();
    }
    let imported = ["whole", "parted"].map(|name| {
        let options = ImportOptions::default();
        import(&path(&format!("{name}.onnx")), &path(name), &options, &mut |_| {}).unwrap()
    });
    let tensors = imported.map(|made| {
        assert!(!made.notes.iter().any(|note| note.contains("compar")), "both were run: {:?}", made.notes);
        Bundle::open(&made.dir).unwrap().manifest().tensors.clone()
    });
    assert_eq!(tensors[0], tensors[1]);
    let files = super::open(&path("parted.onnx")).unwrap().files;
    assert_eq!(
        files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["parted.onnx", "weights.data"]
    );
    std::fs::write(path("weights.data"), &weights[..weights.len() / 2]).unwrap();
    let error =
        import(&path("parted.onnx"), &path("cut"), &ImportOptions::default(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("lies outside the file"), "{error}");
}

#[test]
fn weights_are_taken_from_files_beside_the_graph_only() {
    let dir = tempfile::tempdir().unwrap();
    let inside = dir.path().join("model");
    std::fs::create_dir_all(inside.join("below")).unwrap();
    let (_, weights) = student_outside("");
    let absolute = dir.path().join("weights.data");
    for place in [absolute.clone(), inside.join("below/weights.data")] {
        std::fs::write(place, &weights).unwrap();
    }
    let absolute = absolute.to_string_lossy();
    for location in ["../weights.data", &absolute, "below/weights.data", "below/../../weights.data", "..", ""]
    {
        let graph = inside.join("graph.onnx");
        std::fs::write(&graph, student_outside(location).0).unwrap();
        let target = dir.path().join("target");
        let error = import(&graph, &target, &ImportOptions::default(), &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("which is not beside it"), "{location:?}: {error}");
        assert!(!target.exists() && !dir.path().join("target.partial").exists());
    }
}
