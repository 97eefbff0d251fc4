//! The sources that run, and how another configuration changes them: what it leaves alone is not touched.
//!
//! A source that is changed ends first and begins anew when its thread has ended and what it sent has been judged, since
//! two can't listen in one place. The others go on meanwhile. One that can't begin, or fails, is tried again after waits
//! that double: a port becomes free, a file is put right, a program is installed.
//!
//! Each has a channel of its own, and they are served in turn: one that floods the agent fills its own and nobody else's.

use std::pin::Pin;
use std::task::{Context, Poll};

use smol::channel::Receiver;
use smol::stream::Stream as _;

use super::AgentError;
use super::assemble::ChannelBook;
use super::status::SourceBrief;
use crate::clock;
use crate::hash::Sha256;
use crate::limits;
use crate::sensor::{self, Batch, SourceHandle, SourceOptions, Stopper};
use crate::sync::backoff::{Backoff, BackoffOptions, Cause};
use crate::time::Mono;

/// What can change while the seat runs.
#[derive(Debug, Clone)]
pub struct Reload {
    /// Name and kind of each source, no name twice.
    pub sources: Vec<(String, SourceOptions)>,
    /// What is known of channels.
    pub channels: ChannelBook,
    /// Whether single readings are kept.
    pub raw: bool,
    /// What differs besides and waits for a restart, as the file calls it.
    pub restart: Vec<&'static str>,
}

/// What somebody asks of a running seat.
#[derive(Debug, Clone)]
pub enum Order {
    /// Another configuration, which has been checked.
    Apply(Reload),
    /// Another configuration was there and can't be used; the old one stays. The mistakes in words.
    Refuse(String),
}

/// What an order changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub kept: usize,
    pub stopped: usize,
    pub started: usize,
}

/// Every source of the seat.
pub(super) struct Sources {
    running: Vec<Running>,
    /// To be started as soon as each is due and nothing of its name runs.
    waiting: Vec<Wanted>,
    /// Waited, and are wanted no more.
    given_up: Vec<String>,
    /// Whose batch is looked for first.
    turn: usize,
    /// All were asked to end, and none begins any more.
    ending: bool,
    rng: fastrand::Rng,
}

/// A source that is to run, and how that went so far.
pub(super) struct Wanted {
    pub name: String,
    pub options: SourceOptions,
    /// Hash of its file, where it has one.
    content: Option<Sha256>,
    backoff: Backoff,
    due: Mono,
    /// Why it does not run, as it was told last.
    told: Option<String>,
}

/// Why a source does not run.
pub(super) struct Trouble {
    pub name: String,
    pub why: String,
    /// It was not told of this source before.
    pub is_news: bool,
}

struct Running {
    wanted: Wanted,
    handle: SourceHandle,
    batches: Pin<Box<Receiver<Batch>>>,
    begun: Mono,
    /// It said itself that nothing more will come.
    has_ended: bool,
    /// None once it was asked to end.
    stopper: Option<Stopper>,
}

impl Sources {
    /// None runs yet.
    ///
    /// Errors: there are too many, or two of one name.
    pub fn new(wanted: &[(String, SourceOptions)]) -> Result<Self, AgentError> {
        if wanted.len() > limits::SOURCE_CLOCKS_MAX {
            return Err(AgentError::TooManySources { sources: wanted.len() });
        }
        let mut waiting: Vec<Wanted> = Vec::with_capacity(wanted.len());
        for (name, options) in wanted {
            if waiting.iter().any(|known| known.name == *name) {
                return Err(AgentError::SourceTwice { name: name.clone() });
            }
            waiting.push(Wanted::new(name.clone(), options.clone()));
        }
        Ok(Self {
            running: Vec::new(),
            waiting,
            given_up: Vec::new(),
            turn: 0,
            ending: false,
            rng: fastrand::Rng::new(),
        })
    }

    /// The next batch, of each source in turn; none once all have ended as they were asked to.
    pub async fn next(&mut self) -> Option<Batch> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Batch>> {
        let count = self.running.len();
        let mut all_ended = self.ending;
        for at in (0..count).map(|n| (self.turn + n) % count) {
            let source = &mut self.running[at];
            match source.batches.as_mut().poll_next(context) {
                Poll::Ready(Some(batch)) => {
                    source.has_ended |= batch.end;
                    self.turn = at + 1;
                    return Poll::Ready(Some(batch));
                }
                Poll::Ready(None) => {}
                Poll::Pending => all_ended = false,
            }
        }
        if all_ended { Poll::Ready(None) } else { Poll::Pending }
    }

    /// Takes leave of what `wanted` no longer has and remembers what it has besides.
    pub fn change(&mut self, wanted: Vec<(String, SourceOptions)>) -> Change {
        let wanted: Vec<Wanted> =
            wanted.into_iter().map(|(name, options)| Wanted::new(name, options)).collect();
        let mut change = Change::default();
        for source in &mut self.running {
            let stays = wanted.iter().any(|wanted| source.is(wanted));
            if !stays && source.stopper.take().is_some() {
                change.stopped += 1;
            }
        }
        let stays =
            |wanted: &Wanted| self.running.iter().any(|source| source.stopper.is_some() && source.is(wanted));
        let (kept, waiting): (Vec<_>, Vec<_>) = wanted.into_iter().partition(stays);
        (change.kept, change.started) = (kept.len(), waiting.len());
        let given_up = std::mem::replace(&mut self.waiting, waiting).into_iter().map(|wanted| wanted.name);
        let is_known = |name: &String| {
            self.waiting.iter().any(|wanted| wanted.name == *name)
                || self.running.iter().any(|source| source.wanted.name == *name)
        };
        self.given_up.extend(given_up.filter(|name| !is_known(name)));
        change
    }

    /// Whether something ends or could begin.
    pub fn is_changing(&self) -> bool {
        let now = clock::mono();
        let is_ending = |source: &Running| source.stopper.is_none();
        !self.ending
            && (!self.given_up.is_empty()
                || self.waiting.iter().any(|w| w.due <= now)
                || self.running.iter().any(is_ending))
    }

    /// Those that were asked to end and have, with all that they sent judged, and those that are wanted no more before they
    /// ran; they are forgotten.
    pub fn ended(&mut self) -> Vec<String> {
        let is_over = |source: &mut Running| source.stopper.is_none() && source.is_over();
        let over: Vec<_> = self.running.extract_if(.., is_over).collect();
        let ended = over.into_iter().map(|source| {
            source.handle.join();
            source.wanted.name
        });
        std::mem::take(&mut self.given_up).into_iter().chain(ended).collect()
    }

    /// Those whose threads have ended though nobody asked and they had not said so: each is tried again.
    pub fn failed(&mut self) -> Vec<Trouble> {
        let has_failed =
            |source: &mut Running| source.stopper.is_some() && !source.has_ended && source.is_over();
        let failed: Vec<_> = self.running.extract_if(.., has_failed).collect();
        failed
            .into_iter()
            .map(|Running { mut wanted, handle, begun, .. }| {
                let lived = clock::mono().since(begun);
                wanted.backoff.lived(lived);
                if lived >= BackoffOptions::default().stable_after {
                    wanted.told = None;
                }
                let why = handle.failure().unwrap_or("its thread ended unexpectedly; see the log").to_owned();
                handle.join();
                self.put_off(wanted, why)
            })
            .collect()
    }

    /// What waits, is due and whose name is free, to be given to [`Sources::open`] or [`Sources::put_off`].
    pub fn due(&mut self) -> Vec<Wanted> {
        let (now, running) = (clock::mono(), &self.running);
        let is_free = |wanted: &mut Wanted| {
            wanted.due <= now && !running.iter().any(|source| source.wanted.name == wanted.name)
        };
        self.waiting.extract_if(.., is_free).collect()
    }

    /// Opens a source and starts its thread; says how it stands.
    pub fn open(&mut self, mut wanted: Wanted) -> Result<SourceBrief, Trouble> {
        let (stopper, stop) = sensor::stopper();
        let (out, batches) = smol::channel::bounded(limits::BATCHES_MAX);
        // What it begins with is what it is compared by, whatever becomes of the file meanwhile.
        let begun = wanted.options.content().and_then(|content| {
            wanted.content = content.as_deref().map(Sha256::of);
            sensor::spawn_with(&wanted.name, wanted.options.clone(), content.as_deref(), out, stop)
        });
        match begun {
            Ok(handle) => {
                let state = handle.address().map_or("running".into(), |addr| format!("running on {addr}"));
                let brief = SourceBrief { name: wanted.name.clone(), state };
                self.running.push(Running {
                    wanted,
                    handle,
                    batches: Box::pin(batches),
                    begun: clock::mono(),
                    has_ended: false,
                    stopper: Some(stopper),
                });
                Ok(brief)
            }
            Err(error) => Err(self.put_off(wanted, error.to_string())),
        }
    }

    /// Tries it again later, because of `why`.
    pub fn put_off(&mut self, mut wanted: Wanted, why: String) -> Trouble {
        wanted.due = clock::mono() + wanted.backoff.failed(Cause::Line, &mut self.rng);
        let is_news = wanted.told.replace(why.clone()).is_none_or(|told| told != why);
        let name = wanted.name.clone();
        self.waiting.push(wanted);
        Trouble { name, why, is_news }
    }

    /// Whether the source of that name was asked to end.
    pub fn is_leaving(&self, name: &str) -> bool {
        self.running.iter().any(|source| source.wanted.name == name && source.stopper.is_none())
    }

    /// Asks all to end; no other begins.
    pub fn stop(&mut self) {
        self.ending = true;
        self.waiting.clear();
        self.running.iter_mut().for_each(|source| source.stopper = None);
    }

    /// Whether all were asked to end.
    pub fn is_ending(&self) -> bool {
        self.ending
    }

    /// Waits for the threads of all; only after [`Sources::next`] has given nothing more.
    pub fn join(self) {
        self.running.into_iter().for_each(|source| source.handle.join());
    }
}

impl Wanted {
    fn new(name: String, options: SourceOptions) -> Self {
        let backoff = Backoff::new(BackoffOptions::default());
        Self { name, content: content(&options), options, backoff, due: Mono::default(), told: None }
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.name, &self.options, self.content) == (&other.name, &other.options, other.content)
    }
}

/// None where there is no file, or it can't be read.
fn content(options: &SourceOptions) -> Option<Sha256> {
    options.content().ok().flatten().map(|bytes| Sha256::of(&bytes))
}

impl Running {
    /// Whether it is what is wanted, and need not be started again because it has failed.
    fn is(&self, wanted: &Wanted) -> bool {
        self.wanted.is_like(wanted) && self.handle.failure().is_none()
    }

    /// Its thread has ended, and nothing that it sent waits.
    fn is_over(&self) -> bool {
        self.handle.is_finished() && self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener};
    use std::time::Duration;

    use super::*;
    use crate::sensor::{
        CsvOptions, FieldOptions, HostOptions, Input, LinesOptions, Precision, PushOptions, ReplayOptions,
    };

    fn lines_on(address: SocketAddr) -> SourceOptions {
        let input = Input::Tcp(address);
        SourceOptions::Lines(LinesOptions { input, precision: Precision::Nanos, allow_remote: false })
    }

    /// Opens what is due; the troubles that there were.
    fn open_due(sources: &mut Sources) -> Vec<Trouble> {
        sources.due().into_iter().filter_map(|wanted| sources.open(wanted).err()).collect()
    }

    #[test]
    fn a_source_that_cannot_begin_is_told_of_once_and_begins_when_it_can() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let wanted = [
            ("plc".to_owned(), lines_on(address)),
            ("free".to_owned(), lines_on("127.0.0.1:0".parse().unwrap())),
        ];
        let mut sources = Sources::new(&wanted).unwrap();
        let troubles = open_due(&mut sources);
        assert_eq!((troubles.len(), sources.running.len()), (1, 1), "the other one runs");
        assert!(troubles[0].is_news && troubles[0].why.contains(&address.to_string()), "{}", troubles[0].why);
        let again = loop {
            if let Some(trouble) = open_due(&mut sources).pop() {
                break trouble;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(again.name == "plc" && !again.is_news);
        drop(taken);
        while sources.running.len() < 2 {
            open_due(&mut sources);
            std::thread::sleep(Duration::from_millis(5));
        }
        sources.stop();
        assert!(smol::block_on(sources.next()).is_none());
        sources.join();
    }

    /// Its place, and the word that it had failed, once stayed until a restart.
    #[test]
    fn a_source_that_never_ran_and_is_wanted_no_more_is_forgotten() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = vec![("plc".to_owned(), lines_on(taken.local_addr().unwrap()))];
        let mut sources = Sources::new(&wanted).unwrap();
        assert_eq!(open_due(&mut sources).len(), 1);
        sources.change(wanted);
        assert!(sources.ended().is_empty(), "it is still wanted");
        sources.change(Vec::new());
        assert!(sources.is_changing());
        assert_eq!(sources.ended(), ["plc"]);
        assert!(sources.ended().is_empty() && !sources.is_changing());
    }

    #[test]
    fn a_source_that_fails_is_put_back_and_one_that_has_said_its_last_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let recording = |name: &str, repeat: bool| {
            let path = dir.path().join(name);
            std::fs::write(&path, "ts,x\n1,1\n").unwrap();
            let options =
                ReplayOptions { path, csv: CsvOptions::default(), speed: 20.0, repeat, shift_to: None };
            (name.to_owned(), SourceOptions::Replay(options))
        };
        let mut sources = Sources::new(&[recording("once", false), recording("again", true)]).unwrap();
        assert!(open_due(&mut sources).is_empty());
        std::fs::remove_file(dir.path().join("again")).unwrap();
        let trouble = loop {
            let late = async {
                smol::Timer::after(Duration::from_millis(20)).await;
                None
            };
            smol::block_on(smol::future::or(sources.next(), late));
            if let Some(trouble) = sources.failed().pop() {
                break trouble;
            }
        };
        assert_eq!((trouble.name.as_str(), sources.waiting.len(), sources.running.len()), ("again", 1, 1));
    }

    /// All sources once shared one channel: a recording at full speed kept it full, and vitals found no place in it.
    #[test]
    fn a_flood_costs_its_neighbours_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let rows: String = (1..20_000).map(|n| format!("{n},{n}\n")).collect();
        std::fs::write(&path, format!("ts,x\n{rows}")).unwrap();
        let flood =
            ReplayOptions { path, csv: CsvOptions::default(), speed: 1e9, repeat: true, shift_to: None };
        let vitals = HostOptions { interval: Duration::from_millis(100), ..HostOptions::default() };
        let wanted = [
            ("flood".to_owned(), SourceOptions::Replay(flood)),
            ("vitals".to_owned(), SourceOptions::Host(vitals)),
        ];
        let mut sources = Sources::new(&wanted).unwrap();
        assert!(open_due(&mut sources).is_empty());
        for _ in 0..80 {
            smol::block_on(sources.next()).unwrap();
            // Slower than the recording comes.
            std::thread::sleep(Duration::from_millis(30));
        }
        let flooding = sources.running.iter().find(|s| s.wanted.name == "flood").unwrap();
        assert!(flooding.batches.is_full(), "it was no flood");
        let vitals = sources.running.iter().find(|s| s.wanted.name == "vitals").unwrap();
        let stats = vitals.handle.stats();
        assert!(stats.dropped == 0 && stats.readings > 0, "{stats:?}");
    }

    /// Only the options were compared once: an edited file under the same path changed nothing, without a word.
    #[test]
    fn a_source_whose_file_has_changed_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "old").unwrap();
        let options = SourceOptions::Field(FieldOptions::Push(PushOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            allow_remote: false,
            token_file: Some(token.clone()),
            precision: Precision::Nanos,
            durable: false,
        }));
        let wanted = vec![("push".to_owned(), options)];
        let mut sources = Sources::new(&wanted).unwrap();
        assert!(open_due(&mut sources).is_empty());
        assert_eq!(sources.change(wanted.clone()), Change { kept: 1, stopped: 0, started: 0 });
        std::fs::write(&token, "new").unwrap();
        assert_eq!(sources.change(wanted.clone()), Change { kept: 0, stopped: 1, started: 1 });
        while sources.ended().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(open_due(&mut sources).is_empty());
        assert_eq!(sources.change(wanted), Change { kept: 1, stopped: 0, started: 0 });
    }

    #[test]
    fn two_sources_of_one_name_and_too_many_are_refused() {
        let one = ("x".to_owned(), lines_on("127.0.0.1:0".parse().unwrap()));
        assert!(matches!(Sources::new(&[one.clone(), one.clone()]), Err(AgentError::SourceTwice { .. })));
        let many: Vec<_> = (0..=limits::SOURCE_CLOCKS_MAX).map(|n| (n.to_string(), one.1.clone())).collect();
        assert!(matches!(Sources::new(&many), Err(AgentError::TooManySources { .. })));
    }
}
