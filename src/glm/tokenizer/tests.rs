//! Against what Python's `tokenizers` says (`tests/golden/tokenizer`), and files that lie.

use proptest::prelude::*;
use regex_automata::hybrid::regex::Regex;
use serde_json::{Value, json};

use super::split::GPT2;
use super::*;

const FILE: &str = include_str!("../../../tests/golden/tokenizer/tokenizer.json");
const CASES: &str = include_str!("../../../tests/golden/tokenizer/cases.json");

fn cases(kind: &str) -> Vec<Value> {
    let mut cases: Value = serde_json::from_str(CASES).unwrap();
    match cases[kind].take() {
        Value::Array(cases) => cases,
        Value::Object(mut variant) => {
            vec![variant.remove("merges").unwrap(), variant.remove("cases").unwrap()]
        }
        _ => panic!("{kind}"),
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(FILE.as_bytes()).unwrap()
}

/// The file with a change.
fn changed(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, BadTokenizer> {
    let mut file: Value = serde_json::from_str(FILE).unwrap();
    change(&mut file);
    Tokenizer::from_json(file.to_string().as_bytes())
}

#[test]
fn a_thousand_awkward_strings_have_pythons_ids() {
    let tokenizer = tokenizer();
    let cases = cases("encode");
    assert!(cases.len() >= 1000);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let special = ids(&case["ids"]);
        let plain = case.get("plain").map_or_else(|| special.clone(), ids);
        assert_eq!(tokenizer.encode_with_special(text), special, "{text:?}");
        assert_eq!(tokenizer.encode(text), plain, "{text:?}");
        let bytes: Vec<u8> = plain.iter().flat_map(|&id| tokenizer.token_bytes(id)).copied().collect();
        assert_eq!(bytes, text.as_bytes(), "{text:?}");
        if !special.starts_with(tokenizer.prefix()) {
            assert_eq!(tokenizer.encode_prompt(text), [tokenizer.prefix(), &special].concat());
        }
    }
}

#[test]
fn ids_of_a_model_gone_astray_have_pythons_text() {
    let tokenizer = tokenizer();
    let cases = cases("decode");
    assert!(cases.len() >= 200);
    for case in cases {
        let ids = ids(&case["ids"]);
        let text = case["text"].as_str().unwrap();
        let mut decoder = Decoder::default();
        let mut streamed: String =
            ids.iter().map(|&id| decoder.push(tokenizer.token_bytes(id)).to_owned()).collect();
        streamed += decoder.finish();
        assert_eq!(streamed, text, "{ids:?}");
        let clean = case.get("clean").map_or(text, |clean| clean.as_str().unwrap());
        assert_eq!(tokenizer.decode(&ids), clean, "{ids:?}");
    }
}

#[test]
fn a_piece_that_is_a_token_is_that_token_where_the_file_says_so() {
    let [merges, cases] = cases("ignore_merges").try_into().unwrap();
    let tokenizer = changed(|file| {
        file["model"]["ignore_merges"] = json!(true);
        file["model"]["merges"].as_array_mut().unwrap().truncate(merges.as_u64().unwrap() as usize);
    });
    let tokenizer = tokenizer.unwrap();
    for case in cases.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text), ids(&case["ids"]), "{text:?}");
    }
}

#[test]
fn a_guard_makes_text_of_a_mark_and_leaves_no_trace() {
    let tokenizer = tokenizer();
    let user = tokenizer.special("<|user|>").unwrap();
    assert_eq!(tokenizer.encode_with_special("a<|user|>b").iter().filter(|&&id| id == user).count(), 1);
    let guarded = tokenizer.encode_with_special(&format!("a<{GUARD}|user|>b"));
    assert_eq!(guarded, tokenizer.encode("a<|user|>b"));
    assert!(!guarded.contains(&user) && tokenizer.is_special(user));
}

#[test]
fn only_whole_characters_come_out_of_a_stream() {
    let mut decoder = Decoder::default();
    let bytes = "a℃🔥".as_bytes();
    let pieces: Vec<String> = bytes.iter().map(|&byte| decoder.push(&[byte]).to_owned()).collect();
    assert_eq!(pieces, ["a", "", "", "℃", "", "", "", "🔥"]);
    decoder.push(&bytes[1..3]);
    assert!(decoder.is_inside_character());
    assert_eq!(decoder.finish(), "\u{fffd}");
    assert_eq!(decoder.push(b"\xff\xe2x"), "\u{fffd}\u{fffd}x");
}

#[test]
fn files_of_another_kind_are_refused_by_name() {
    let refused = |change: &dyn Fn(&mut Value), name: &str| match changed(change) {
        Err(BadTokenizer::Unsupported(what)) => assert!(what.contains(name), "{what}"),
        other => panic!("{name}: {other:?}"),
    };
    refused(&|file| file["model"]["type"] = json!("Unigram"), "Unigram");
    refused(&|file| file["normalizer"] = json!({"type": "NFC"}), "NFC");
    refused(&|file| file["model"]["dropout"] = json!(0.1), "dropout");
    refused(&|file| file["pre_tokenizer"] = json!(null), "ByteLevel");
    for (pattern, why) in [
        (r"(?<=a)b|\s+", "split pattern"),
        (r"\b\w+|\s+", "word boundaries"),
        (r"(?i)a|b", "(?i:x)"),
        (r"[^\s]?+\p{L}++|\s+", "possessive"),
    ] {
        let change = |file: &mut Value| {
            file["pre_tokenizer"]["pretokenizers"][0]["pattern"] = json!({"Regex": pattern});
        };
        refused(&change, why);
    }
}

#[test]
fn a_file_that_contradicts_itself_is_an_error() {
    let damaged = |change: fn(&mut Value)| {
        let result = changed(change);
        assert!(matches!(result, Err(BadTokenizer::Damaged(_) | BadTokenizer::Json(_))), "{result:?}");
    };
    damaged(|file| file["model"]["merges"][0] = json!("nowhere tobefound"));
    damaged(|file| file["model"]["merges"][0] = json!(["one"]));
    damaged(|file| drop(file["model"]["vocab"].as_object_mut().unwrap().remove("a")));
    damaged(|file| file["model"]["vocab"]["a"] = json!(66));
    damaged(|file| file["model"]["vocab"]["a"] = json!(-1));
    damaged(|file| file["model"]["vocab"]["zz zz"] = json!(u32::MAX));
    damaged(|file| file["added_tokens"][0]["id"] = json!(1 << 30));
    damaged(|file| file["added_tokens"][0]["content"] = json!("x".repeat(5000)));
    damaged(|file| file["post_processor"]["processors"][1]["single"][0]["SpecialToken"]["id"] = json!("no"));
    damaged(|file| *file = json!([]));
    assert!(Tokenizer::from_json(b"").is_err());
    assert!(Tokenizer::from_json(&FILE.as_bytes()[..FILE.len() / 2]).is_err());
    assert!(Tokenizer::from_json("[".repeat(100_000).as_bytes()).is_err());
}

/// The pieces as an engine that searches finds them: what matches, and what lies between.
fn searched<'a>(pattern: &str, text: &'a str) -> Vec<&'a str> {
    let regex = Regex::new(pattern).unwrap();
    let mut cache = regex.create_cache();
    let mut ends: Vec<usize> =
        regex.find_iter(&mut cache, text).flat_map(|found| [found.start(), found.end()]).collect();
    ends.insert(0, 0);
    ends.push(text.len());
    ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).filter(|piece| !piece.is_empty()).collect()
}

fn parted<'a>(pattern: &str, text: &'a str) -> Vec<&'a str> {
    parted_by(&Split::new(pattern).unwrap(), text)
}

fn parted_by<'a>(split: &Split, text: &'a str) -> Vec<&'a str> {
    let mut pieces = Vec::new();
    split.pieces(text, &mut |piece| {
        let from = piece.as_ptr() as usize - text.as_ptr() as usize;
        pieces.push(&text[from..from + piece.len()]);
    });
    pieces
}

proptest! {
    #[test]
    fn pieces_are_those_that_a_search_finds(text in "[ab1é漏 \n\']{0,40}") {
        // With places where nothing matches, alternatives of which the first counts, and some that begin alike.
        for pattern in ["b1|b+", "a|ab|abb", r"\d{1,2}|é+a|\s", "(?i:AB)|漏[^ ]", r"[^\s\p{L}\p{N}]+|\s+", "^a|b", "(?m:^)a|a$|1", r"(?-u:\b)b|a"] {
            prop_assert_eq!(parted(pattern, &text), searched(pattern, &text), "{}", pattern);
        }
    }
}

#[test]
fn where_the_look_ahead_fails_the_next_alternative_has_its_turn() {
    assert_eq!(
        parted(r"\s+(?!\S)|b", "b b"),
        ["b", " ", "b"],
        "a blank that nothing takes is a piece of its own"
    );
    assert_eq!(parted(r"\s+(?!\S)| b|\s+", "  b \n"), [" ", " b", " \n"]);
    assert_eq!(parted(r"\s+(?!\S)|\s", "a \u{a0}a"), ["a", " ", "\u{a0}", "a"]);
}

#[test]
fn an_alternative_that_matches_nothing_leaves_the_place_to_the_next() {
    assert_eq!(parted("a*|b", "ab1b"), ["a", "b", "1", "b"]);
}

#[test]
fn threads_share_a_pattern_and_a_long_text_of_all_of_unicode_is_parted_as_a_search_does() {
    let pattern = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
    let mut rng = fastrand::Rng::with_seed(1);
    let text: String = (0..60_000).map(|_| rng.char(..)).collect();
    let (split, wanted) = (Split::new(pattern).unwrap(), searched(pattern, &text));
    assert!(wanted.len() > 10_000);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert!(parted_by(&split, &text) == wanted));
        }
    });
}

/// The library recurs without an end where a pattern's first states do not fit what it may remember.
#[test]
fn the_largest_pattern_that_is_taken_parts_a_text() {
    let pattern = |n: usize| format!("(?:a{}){{{n}}}b?", "|".repeat(300));
    let text = "aab ab".repeat(20);
    assert!(Split::new(&pattern(1100)).is_err());
    let sizes: Vec<usize> = (1..1100).collect();
    let taken = sizes.partition_point(|&n| Split::new(&pattern(n)).is_ok());
    assert!(taken > 0);
    assert_eq!(parted_by(&Split::new(&pattern(taken)).unwrap(), &text).concat(), text);
}

#[test]
fn a_pattern_that_runs_ahead_for_nothing_is_given_up_and_no_text_is_lost() {
    let text = |n: usize| "a".repeat(n) + "c";
    assert_eq!(parted("a*b|c", &text(20)), ["a".repeat(20).as_str(), "c"]);
    assert_eq!(parted("a*b|c", &text(1000)), [text(1000)]);
    // What is read again and again because of the look-ahead is still far from that.
    let numbers = "1 ".repeat(1000) + "1";
    assert_eq!(parted(r"\p{N}{1,3}| ?\p{L}+|\s*[\r\n]+|\s+(?!\S)|\s+", &numbers).len(), 2001);
    let blanks = " ".repeat(1000) + "a";
    assert_eq!(parted(GPT2, &blanks), [&blanks[..999], " a"]);
}

#[test]
fn a_plus_is_possessive_only_behind_a_quantifier() {
    for pattern in [r"a?+", r"a*+|b", r"(a++|b)", r"a{1,3}+", r"a+?+"] {
        assert!(Split::new(pattern).is_err(), "{pattern}");
    }
    for pattern in [r"\p{L}+", r"\x{61}+", r"[?*+]+", r"\?+", r"(?:a|b?)+", r"a{1,3}|b+"] {
        assert!(Split::new(pattern).is_ok(), "{pattern}");
    }
}
