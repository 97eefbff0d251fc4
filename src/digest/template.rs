//! The wording that always works: plain sentences from a fixed table, in both languages, for any facts.
//!
//! It says less than the model (no cause, no advice), but it is complete: the outage, every event in the order of the
//! facts with its citation, what is not listed, what was normal. It never says a figure that is no fact.

use crate::digest::Lang;
use crate::digest::render::{Sentence, append, join};
use crate::digest::slots::{Role, Slot};
use crate::facts::{EventFact, Facts};
use crate::reading::{Pattern, Quantity, Severity};

/// Words `facts`. Never fails, never empty; the work is bounded by the number of events.
pub fn text(facts: &Facts, lang: Lang) -> String {
    let mut sentences = Vec::with_capacity(facts.events.len() + 3);
    sentences.extend(outage(facts, lang).map(Sentence::plain));
    for (index, event) in facts.events.iter().enumerate() {
        let body = Event { index, event, facts, lang }.say();
        sentences.push(Sentence { text: body, events: vec![index] });
    }
    sentences.extend(more(facts, lang).map(Sentence::plain));
    sentences.push(Sentence::plain(normal(facts, lang)));
    join(&sentences, facts, lang)
}

fn outage(facts: &Facts, lang: Lang) -> Option<String> {
    let outage = facts.outage.as_ref()?;
    let fill = |slot: Slot| slot.fill(facts, lang).unwrap_or_default();
    let (start, long, kept, lost) =
        (fill(Slot::OutageStart), fill(Slot::OutageDuration), fill(Slot::Kept), fill(Slot::Lost));
    let none_lost = outage.records_lost == 0;
    Some(match lang {
        Lang::En => {
            let records = if outage.records_kept == 1 { "record was" } else { "records were" };
            let head = format!("The line was down for {long} from {start}; {kept} {records} kept");
            let tail = if none_lost {
                ", none was lost.".into()
            } else {
                format!(" and {lost} given up in declared gaps.")
            };
            head + &tail
        }
        Lang::Zh => {
            let head = ["线路自", &start, "起中断，历时", &long, "；保留记录", &kept, "条，"];
            let tail = ["放弃", &lost, "条，缺口均已声明。"];
            zh(&[&head[..], if none_lost { &["无丢失。"] } else { &tail[..] }].concat())
        }
    })
}

fn more(facts: &Facts, lang: Lang) -> Option<String> {
    let n = Slot::More.fill(facts, lang)?;
    Some(match (lang, facts.events_more) {
        (Lang::En, 1) => format!("{n} further event is not listed."),
        (Lang::En, _) => format!("{n} further events are not listed."),
        (Lang::Zh, _) => zh(&["另有", &n, "个事件未列出。"]),
    })
}

fn normal(facts: &Facts, lang: Lang) -> String {
    let n = Slot::Normal.fill(facts, lang).unwrap_or_default();
    let quiet = facts.events.is_empty();
    match (lang, facts.channels_normal, quiet) {
        (Lang::En, 0, true) => "No channel reported anything.".into(),
        (Lang::En, 0, false) => "No other channel reported.".into(),
        (Lang::En, 1, true) => format!("{n} channel reported and was normal."),
        (Lang::En, _, true) => format!("All {n} channels were normal."),
        (Lang::En, 1, false) => format!("{n} other channel was normal."),
        (Lang::En, _, false) => format!("{n} other channels were normal."),
        (Lang::Zh, 0, true) => "没有通道上报数据。".into(),
        (Lang::Zh, 0, false) => "没有其他通道上报。".into(),
        (Lang::Zh, _, true) => zh(&["全部", &n, "个通道正常。"]),
        (Lang::Zh, _, false) => zh(&["其余", &n, "个通道正常。"]),
    }
}

/// Pieces of a Chinese sentence, spaced where a figure or a Latin name touches an ideograph.
fn zh(pieces: &[&str]) -> String {
    pieces.iter().fold(String::new(), |mut text, piece| {
        append(&mut text, piece, Lang::Zh);
        text
    })
}

/// One event on its way into a sentence.
struct Event<'a> {
    index: usize,
    event: &'a EventFact,
    facts: &'a Facts,
    lang: Lang,
}

impl Event<'_> {
    fn say(&self) -> String {
        match self.lang {
            Lang::En => {
                let (subject, shape) = (self.subject(), self.shape_en());
                format!("{}: {subject} {shape}{}{}.", self.grade(), self.limit_en(), self.when_en())
            }
            Lang::Zh => {
                let mut pieces: Vec<String> = vec![self.grade().into(), "：".into()];
                if let Some(asset) = self.asset() {
                    pieces.extend([asset, "的".into()]);
                }
                pieces.push(self.fill(Role::Channel).unwrap_or_default());
                self.when_zh(&mut pieces);
                self.shape_zh(&mut pieces);
                self.limit_zh(&mut pieces);
                pieces.push("。".into());
                zh(&pieces.iter().map(String::as_str).collect::<Vec<_>>())
            }
        }
    }

    fn fill(&self, role: Role) -> Option<String> {
        Slot::Event(self.index, role).fill(self.facts, self.lang)
    }

    fn grade(&self) -> &'static str {
        match (self.lang, self.event.severity) {
            (Lang::En, Severity::Info) => "Note",
            (Lang::En, Severity::Warning) => "Warning",
            (Lang::En, Severity::Critical) => "Critical",
            (Lang::Zh, Severity::Info) => "提示",
            (Lang::Zh, Severity::Warning) => "警告",
            (Lang::Zh, Severity::Critical) => "严重",
        }
    }

    /// The asset, where the channel's label does not name it already.
    fn asset(&self) -> Option<String> {
        let channel = self.fill(Role::Channel).unwrap_or_default();
        self.fill(Role::Asset).filter(|asset| !channel.contains(asset.as_str()))
    }

    fn subject(&self) -> String {
        let channel = self.fill(Role::Channel).unwrap_or_default();
        self.asset().map_or(channel.clone(), |asset| format!("{channel} of {asset}"))
    }

    fn is_state(&self) -> bool {
        matches!(self.event.quantity, Quantity::Door | Quantity::Link)
    }

    fn shape_en(&self) -> String {
        let tense = |ongoing, ended| if self.event.ongoing { ongoing } else { ended };
        let peak = |before: &str| self.fill(Role::Peak).map_or(String::new(), |p| format!("{before}{p}"));
        let baseline = |before: &str, after: &str| {
            self.fill(Role::Baseline).map_or(String::new(), |b| format!("{before}{b}{after}"))
        };
        let level = || format!("{}{}", peak(" at "), baseline(" (usually ", ")"));
        let course = || format!("{}{}", baseline(" from ", ""), peak(" to "));
        let times = match (self.fill(Role::Count), self.event.count) {
            (Some(k), Some(1)) => format!(" {k} time"),
            (Some(k), _) => format!(" {k} times"),
            (None, _) => String::new(),
        };
        match (self.event.quantity, self.event.pattern) {
            (Quantity::Door, Pattern::High | Pattern::Rise) => tense("has been open", "was open").into(),
            (Quantity::Link, Pattern::Low | Pattern::Fall) => tense("has been down", "was down").into(),
            (_, Pattern::High) => format!("{} high{}", tense("has been", "was"), level()),
            (_, Pattern::Low) => format!("{} low{}", tense("has been", "was"), level()),
            (_, Pattern::Rise) => format!("{}{}", tense("has risen", "rose"), course()),
            (_, Pattern::Fall) => format!("{}{}", tense("has fallen", "fell"), course()),
            (_, Pattern::Spike) => {
                format!("{}{times}{}", tense("has spiked", "spiked"), peak(", as far as "))
            }
            (_, Pattern::Stuck) if self.is_state() => tense("has not changed", "did not change").into(),
            (_, Pattern::Stuck) => format!("{}{}", tense("has been stuck", "was stuck"), peak(" at ")),
            (_, Pattern::Missing) => tense("has sent no reading", "sent no reading").into(),
            (_, Pattern::Flapping) => format!("{}{times}", tense("has been flapping,", "was flapping,"))
                .trim_end_matches(',')
                .to_owned(),
        }
    }

    fn shape_zh(&self, pieces: &mut Vec<String>) {
        let value = |before: &str, role: Role, after: &str| -> Vec<String> {
            self.fill(role).map_or(Vec::new(), |v| vec![before.into(), v, after.into()])
        };
        let said = |word: &str, tails: [Vec<String>; 2]| [vec![word.to_owned()], tails.concat()].concat();
        let level = || [value("，达到", Role::Peak, ""), value("（平时", Role::Baseline, "）")];
        let course = || [value("，平时", Role::Baseline, ""), value("，达到", Role::Peak, "")];
        pieces.extend(match (self.event.quantity, self.event.pattern) {
            (Quantity::Door, Pattern::High | Pattern::Rise) => vec!["开启".into()],
            (Quantity::Link, Pattern::Low | Pattern::Fall) => vec!["中断".into()],
            (_, Pattern::High) => said("偏高", level()),
            (_, Pattern::Low) => said("偏低", level()),
            (_, Pattern::Rise) => said("上升", course()),
            (_, Pattern::Fall) => said("下降", course()),
            (_, Pattern::Spike) => {
                said("突跳", [value("", Role::Count, "次"), value("，达到", Role::Peak, "")])
            }
            (_, Pattern::Stuck) if self.is_state() => vec!["状态不变".into()],
            (_, Pattern::Stuck) => said("读数不变", [value("，停在", Role::Peak, ""), Vec::new()]),
            (_, Pattern::Missing) => vec!["没有数据".into()],
            (_, Pattern::Flapping) => said("反复跳变", [value("，共", Role::Count, "次"), Vec::new()]),
        });
    }

    /// Below or above: by the values where they tell, by the pattern where they don't.
    fn is_below_limit(&self) -> bool {
        match (self.event.peak, self.event.limit) {
            (Some(peak), Some(limit)) if peak != limit => peak < limit,
            _ => matches!(self.event.pattern, Pattern::Low | Pattern::Fall),
        }
    }

    fn limit_en(&self) -> String {
        let side = if self.is_below_limit() { "below" } else { "above" };
        self.fill(Role::Limit).map_or(String::new(), |limit| format!(", {side} its limit of {limit}"))
    }

    fn limit_zh(&self, pieces: &mut Vec<String>) {
        let side = if self.is_below_limit() { "，低于限值" } else { "，超过限值" };
        pieces.extend(self.fill(Role::Limit).into_iter().flat_map(|limit| [side.to_owned(), limit]));
    }

    fn when_en(&self) -> String {
        let (start, long) = (self.fill(Role::Start), self.fill(Role::Duration));
        let (start, long) = (start.unwrap_or_default(), long.unwrap_or_default());
        if self.event.ongoing {
            format!(", since {start} ({long})")
        } else {
            format!(", from {start} for {long}")
        }
    }

    fn when_zh(&self, pieces: &mut Vec<String>) {
        let (start, long) = (self.fill(Role::Start), self.fill(Role::Duration));
        let (before, after) = if self.event.ongoing { ("起（已", "）") } else { ("起", "内") };
        let words =
            ["自".into(), start.unwrap_or_default(), before.into(), long.unwrap_or_default(), after.into()];
        pieces.extend(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::{testing, verify};

    #[test]
    fn an_event_reads_like_a_sentence_of_its_language() {
        let facts = testing::hot_bearing();
        assert_eq!(
            text(&facts, Lang::En),
            "Critical: bearing temperature of Pump 1 has risen from 41.2 °C to 78.3 °C, above its limit of 75 °C, \
             since 13:46 UTC (1 hour). [alarm:12-15] 7 other channels were normal."
        );
        assert_eq!(
            text(&facts, Lang::Zh),
            "严重：Pump 1 的 bearing temperature 自 13:46 UTC 起（已 1小时）上升，平时 41.2 °C，达到 78.3 °C，超过限值 75 °C。 \
             [alarm:12-15] 其余 7 个通道正常。"
        );
    }

    #[test]
    fn no_text_for_any_facts_breaks_verification() {
        for seed in 0..500 {
            let facts = testing::facts(seed);
            for &lang in Lang::ALL {
                let text = text(&facts, lang);
                verify::complete(facts.severity(), &text, &facts, lang)
                    .and_then(|()| verify::figures_are_facts(&text, &facts, lang))
                    .unwrap_or_else(|e| panic!("seed {seed}: {e}: {text}"));
                assert!(!text.contains('\n') && !text.contains("  "), "seed {seed}: {text}");
            }
        }
    }
}
