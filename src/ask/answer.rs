//! From what is known to the facts of an answer, and the sentences that no model needs to write.

use std::collections::BTreeMap;

use super::{Book, Outage, Period, Query, Span, Subject};
use crate::digest::figures::{self, plain};
use crate::digest::{Lang, template, verify};
use crate::episode::{EpisodeUpdate, Phase};
use crate::facts::{self, Citation, EventFact, Facts};
use crate::limits;
use crate::reading::{ChannelInfo, Severity};
use crate::time::Wall;

/// One episode as far as it is known, with the agent's own times: those of a replayed recording would not compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// What happened, with its records.
    pub event: EventFact,
    /// When the agent learnt of it.
    pub from: Wall,
    /// When it ended for the agent; none: it goes on.
    pub to: Option<Wall>,
}

/// Every episode that is known, by id.
#[derive(Debug, Clone, Default)]
pub struct Story {
    episodes: BTreeMap<u64, Known>,
}

impl Story {
    /// Takes an episode as it stands in memory; what a spool said of it before is less.
    pub fn know(&mut self, id: u64, known: Known) {
        self.episodes.insert(id, known);
    }

    /// Takes one step from the spool, told as record `cite` at `at`; steps come in order.
    pub fn step(&mut self, step: &EpisodeUpdate, cite: Citation, at: Wall, info: &ChannelInfo) {
        let ended = step.phase == Phase::Closed;
        let before = self.episodes.get(&step.id);
        let cites = match before.and_then(|known| known.event.cites) {
            Some(known) => {
                Citation { first: known.first.min(cite.first), last: known.last.max(cite.last), ..known }
            }
            None => cite,
        };
        let known = Known {
            event: EventFact {
                channel: step.channel.clone(),
                label: info.label.clone(),
                asset: info.asset.clone(),
                quantity: info.quantity,
                pattern: step.pattern,
                severity: step.severity,
                ongoing: !ended,
                start: step.start,
                duration_s: u64::try_from(step.at.micros_since(step.start) / 1_000_000).unwrap_or(0),
                baseline: step.baseline,
                peak: step.peak,
                limit: step.limit,
                count: step.pattern.is_counted().then_some(step.count),
                unit: step.unit.clone(),
                cites: Some(cites),
            },
            from: before.map_or(at, |known| known.from),
            to: ended.then_some(at),
        };
        self.episodes.insert(step.id, known);
    }

    /// The agent started anew at `at`: nobody follows the episodes of the run before.
    pub fn interrupt(&mut self, at: Wall) {
        for known in self.episodes.values_mut().filter(|known| known.to.is_none()) {
            (known.to, known.event.ongoing) = (Some(at), false);
        }
    }

    /// The facts that answer `query` for `span`.
    pub fn facts(&self, query: &Query, span: Span, outage: Option<Outage>, book: &Book) -> Facts {
        let mut events: Vec<EventFact> = Vec::new();
        for known in self.episodes.values().filter(|known| asked_for(known, query, span)) {
            let event = known.event.clone();
            match events.iter_mut().find(|e| e.channel == event.channel && e.pattern == event.pattern) {
                Some(told) => told.merge(event),
                None => events.push(event),
            }
        }
        let in_scope =
            book.channels().iter().filter(|c| Book::covers(&query.about, &c.id, c.asset.as_deref()));
        let normal = in_scope.filter(|c| !events.iter().any(|e| e.channel == c.id)).count();
        let duration_s = |o: &Outage| o.to.unwrap_or(span.to).micros_since(o.from).max(0) / 1_000_000;
        let mut facts = Facts {
            from: span.from,
            to: span.to,
            outage: outage.map(|o| facts::Outage {
                start: o.from,
                duration_s: u64::try_from(duration_s(&o)).unwrap_or(0),
                records_kept: o.records_kept,
                records_lost: o.records_lost,
            }),
            events: Vec::new(),
            events_more: 0,
            channels_normal: u32::try_from(normal).unwrap_or(u32::MAX),
            readings: 0,
        };
        facts.set_events(events);
        facts
    }
}

fn asked_for(known: &Known, query: &Query, span: Span) -> bool {
    known.event.severity >= query.severity
        && span.touches(known.from, known.to)
        && Book::covers(&query.about, &known.event.channel, known.event.asset.as_deref())
}

/// Says that nothing happened: whom and when it was asked about, and what was normal.
pub fn nothing(query: &Query, facts: &Facts, lang: Lang) -> String {
    let about: Vec<String> = query.about.iter().map(|s| plain(name(s))).collect();
    let when = |at| figures::moment(at, facts.to, lang);
    let (from, to) = (when(facts.from), when(facts.to));
    let now = query.period == Period::Now;
    let normal =
        template::text(&Facts { outage: None, events: Vec::new(), events_more: 0, ..facts.clone() }, lang);
    match lang {
        Lang::En => {
            let what = match query.severity {
                Severity::Info => "Nothing",
                Severity::Warning => "Nothing as grave as a warning",
                Severity::Critical => "Nothing critical",
            };
            let whom = if about.is_empty() { String::new() } else { format!(" for {}", about.join(", ")) };
            let when = match query.period {
                _ if now => " at the moment".into(),
                Period::All => String::new(),
                _ => format!(" from {from} to {to}"),
            };
            let verb = if now { "is" } else { "was" };
            format!("{what} {verb} flagged{whom}{when}. {normal}")
        }
        Lang::Zh => {
            let what = match query.severity {
                Severity::Info => "没有异常",
                Severity::Warning => "没有警告或更严重的异常",
                Severity::Critical => "没有严重异常",
            };
            let when = match query.period {
                _ if now => "目前".into(),
                Period::All => String::new(),
                _ => format!("{from} 至 {to} 期间"),
            };
            let whom = if about.is_empty() { String::new() } else { format!(" {} ", about.join("、")) };
            format!("{when}{whom}{what}。{normal}").trim_start().to_owned()
        }
    }
}

/// Says that the line was not down.
pub fn no_outage(query: &Query, lang: Lang) -> String {
    let ever = query.period == Period::Unsaid;
    match (lang, ever) {
        (Lang::En, true) => "The line has not been down since this agent started.".into(),
        (Lang::En, false) => "The line was not down in that time.".into(),
        (Lang::Zh, true) => "本次启动以来线路没有中断。".into(),
        (Lang::Zh, false) => "这段时间线路没有中断。".into(),
    }
}

/// Says that nothing has these names, and which names there are.
pub fn unknown(names: &[String], book: &Book, lang: Lang) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", plain(name))).collect();
    let channels = || book.channels().iter().map(|c| c.id.as_str().to_owned()).collect();
    let known: Vec<String> = if book.assets().is_empty() { channels() } else { book.assets().to_vec() };
    let shown: Vec<String> = known.iter().take(limits::ASK_SUBJECTS_MAX).map(|name| plain(name)).collect();
    let more = known.len() > shown.len();
    match lang {
        Lang::En if shown.is_empty() => {
            format!("Nothing here is called {}; no channel has reported yet.", quoted.join(" or "))
        }
        Lang::En => {
            let tail = if more { " and others" } else { "" };
            format!("Nothing here is called {}; there are {}{tail}.", quoted.join(" or "), shown.join(", "))
        }
        Lang::Zh if shown.is_empty() => {
            format!("这里没有名为 {} 的通道或设备；还没有通道上报。", quoted.join("、"))
        }
        Lang::Zh => {
            let tail = if more { " 等" } else { "" };
            format!("这里没有名为 {} 的通道或设备；已有 {}{tail}。", quoted.join("、"), shown.join("、"))
        }
    }
}

/// Says what can be asked.
pub fn not_understood(lang: Lang) -> String {
    match lang {
        Lang::En => "That was not understood. Ask what happened, of which channel or asset, and when: \
                     \"what happened while the line was down?\", \"anything critical since yesterday?\"."
            .into(),
        Lang::Zh => "没有听懂。请问发生了什么、哪个通道或设备、什么时候，例如“断线期间发生了什么？”、“昨天有严重报警吗？”。".into(),
    }
}

/// Holds an answer to the rules of every digest; the names that the question chose may stand in it too.
pub fn check(text: &str, query: &Query, facts: &Facts, lang: Lang) -> Result<(), verify::Unverified> {
    let names: Vec<String> = query.about.iter().map(|subject| plain(name(subject))).collect();
    verify::complete(facts.severity(), text, facts, lang)?;
    verify::figures_are_facts_or(text, facts, lang, &names)
}

fn name(subject: &Subject) -> &str {
    match subject {
        Subject::Channel(id) => id.as_str(),
        Subject::Asset(asset) => asset,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Named, read};
    use crate::digest::template;
    use crate::reading::{ChannelId, Pattern, Unit};
    use crate::wire::Lane;

    fn info(id: &str) -> ChannelInfo {
        ChannelInfo::guess(&ChannelId::new(id).unwrap())
    }

    fn book() -> Book {
        Book::new(["pump1.temp", "pump1.flow", "tank2.level"].map(|id| Named::from(&info(id))))
    }

    const T0: i64 = 1_783_000_000;

    fn step(id: u64, channel: &str, phase: Phase, at_s: i64) -> EpisodeUpdate {
        EpisodeUpdate {
            id,
            phase,
            channel: ChannelId::new(channel).unwrap(),
            pattern: Pattern::High,
            severity: Severity::Warning,
            start: Wall::from_secs(T0),
            at: Wall::from_secs(at_s),
            baseline: Some(40.0),
            peak: Some(81.5),
            last: None,
            limit: None,
            count: 3,
            unit: Unit("Cel".into()),
            reason: String::new(),
            evidence: None,
        }
    }

    /// Two steps of one episode on pump 1, one of another on the tank.
    fn story() -> Story {
        let mut story = Story::default();
        let mut tell = |step: EpisodeUpdate, n: u64| {
            let cite = Citation { lane: Lane::Alarm, first: n, last: n };
            story.step(&step, cite, step.at, &info(step.channel.as_str()));
        };
        tell(step(1, "pump1.temp", Phase::Opened, T0), 7);
        tell(step(2, "tank2.level", Phase::Opened, T0 + 30), 8);
        tell(step(1, "pump1.temp", Phase::Closed, T0 + 60), 9);
        story
    }

    fn answered(question: &str, now_s: i64) -> (Query, Facts) {
        let query = read(question, &book()).query;
        let (span, outage) = query.resolve(Wall::from_secs(now_s), &[]).unwrap();
        let facts = story().facts(&query, span, outage, &book());
        (query, facts)
    }

    #[test]
    fn steps_of_an_episode_are_one_event_that_cites_them_all() {
        let (query, facts) = answered("what happened to pump1?", T0 + 100);
        let event = &facts.events[0];
        assert_eq!((facts.events.len(), event.ongoing, event.duration_s), (1, false, 60));
        assert_eq!(event.cites, Some(Citation { lane: Lane::Alarm, first: 7, last: 9 }));
        assert_eq!(facts.channels_normal, 1, "the other channel of the pump");
        let text = template::text(&facts, Lang::En);
        check(&text, &query, &facts, Lang::En).unwrap();
        assert!(text.contains("[alarm:7-9]"), "{text}");
    }

    #[test]
    fn what_is_over_is_not_going_on_and_what_was_interrupted_neither() {
        let (_, facts) = answered("what is going on now?", T0 + 100);
        assert_eq!(facts.events.iter().map(|e| e.channel.as_str()).collect::<Vec<_>>(), ["tank2.level"]);
        let mut story = story();
        story.interrupt(Wall::from_secs(T0 + 90));
        let query = read("now?", &book()).query;
        let (span, _) = query.resolve(Wall::from_secs(T0 + 100), &[]).unwrap();
        assert!(story.facts(&query, span, None, &book()).events.is_empty());
    }

    #[test]
    fn memory_knows_better_than_the_spool() {
        let mut story = story();
        let known = Known {
            event: EventFact { severity: Severity::Critical, ..story.episodes[&2].event.clone() },
            ..story.episodes[&2].clone()
        };
        story.know(2, known);
        let query = read("anything critical?", &book()).query;
        let (span, _) = query.resolve(Wall::from_secs(T0 + 100), &[]).unwrap();
        assert_eq!(story.facts(&query, span, None, &book()).events.len(), 1);
    }

    #[test]
    fn nothing_is_said_in_words_that_verify() {
        for question in [
            "what happened in the last 2 hours?",
            "anything critical of pump1 yesterday?",
            "warnings of pump1.flow now?",
            "is anything wrong with tank2, ever?",
            "昨天有严重报警吗？",
            "现在 pump1 有警告吗",
            "最近两小时怎么样",
        ] {
            let reading = read(question, &book());
            let query = reading.query;
            let (span, _) = query.resolve(Wall::from_secs(T0 + 900_000), &[]).unwrap();
            let facts = Story::default().facts(&query, span, None, &book());
            let text = nothing(&query, &facts, reading.lang);
            check(&text, &query, &facts, reading.lang).unwrap_or_else(|e| panic!("{e}: {text}"));
        }
        let query = read("what happened in the last 2 hours?", &book()).query;
        let (span, _) = query.resolve(Wall::from_secs(T0), &[]).unwrap();
        let facts = Story::default().facts(&query, span, None, &book());
        assert_eq!(
            nothing(&query, &facts, Lang::En),
            "Nothing was flagged from 11:46 UTC to 13:46 UTC. All 3 channels were normal."
        );
    }

    #[test]
    fn an_answer_with_a_figure_of_its_own_is_refused() {
        let (query, facts) = answered("what happened to pump1?", T0 + 100);
        let text = template::text(&facts, Lang::En);
        assert!(check(&text.replace("81.5", "82.5"), &query, &facts, Lang::En).is_err());
        assert!(check(&text.replace("[alarm:7-9]", "[alarm:7-8]"), &query, &facts, Lang::En).is_err());
    }

    #[test]
    fn a_name_that_is_not_here_is_answered_with_those_that_are() {
        let said = unknown(&["pump 7".into()], &book(), Lang::En);
        assert_eq!(said, "Nothing here is called \"pump 7\"; there are pump1, tank2.");
        assert!(unknown(&["x9".into()], &Book::default(), Lang::Zh).contains("还没有通道上报"));
    }
}
