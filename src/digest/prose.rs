//! Digests in the free words of a bigger model: what it is told, the grammar of its answer, and the check of its words.
//!
//! A bigger model writes sentences of its own, so less can be held by construction than with the student. What is held: it is
//! told slots and never sees a figure; the grammar lets it write letters and slots only, names every event in the order of
//! the facts, opens an event's figures after its channel and before the next one's, and asks for a verdict from the rules'
//! floor upwards. The check then refuses numbers in words, a direction that the event did not take, and soothing about a
//! fault; after that the rules of every text apply ([`crate::digest::verify`]). What is refused is worded by the template.

use crate::digest::prose_words as words;
use crate::digest::render::{Sentence, join};
use crate::digest::slots::{Role, Slot};
use crate::digest::verify::{self, Unverified};
use crate::digest::vocab::Cause;
use crate::digest::{Lang, prompt};
use crate::facts::{EventFact, Facts};
use crate::reading::{Pattern, Quantity, Severity};

/// What a chat model is given so that it words facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brief {
    /// Its instruction: the same for all facts of a language, so that it is read once.
    pub system: &'static str,
    /// The facts, and the question if there is one.
    pub user: String,
    /// The grammar of the answer, in EBNF.
    pub grammar: String,
}

/// An answer that stood up to the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prose {
    /// Not below the rules' floor.
    pub verdict: Severity,
    /// The likely cause.
    pub cause: Cause,
    /// The words, slots filled, with citations.
    pub text: String,
}

/// Why an answer is refused; the model's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It does not begin with a verdict and a cause.
    #[error("the answer does not begin with a verdict and a cause")]
    Header,
    /// A slot that these facts don't fill, or a lone angle bracket.
    #[error("the answer holds {0:?}, which is no slot of these facts")]
    Slot(String),
    /// A number in words: no check could hold it to the facts.
    #[error("the answer counts in words: {0:?}")]
    Number(String),
    /// It says of an event what its pattern is not.
    #[error("the answer says {word:?} of event {number}, which went the other way")]
    Direction {
        /// The event, from 1.
        number: usize,
        /// The word.
        word: String,
    },
    /// It says that all is well, and it is not.
    #[error("the answer soothes: {0:?}")]
    Soothing(String),
    /// Something that must be said is not.
    #[error("the answer does not say {0}")]
    Silent(String),
    /// The rules of every text.
    #[error(transparent)]
    Unverified(#[from] Unverified),
}

/// What a model is told to word `facts` in `lang`, as an answer to `question` if there is one.
pub fn brief(facts: &Facts, lang: Lang, question: Option<&str>) -> Brief {
    let mut user = told(facts, lang);
    if let Some(question) = question {
        let question = question.replace(['<', '>'], " ");
        user.push_str(match lang {
            Lang::En => "Question: ",
            Lang::Zh => "问题：",
        });
        user.push_str(question.trim());
        user.push('\n');
    }
    Brief { system: system(lang), user, grammar: grammar(facts, lang) }
}

/// The instruction of every brief in `lang`.
pub fn system(lang: Lang) -> &'static str {
    match lang {
        Lang::En => SYSTEM_EN,
        Lang::Zh => SYSTEM_ZH,
    }
}

/// Reads, fills and checks an answer.
pub fn read(answer: &str, facts: &Facts, lang: Lang) -> Result<Prose, Unfit> {
    let mut lines = answer.splitn(3, '\n');
    let mut line = || lines.next().map(str::trim);
    let verdict = line().and_then(Severity::from_name).ok_or(Unfit::Header)?;
    let cause = line().and_then(Cause::from_name).ok_or(Unfit::Header)?;
    let body = line().ok_or(Unfit::Header)?.replace(['\n', '\r', '\t'], " ");
    let mut sentences = Vec::new();
    let mut said = Vec::new();
    for sentence in split(&body) {
        sentences.push(fill(sentence, facts, lang, &mut said)?);
    }
    for slot in must_be_said(facts) {
        if !said.contains(&slot) {
            return Err(Unfit::Silent(slot.written()));
        }
    }
    let text = join(&sentences, facts, lang);
    verify::complete(verdict, &text, facts, lang)?;
    verify::figures_are_facts(&text, facts, lang)?;
    Ok(Prose { verdict, cause, text })
}

/// One sentence: words checked, slots filled.
fn fill(sentence: &str, facts: &Facts, lang: Lang, said: &mut Vec<Slot>) -> Result<Sentence, Unfit> {
    let mut filled = Sentence::default();
    let mut bare = String::new();
    let mut rest = sentence;
    while let Some(at) = rest.find(['<', '>']) {
        let (before, from) = rest.split_at(at);
        let end = from.find('>').map_or(from.len(), |end| end + 1);
        let (written, after) = from.split_at(end);
        let slot = Slot::parse(written).filter(|slot| is_told(*slot, facts));
        let fill = slot.and_then(|slot| Some((slot, slot.fill(facts, lang)?)));
        let (slot, fill) = fill.ok_or_else(|| Unfit::Slot(written.chars().take(24).collect()))?;
        filled.text.push_str(before);
        filled.text.push_str(&fill);
        bare.push_str(before);
        // Keeps the words on either side apart.
        bare.push('\u{1}');
        if let Slot::Event(index, _) = slot
            && !filled.events.contains(&index)
        {
            filled.events.push(index);
        }
        said.push(slot);
        rest = after;
    }
    filled.text.push_str(rest);
    bare.push_str(rest);
    check_words(&bare, &filled.events, facts, lang)?;
    Ok(filled)
}

fn check_words(bare: &str, events: &[usize], facts: &Facts, lang: Lang) -> Result<(), Unfit> {
    if let Some(word) = words::number(bare, lang) {
        return Err(Unfit::Number(word));
    }
    if let Some(word) = words::soothing(bare, lang).filter(|_| !facts.events.is_empty()) {
        return Err(Unfit::Soothing(word.to_owned()));
    }
    let told: Vec<(usize, &EventFact)> =
        events.iter().filter_map(|&i| Some((i, facts.events.get(i)?))).collect();
    let goes = |up: bool| told.iter().any(|(_, e)| direction(e) == Some(up));
    for (up, word) in [(true, words::downward(bare, lang)), (false, words::upward(bare, lang))] {
        let against = told.iter().find(|(_, e)| direction(e) == Some(up));
        if let (Some(word), Some((index, _)), false) = (word, against, goes(!up)) {
            return Err(Unfit::Direction { number: index + 1, word });
        }
    }
    Ok(())
}

/// Whether an event went up; none for what has no direction.
fn direction(event: &EventFact) -> Option<bool> {
    if matches!(event.quantity, Quantity::Door | Quantity::Link) {
        return None;
    }
    match event.pattern {
        Pattern::High | Pattern::Rise => Some(true),
        Pattern::Low | Pattern::Fall => Some(false),
        Pattern::Spike | Pattern::Stuck | Pattern::Missing | Pattern::Flapping => None,
    }
}

/// Sentences with their end marks; in English a full stop ends one only before a blank, so that "e.g." may be written.
fn split(body: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut from = 0;
    for (at, c) in body.char_indices() {
        let end = at + c.len_utf8();
        let is_end = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => body[end..].is_empty() || body[end..].starts_with(' '),
            _ => false,
        };
        if is_end {
            sentences.push(body[from..end].trim());
            from = end;
        }
    }
    sentences.push(body[from..].trim());
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// The facts as lines of words and slots.
fn told(facts: &Facts, lang: Lang) -> String {
    let open = |slot: Slot| is_told(slot, facts).then(|| slot.written());
    let mut lines = Vec::new();
    if facts.outage.is_some() {
        lines.push(match (lang, open(Slot::Lost)) {
            (Lang::En, None) => {
                "The line was down for <o_dur> from <o_start>; <o_kept> records kept, none lost.".into()
            }
            (Lang::En, Some(lost)) => {
                format!(
                    "The line was down for <o_dur> from <o_start>; <o_kept> records kept, {lost} given up."
                )
            }
            (Lang::Zh, None) => "线路自 <o_start> 起中断 <o_dur>；保留记录 <o_kept> 条，无丢失。".into(),
            (Lang::Zh, Some(lost)) => {
                format!("线路自 <o_start> 起中断 <o_dur>；保留记录 <o_kept> 条，放弃 {lost} 条。")
            }
        });
    }
    for (index, event) in facts.events.iter().enumerate() {
        let role = |name: &str, role: Role| {
            let slot = open(Slot::Event(index, role));
            slot.map_or(String::new(), |slot| format!(", {name} {slot}"))
        };
        let state = match (lang, event.ongoing) {
            (Lang::En, true) => "still going on",
            (Lang::En, false) => "over",
            (Lang::Zh, true) => "仍在持续",
            (Lang::Zh, false) => "已结束",
        };
        let names: [&str; 7] = match lang {
            Lang::En => ["asset", "usual", "most extreme", "limit", "times", "since", "lasted"],
            Lang::Zh => ["设备", "平时", "最极端", "限值", "次数", "开始于", "历时"],
        };
        let roles =
            [Role::Asset, Role::Baseline, Role::Peak, Role::Limit, Role::Count, Role::Start, Role::Duration];
        let figures: String = names.iter().zip(roles).map(|(name, r)| role(name, r)).collect();
        lines.push(format!(
            "<c{}>: {}, {}, {}, {state}{figures}",
            index + 1,
            event.quantity,
            event.pattern,
            event.severity
        ));
    }
    lines.extend(open(Slot::More).map(|more| match lang {
        Lang::En => format!("{more} further events are not listed."),
        Lang::Zh => format!("另有 {more} 个事件未列出。"),
    }));
    lines.extend(open(Slot::Normal).map(|normal| match lang {
        Lang::En => format!("{normal} other channels were normal."),
        Lang::Zh => format!("其余 {normal} 个通道正常。"),
    }));
    lines.join("\n") + "\n"
}

/// The grammar of an answer about these facts.
fn grammar(facts: &Facts, lang: Lang) -> String {
    let verdicts: Vec<String> = Severity::ALL
        .iter()
        .filter(|v| **v >= facts.severity() && (!facts.events.is_empty() || **v == Severity::Info))
        .map(|v| format!("\"{v}\""))
        .collect();
    let quiet = facts.events.is_empty();
    let causes: Vec<String> =
        Cause::ALL.iter().filter(|c| (**c == Cause::None) == quiet).map(|c| format!("\"{c}\"")).collect();
    let text = match lang {
        Lang::En => "[a-zA-Z] | \" \" | \", \" | \"; \" | \"-\" | \"'\" | \". \"",
        Lang::Zh => "[\u{4e00}-\u{9fff}] | \"，\" | \"、\" | \"；\" | \"：\" | \"。\"",
    };
    let end = match lang {
        Lang::En => ".",
        Lang::Zh => "。",
    };
    let mut rules =
        format!("verdict ::= {}\ncause ::= {}\nword ::= {text}\n", verdicts.join(" | "), causes.join(" | "));
    let mut parts = vec!["verdict \"\\n\" cause \"\\n\"".to_owned()];
    let slot = |slot: Slot| is_told(slot, facts).then(|| format!("\"{}\"", slot.written()));
    let gap = |rules: &mut String, slots: Vec<String>| {
        let name = format!("gap{}", rules.matches("gap").count() + 1);
        let choices = [vec!["word".to_owned()], slots].concat();
        rules.push_str(&format!("{name} ::= ( {} )*\n", choices.join(" | ")));
        name
    };
    let asset = |index: usize| slot(Slot::Event(index, Role::Asset));
    if facts.outage.is_some() {
        parts.push(gap(&mut rules, Vec::new()));
        parts.push("\"<o_dur>\"".into());
        let about = [Slot::OutageStart, Slot::Kept].into_iter().filter_map(slot).collect();
        parts.push(gap(&mut rules, about));
        parts.extend(slot(Slot::Lost));
    }
    parts.push(gap(&mut rules, asset(0).into_iter().collect()));
    for index in 0..facts.events.len() {
        parts.push(format!("\"<c{}>\"", index + 1));
        let own = Role::ALL.iter().filter(|(role, _)| *role != Role::Channel);
        let mut slots: Vec<String> = own.filter_map(|(role, _)| slot(Slot::Event(index, *role))).collect();
        slots.extend(asset(index + 1));
        parts.push(gap(&mut rules, slots));
    }
    if let Some(more) = slot(Slot::More) {
        parts.push(more);
        parts.push(gap(&mut rules, Vec::new()));
    }
    if let Some(normal) = slot(Slot::Normal) {
        let after = gap(&mut rules, Vec::new());
        parts.push(format!("( {normal} {after} )?"));
    }
    format!("root ::= {} \"{end}\"\n{rules}", parts.join(" "))
}

/// Whether the model is told that these facts fill `slot`.
fn is_told(slot: Slot, facts: &Facts) -> bool {
    match slot {
        Slot::Event(index, role) => facts.events.get(index).is_some_and(|e| prompt::tells(e, role)),
        Slot::OutageDuration | Slot::OutageStart | Slot::Kept => facts.outage.is_some(),
        Slot::Lost => facts.outage.as_ref().is_some_and(|o| o.records_lost > 0),
        Slot::More => facts.events_more > 0,
        Slot::Normal => facts.channels_normal > 1,
        Slot::From | Slot::To => false,
    }
}

fn must_be_said(facts: &Facts) -> Vec<Slot> {
    let always = [Slot::OutageDuration, Slot::Lost, Slot::More];
    let channels = (0..facts.events.len()).map(|index| Slot::Event(index, Role::Channel));
    always.into_iter().filter(|slot| is_told(*slot, facts)).chain(channels).collect()
}

const SYSTEM_EN: &str = "You word what a monitoring gateway has found, for the people who run the plant. You are given facts. \
<c1> stands for the name of a channel, <p1> for its most extreme value, and so on: write these marks where the name or the \
value belongs; never write a number, in figures or in words. Answer with the verdict on the first line (info, warning or \
critical), the likely cause on the second line (one word of the list, or unknown), and then two to four plain sentences: what \
happened, what it may mean, what to look at first. Mention every channel once, in the given order. Claim nothing that the \
facts do not say.\n";
const SYSTEM_ZH: &str = "你为工厂的运行人员说明监测网关发现的情况。给出的是事实。<c1> 代表一个通道的名称，<p1> 代表它的最极端值，\
以此类推：在该写名称或数值的地方写这些记号；绝不要写数字，无论是阿拉伯数字还是中文数字。第一行写结论（info、warning 或 critical），\
第二行写可能的原因（列表中的一个词，或 unknown），然后用两到四句简明的中文说明：发生了什么、可能意味着什么、应先检查什么。\
按给出的顺序提到每个通道一次。不要说事实里没有的东西。\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::testing;

    fn read_en(body: &str) -> Result<Prose, Unfit> {
        read(&format!("critical\ncooling_failure\n{body}"), &testing::hot_bearing(), Lang::En)
    }

    #[test]
    fn a_sound_answer_is_filled_and_cited() {
        let prose = read_en(
            "<c1> of <a1> has risen from <b1> to <p1> and is still above its limit of <l1>. \
             Check the cooling first; <normal> other channels were normal.",
        );
        assert_eq!(
            prose.unwrap().text,
            "bearing temperature of Pump 1 has risen from 41.2 °C to 78.3 °C and is still above its limit of 75 °C. \
             [alarm:12-15] Check the cooling first; 7 other channels were normal."
        );
        let zh = read(
            "critical\nunknown\n<a1> 的 <c1> 从 <b1> 上升到 <p1>，超过限值 <l1>。请先检查冷却。",
            &testing::hot_bearing(),
            Lang::Zh,
        );
        assert!(zh.unwrap().text.starts_with("Pump 1 的 bearing temperature 从 41.2 °C 上升到 78.3 °C"));
    }

    #[test]
    fn what_no_fact_says_is_refused_whatever_way_it_is_said() {
        type Refused = fn(&Unfit) -> bool;
        let cases: [(&str, Refused); 11] = [
            ("<c1> rose to 79 degrees.", |e| matches!(e, Unfit::Unverified(Unverified::Figure { .. }))),
            ("<c1> rose ７ times.", |e| matches!(e, Unfit::Unverified(Unverified::Figure { .. }))),
            ("<c1> rose in all three pumps.", |e| matches!(e, Unfit::Number(w) if w == "three")),
            ("<c1> has doubled.", |e| matches!(e, Unfit::Number(_))),
            ("<c1> has fallen to <p1>.", |e| matches!(e, Unfit::Direction { number: 1, .. })),
            ("<c1> is at <p1> and all is well.", |e| matches!(e, Unfit::Soothing(_))),
            ("<c1> rose like <c2>.", |e| matches!(e, Unfit::Slot(s) if s == "<c2>")),
            ("<c1> rose <k1> times.", |e| matches!(e, Unfit::Slot(_))),
            ("<c1> rose > fast.", |e| matches!(e, Unfit::Slot(_))),
            ("The bearing temperature rose.", |e| matches!(e, Unfit::Silent(s) if s == "<c1>")),
            ("<c1> rose and", |e| matches!(e, Unfit::Unverified(Unverified::Unfinished))),
        ];
        for (body, refused) in cases {
            let error = read_en(body).expect_err(body);
            assert!(refused(&error), "{body}: {error:?}");
        }
        for (answer, lang) in [
            ("critical\nunknown\n<c1> 下降到 <p1>。", Lang::Zh),
            ("critical\nunknown\n<c1> 三次上升。", Lang::Zh),
            ("warning\nunknown\n<c1> rose.", Lang::En),
            ("critical\nwitchcraft\n<c1> rose.", Lang::En),
            ("critical", Lang::En),
            ("", Lang::En),
        ] {
            assert!(read(answer, &testing::hot_bearing(), lang).is_err(), "{answer}");
        }
    }

    #[test]
    fn the_brief_holds_no_figure_and_no_name() {
        for seed in 0..300 {
            let facts = testing::facts(seed);
            for &lang in Lang::ALL {
                let brief = brief(&facts, lang, None);
                let bare: String =
                    brief.user.split('<').map(|p| p.split_once('>').map_or(p, |(_, r)| r)).collect();
                assert!(!bare.contains(char::is_numeric), "seed {seed}: {}", brief.user);
                assert!(
                    facts.events.iter().all(|e| e.label.trim().len() < 4 || !brief.user.contains(&e.label))
                );
            }
        }
        assert!(!SYSTEM_EN.replace("<c1>", "").replace("<p1>", "").contains(char::is_numeric));
    }

    #[test]
    fn the_question_can_not_smuggle_a_slot() {
        let brief = brief(&testing::hot_bearing(), Lang::En, Some("what of <c9>?\n"));
        assert!(brief.user.ends_with("Question: what of  c9 ?\n"), "{}", brief.user);
    }

    #[test]
    fn the_grammar_of_the_plain_case_is_as_written_here() {
        let mut facts = testing::hot_bearing();
        facts.events[0].severity = Severity::Warning;
        let grammar = grammar(&facts, Lang::En);
        let lines: Vec<&str> = grammar.lines().collect();
        assert_eq!(
            lines[0],
            "root ::= verdict \"\\n\" cause \"\\n\" gap1 \"<c1>\" gap2 ( \"<normal>\" gap3 )? \".\""
        );
        assert_eq!(lines[1], "verdict ::= \"warning\" | \"critical\"");
        assert!(lines[2].starts_with("cause ::= \"bearing_wear\""));
        assert_eq!(lines[4], "gap1 ::= ( word | \"<a1>\" )*");
        assert_eq!(
            lines[5],
            "gap2 ::= ( word | \"<a1>\" | \"<b1>\" | \"<p1>\" | \"<l1>\" | \"<s1>\" | \"<d1>\" )*"
        );
    }
}
