//! Reading a question by rules, in English and Chinese: times first, then names, then how grave.
//!
//! What is understood is marked as it goes, so that "the line" of an outage is not taken for an asset of that name. What looks
//! like a name and is none is told apart from what is merely not understood.

use super::book::Book;
use super::tokens::{Tokens, is_ideograph};
use super::{DAY_MIN, Period, Query};
use crate::digest::Lang;
use crate::limits;
use crate::reading::Severity;

/// A question as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it asks for.
    pub query: Query,
    /// Its language.
    pub lang: Lang,
    /// Names in it that nothing here has, as they were written.
    pub unknown: Vec<String>,
    /// Nothing in it was understood: it is about something else, or in another language.
    pub is_foreign: bool,
}

/// Reads `question` against the names in `book`.
pub fn read(question: &str, book: &Book) -> Reading {
    let lang = if question.contains(is_ideograph) { Lang::Zh } else { Lang::En };
    let mut tokens = Tokens::of(question);
    let line_down = line_down(&mut tokens);
    let period = period(&mut tokens);
    let severity = severity(&mut tokens);
    let found = book.find(question, &tokens);
    let general = (0..tokens.0.len()).any(|i| tokens.any(i, GENERAL).is_some());
    let is_foreign = !line_down
        && period.is_none()
        && severity.is_none()
        && found.subjects.is_empty()
        && found.unknown.is_empty()
        && !general;
    let query = Query {
        line_down,
        period: period.unwrap_or(Period::Unsaid),
        about: found.subjects,
        severity: severity.unwrap_or(Severity::Info),
    };
    Reading { query, lang, unknown: found.unknown, is_foreign }
}

fn line_down(tokens: &mut Tokens) -> bool {
    let mut said = false;
    for i in 0..tokens.0.len() {
        if let Some((_, length)) = tokens.any(i, LINE_DOWN) {
            tokens.take(i..i + length);
            said = true;
        }
    }
    said
}

/// The first length of time, part of a day or word for the present.
fn period(tokens: &mut Tokens) -> Option<Period> {
    let mut present = None;
    for i in 0..tokens.0.len() {
        if let Some((period, length)) = last(tokens, i).or_else(|| ago(tokens, i)) {
            tokens.take(i..i + length);
            return Some(period);
        }
        if let Some((period, length)) = day(tokens, i) {
            tokens.take(i..i + length);
            return Some(on_named_day(tokens, period));
        }
        if let Some((_, length)) = tokens.any(i, ALL) {
            tokens.take(i..i + length);
            return Some(Period::All);
        }
        if let Some((_, length)) = tokens.any(i, NOW) {
            present.get_or_insert(i..i + length);
        }
    }
    present.map(|place| {
        tokens.take(place);
        Period::Now
    })
}

/// "At three, yesterday": the day may be said after the time.
fn on_named_day(tokens: &mut Tokens, period: Period) -> Period {
    let Period::Day { days_ago: 0, from_min, to_min } = period else { return period };
    for i in 0..tokens.0.len() {
        if let Some((n, length)) = tokens.any(i, DAYS).filter(|(n, _)| DAYS_AGO[*n] > 0) {
            tokens.take(i..i + length);
            return Period::Day { days_ago: DAYS_AGO[n], from_min, to_min };
        }
    }
    period
}

fn severity(tokens: &mut Tokens) -> Option<Severity> {
    for (words, severity) in [(CRITICAL, Severity::Critical), (WARNING, Severity::Warning)] {
        for i in 0..tokens.0.len() {
            if let Some((_, length)) = tokens.any(i, words) {
                tokens.take(i..i + length);
                return Some(severity);
            }
        }
    }
    None
}

/// `last 3 hours`, `past hour`, `最近三小时`.
fn last(tokens: &Tokens, i: usize) -> Option<(Period, usize)> {
    let (_, head) = tokens.any(i, LAST)?;
    let at = i + head;
    let (count, counted) = number(tokens, at).unwrap_or((1.0, 0));
    let (unit_s, unit) = unit(tokens, at + counted)?;
    let (seconds, half) = with_half(tokens, at + counted + unit, count, unit_s);
    Some((Period::Last { seconds }, head + counted + unit + half))
}

/// `3 hours ago`, `三小时前`: since then, because who asks so seldom knows the minute.
fn ago(tokens: &Tokens, i: usize) -> Option<(Period, usize)> {
    let (count, counted) = number(tokens, i)?;
    let (unit_s, unit) = unit(tokens, i + counted)?;
    let (seconds, half) = with_half(tokens, i + counted + unit, count, unit_s);
    let (_, tail) = tokens.any(i + counted + unit + half, AGO)?;
    Some((Period::Last { seconds }, counted + unit + half + tail))
}

fn with_half(tokens: &Tokens, at: usize, count: f64, unit_s: u64) -> (u64, usize) {
    let half = tokens.any(at, &["and a half"]).map_or(0, |(_, length)| length);
    let count = if half > 0 { count + 0.5 } else { count };
    let seconds = (count * unit_s as f64).round().clamp(1.0, limits::ASK_PERIOD_S_MAX as f64);
    (seconds as u64, half)
}

/// A day, a part of one, or times of day.
fn day(tokens: &Tokens, i: usize) -> Option<(Period, usize)> {
    if let Some((_, length)) = tokens.any(i, NIGHT) {
        let (from_min, to_min) = NIGHT_MIN;
        return Some((Period::Day { days_ago: 1, from_min, to_min }, length));
    }
    let named = tokens.any(i, DAYS).map(|(n, length)| (DAYS_AGO[n], length));
    let (days_ago, head) = named.unwrap_or((0, 0));
    let part = tokens.any(i + head, PARTS).map(|(n, length)| (PARTS_MIN[n], length));
    let after = i + head + part.map_or(0, |(_, length)| length);
    if let Some(((from_min, to_min), length)) =
        stretch(tokens, after, part.is_some_and(|((from, _), _)| from >= 720))
    {
        return Some((Period::Day { days_ago, from_min, to_min }, after - i + length));
    }
    match (named, part) {
        (None, None) => None,
        (_, Some(((from_min, to_min), _))) => Some((Period::Day { days_ago, from_min, to_min }, after - i)),
        (Some(_), None) => Some((Period::Day { days_ago, from_min: 0, to_min: DAY_MIN }, head)),
    }
}

/// `between 10:00 and 11:30`, `from 9 to 17`, `since 14:00`, `around 3 pm`, `14点到15点`.
fn stretch(tokens: &Tokens, i: usize, afternoon: bool) -> Option<((u32, u32), usize)> {
    let later = |minutes: u32| if afternoon && minutes < 720 { minutes + 720 } else { minutes };
    let head = tokens.any(i, &["on"]).map_or(0, |(_, length)| length);
    let (word, opening) =
        tokens.any(i + head, OPENING).map_or((None, 0), |(n, length)| (Some(OPENING[n]), length));
    let at = i + head + opening;
    let (from, length, clear) = time_of_day(tokens, at, word.is_some())?;
    let from = later(from);
    let after = at + length;
    if let Some((_, between)) = tokens.any(after, BETWEEN)
        && let Some((to, length, clear_end)) = time_of_day(tokens, after + between, true)
        && (clear || clear_end || word.is_some())
    {
        let to = later(to);
        let to = if to <= from { to + DAY_MIN } else { to };
        return Some(((from, to), after + between + length - i));
    }
    let tail = tokens.any(after, SINCE_AFTER).map(|(_, length)| length);
    let period = match word {
        Some("since" | "after" | "自" | "从" | "from") => (from, DAY_MIN),
        _ if tail.is_some() => (from, DAY_MIN),
        Some("before" | "until") => (0, from),
        _ if word.is_some() || clear => (from.saturating_sub(AROUND_MIN), from + AROUND_MIN),
        _ => return None,
    };
    Some((period, after + tail.unwrap_or(0) - i))
}

/// Minutes since midnight, how many pieces, and whether it can be nothing but a time. `bare`: a lone hour will do.
fn time_of_day(tokens: &Tokens, i: usize, bare: bool) -> Option<(u32, usize, bool)> {
    if let Some((n, length)) = tokens.any(i, &["noon", "midnight", "中午", "午夜"]) {
        return Some((if n % 2 == 0 { 720 } else { 0 }, length, true));
    }
    let part = tokens.any(i, PARTS).map(|(n, length)| (PARTS_MIN[n].0 >= 720, length));
    let (pm_before, head) = part.unwrap_or((false, 0));
    let at = i + head;
    let (hour, mut length) = number(tokens, at)?;
    if hour.fract() != 0.0 || !(0.0..=24.0).contains(&hour) {
        return None;
    }
    let mut minute = 0;
    let mut clear = part.is_some();
    let next = tokens.0.get(at + length);
    if next.is_some_and(|t| t.glue == Some(':')) {
        minute = tokens.text(at + length).parse().ok()?;
        (length, clear) = (length + 1, true);
    } else if let Some((_, hours)) = tokens.any(at + length, &["点钟", "点", "时", "o clock"]) {
        (length, clear) = (length + hours, true);
        if let Some((_, half)) = tokens.any(at + length, &["半"]) {
            (minute, length) = (30, length + half);
        } else if let Some((n, counted)) = number(tokens, at + length) {
            let mark = tokens.any(at + length + counted, &["分"]).map_or(0, |(_, l)| l);
            (minute, length) = (n as u32, length + counted + mark);
        }
    }
    let mut hour = hour as u32;
    let meridiem = tokens.any(at + length, &["am", "a m", "pm", "p m"]);
    if let Some((n, marked)) = meridiem {
        hour = hour % 12 + if n >= 2 { 12 } else { 0 };
        (length, clear) = (length + marked, true);
    } else if pm_before && hour < 12 {
        hour += 12;
    }
    let utc = tokens.any(at + length, &["utc"]).map_or(0, |(_, l)| l);
    let minutes = hour * 60 + minute;
    let fits = minute < 60 && minutes <= DAY_MIN && (clear || bare);
    fits.then_some((minutes, head + length + utc, clear))
}

/// A number in digits or words; its value and how many pieces.
fn number(tokens: &Tokens, i: usize) -> Option<(f64, usize)> {
    if let Some((_, length)) = tokens.any(i, &["half an", "half a", "半个", "半"]) {
        return Some((0.5, length));
    }
    let token = tokens.0.get(i).filter(|token| !token.used)?;
    if let Ok(n) = token.text.parse::<u32>() {
        return Some((f64::from(n), 1));
    }
    let position = |words: &[&str], text: &str| words.iter().position(|w| *w == text);
    if matches!(token.text.as_str(), "a" | "an") {
        return Some((1.0, 1));
    }
    if let Some(n) = position(NUMBERS_EN, &token.text) {
        return Some((n as f64, 1));
    }
    let single = |text: &str| match text {
        "两" => Some(2),
        text => position(NUMBERS_ZH, text),
    };
    match (single(&token.text)?, single(tokens.text(i + 1)), single(tokens.text(i + 2))) {
        (10, Some(ones @ 1..10), _) => Some((10.0 + ones as f64, 2)),
        (tens @ 1..10, Some(10), Some(ones @ 1..10)) => Some(((tens * 10 + ones) as f64, 3)),
        (tens @ 1..10, Some(10), _) => Some(((tens * 10) as f64, 2)),
        (n, ..) => Some((n as f64, 1)),
    }
}

/// A unit of time; its seconds and how many pieces.
fn unit(tokens: &Tokens, i: usize) -> Option<(u64, usize)> {
    let found = UNIT_WORDS.iter().filter_map(|(words, s)| Some((*s, tokens.any(i, words)?.1)));
    found.max_by_key(|&(_, length)| length)
}

const LINE_DOWN: &[&str] = &[
    "while the line was down",
    "while the line is down",
    "the line was down",
    "the line is down",
    "line was down",
    "line down",
    "line is down",
    "line was cut",
    "the line was cut",
    "without a line",
    "no line",
    "connection was down",
    "connection was lost",
    "connection is lost",
    "connection down",
    "no connection",
    "uplink was down",
    "uplink down",
    "network was down",
    "network is down",
    "was offline",
    "is offline",
    "were offline",
    "offline",
    "outage",
    "disconnected",
    "cut off",
    "断线",
    "离线",
    "断网",
    "掉线",
    "脱机",
    "失联",
    "线路中断",
    "线路断开",
    "线路断",
    "网络中断",
    "网络断开",
    "通信中断",
    "通讯中断",
    "连接中断",
    "断开连接",
    "中断期间",
];
const NOW: &[&str] = &[
    "now",
    "right now",
    "currently",
    "at the moment",
    "at present",
    "still",
    "ongoing",
    "going on",
    "现在",
    "目前",
    "当前",
    "此刻",
    "正在",
    "仍",
    "还在",
    "眼下",
];
const ALL: &[&str] =
    &["ever", "so far", "of all time", "everything you know", "全部记录", "所有记录", "有史以来", "至今"];
const LAST: &[&str] = &[
    "in the last",
    "in the past",
    "during the last",
    "over the last",
    "for the last",
    "the last",
    "the past",
    "last",
    "past",
    "previous",
    "within",
    "最近的",
    "最近",
    "过去的",
    "过去",
    "近",
    "这",
];
const AGO: &[&str] = &["ago", "之前", "以前", "前"];
const NIGHT: &[&str] =
    &["last night", "overnight", "during the night", "昨晚", "昨夜", "夜里", "夜间", "昨天晚上", "昨天夜里"];
/// From the evening of yesterday.
const NIGHT_MIN: (u32, u32) = (18 * 60, DAY_MIN + 6 * 60);
const DAYS: &[&str] =
    &["today", "yesterday", "the day before yesterday", "this", "今天", "今日", "昨天", "昨日", "前天", "今"];
const DAYS_AGO: &[u32] = &[0, 1, 2, 0, 0, 0, 1, 1, 2, 0];
const PARTS: &[&str] = &[
    "morning",
    "afternoon",
    "evening",
    "tonight",
    "in the morning",
    "in the afternoon",
    "in the evening",
    "早上",
    "上午",
    "下午",
    "晚上",
    "傍晚",
    "凌晨",
    "早",
];
const PARTS_MIN: &[(u32, u32)] = &[
    (0, 720),
    (720, 1080),
    (1080, 1440),
    (1080, 1440),
    (0, 720),
    (720, 1080),
    (1080, 1440),
    (0, 720),
    (0, 720),
    (720, 1080),
    (1080, 1440),
    (1020, 1200),
    (0, 360),
    (0, 720),
];
const OPENING: &[&str] = &[
    "between", "from", "since", "after", "before", "until", "at", "around", "about", "near", "从", "自",
    "在", "大约", "约",
];
const BETWEEN: &[&str] = &["and", "to", "till", "until", "到", "至", "和"];
const SINCE_AFTER: &[&str] = &["以来", "以后", "之后", "起", "开始", "onwards", "on"];
/// What "around three" covers to either side.
const AROUND_MIN: u32 = 30;
const CRITICAL: &[&str] =
    &["critical", "severe", "serious", "emergency", "emergencies", "严重", "危急", "紧急"];
const WARNING: &[&str] = &["warning", "warnings", "警告", "告警"];
/// Words of somebody who asks about the plant at all.
const GENERAL: &[&str] = &[
    "what happened",
    "happened",
    "happen",
    "happening",
    "going on",
    "wrong",
    "problem",
    "problems",
    "alarm",
    "alarms",
    "alert",
    "alerts",
    "event",
    "events",
    "issue",
    "issues",
    "fault",
    "faults",
    "failure",
    "failures",
    "status",
    "anomaly",
    "anomalies",
    "abnormal",
    "unusual",
    "news",
    "trouble",
    "anything",
    "everything",
    "summary",
    "report",
    "state",
    "normal",
    "okay",
    "ok",
    "发生",
    "情况",
    "问题",
    "报警",
    "警报",
    "故障",
    "异常",
    "事件",
    "状态",
    "怎么样",
    "怎么了",
    "如何",
    "正常",
    "出了什么",
    "什么事",
    "总结",
    "汇报",
];
const UNIT_WORDS: &[(&[&str], u64)] = &[
    (&["second", "seconds", "sec", "秒", "秒钟"], 1),
    (&["minute", "minutes", "min", "mins", "分钟", "分"], 60),
    (&["hour", "hours", "h", "hr", "hrs", "小时", "个小时", "钟头", "个钟头"], 3600),
    (&["day", "days", "d", "天", "日"], 86_400),
    (&["week", "weeks", "周", "个星期", "星期"], 7 * 86_400),
];
const NUMBERS_EN: &[&str] = &[
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];
const NUMBERS_ZH: &[&str] = &["零", "一", "二", "三", "四", "五", "六", "七", "八", "九", "十"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Named, Subject};
    use crate::reading::ChannelId;
    use proptest::prelude::*;

    fn book() -> Book {
        let id = ChannelId::new("pump1.bearing_temp").unwrap();
        let line = Named {
            id: ChannelId::new("line.speed").unwrap(),
            label: "line speed".into(),
            asset: Some("line".into()),
        };
        Book::new([Named { id, label: "bearing temperature".into(), asset: Some("Pump 1".into()) }, line])
    }

    /// The query as written in one line.
    fn asked(question: &str) -> String {
        let reading = read(question, &book());
        assert!(!reading.is_foreign && reading.unknown.is_empty(), "{question}: {reading:?}");
        let written = reading.query.written();
        let values = written.lines().map(|l| l.split_once(": ").unwrap().1);
        values.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn a_question_about_the_outage_is_not_about_an_asset_called_line() {
        for question in [
            "what happened while the line was down?",
            "What did I miss during the outage",
            "anything wrong while we were offline?",
            "断线期间发生了什么？",
            "离线时有什么情况",
            "线路中断的时候出了什么问题？",
        ] {
            assert_eq!(asked(question), "down | unsaid | everything | any", "{question}");
        }
        assert_eq!(asked("how is the line?"), "any | unsaid | line | any");
    }

    #[test]
    fn lengths_of_time_are_understood_in_digits_and_words() {
        for (question, period) in [
            ("what happened in the last 3 hours?", "last 3 hours"),
            ("alarms of the past hour", "last 1 hours"),
            ("problems within half an hour", "last 30 minutes"),
            ("what went wrong the last two days", "last 2 days"),
            ("what happened an hour and a half ago", "last 90 minutes"),
            ("what happened 90 minutes ago", "last 90 minutes"),
            ("最近三小时发生了什么", "last 3 hours"),
            ("过去半个小时有报警吗", "last 30 minutes"),
            ("过去十二天的故障", "last 12 days"),
            ("最近一周", "last 7 days"),
            ("两小时前发生了什么", "last 2 hours"),
        ] {
            assert_eq!(asked(question), format!("any | {period} | everything | any"), "{question}");
        }
    }

    #[test]
    fn days_and_times_of_day_are_understood() {
        for (question, period) in [
            ("what happened today?", "today 00:00-24:00"),
            ("events yesterday", "yesterday 00:00-24:00"),
            ("what happened last night?", "yesterday 18:00-06:00"),
            ("problems this morning", "today 00:00-12:00"),
            ("alarms yesterday afternoon", "yesterday 12:00-18:00"),
            ("what happened between 10:00 and 11:30?", "today 10:00-11:30"),
            ("what happened from 9 to 17 o'clock", "today 09:00-17:00"),
            ("what happened since 14:05 UTC", "today 14:05-24:00"),
            ("what happened around 3 pm yesterday", "yesterday 14:30-15:30"),
            ("what happened yesterday at 3pm", "yesterday 14:30-15:30"),
            ("昨晚发生了什么", "yesterday 18:00-06:00"),
            ("今天上午有什么异常", "today 00:00-12:00"),
            ("昨天下午3点到5点的报警", "yesterday 15:00-17:00"),
            ("14:30以来的事件", "today 14:30-24:00"),
            ("今天八点半", "today 08:00-09:00"),
        ] {
            assert_eq!(asked(question), format!("any | {period} | everything | any"), "{question}");
        }
    }

    #[test]
    fn names_and_gravity_are_understood_beside_times() {
        for (question, query) in [
            ("is anything critical right now?", "any | now | everything | critical"),
            ("现在有严重的报警吗", "any | now | everything | critical"),
            ("warnings of pump 1 in the last hour", "any | last 1 hours | Pump 1 | warning"),
            ("how is the bearing temperature?", "any | unsaid | pump1.bearing_temp | any"),
            (
                "what happened to pump 1 while the line was down yesterday",
                "down | yesterday 00:00-24:00 | Pump 1 | any",
            ),
        ] {
            assert_eq!(asked(question), query, "{question}");
        }
    }

    #[test]
    fn a_name_that_is_not_here_is_told_and_a_question_about_something_else_is_foreign() {
        let reading = read("how was pump 7 in the last 2 hours?", &book());
        assert_eq!(reading.unknown, ["pump 7"]);
        assert!(reading.query.about.is_empty());
        for question in ["who wrote Faust?", "", "???", "你是谁", "la la la"] {
            assert!(read(question, &book()).is_foreign, "{question}");
        }
        assert_eq!(read("pump 1 的温度", &book()).lang, Lang::Zh);
    }

    proptest! {
        #[test]
        fn no_question_makes_it_panic_and_what_is_understood_can_be_written(
            question in "(?s)([a-z0-9:. ]|last |hours|ago|between|and|最近|点|半|十|[\u{0}-\u{ffff}]){0,40}"
        ) {
            let reading = read(&question, &book());
            prop_assert_eq!(Query::parse(&reading.query.written(), &book()).map(|q| q.about), Ok(reading.query.about.clone()));
        }
    }

    #[test]
    fn at_most_so_many_subjects_are_asked_about() {
        let many = (0..50).map(|n| Named {
            id: ChannelId::new(&format!("a{n}.temp")).unwrap(),
            label: "temp".into(),
            asset: None,
        });
        let reading = read("the temp", &Book::new(many));
        assert_eq!(reading.query.about.len(), limits::ASK_SUBJECTS_MAX);
        assert!(matches!(reading.query.about[0], Subject::Channel(_)));
    }
}
