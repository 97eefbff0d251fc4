//! `POST /api/ask`: a question about what happened, answered from memory and from what waits in the spool.
//!
//! The spool is looked at, never taken from; what the far side has acknowledged is only known as far as memory goes. No line
//! is needed, and no model: without one the question is read by rules and the answer worded by the template. Whoever worded
//! it, the answer is held to the rules of every digest before it leaves.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::shared::evicted;
use crate::ask::answer::{self, Story};
use crate::ask::{self, Book, Named, NoOutage, Outage, Query, Span, grammar};
use crate::clock;
use crate::digest::verify::Unverified;
use crate::digest::{Engine, Lang, prose, render, template};
use crate::facts::{Citation, Facts};
use crate::glm::GlmHandle;
use crate::glm::speaker::{End, Form, Message, Role, Talk};
use crate::http::Response;
use crate::limits;
use crate::observe::{self, agent as events};
use crate::reading::{ChannelId, ChannelInfo};
use crate::spool::StoreError;
use crate::time::{Stamp, Wall};
use crate::wire::{Block, BlockId, Lane, Notice, Record, decode_block};

/// What a client sends.
#[derive(Debug, Deserialize)]
struct Asked {
    question: String,
}

/// Answers with the words and what they rest on.
pub(super) async fn respond(shared: &Rc<Shared>, body: &[u8]) -> Response {
    let question = match serde_json::from_slice::<Asked>(body) {
        Ok(asked) if asked.question.len() <= limits::ASK_QUESTION_BYTES_MAX => asked.question,
        Ok(_) => {
            let max = limits::ASK_QUESTION_BYTES_MAX;
            return refusal(400, &format!("the question is longer than {max} bytes; ask a shorter one"));
        }
        Err(e) => return refusal(400, &format!("send {{\"question\": \"...\"}} ({e})")),
    };
    let now = clock::stamp();
    let recalled = match Recalled::all(shared, &now).await {
        Ok(recalled) => recalled,
        Err(e) => return refusal(503, &format!("the spool can't be read: {e}; try again")),
    };
    match recalled.answer(&shared.glm, &question, now.wall).await {
        Ok(value) => {
            observe::emit(&events::QuestionAnswered {
                understood: value["understood"].is_string(),
                events: value["events"].as_array().map_or(0, Vec::len),
                took: clock::mono().since(now.mono),
            });
            Response::json(&value)
        }
        Err(e) => refusal(500, &format!("the answer does not hold against its facts: {e}; report it")),
    }
}

fn refusal(status: u16, error: &str) -> Response {
    Response::json(&json!({ "error": error })).with_status(status)
}

/// Everything that the agent knows at one moment.
#[derive(Debug, Default)]
struct Recalled {
    story: Story,
    book: Book,
    /// In order of their beginning.
    outages: Vec<Outage>,
    /// Digests with the time of their admission.
    digests: Vec<(Citation, Wall)>,
    /// Blocks that did not read, or records beyond what is looked at.
    partial: bool,
}

impl Recalled {
    /// Looks at the lanes `alarm` and `digest` of the spool, then at memory, which knows better.
    async fn all(shared: &Shared, now: &Stamp) -> Result<Self, StoreError> {
        let mut recalled = Self::default();
        let mut infos: BTreeMap<ChannelId, ChannelInfo> = BTreeMap::new();
        let mut outages: BTreeMap<Wall, Outage> = BTreeMap::new();
        for (lane, records_max) in
            [(Lane::Alarm, limits::ASK_ALARMS_MAX), (Lane::Digest, limits::ASK_DIGESTS_MAX)]
        {
            let mut next = recalled.begin(shared, lane, records_max).await?;
            loop {
                let run = shared.store.peek_run(lane, next, BLOCKS_AT_ONCE).await?;
                let Some(last) = run.last() else { break };
                next = last.id.last + 1;
                for stored in &run {
                    match decode_block(&stored.bytes) {
                        Ok(block) => recalled.take(&block, now, shared, &mut infos, &mut outages),
                        // A gap declares itself; a spool of JSON documents is for others to read.
                        Err(_) => recalled.partial = true,
                    }
                }
                // Readings go on meanwhile.
                smol::future::yield_now().await;
            }
        }
        // What is open and not in memory is of a run before this one, whose start may not have been committed yet.
        recalled.story.interrupt(now.wall_of(shared.started));
        outages.extend(shared.outages.borrow().iter().map(|outage| (outage.from, *outage)));
        recalled.outages = outages.into_values().collect();
        recalled.outages.extend(open_outage(shared, now, recalled.outages.is_empty()).await?);
        let assembler = shared.assembler.borrow();
        for (id, known) in assembler.episodes(now) {
            recalled.story.know(id, known);
        }
        infos.extend(assembler.infos().map(|info| (info.id.clone(), info.clone())));
        recalled.book = Book::new(infos.values().map(Named::from));
        Ok(recalled)
    }

    /// The record at which to begin with `lane`.
    async fn begin(&mut self, shared: &Shared, lane: Lane, records_max: u64) -> Result<u64, StoreError> {
        let tail = shared.store.status().await?.tail;
        let (oldest, next) = (tail.oldest[lane.index()], tail.next[lane.index()]);
        let begin = oldest.max(next.saturating_sub(records_max));
        self.partial |= oldest < begin;
        Ok(begin)
    }

    fn take(
        &mut self,
        block: &Block,
        now: &Stamp,
        shared: &Shared,
        infos: &mut BTreeMap<ChannelId, ChannelInfo>,
        outages: &mut BTreeMap<Wall, Outage>,
    ) {
        let at = shared.time_of(&block.header.sealed, now);
        let BlockId { lane, first, .. } = block.header.id();
        for (record, seq) in block.records.iter().zip(first..) {
            let cite = Citation { lane, first: seq, last: seq };
            match record {
                Record::Episode(step) => {
                    let info = infos.entry(step.channel.clone()).or_insert_with(|| {
                        let known = shared.assembler.borrow().info(step.channel.as_str()).cloned();
                        known.unwrap_or_else(|| ChannelInfo {
                            unit: step.unit.clone(),
                            ..ChannelInfo::guess(&step.channel)
                        })
                    });
                    self.story.step(step, cite, at, info);
                }
                Record::Notice(notice) if notice.code == Notice::AGENT_STARTED => self.story.interrupt(at),
                Record::Digest(digest) => {
                    self.digests.push((cite, at));
                    outages.extend(digest.facts.outage.as_ref().map(|o| {
                        let to = o.start + std::time::Duration::from_secs(o.duration_s);
                        let (records_kept, records_lost) = (o.records_kept, o.records_lost);
                        (o.start, Outage { from: o.start, to: Some(to), records_kept, records_lost })
                    }));
                }
                _ => {}
            }
        }
    }

    /// Reads the question, finds the facts and words them.
    async fn answer(&self, glm: &GlmHandle, question: &str, now: Wall) -> Result<Value, Unverified> {
        let reading = ask::read(question, &self.book);
        let lang = reading.lang;
        // The rules know for certain what is not here; what is meant a model may know better.
        if !reading.unknown.is_empty() {
            return Ok(said(answer::unknown(&reading.unknown, &self.book, lang), lang, None));
        }
        match self.read_by_model(glm, question).await {
            Some(query) => {
                let mut value = self.answer_query(glm, question, &query, now, lang).await?;
                value["read_by"] = Engine::Glm.name().into();
                Ok(value)
            }
            None if reading.is_foreign => Ok(said(answer::not_understood(lang), lang, None)),
            None => self.answer_query(glm, question, &reading.query, now, lang).await,
        }
    }

    /// The question as the bigger model understands it, held to the grammar of queries; none without such a model, or where it
    /// does not answer in time.
    async fn read_by_model(&self, glm: &GlmHandle, question: &str) -> Option<Query> {
        glm.model()?;
        let messages = vec![
            Message::new(Role::System, grammar::instruction(&self.book)),
            Message::new(Role::User, format!("Question: {}", question.trim())),
        ];
        let form = Form::Guided(grammar::grammar(&self.book));
        let deadline = Some(clock::mono() + glm.patience());
        let talk = Talk { form, deadline, copies: true, ..Talk::new(messages, limits::GLM_QUERY_TOKENS_MAX) };
        let (text, why, _) = glm.talk("ask", talk).ok()?.all().await.ok()?;
        Query::parse(&text, &self.book).ok().filter(|_| why == End::Stop)
    }

    /// The facts in the bigger model's words, if they hold.
    async fn worded(&self, glm: &GlmHandle, question: &str, facts: &Facts, lang: Lang) -> Option<String> {
        glm.model()?;
        let brief = prose::brief(facts, lang, Some(question));
        let messages = vec![Message::new(Role::System, brief.system), Message::new(Role::User, brief.user)];
        let form = Form::Guided(brief.grammar);
        let deadline = Some(clock::mono() + glm.patience());
        let talk = Talk { form, deadline, copies: true, ..Talk::new(messages, usize::MAX) };
        let (text, why, _) = glm.talk("ask", talk).ok()?.all().await.ok()?;
        prose::read(&text, facts, lang).ok().filter(|_| why == End::Stop).map(|prose| prose.text)
    }

    async fn answer_query(
        &self,
        glm: &GlmHandle,
        question: &str,
        query: &Query,
        now: Wall,
        lang: Lang,
    ) -> Result<Value, Unverified> {
        let (span, outage) = match query.resolve(now, &self.outages) {
            Ok(resolved) => resolved,
            Err(NoOutage) => return Ok(said(answer::no_outage(query, lang), lang, Some(query))),
        };
        let facts = self.story.facts(query, span, outage, &self.book);
        let is_quiet = facts.events.is_empty() && facts.outage.is_none();
        let prose = if is_quiet { None } else { self.worded(glm, question, &facts, lang).await };
        let prose = prose.filter(|text| answer::check(text, query, &facts, lang).is_ok());
        let engine = if prose.is_some() { Engine::Glm } else { Engine::Template };
        let text = prose.unwrap_or_else(|| match is_quiet {
            true => answer::nothing(query, &facts, lang),
            false => template::text(&facts, lang),
        });
        answer::check(&text, query, &facts, lang)?;
        let mut value = said(text, lang, Some(query));
        value["engine"] = engine.name().into();
        value["from"] = facts.from.rfc3339().into();
        value["to"] = facts.to.rfc3339().into();
        value["verdict"] = facts.severity().name().into();
        value["events"] = facts.events.iter().map(event).collect();
        value["citations"] = citations(&facts);
        value["digests"] = self.digests_of(span);
        value["partial"] = self.partial.into();
        Ok(value)
    }

    /// Digests admitted in that time, the newest last.
    fn digests_of(&self, span: Span) -> Value {
        let within = self.digests.iter().filter(|(_, at)| span.touches(*at, Some(*at)));
        let cites: Vec<String> = within.map(|(cite, _)| render::citation(cite)).collect();
        let shown = cites.len().saturating_sub(limits::ASK_SUBJECTS_MAX);
        json!(cites[shown..])
    }
}

/// An outage that is not over; a blip is one only where there is no other.
async fn open_outage(shared: &Shared, now: &Stamp, is_only: bool) -> Result<Option<Outage>, StoreError> {
    let since = {
        let line = shared.line.borrow();
        let lasted = now.mono.since(line.since);
        if line.up || (lasted < shared.options.offline_after && !is_only) {
            return Ok(None);
        }
        line.since
    };
    let spool = shared.store.status().await?;
    Ok(Some(Outage {
        from: now.wall_of(since),
        to: None,
        records_kept: spool.ledger.iter().map(|lane| lane.pending).sum(),
        records_lost: evicted(&spool).saturating_sub(shared.evicted_before.get()),
    }))
}

fn said(text: String, lang: Lang, query: Option<&Query>) -> Value {
    json!({
        "text": text,
        "lang": lang.name(),
        "engine": Engine::Template.name(),
        "understood": query.map(Query::written),
        "read_by": "rules",
    })
}

fn citations(facts: &Facts) -> Value {
    facts.events.iter().filter_map(|e| e.cites).map(|cite| render::citation(&cite)).collect()
}

fn event(event: &crate::facts::EventFact) -> Value {
    json!({
        "channel": event.channel.as_str(),
        "asset": event.asset,
        "pattern": event.pattern.name(),
        "severity": event.severity.name(),
        "ongoing": event.ongoing,
        "start": event.start.rfc3339(),
        "duration_s": event.duration_s,
        "baseline": event.baseline,
        "peak": event.peak,
        "limit": event.limit,
        "count": event.count,
        "unit": event.unit.0,
        "cites": event.cites.map(|cite| render::citation(&cite)),
    })
}

/// Blocks fetched by one way to the store's thread; at most 48 KiB each.
const BLOCKS_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::answer::Known;
    use crate::digest::testing;
    use crate::glm::{Glm, GlmOptions};

    const NOW: Wall = Wall::from_secs(1_783_000_000);

    /// Answers by the rules and the template.
    fn answer(question: &str) -> Value {
        let off = Glm::start(GlmOptions { enabled: false, ..GlmOptions::default() });
        smol::block_on(recalled().answer(&off.handle(), question, NOW)).unwrap()
    }

    fn recalled() -> Recalled {
        let facts = testing::hot_bearing();
        let mut story = Story::default();
        let mut named = Vec::new();
        for (id, event) in (1..).zip(facts.events) {
            let info = ChannelInfo::guess(&event.channel);
            named.push(Named { asset: event.asset.clone(), ..Named::from(&info) });
            let from = Wall(NOW.0 - 600_000_000);
            story.know(id, Known { event, from, to: None });
        }
        let digest = |n, s_ago: i64| {
            (Citation { lane: Lane::Digest, first: n, last: n }, Wall(NOW.0 - s_ago * 1_000_000))
        };
        let outage = Outage {
            from: Wall(NOW.0 - 900_000_000),
            to: Some(Wall(NOW.0 - 300_000_000)),
            records_kept: 1200,
            records_lost: 0,
        };
        let digests = vec![digest(3, 5000), digest(4, 500)];
        Recalled { story, book: Book::new(named), outages: vec![outage], digests, partial: false }
    }

    #[test]
    fn what_happened_while_the_line_was_down_is_told_with_its_records() {
        let value = answer("what happened while the line was down?");
        let text = value["text"].as_str().unwrap();
        assert!(text.starts_with("The line was down for 10 minutes"), "{text}");
        assert!(text.contains("1,200 records were kept, none was lost."), "{text}");
        let cites = value["citations"].as_array().unwrap();
        assert!(!cites.is_empty() && cites.iter().all(|cite| text.contains(cite.as_str().unwrap())));
        assert_eq!(value["digests"], json!(["[digest:4]"]), "the other one is older than the outage");
        assert!(value["understood"].as_str().unwrap().starts_with("line: down\n"));
    }

    #[test]
    fn a_question_that_is_none_is_answered_with_what_can_be_asked() {
        let value = answer("who wrote Faust?");
        assert!(value["text"].as_str().unwrap().contains("what happened while the line was down?"));
        assert_eq!((&value["understood"], value.get("events")), (&Value::Null, None));
        let value = answer("how is pump 77?");
        assert!(value["text"].as_str().unwrap().starts_with("Nothing here is called"), "{value}");
    }

    #[test]
    fn no_outage_is_said_as_such() {
        let value = answer("过去一分钟断线了吗？");
        assert_eq!(
            (value["text"].as_str(), value["lang"].as_str()),
            (Some("这段时间线路没有中断。"), Some("zh"))
        );
    }
}
