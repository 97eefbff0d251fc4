//! What the agent would make of a recording: the same windows, detectors, episodes and model, no spool and no line.

use std::path::PathBuf;
use std::time::Duration;

use super::assemble::{AssembleOptions, Assembler, Mark, Source};
use crate::clock;
use crate::digest::{Digest, Lang};
use crate::episode::EpisodeUpdate;
use crate::glm::{Glm, GlmHandle, GlmOptions};
use crate::infer::{Infer, InferError, InferHandle, InferOptions};
use crate::limits;
use crate::sensor::{CsvError, CsvOptions, CsvReader};
use crate::time::{Mono, Wall};
use crate::wire::Record;

/// What to go through, and how.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Recordings, one after the other; at most [`limits::SOURCES_MAX`].
    pub files: Vec<PathBuf>,
    /// Windows, limits and names.
    pub assemble: AssembleOptions,
    /// Recorded seconds per second; 0 is as fast as possible.
    pub speed: f64,
    /// Recorded time per digest; without it there is one at the end.
    pub every: Option<Duration>,
    /// Language of the digests.
    pub lang: Lang,
    /// The language model.
    pub glm: GlmOptions,
    /// Small models.
    pub infer: InferOptions,
}

/// Why a recording could not be gone through.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording can't be read.
    #[error(transparent)]
    Csv(#[from] CsvError),
    /// A small model that is required can't be used.
    #[error(transparent)]
    Infer(#[from] InferError),
}

/// What comes out, in order.
#[derive(Debug)]
pub enum Told<'a> {
    /// An episode began, changed or ended.
    Episode(&'a EpisodeUpdate),
    /// A period was worded.
    Digest(&'a Digest),
    /// How far the current file is: bytes read, and of how many if that is known.
    Progress(u64, Option<u64>),
}

/// What was gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Readings judged.
    pub readings: u64,
    /// Cells and rows that could not be understood.
    pub malformed: u64,
    /// Windows judged.
    pub windows: u64,
    /// Episodes that began.
    pub episodes: u64,
    /// Digests worded.
    pub digests: u64,
}

/// Goes through all files and tells `tell` what comes of them. Blocks.
///
/// Errors: a recording that can't be read at all, a required model that can't be used; single bad rows are counted.
pub fn run(options: ReplayOptions, tell: &mut dyn FnMut(Told<'_>)) -> Result<Summary, ReplayError> {
    let infer = InferOptions { is_patient: true, ..options.infer.clone() };
    let infer = smol::block_on(Infer::start(infer))?;
    let glm = Glm::start(options.glm.clone());
    let mut replay = Replay {
        assembler: Assembler::new(AssembleOptions {
            raw: false,
            clip_readings: 0,
            first_episode_id: 1,
            watches: super::watches(&options.infer),
            ..options.assemble.clone()
        }),
        mark: Mark::default(),
        summary: Summary::default(),
        glm: glm.handle(),
        infer: infer.handle(),
        tell,
        options: &options,
    };
    for (index, file) in options.files.iter().enumerate().take(limits::SOURCES_MAX) {
        let reader = CsvReader::open(file, &CsvOptions::default())?;
        replay.file(Source(u8::try_from(index).unwrap_or(u8::MAX)), reader)?;
    }
    replay.digest();
    let summary = replay.summary;
    glm.stop();
    infer.stop();
    Ok(summary)
}

struct Replay<'a> {
    assembler: Assembler,
    mark: Mark,
    summary: Summary,
    glm: GlmHandle,
    infer: InferHandle,
    tell: &'a mut dyn FnMut(Told<'_>),
    options: &'a ReplayOptions,
}

impl Replay<'_> {
    fn file<R: std::io::BufRead>(
        &mut self,
        source: Source,
        mut reader: CsvReader<R>,
    ) -> Result<(), CsvError> {
        for info in reader.infos() {
            self.assembler.describe(source, info.clone());
        }
        let mut pace: Option<Pace> = None;
        let mut rows = 0u64;
        let (mut readings, mut out) = (Vec::new(), Vec::new());
        while let Some(at) = reader.next_row(&mut readings)? {
            let pace = pace.get_or_insert_with(|| Pace {
                began: clock::mono(),
                first: at,
                newest: at,
                digest_from: at,
            });
            pace.newest = pace.newest.max(at);
            pace.wait(at, self.options.speed);
            for reading in readings.drain(..) {
                self.summary.readings += 1;
                self.assembler.push(source, &reading, &mut out);
            }
            // A recording waits for its judge, so that the same recording gives the same alarms.
            for job in self.assembler.take_frames() {
                if let Some(judgement) = self.infer.judge_blocking(job) {
                    self.assembler.judged(&judgement, &mut out);
                }
            }
            self.assembler.tick(source, pace.newest, &mut out);
            self.told(&mut out);
            if self.options.every.is_some_and(|every| pace.digest_is_due(at, every)) {
                self.digest();
            }
            if rows.is_multiple_of(PROGRESS_ROWS) {
                let (done, total) = reader.progress();
                (self.tell)(Told::Progress(done, total));
            }
            rows += 1;
        }
        self.assembler.end(source, &mut out);
        self.told(&mut out);
        self.summary.malformed += reader.malformed();
        Ok(())
    }

    fn told(&mut self, out: &mut Vec<Record>) {
        for record in out.drain(..) {
            match record {
                Record::Episode(step) => {
                    self.summary.episodes += u64::from(step.phase == crate::episode::Phase::Opened);
                    (self.tell)(Told::Episode(&step));
                }
                Record::Window(_) => self.summary.windows += 1,
                Record::Reading(_) | Record::Digest(_) | Record::Notice(_) | Record::Clock(_) => {}
            }
        }
    }

    fn digest(&mut self) {
        let facts = self.assembler.facts(&self.mark);
        self.mark = self.assembler.mark();
        self.summary.digests += 1;
        let digest = smol::block_on(self.glm.word(facts, self.options.lang, self.summary.digests));
        (self.tell)(Told::Digest(&digest));
    }
}

const PROGRESS_ROWS: u64 = 512;

/// Recorded time against ours.
struct Pace {
    began: Mono,
    first: Wall,
    /// Rows may stand out of order: the recording's clock does not go back with them.
    newest: Wall,
    digest_from: Wall,
}

impl Pace {
    fn wait(&self, at: Wall, speed: f64) {
        let due_s = at.micros_since(self.first) as f64 / 1e6 / speed;
        let ahead_s = due_s - clock::mono().since(self.began).as_secs_f64();
        // Speed 0 gives an infinite or undefined time: as fast as possible.
        if speed > 0.0 && ahead_s > 0.0 {
            std::thread::sleep(Duration::try_from_secs_f64(ahead_s).unwrap_or_default());
        }
    }

    fn digest_is_due(&mut self, at: Wall, every: Duration) -> bool {
        let due = at >= self.digest_from + every;
        if due {
            self.digest_from = at;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::episode::Phase;
    use crate::frame::ModelName;
    use crate::infer::{ModelOptions, Policy};
    use crate::reading::ChannelId;

    /// Steps and digests of a recording in which one channel sticks.
    fn replayed(every: Option<Duration>) -> (Vec<Phase>, Vec<Digest>, Summary) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tank.csv");
        let mut rng = fastrand::Rng::with_seed(4);
        let mut text = String::from("timestamp,tank1.level [m]\n");
        for n in 0..2000u32 {
            let level = if n < 1200 { 2.0 + f64::from(rng.u32(0..100)) / 1000.0 } else { 2.05 };
            text += &format!("{},{level}\n", 1_790_000_000 + n * 5);
        }
        std::fs::write(&file, text).unwrap();
        let options = ReplayOptions {
            files: vec![file],
            assemble: AssembleOptions::default(),
            speed: 0.0,
            every,
            lang: Lang::En,
            glm: GlmOptions { enabled: false, ..GlmOptions::default() },
            infer: InferOptions::default(),
        };
        let (mut phases, mut digests) = (Vec::new(), Vec::new());
        let summary = run(options, &mut |told| match told {
            Told::Episode(step) => phases.push(step.phase),
            Told::Digest(digest) => digests.push(digest.clone()),
            Told::Progress(..) => {}
        });
        (phases, digests, summary.unwrap())
    }

    #[test]
    fn a_recording_is_told_as_episodes_and_one_digest_that_names_them() {
        let (phases, digests, summary) = replayed(None);
        assert_eq!((phases.first(), phases.last()), (Some(&Phase::Opened), Some(&Phase::Closed)));
        assert_eq!((summary.readings, summary.episodes, digests.len()), (2000, 1, 1));
        assert!(digests[0].text.contains("tank1.level"), "{}", digests[0].text);
        assert!(summary.windows >= 160, "{summary:?}");
    }

    #[test]
    fn each_stretch_of_recorded_time_gets_its_digest() {
        let (_, digests, _) = replayed(Some(Duration::from_secs(3600)));
        assert_eq!(digests.len(), 3, "two hours are over, the rest comes at the end");
        assert!(digests[0].facts.events.is_empty() && !digests[1].facts.events.is_empty());
    }

    fn cold_room(channels: &[&str], backends: &[&str], policy: Policy) -> InferOptions {
        let model = ModelOptions {
            name: ModelName::new("freezer").unwrap(),
            bundle: "cold_room".into(),
            channels: channels.iter().map(|name| ChannelId::new(name).unwrap()).collect(),
            every: Duration::from_secs(60),
            backends: backends.iter().map(|name| (*name).to_owned()).collect(),
            policy,
        };
        InferOptions { models: vec![model], ..InferOptions::default() }
    }

    /// Openings and digest of the six hours that the shipped model was not taught: iced from the fourth hour on.
    fn cold_room_replayed(infer: InferOptions) -> (Vec<EpisodeUpdate>, Vec<Digest>) {
        let options = ReplayOptions {
            files: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/models/cold_room/held_out.csv").into()],
            // Without the detectors that learn: what is told is the model's.
            assemble: AssembleOptions { learning_off: true, ..AssembleOptions::default() },
            speed: 0.0,
            every: None,
            lang: Lang::En,
            glm: GlmOptions { enabled: false, ..GlmOptions::default() },
            infer,
        };
        let (mut openings, mut digests) = (Vec::new(), Vec::new());
        run(options, &mut |told| match told {
            Told::Episode(step) if step.phase == Phase::Opened => openings.push(step.clone()),
            Told::Digest(digest) => digests.push(digest.clone()),
            Told::Episode(_) | Told::Progress(..) => {}
        })
        .unwrap();
        (openings, digests)
    }

    #[test]
    fn a_small_model_finds_the_iced_evaporator_and_its_alarm_names_the_model() {
        let (openings, digests) = cold_room_replayed(cold_room(&["cold1.temp"], &["onnx"], Policy::Require));
        let iced_from = Wall::from_secs(1_790_000_000 + 4 * 3600);
        let first = openings.first().expect("no episode");
        assert!(first.reason.starts_with("model freezer scores"), "{}", first.reason);
        // A window is 32 minutes long, so a fault may show a window late, and never before it is there.
        assert!(
            first.at > iced_from && first.at < iced_from + Duration::from_secs(40 * 60),
            "{}",
            first.at.rfc3339()
        );
        assert!(openings.len() <= 3, "{} alarms of one fault", openings.len());
        assert_eq!(digests[0].facts.events[0].channel.as_str(), "cold1.temp");
    }

    #[test]
    fn without_its_backend_a_preferred_model_runs_on_the_cpu_and_a_required_one_stops_the_start() {
        let (openings, _) = cold_room_replayed(cold_room(&["cold1.temp"], &["galcore"], Policy::Prefer));
        assert!(openings[0].reason.starts_with("model freezer"));
        for (infer, says) in [
            (cold_room(&["cold1.temp"], &["galcore"], Policy::Require), "galcore"),
            (cold_room(&["a.x", "b.x"], &["onnx"], Policy::Require), "1 channels, but 2 are configured"),
        ] {
            let error = smol::block_on(Infer::start(infer)).map(Infer::stop).unwrap_err().to_string();
            assert!(error.contains("model freezer") && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error_with_its_name() {
        let options = ReplayOptions {
            files: vec!["none.csv".into()],
            assemble: AssembleOptions::default(),
            speed: 0.0,
            every: None,
            lang: Lang::En,
            glm: GlmOptions { enabled: false, ..GlmOptions::default() },
            infer: InferOptions::default(),
        };
        assert!(run(options, &mut |_| {}).unwrap_err().to_string().contains("none.csv"));
    }
}
