//! Whole imports: what goes in comes out, whatever happens in between.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::testing::{self, Plain, arch, config, safetensors, tensors, write_hf, write_sharded_hf};
use super::{ImportError, ImportOptions, Imported, Pace, Step, import, import_at};
use crate::glm::arch::Family;
use crate::glm::bundle::{Bundle, BundleError, FileEntry, Manifest, Sha256, list};
use crate::glm::kernels::{Format, Matrix};

fn options(format: Option<Format>) -> ImportOptions {
    ImportOptions { body: format, ends: format, threads: 2, replace: false }
}

fn quiet(source: &Path, target: &Path, options: &ImportOptions) -> Result<Imported, ImportError> {
    import(source, target, options, &mut |_| {})
}

/// Holds some rows of a matrix against the rows that they were made of.
fn assert_rows(matrix: &Matrix, rows: impl Iterator<Item = (usize, Vec<f32>)>, what: &str) {
    // Of the largest weight, which is 1.
    let error = match matrix.format() {
        Format::F32 => 0.0,
        Format::Q8_0 => 0.5 / 127.0 + 1e-3,
        Format::Q4_0 => 0.13,
    };
    let mut out = vec![0.0; matrix.cols()];
    for (row, wanted) in rows {
        matrix.row(row, &mut out);
        let worst = out.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= error, "{what} row {row}: off by {worst}");
    }
}

fn rows(tensor: &Plain) -> impl Iterator<Item = (usize, Vec<f32>)> {
    let cols = tensor.0[1];
    tensor.1.chunks(cols).map(<[f32]>::to_vec).enumerate()
}

/// Holds a bundle against the tensors that it was made of.
pub(super) fn assert_same(bundle: &Bundle, tensors: &BTreeMap<String, Plain>) {
    let weights = bundle.weights().unwrap();
    let arch = &weights.arch;
    let get = |name: &str| &tensors[name];
    assert_rows(&weights.embed, rows(get("model.embed_tokens.weight")), "embed");
    assert_eq!(weights.head.is_none(), arch.tied_head);
    if let Some(head) = &weights.head {
        assert_rows(head, rows(get("lm_head.weight")), "head");
    }
    assert_eq!(weights.norm, get("model.norm.weight").1);
    for (n, layer) in weights.layers.iter().enumerate() {
        let get = |name: &str| &tensors[&format!("model.layers.{n}.{name}")];
        assert_eq!(layer.attn_norm, get("input_layernorm.weight").1);
        assert_eq!(layer.mlp_norm, get("post_attention_layernorm.weight").1);
        let post = (layer.post_attn_norm.as_ref(), layer.post_mlp_norm.as_ref());
        let wanted = (arch.family == Family::Glm4)
            .then(|| (&get("post_self_attn_layernorm.weight").1, &get("post_mlp_layernorm.weight").1));
        assert_eq!(post, wanted.unzip());
        let projections = ["q", "k", "v"].map(|p| format!("self_attn.{p}_proj"));
        let fused = projections.iter().flat_map(|p| rows(get(&format!("{p}.weight"))).map(|(_, row)| row));
        assert_rows(&layer.qkv, fused.enumerate(), "qkv");
        let bias = arch
            .qkv_bias
            .then(|| projections.iter().flat_map(|p| get(&format!("{p}.bias")).1.clone()).collect());
        assert_eq!(layer.qkv_bias, bias);
        assert_rows(&layer.o, rows(get("self_attn.o_proj.weight")), "o");
        assert_rows(&layer.down, rows(get("mlp.down_proj.weight")), "down");
        let place = |(row, numbers): (usize, Vec<f32>)| match row.checked_sub(arch.inter) {
            None => (row / 16 * 32 + row % 16, numbers),
            Some(up) => (up / 16 * 32 + 16 + up % 16, numbers),
        };
        assert_rows(&layer.gate_up, rows(get("mlp.gate_up_proj.weight")).map(place), "gate_up");
        // 72 rows are four panels and a half: what is left over is zero.
        let padding =
            (8..16).flat_map(|lane| [128 + lane, 144 + lane]).map(|row| (row, vec![0.0; arch.hidden]));
        assert_rows(&layer.gate_up, padding, "padding");
    }
}

fn bytes_of(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap()))
        .collect()
}

#[test]
fn a_directory_comes_out_row_by_row_in_every_type_and_format() {
    let dir = tempfile::tempdir().unwrap();
    let shapes = [
        arch(Family::Glm, false, false),
        arch(Family::Glm, true, true),
        arch(Family::Glm4, true, false),
        arch(Family::Glm4, false, true),
    ];
    for (n, arch) in shapes.iter().enumerate() {
        for dtype in ["F32", "F16", "BF16"] {
            let source = dir.path().join(format!("{n}{dtype}"));
            write_hf(&source, arch, dtype);
            for format in Format::ALL {
                let target = dir.path().join(format!("{n}{dtype}{format}"));
                let imported = quiet(&source, &target, &options(Some(*format))).unwrap();
                assert_eq!(&imported.arch, arch);
                let bundle = Bundle::open(&target).unwrap();
                assert_eq!((bundle.id(), bundle.end_ids()), (imported.id, &[5, 6][..]));
                assert_eq!(bundle.chat_template().unwrap().as_deref(), Some("{{ messages }}"));
                assert_eq!(
                    bundle.tokenizer_json().unwrap(),
                    Some(std::fs::read(source.join("tokenizer.json")).unwrap())
                );
                assert_same(&bundle, &tensors(arch));
                bundle.verify_hashes(2, &mut |_, _| {}).unwrap();
            }
        }
    }
}

#[test]
fn shards_give_the_same_bundle_as_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let arch = arch(Family::Glm4, true, false);
    write_hf(&dir.path().join("one"), &arch, "F32");
    write_sharded_hf(&dir.path().join("three"), &arch, 3);
    for name in ["one", "three"] {
        quiet(&dir.path().join(name), &dir.path().join(format!("{name}.out")), &options(None)).unwrap();
    }
    let tensors = |name: &str| Bundle::open(&dir.path().join(name)).unwrap().manifest().tensors.clone();
    assert_eq!(tensors("one.out"), tensors("three.out"));
}

#[test]
fn an_import_that_is_killed_anywhere_goes_on_to_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    write_hf(&source, &arch(Family::Glm4, true, false), "BF16");
    let whole = dir.path().join("whole");
    let mut steps = 0;
    import(&source, &whole, &options(None), &mut |_| steps += 1).unwrap();
    let mut rng = fastrand::Rng::with_seed(3);
    let mut resumed = 0;
    for round in 0..25 {
        let target = dir.path().join(format!("killed{round}"));
        let partial = dir.path().join(format!("killed{round}.partial"));
        let pace = Pace { threads: 2, sync_bytes: rng.u64(1..200_000) };
        loop {
            let mut left = rng.usize(0..2 * steps);
            let killed = catch_unwind(AssertUnwindSafe(|| {
                import_at(pace, &source, &target, &options(None), &mut |p| {
                    resumed += usize::from(p.step == Step::Resume);
                    left =
                        left.checked_sub(1).unwrap_or_else(|| std::panic::resume_unwind(Box::new("killed")));
                })
            }));
            if let Ok(done) = killed {
                done.unwrap();
                break;
            }
            assert!(!target.exists() && Bundle::open(&partial).is_err(), "half a bundle opens");
            assert!(list(dir.path()).unwrap().iter().all(|l| l.name != "killed.partial" && l.bundle.is_ok()));
            if rng.bool() {
                // What a disk may do to pages, synced or not.
                let path = partial.join("weights.bin");
                let mut bytes = std::fs::read(&path).unwrap();
                let at = rng.usize(0..bytes.len());
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
            }
        }
        assert_eq!(bytes_of(&target), bytes_of(&whole), "round {round}");
        assert!(!partial.exists());
    }
    assert!(resumed > 30, "only {resumed} tensors were taken over");
}

#[test]
fn a_bundle_that_is_there_is_replaced_only_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_hf(&source, &arch(Family::Glm, false, false), "F32");
    quiet(&source, &target, &options(Some(Format::Q4_0))).unwrap();
    let first = Bundle::open(&target).unwrap();
    assert!(matches!(quiet(&source, &target, &options(None)), Err(ImportError::Exists { .. })));
    let replace = ImportOptions { replace: true, ..options(Some(Format::F32)) };
    quiet(&source, &target, &replace).unwrap();
    let second = Bundle::open(&target).unwrap();
    assert_eq!((first.body_format(), second.body_format()), ("q4_0", "f32"));
    // Who has the old one mapped keeps it.
    first.verify_hashes(1, &mut |_, _| {}).unwrap();
    assert_eq!(list(dir.path()).unwrap().len(), 1, "nothing is left of the old one");
}

#[test]
fn a_bundle_that_was_changed_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_hf(&source, &arch(Family::Glm, true, false), "F32");
    quiet(&source, &target, &options(None)).unwrap();
    let whole = bytes_of(&target);
    let mut rng = fastrand::Rng::with_seed(5);
    for (name, bytes) in &whole {
        for _ in 0..8 {
            let mut bytes = bytes.clone();
            let at = rng.usize(0..bytes.len());
            match rng.bool() {
                true => bytes.truncate(at),
                false => bytes[at] ^= 1 << rng.u8(0..8),
            }
            std::fs::write(target.join(name), bytes).unwrap();
            let found = Bundle::open(&target).and_then(|b| b.verify_hashes(2, &mut |_, _| {}));
            // In a manifest, what nothing depends on may change: blanks, the source's name.
            assert!(found.is_err() || name == "manifest.json", "{name} changed at {at} and nobody saw it");
        }
        std::fs::write(target.join(name), bytes).unwrap();
    }
    Bundle::open(&target).unwrap().verify_hashes(2, &mut |_, _| {}).unwrap();
}

/// What is refused of a directory, and what the message must name.
#[test]
fn what_is_no_dense_glm_is_refused_by_name() {
    type Spoil = fn(&mut serde_json::Value, &mut BTreeMap<String, Plain>);
    let cases: &[(&str, Spoil)] = &[
        ("glm4_moe, a mixture of experts", |c, _| c["model_type"] = "glm4_moe".into()),
        ("deepseek_v3, multi-head latent attention", |c, _| c["model_type"] = "deepseek_v3".into()),
        ("n_routed_experts = 128", |c, _| c["n_routed_experts"] = 128.into()),
        ("kv_lora_rank = 512", |c, _| c["kv_lora_rank"] = 512.into()),
        ("model_type llama", |c, _| c["model_type"] = "llama".into()),
        ("its name ends in -hf", |c, _| c["model_type"] = "chatglm".into()),
        ("vision_config", |c, _| c["vision_config"] = serde_json::json!({})),
        ("quantization_config", |c, _| c["quantization_config"] = serde_json::json!({"bits": 4})),
        ("type yarn", |c, _| c["rope_parameters"]["rope_type"] = "yarn".into()),
        ("hidden_act gelu", |c, _| c["hidden_act"] = "gelu".into()),
        ("the key hidden_size is missing", |c, _| c["hidden_size"] = serde_json::Value::Null),
        ("hidden = 999999999", |c, _| c["hidden_size"] = 999_999_999.into()),
        ("end id 293 is behind the vocabulary", |c, _| c["eos_token_id"] = 293.into()),
        ("lm_head.weight is missing", |_, t| drop(t.remove("lm_head.weight"))),
        ("model.layers.1.mlp.down_proj.weight is missing", |_, t| {
            t.remove("model.layers.1.mlp.down_proj.weight");
        }),
        ("model.norm.weight is a vector of 63 where a vector of 64 is due", |_, t| {
            t.insert("model.norm.weight".into(), (vec![63], vec![1.0; 63]));
        }),
        ("model.layers.0.self_attn.q_norm.weight belongs to no dense GLM", |_, t| {
            t.insert("model.layers.0.self_attn.q_norm.weight".into(), (vec![32], vec![1.0; 32]));
        }),
        ("model.layers.2.input_layernorm.weight belongs to no dense GLM", |_, t| {
            t.insert("model.layers.2.input_layernorm.weight".into(), (vec![64], vec![1.0; 64]));
        }),
        ("a mixture of experts (tensor model.layers.0.mlp.experts.0.down_proj.weight)", |_, t| {
            t.insert(
                "model.layers.0.mlp.experts.0.down_proj.weight".into(),
                (vec![64, 72], vec![1.0; 64 * 72]),
            );
        }),
        ("down_proj.weight holds a weight that is not a finite number, in row 7", |_, t| {
            t.get_mut("model.layers.1.mlp.down_proj.weight").unwrap().1[7 * 72 + 3] = f32::NAN;
        }),
        ("norm.weight holds a weight that is not a finite number, in row 9", |_, t| {
            t.get_mut("model.norm.weight").unwrap().1[9] = f32::NEG_INFINITY;
        }),
        ("too large for q8_0, in row 2", |_, t| {
            t.get_mut("model.layers.0.self_attn.o_proj.weight").unwrap().1[2 * 128] = 1e9;
        }),
    ];
    let arch = arch(Family::Glm, false, false);
    for (wanted, spoil) in cases {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("source"), dir.path().join("target"));
        write_hf(&source, &arch, "F32");
        std::fs::remove_file(source.join("generation_config.json")).unwrap();
        let (mut config, mut tensors) = (config(&arch), tensors(&arch));
        spoil(&mut config, &mut tensors);
        std::fs::write(source.join("config.json"), config.to_string()).unwrap();
        std::fs::write(source.join("model.safetensors"), safetensors(&tensors, "F32")).unwrap();
        let error = quiet(&source, &target, &options(None)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(!target.exists());
        assert!(!dir.path().join("target.partial").exists(), "{wanted}: what will never be whole stays");
    }
}

#[test]
fn a_tokenizer_or_template_that_can_not_be_used_with_the_model_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_hf(&source, &arch(Family::Glm, false, false), "F32");
    let whole: serde_json::Value = serde_json::from_slice(testing::TOKENIZER).unwrap();
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = whole.clone();
        change(&mut json);
        json.to_string().into_bytes()
    };
    let cut = testing::TOKENIZER[..testing::TOKENIZER.len() / 2].to_vec();
    let pieces = with(&|json| {
        json["model"] = serde_json::json!({"type": "Unigram", "vocab": [["<unk>", 0.0]]});
    });
    let larger = with(&|json| json["added_tokens"][7]["id"] = 400.into());
    // Without its marks it ends before the model's answers do.
    let smaller = with(&|json| {
        (json["added_tokens"], json["post_processor"]) = (serde_json::json!([]), serde_json::Value::Null);
    });
    let cases: [(&str, Vec<u8>, &str); 5] = [
        ("tokenizer.json", cut, "tokenizer.json can't be read"),
        ("tokenizer.json", pieces, "tokenizer.json can't be read"),
        ("tokenizer.json", larger, "ids up to 400 and the model 293 rows"),
        ("tokenizer.json", smaller, "answers end by token 275"),
        ("chat_template.jinja", b"{% for m in messages %}".to_vec(), "the chat template can't be read"),
    ];
    std::fs::write(source.join("generation_config.json"), br#"{"eos_token_id": [5, 275]}"#).unwrap();
    for (name, bytes, wanted) in cases {
        std::fs::write(source.join(name), bytes).unwrap();
        let error = quiet(&source, &target, &options(None)).unwrap_err();
        assert!(matches!(error, ImportError::Words { .. }), "{wanted}: {error}");
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
        assert_eq!(list(dir.path()).unwrap().len(), 0);
        assert!(!dir.path().join("target.partial").exists() && !target.exists(), "{wanted}");
        std::fs::write(source.join("tokenizer.json"), testing::TOKENIZER).unwrap();
    }
}

#[test]
fn a_bundle_with_another_models_tokenizer_does_not_verify() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_hf(&source, &arch(Family::Glm, false, false), "F32");
    quiet(&source, &target, &options(None)).unwrap();
    Bundle::open(&target).unwrap().verify(1, &mut |_, _| {}).unwrap();
    // As an import of before could leave it: hashes and golden tokens are right, and nobody can chat with it.
    let foreign = br#"{"added_tokens": [{"id": 4, "content": "<|user|>"}]}"#;
    let mut manifest: Manifest =
        serde_json::from_slice(&std::fs::read(target.join("manifest.json")).unwrap()).unwrap();
    manifest.tokenizer = Some(FileEntry { bytes: foreign.len() as u64, sha256: Sha256::of(foreign) });
    std::fs::write(target.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    std::fs::write(target.join("tokenizer.json"), foreign).unwrap();
    let error = Bundle::open(&target).unwrap().verify(1, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, BundleError::Words { .. }), "{error}");
}

#[test]
fn what_is_no_checkpoint_at_all_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(dir.path().join(name), bytes).unwrap();
        dir.path().join(name)
    };
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    std::fs::create_dir(dir.path().join("pickled")).unwrap();
    write("pickled/config.json", config(&arch(Family::Glm, false, false)).to_string().as_bytes());
    write("pickled/pytorch_model.bin", b"x");
    let cases = [
        (dir.path().join("missing"), "can't be read"),
        (dir.path().join("empty"), "no config.json"),
        (dir.path().join("pickled"), "could run code"),
        (write("x.gguf", b"GGML"), "does not begin as a GGUF file does"),
        (write("x.txt", b"hello"), "neither in .gguf nor in .onnx"),
        (write("x.safetensors", b"hello"), "give its directory"),
    ];
    for (source, wanted) in cases {
        let error = quiet(&source, &dir.path().join("target"), &options(None)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn hostile_headers_are_refused_without_being_believed() {
    let arch = arch(Family::Glm, false, false);
    let whole = safetensors(&tensors(&arch), "F32");
    let header = |text: String| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 64]].concat();
    let entry = |shape: &str, offsets: &str| {
        header(format!(
            r#"{{"model.norm.weight": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}"#
        ))
    };
    let deep = header(format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    let many = header(format!(
        "{{{}}}",
        (0..20_000)
            .map(|n| format!(r#""{n}": {{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#))
            .collect::<Vec<_>>()
            .join(",")
    ));
    let cases: Vec<Vec<u8>> = vec![
        vec![],
        vec![0; 7],
        u64::MAX.to_le_bytes().to_vec(),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        whole[..whole.len() - 1].to_vec(),
        [&whole[..], &[0]].concat(),
        entry("[4, 4]", "[0, 18446744073709551615]"),
        entry("[18446744073709551615, 18446744073709551615]", "[0, 64]"),
        entry("[4, 4]", "[64, 0]"),
        entry("[4, 4]", "[0, 65]"),
        entry("[4, 5]", "[0, 64]"),
        entry("[1,1,1,1,1,1,1,1,1]", "[0, 64]"),
        header(r#"{"x": {"dtype":"F32","shape":[4],"data_offsets":[0,32]}, "y": {"dtype":"F32","shape":[4],"data_offsets":[16,64]}}"#.into()),
        header(r#"{"x": {"dtype":"F32","shape":[8],"data_offsets":[0,32]}, "x": {"dtype":"F32","shape":[8],"data_offsets":[32,64]}}"#.into()),
        deep,
        many,
    ];
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_hf(&source, &arch, "F32");
    for (n, bytes) in cases.into_iter().enumerate() {
        std::fs::write(source.join("model.safetensors"), bytes).unwrap();
        let error = quiet(&source, &target, &options(None)).unwrap_err();
        assert!(matches!(error, ImportError::Damaged { .. }), "case {n}: {error}");
    }
}

#[test]
fn no_change_to_a_directory_makes_the_reader_panic() {
    let dir = tempfile::tempdir().unwrap();
    let arch = arch(Family::Glm4, true, true);
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    write_sharded_hf(&source, &arch, 2);
    let files = bytes_of(&source);
    let mut rng = fastrand::Rng::with_seed(17);
    for _ in 0..400 {
        let (name, whole) = files.iter().nth(rng.usize(0..files.len())).unwrap();
        std::fs::write(source.join(name), testing::spoiled(&mut rng, whole, 4096)).unwrap();
        let _ = quiet(&source, &target, &ImportOptions { replace: true, ..options(None) });
        std::fs::write(source.join(name), whole).unwrap();
    }
    quiet(&source, &target, &ImportOptions { replace: true, ..options(None) }).unwrap();
}
