//! Digests from facts, several at a time: prompt, decode under the grammar, render, verify.

use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::digest::grammar::Grammar;
use crate::digest::prompt::NoSuchToken;
use crate::digest::verify::Unverified;
use crate::digest::vocab::{TokenId, Vocab};
use crate::digest::{Digest, DigestTiming, Engine, Lang, prompt, render, template, verify};
use crate::facts::Facts;
use crate::glm::generate::{
    Batcher, BatcherOptions, Ended, Event, Priority, Refused, Request, RequestId, Usage,
};
use crate::glm::sample::Sampling;
use crate::glm::student::Model;
use crate::limits;
use crate::time::Mono;

/// Words digests with one loaded student.
pub struct Writer {
    vocab: Arc<Vocab>,
    model: String,
    batcher: Batcher,
    jobs: Vec<Job>,
    events: Vec<Event>,
}

/// What is to be worded.
#[derive(Debug, Clone)]
pub struct Task {
    /// The facts.
    pub facts: Arc<Facts>,
    /// Which language.
    pub lang: Lang,
    /// The digest's id.
    pub id: u64,
    /// When to give up.
    pub deadline: Mono,
    /// Who goes first.
    pub priority: Priority,
}

/// A task under way.
struct Job {
    task: Task,
    request: RequestId,
    encode: Duration,
    prompt_tokens: usize,
    answer: Vec<TokenId>,
}

/// What became of a task: the digest's id, and the digest.
pub type Done = (u64, Result<Digest, Unworded>);

/// Why the model did not word a digest.
#[derive(Debug, thiserror::Error)]
pub enum Unworded {
    /// The prompt needs a token that the vocabulary lacks.
    #[error(transparent)]
    Prompt(#[from] NoSuchToken),
    /// The batcher does not take it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No event and at most one channel: the student has not learnt to say that reliably.
    #[error("there is too little to word")]
    TooLittle,
    /// The time was up.
    #[error("the time budget was exceeded")]
    OverBudget,
    /// The grammar had to end the text.
    #[error("the model did not come to an end")]
    Rambling,
    /// The engine failed.
    #[error("{0}")]
    Failed(String),
    /// The text did not stand up to the facts.
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

impl Writer {
    /// Takes a loaded student.
    pub fn new(model: Model) -> Self {
        Self {
            vocab: Arc::clone(model.vocab()),
            model: model.id().to_owned(),
            batcher: Batcher::new(model.into_engine(), BatcherOptions::default()),
            jobs: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Takes a task; [`Writer::step`] gives back what became of it.
    pub fn begin(&mut self, task: Task) -> Result<(), Unworded> {
        if task.facts.events.is_empty() && task.facts.channels_normal < 2 {
            return Err(Unworded::TooLittle);
        }
        let begun = clock::mono();
        let prompt = prompt::encode(&self.vocab, &task.facts, task.lang)?;
        let prompt_tokens = prompt.len();
        let encode = clock::mono().since(begun);
        let request = self.batcher.submit(Request {
            prompt,
            sampling: Sampling::GREEDY,
            constraint: Some(Box::new(Grammar::new(&self.vocab, &task.facts, task.lang))),
            end_ids: Arc::from([self.vocab.end()]),
            tokens_max: limits::ANSWER_TOKENS_MAX,
            deadline: Some(task.deadline),
            priority: task.priority,
            cancel: None,
            // A student of this size reads a proposal no faster than it writes a token.
            speculate: false,
        })?;
        self.jobs.push(Job { task, request, encode, prompt_tokens, answer: Vec::new() });
        Ok(())
    }

    /// Whether all tasks are done.
    pub fn is_idle(&self) -> bool {
        self.batcher.is_idle()
    }

    /// One run of the model for the tasks of at least `floor`. Blocks for some hundred microseconds.
    pub fn step(&mut self, floor: Priority, done: &mut Vec<Done>) {
        let mut events = std::mem::take(&mut self.events);
        self.batcher.step(floor, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Token { id, token } => {
                    let job = self.jobs.iter_mut().find(|job| job.request == id);
                    job.into_iter().for_each(|job| job.answer.push(token));
                }
                Event::Ended { id, why, usage } => {
                    if let Some(at) = self.jobs.iter().position(|job| job.request == id) {
                        let job = self.jobs.swap_remove(at);
                        done.push((job.task.id, self.finish(job, why, usage)));
                    }
                }
            }
        }
        self.events = events;
    }

    /// Words `facts` alone; gives up once `deadline` has passed. Blocks for the time of the decoding, typically some
    /// milliseconds.
    pub fn word(&mut self, facts: &Facts, lang: Lang, id: u64, deadline: Mono) -> Result<Digest, Unworded> {
        let facts = Arc::new(facts.clone());
        self.begin(Task { facts, lang, id, deadline, priority: Priority::Alarm })?;
        let mut done = Vec::new();
        while done.is_empty() && !self.is_idle() {
            self.step(Priority::Alarm, &mut done);
        }
        done.pop().map_or(Err(Unworded::OverBudget), |(_, outcome)| outcome)
    }

    fn finish(&self, job: Job, why: Ended, usage: Usage) -> Result<Digest, Unworded> {
        let Job { task, mut answer, .. } = job;
        match why {
            Ended::EndId(token) => answer.push(token),
            Ended::Deadline | Ended::Cancelled => return Err(Unworded::OverBudget),
            Ended::Length | Ended::Context => return Err(Unworded::Rambling),
            Ended::Stuck => return Err(Unworded::Failed("the model's logits are no numbers".into())),
            Ended::Failed(reason) => return Err(Unworded::Failed(reason)),
        }
        let facts = &*task.facts;
        let mut grammar = Grammar::new(&self.vocab, facts, task.lang);
        if answer.iter().any(|&token| grammar.advance(token).is_err()) || grammar.was_cut() {
            return Err(Unworded::Rambling);
        }
        let text = render::text(&self.vocab, &answer, facts, task.lang);
        verify::answer(&self.vocab, &answer, grammar.verdict(), &text, facts, task.lang)?;
        let timing = DigestTiming {
            encode_us: micros(job.encode.as_micros()),
            prefill_us: micros(u128::from(usage.queued_us + usage.prefill_us)),
            decode_us: micros(u128::from(usage.decode_us)),
            prompt_tokens: job.prompt_tokens as u32,
            answer_tokens: answer.len() as u32,
        };
        Ok(Digest {
            id: task.id,
            engine: Engine::Glm,
            model: self.model.clone(),
            fallback_reason: String::new(),
            lang: task.lang,
            verdict: grammar.verdict(),
            cause: grammar.cause().name().to_owned(),
            text,
            facts: facts.clone(),
            timing,
        })
    }
}

/// The digest that always works: worded by the template because of `reason`.
pub fn by_template(facts: Facts, lang: Lang, id: u64, reason: &str) -> Digest {
    let quiet = facts.events.is_empty();
    Digest {
        id,
        engine: Engine::Template,
        model: String::new(),
        fallback_reason: reason.to_owned(),
        lang,
        verdict: facts.severity(),
        cause: if quiet { "none" } else { "unknown" }.to_owned(),
        text: template::text(&facts, lang),
        facts,
        timing: DigestTiming::default(),
    }
}

fn micros(us: u128) -> u32 {
    u32::try_from(us).unwrap_or(u32::MAX)
}
