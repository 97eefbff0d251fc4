//! Words that a free text is watched for: numbers, directions, soothing. Small closed lists in both languages.

use crate::digest::Lang;

/// The first word of `text` that counts, if there is one. The Chinese numerals stand inside many other words; those are known.
pub(super) fn number(text: &str, lang: Lang) -> Option<String> {
    match lang {
        Lang::En => english(text).find(|word| {
            NUMBERS_EN.contains(&word.as_str()) || word.split('-').any(|part| NUMBERS_EN.contains(&part))
        }),
        Lang::Zh => chinese_number(text).or_else(|| number(text, Lang::En)),
    }
}

/// The first word that says upward.
pub(super) fn upward(text: &str, lang: Lang) -> Option<String> {
    find(text, lang, UP_EN, UP_ZH)
}

/// The first word that says downward.
pub(super) fn downward(text: &str, lang: Lang) -> Option<String> {
    find(text, lang, DOWN_EN, DOWN_ZH)
}

/// The first phrase that says that nothing is wrong.
pub(super) fn soothing(text: &str, lang: Lang) -> Option<&'static str> {
    let lower = text.to_lowercase();
    let phrases = match lang {
        Lang::En => SOOTHING_EN,
        Lang::Zh => SOOTHING_ZH,
    };
    phrases.iter().copied().find(|phrase| lower.contains(phrase))
}

fn find(text: &str, lang: Lang, en: &[&str], zh: &[&str]) -> Option<String> {
    match lang {
        Lang::En => english(text).find(|word| en.contains(&word.as_str())),
        Lang::Zh => zh.iter().find(|word| text.contains(**word)).map(|word| (*word).to_owned()),
    }
}

/// Words in lower case; a hyphen joins.
fn english(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|c: char| !c.is_alphabetic() && c != '-' && c != '\'');
    words.filter(|word| !word.is_empty()).map(|word| word.trim_matches(['-', '\'']).to_lowercase())
}

fn chinese_number(text: &str) -> Option<String> {
    let harmless = |at: usize, c: char| {
        HARMLESS_ZH.iter().any(|word| {
            word.match_indices(c).any(|(inside, _)| {
                at.checked_sub(inside)
                    .and_then(|from| text.get(from..))
                    .is_some_and(|rest| rest.starts_with(word))
            })
        })
    };
    let found = text.char_indices().find(|&(at, c)| NUMERALS_ZH.contains(c) && !harmless(at, c));
    found.map(|(_, c)| c.to_string())
}

const NUMERALS_ZH: &str = "一二两三四五六七八九十百千万亿零〇半双倍几";
const HARMLESS_ZH: &[&str] = &[
    "一直",
    "一些",
    "一般",
    "一起",
    "一切",
    "一致",
    "一旦",
    "一定",
    "一样",
    "一下",
    "一并",
    "一律",
    "进一步",
    "统一",
    "唯一",
    "万一",
    "十分",
    "千万",
    "百分",
    "部分",
    "四周",
    "三通",
];
const NUMBERS_EN: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
    "thirty",
    "forty",
    "fifty",
    "sixty",
    "seventy",
    "eighty",
    "ninety",
    "hundred",
    "hundreds",
    "thousand",
    "thousands",
    "million",
    "millions",
    "billion",
    "dozen",
    "dozens",
    "half",
    "halved",
    "double",
    "doubled",
    "doubling",
    "twice",
    "thrice",
    "triple",
    "tripled",
    "quarter",
    "percent",
    "both",
    "couple",
    "pair",
    "third",
    "fourth",
    "fifth",
];
const UP_EN: &[&str] = &[
    "rise",
    "rises",
    "rose",
    "risen",
    "rising",
    "increase",
    "increases",
    "increased",
    "increasing",
    "climb",
    "climbs",
    "climbed",
    "climbing",
    "higher",
    "high",
    "above",
    "exceed",
    "exceeds",
    "exceeded",
    "exceeding",
    "soared",
    "jumped",
    "overheated",
];
const DOWN_EN: &[&str] = &[
    "fall",
    "falls",
    "fell",
    "fallen",
    "falling",
    "decrease",
    "decreases",
    "decreased",
    "decreasing",
    "drop",
    "drops",
    "dropped",
    "dropping",
    "lower",
    "lowered",
    "low",
    "below",
    "sank",
    "sunk",
    "declined",
    "declining",
    "decline",
    "plunged",
    "cooled",
];
const UP_ZH: &[&str] =
    &["上升", "升高", "升至", "升到", "偏高", "过高", "高于", "超过", "超出", "增大", "增加", "攀升", "走高"];
const DOWN_ZH: &[&str] =
    &["下降", "降低", "降至", "降到", "偏低", "过低", "低于", "跌至", "跌到", "减小", "减少", "下跌", "走低"];
const SOOTHING_EN: &[&str] = &[
    "all is well",
    "all is normal",
    "all is fine",
    "everything is well",
    "everything is normal",
    "everything is fine",
    "no problem",
    "nothing is wrong",
    "nothing wrong",
    "no action",
    "nothing happened",
    "false alarm",
    "can be ignored",
    "ignore this",
    "no cause for concern",
    "no need to worry",
];
const SOOTHING_ZH: &[&str] = &[
    "一切正常",
    "全部正常",
    "没有问题",
    "没有异常",
    "无异常",
    "无需处理",
    "无须处理",
    "不用处理",
    "误报",
    "可以忽略",
    "没有发生",
    "不必担心",
    "无需担心",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerals_are_found_and_words_that_only_hold_one_are_not() {
        assert_eq!(number("the third pump of twenty-one", Lang::En).as_deref(), Some("third"));
        assert_eq!(number("twenty-one", Lang::En).as_deref(), Some("twenty-one"));
        assert_eq!(number("one hundred", Lang::En).as_deref(), Some("one"));
        assert_eq!(number("tenacious weight of stone, often", Lang::En), None);
        assert_eq!(number("温度一直上升，请进一步检查，十分重要", Lang::Zh), None);
        assert_eq!(number("一台泵", Lang::Zh).as_deref(), Some("一"));
        assert_eq!(number("升了两倍", Lang::Zh).as_deref(), Some("两"));
        assert_eq!(number("三台", Lang::Zh).as_deref(), Some("三"));
    }

    #[test]
    fn directions_are_whole_words() {
        assert_eq!(downward("it has Fallen", Lang::En).as_deref(), Some("fallen"));
        assert_eq!(downward("following the flow of the lowlands", Lang::En), None);
        assert_eq!(upward("温度已升至", Lang::Zh).as_deref(), Some("升至"));
    }
}
