//! ONNX models in and weights out, held against the constants as tract's protocol buffer reader sees them.

use std::collections::HashMap;
use std::path::Path;

use tract_onnx::pb;
use tract_onnx::prelude::Framework as _;

use super::probe::{Probe, probe};
use crate::glm::arch::{Arch, Family};
use crate::glm::import::{ImportError, read_onnx};
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
