//! Parts of the student's graph on the test plug-in, in a real worker process, with every fault that it knows: the words are the
//! same, nothing hangs, and what is told names the stage.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use outpost::accel::Stage;
use outpost::accel::worker::WorkerOptions;
use outpost::clock;
use outpost::digest::{Engine, Lang};
use outpost::facts::Facts;
use outpost::glm::engine::Batch;
use outpost::glm::generate::Priority;
use outpost::glm::placing::{DeviceOptions, Placed};
use outpost::glm::student::{Bundle, Model, Task, Writer};
use outpost::glm::{Glm, GlmOptions};
use outpost::time::{Mono, Wall};

use super::plugin::{assert_line, compiled, log_file};
use super::worker;

/// The student with the test device, which is fast enough if a run takes `fast_enough`: whether it beats this machine's processor
/// is not what is tried.
fn student(options: &str, fast_enough: Duration) -> Model {
    let deadline = Duration::from_secs(1);
    let mut device = DeviceOptions::worker(&WorkerOptions { deadline, ..worker(options) });
    device.rule.fast_enough = fast_enough;
    let model = Model::load_on(Bundle::embedded().unwrap(), Some(device)).unwrap();
    for placed in model.placed() {
        placed.tell(options);
    }
    model
}

const PATIENT: Duration = Duration::from_secs(5);
/// Fast is what takes no longer than the CPU.
const STRICT: Duration = Duration::ZERO;

/// Operators of the student: four layers of a norm, two products, a sum, a norm, two products, a sum and attention, embedding,
/// choice of rows, a norm and the head.
const TOTAL: usize = 4 * 9 + 4;
/// All but embedding, attention and the choice of rows.
const COMPUTED: usize = 4 * 8 + 2;
/// Of those, plain products: three per layer, and the head.
const PRODUCTS: usize = 4 * 3 + 1;

/// The free answers to some prompts of the student's golden file.
fn assert_golden(model: &mut Model, what: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/student/golden.json");
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let ids = |of: &serde_json::Value| -> Vec<u32> {
        of.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
    };
    for case in &golden["cases"].as_array().unwrap()[..3] {
        let (prompt, answer) = (ids(&case["prompt_ids"]), ids(&case["answer_ids"]));
        let mut next = likeliest(model, 0, &prompt);
        for (step, &wanted) in answer.iter().enumerate() {
            assert_eq!(next, wanted, "{what}: {} step {step}", case["name"]);
            next = likeliest(model, prompt.len() + step, &[wanted]);
        }
    }
}

fn likeliest(model: &mut Model, past: usize, tokens: &[u32]) -> u32 {
    let mut batch = Batch::default();
    batch.push(0, past as u32, tokens, true);
    let logits = model.engine().run(&batch).unwrap();
    let higher = |best: (f32, u32), (&x, n)| if x > best.0 { (x, n) } else { best };
    logits.iter().zip(0..).fold((f32::NEG_INFINITY, 0), higher).1
}

/// Where the phases are: operators on the device, and the first stage at which it was refused more.
fn places(model: &Model) -> Vec<(usize, Option<Stage>)> {
    let place = |placed: &Placed| {
        assert_eq!(placed.placement.total, TOTAL);
        (placed.placement.claimed, placed.refused.first().map(|refused| refused.stage))
    };
    let phases: Vec<String> = model.placed().iter().map(|placed| placed.phase.to_string()).collect();
    assert_eq!(phases, ["prefill", "decode"]);
    model.placed().iter().map(place).collect()
}

#[test]
fn a_sound_device_computes_all_of_the_student_but_embedding_attention_and_the_choice_of_rows() {
    let mut model = student("", PATIENT);
    assert_eq!(places(&model), [(COMPUTED, None), (COMPUTED, None)]);
    for placed in model.placed() {
        let error = placed.verified.unwrap().error;
        assert!(error > 0.0 && error < 0.02, "{error}");
    }
    assert_eq!((model.placed()[0].tokens.clone(), model.placed()[1].tokens.clone()), (2..=64, 1..=1));
    assert_golden(&mut model, "sound");
}

#[test]
fn a_device_that_computes_products_alone_gets_them_one_by_one() {
    let mut model = student("fault=takes_linear", PATIENT);
    assert_eq!(places(&model), [(PRODUCTS, None), (PRODUCTS, None)]);
    assert_golden(&mut model, "products");
}

#[test]
fn what_shows_before_it_serves_is_told_with_its_stage_and_the_cpu_computes() {
    log_file();
    for (options, fast_enough, stage, says) in [
        (
            "fault=takes_nothing",
            PATIENT,
            Stage::Claim,
            "none of what it is offered: add, gated_linear, linear",
        ),
        ("fault=claims_nothing", PATIENT, Stage::Claim, "it takes none of"),
        ("fault=create", PATIENT, Stage::Create, "the device is busy; end the other program"),
        ("fault=create_crash", PATIENT, Stage::Prepare, "died"),
        ("fault=wrong", PATIENT, Stage::Golden, "wrong numbers"),
        ("fault=slow", STRICT, Stage::Speed, "on the CPU"),
        ("fault=error", PATIENT, Stage::Invoke, "code 42: the device has timed out"),
        ("fault=segv", PATIENT, Stage::Invoke, "died"),
        ("fault=hang", PATIENT, Stage::Invoke, "no answer within 1s"),
    ] {
        let begun = Instant::now();
        let mut model = student(options, fast_enough);
        assert_eq!(places(&model), [(0, Some(stage)), (0, Some(stage))], "{options}");
        let refused = &model.placed()[0].refused[0];
        assert!(refused.backend == "hailo" && refused.reason.contains(says), "{options}: {refused}");
        assert_golden(&mut model, options);
        for phase in ["prefill", "decode"] {
            let about = format!(" device={options} phase={phase} ");
            assert_line(&about, "glm_placed", &["claimed=0", &format!("stage={stage}"), says]);
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{options} took {:?}", begun.elapsed());
    }
}

#[test]
fn a_device_that_is_slow_with_single_tokens_reads_prompts_all_the_same() {
    let mut model = student("fault=slow_row", Duration::from_millis(250));
    // The head is asked for one row in either phase.
    let head = 2;
    assert_eq!(places(&model), [(COMPUTED - head, Some(Stage::Speed)), (0, Some(Stage::Speed))]);
    assert_golden(&mut model, "slow with single tokens");
}

#[test]
fn a_run_of_more_tokens_than_the_device_is_ready_for_is_the_cpus() {
    let dir = tempfile::tempdir().unwrap();
    let when = dir.path().join("when");
    let mut device = DeviceOptions::worker(&worker(&format!("fault=error,when={}", when.display())));
    device.rule.fast_enough = PATIENT;
    let claimant = Arc::clone(&device.claimant);
    let mut model = Model::load_on(Bundle::embedded().unwrap(), Some(device)).unwrap();
    assert_eq!(places(&model), [(COMPUTED, None), (COMPUTED, None)]);
    // From now on it shows who is asked.
    std::fs::write(&when, "").unwrap();
    likeliest(&mut model, 0, &[5; 65]);
    assert!(claimant.is_well(clock::mono()));
    likeliest(&mut model, 0, &[5; 64]);
    assert!(!claimant.is_well(clock::mono()));
}

#[test]
fn what_shows_in_service_costs_no_answer() {
    log_file();
    for (fault, says) in
        [("error", "code 42: the device has timed out"), ("segv", "died"), ("hang", "no answer within 1s")]
    {
        let dir = tempfile::tempdir().unwrap();
        let when = dir.path().join("when");
        let mut model = student(&format!("fault={fault},when={}", when.display()), PATIENT);
        assert_eq!(places(&model), [(COMPUTED, None), (COMPUTED, None)], "{fault}");
        std::fs::write(&when, "").unwrap();
        let begun = Instant::now();
        assert_golden(&mut model, fault);
        assert!(begun.elapsed() < Duration::from_secs(30), "{fault} took {:?}", begun.elapsed());
        assert_line("glm prefill 0", "backend_failed", &["backend=hailo", "stage=invoke", says]);
    }
}

/// Facts of a calm period; `normal` channels.
fn calm(normal: u32) -> Facts {
    Facts {
        from: Wall::from_secs(1_783_000_000),
        to: Wall::from_secs(1_783_003_600),
        outage: None,
        events: Vec::new(),
        events_more: 0,
        channels_normal: normal,
        readings: 1000,
    }
}

/// The words for some facts in both languages, all at the same time.
fn words(model: Model) -> Vec<String> {
    let mut writer = Writer::new(model);
    for (id, (normal, &lang)) in
        [2, 3].iter().flat_map(|n| Lang::ALL.iter().map(move |l| (*n, l))).enumerate()
    {
        let facts = Arc::new(calm(normal));
        let deadline = Mono(u64::MAX);
        writer.begin(Task { facts, lang, id: id as u64, deadline, priority: Priority::Alarm }).unwrap();
    }
    let mut done = Vec::new();
    while !writer.is_idle() {
        writer.step(Priority::Alarm, &mut done);
    }
    done.sort_by_key(|(id, _)| *id);
    done.into_iter().map(|(_, digest)| digest.unwrap().text).collect()
}

#[test]
fn several_digests_at_a_time_have_the_same_words_with_the_device_as_without() {
    let alone = words(Model::load(Bundle::embedded().unwrap()).unwrap());
    let model = student("", PATIENT);
    assert_eq!(places(&model), [(COMPUTED, None), (COMPUTED, None)]);
    assert_eq!((words(model), alone.len()), (alone, 4));
}

#[test]
fn the_agents_thread_words_a_digest_whatever_its_device_does_and_logs_where_it_runs() {
    log_file();
    let word = |device: Option<WorkerOptions>| {
        let options = GlmOptions { device, budget: Duration::from_secs(60), ..GlmOptions::default() };
        let glm = Glm::start(options);
        let digest = smol::block_on(glm.handle().word(calm(3), Lang::En, 1));
        glm.stop();
        assert_eq!(digest.engine, Engine::Glm, "{}", digest.fallback_reason);
        digest.text
    };
    let wanted = word(None);
    for (name, options) in [("sound", ""), ("mad", "fault=segv"), ("stuck", "fault=hang,at_run=40")] {
        assert_eq!(word(Some(WorkerOptions { name: name.into(), ..worker(options) })), wanted, "{name}");
        for phase in ["prefill", "decode"] {
            assert_line(&format!(" device={name} phase={phase} "), "glm_placed", &["operators=40"]);
        }
    }
}

/// What `outpost backends` says of the student with the device configured so.
fn backends(options: &str, json: bool) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = format!(
        "[digest]\ndevice = \"hailo\"\n[accelerator.hailo]\nplugin = \"{}\"\noptions = \"{options}\"\n",
        compiled("plugin").display()
    );
    std::fs::write(dir.path().join("outpost.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_outpost"));
    command.arg("backends").arg("-c").arg(dir.path().join("outpost.toml")).arg("--root").arg(dir.path());
    let out = command.args(json.then_some("--json")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn npu_is_not_said_of_a_student_that_the_cpu_computes() {
    let text = backends("fault=takes_nothing", false);
    assert!(text.contains("student: prefill on the CPU\n") && !text.contains("NPU"), "{text}");
    assert!(text.contains("student: decode: hailo, stage claim: "), "{text}");
}

#[test]
fn what_runs_the_student_is_told_to_scripts() {
    let told: serde_json::Value = serde_json::from_str(&backends("", true)).unwrap();
    let phases = told["student"]["phases"].as_array().unwrap();
    assert_eq!((&told["student"]["device"], phases.len()), (&"hailo".into(), 2));
    for phase in phases {
        // Which of the two is faster is this machine's affair.
        let on_cpu = phase["placement"] == "CPU";
        assert_eq!(
            (phase["operators"].as_u64(), phase["claimed"] == 0),
            (Some(TOTAL as u64), on_cpu),
            "{phase}"
        );
        let speed = phase["refused"].as_array().unwrap().iter().any(|refused| refused["stage"] == "speed");
        assert!(!on_cpu || speed, "{phase}");
    }
}
