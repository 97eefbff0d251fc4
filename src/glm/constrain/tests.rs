//! Whatever logits say, what is written is in the language of its grammar; and masks hold exactly what can still become such a text.

use std::sync::Arc;

use proptest::prelude::*;
use regex_automata::hybrid::regex::Regex;

use super::*;
use crate::digest::{Lang, testing};
use crate::limits;

#[test]
fn the_slot_grammar_says_when_it_may_end_and_when_there_is_no_choice() {
    let vocab = testing::vocab();
    let facts = testing::hot_bearing();
    let mut grammar: Box<dyn Constraint> = Box::new(SlotGrammar::new(&vocab, &facts, Lang::En));
    assert_eq!(grammar.forced(), vocab.id("verdict:critical"), "no verdict below the floor");
    let mut rng = fastrand::Rng::with_seed(5);
    for _ in 0..crate::limits::ANSWER_TOKENS_MAX {
        let logits: Vec<f32> = (0..vocab.len()).map(|_| rng.f32()).collect();
        let token = grammar.mask().argmax(&logits).unwrap();
        assert_eq!(grammar.mask().contains(vocab.end()), grammar.is_done());
        grammar.advance(token).unwrap();
        if token == vocab.end() {
            break;
        }
    }
    assert!(grammar.mask().is_empty() && grammar.is_done());
}

const END: u32 = 256;

/// A token per byte, then the end, then tokens of several bytes.
fn trie() -> Arc<TokenTrie> {
    let bytes: Vec<u8> = (0..=255).collect();
    let more = [
        "\"}", "{\"", "\": ", "ab", "aba", "true", "alse", "12", "  ", "pump", "pump1.", "\",\"", "},{",
        "[[", "]]", "é", "漏", "last ", " minutes", "line: ", "any\n",
    ];
    let single = bytes.iter().map(|b| (u32::from(*b), std::slice::from_ref(b)));
    let several = more.iter().zip(257..).map(|(text, id)| (id, text.as_bytes()));
    Arc::new(TokenTrie::new(257 + more.len(), single.chain(several)))
}

fn ended() -> Arc<[u32]> {
    Arc::from([END])
}

/// Writes by chance until it ends, the end taken where it is open and `hurry` says so.
fn written(guide: &Guide, trie: &TokenTrie, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut constraint = guide.constraint(ended());
    let mut text = Vec::new();
    for step in 0.. {
        let open: Vec<u32> = constraint.mask().iter().collect();
        assert!(!open.is_empty(), "a dead end after {:?}", String::from_utf8_lossy(&text));
        assert_eq!(open.contains(&END), constraint.is_done());
        let token = match open.contains(&END) && (step > 300 || rng.u8(..) < 60) {
            true => END,
            // Late on, what closes is preferred, so that nesting comes to an end.
            false if step > 60 => {
                let is_closing =
                    |id: &&u32| b"}]\"!0ac:".contains(trie.token_bytes(**id).first().unwrap_or(&0));
                let closing: Vec<&u32> = open.iter().filter(is_closing).collect();
                if closing.is_empty() {
                    open[rng.usize(..open.len())]
                } else {
                    *closing[rng.usize(..closing.len())]
                }
            }
            false => open[rng.usize(..open.len())],
        };
        constraint.advance(token).unwrap();
        if token == END {
            assert!(constraint.mask().is_empty());
            return text;
        }
        text.extend_from_slice(trie.token_bytes(token));
        assert!(step < 3000, "it does not come to an end: {:?}", String::from_utf8_lossy(&text));
    }
    text
}

/// Whether all of `text` is in the language, byte by byte.
fn takes(grammar: &Grammar, text: &str) -> bool {
    let mut constraint = GrammarConstraint::new(grammar, trie(), ended());
    text.bytes().all(|byte| constraint.advance(byte.into()).is_ok()) && constraint.is_done()
}

#[test]
fn whatever_is_drawn_matches_its_pattern() {
    for pattern in [
        "(ab|aba)*c",
        "[0-9]{2,4}(\\.[0-9]+)?",
        "\\d{3}-[^x]",
        "(a|b|漏){0,3}é+",
        "(?i)pump[0-9]\\.(flow|level)",
        ".*!",
        "((a?b?)*c?){2}",
        "",
    ] {
        let trie = trie();
        let guide = Guide::new(Grammar::regex(pattern).unwrap(), Arc::clone(&trie));
        let regex = Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
        let mut cache = regex.create_cache();
        for seed in 0..60 {
            let text = written(&guide, &trie, seed);
            assert!(regex.is_match(&mut cache, &text[..]), "{pattern}: {:?}", String::from_utf8_lossy(&text));
        }
    }
}

#[test]
fn whatever_is_drawn_is_a_json_object() {
    let trie = trie();
    let guide = Guide::new(Grammar::json().unwrap(), Arc::clone(&trie));
    let mut longest = 0;
    for seed in 0..150 {
        let text = written(&guide, &trie, seed);
        let value: Result<serde_json::Value, _> = serde_json::from_slice(&text);
        assert!(value.is_ok_and(|value| value.is_object()), "{}", String::from_utf8_lossy(&text));
        longest = longest.max(text.len());
    }
    assert!(longest > 80, "only {longest} bytes; this test shows little");
    for text in [r#"{}"#, r#"{"a": [1, -2.5e3, {"b": null}], "c": "\u00e9\n漏"}"#, "{\n  \"a\": true\n}"] {
        assert!(takes(&Grammar::json().unwrap(), text), "{text}");
    }
    for text in ["[]", "{", r#"{"a": 01}"#, r#"{"a": "\ud800"}"#, "{}x", r#"{'a': 1}"#] {
        assert!(!takes(&Grammar::json().unwrap(), text), "{text}");
    }
}

fn schema(text: &str) -> Result<Grammar, String> {
    let schema: Schema = serde_json::from_str(text).map_err(|e| e.to_string())?;
    Grammar::ebnf(&schema.ebnf().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

/// What the schema of the test below says, in Rust.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Alarm {
    id: i64,
    level: Level,
    note: Option<String>,
    tags: Option<Vec<f64>>,
    is_open: bool,
    within: Option<Box<Alarm>>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Low,
    High,
}

#[test]
fn whatever_is_drawn_satisfies_its_schema() {
    let grammar = schema(
        r##"{
            "title": "Alarm", "type": "object", "additionalProperties": false,
            "properties": {
                "id": { "type": "integer", "description": "its number" },
                "level": { "$ref": "#/$defs/Level" },
                "note": { "anyOf": [{ "type": "string" }, { "type": "null" }] },
                "tags": { "type": "array", "items": { "type": "number" } },
                "is_open": { "type": "boolean" },
                "within": { "anyOf": [{ "$ref": "#" }, { "const": null }] }
            },
            "required": ["id", "level", "is_open"],
            "$defs": { "Level": { "type": "string", "enum": ["low", "high", 3] } }
        }"##,
    );
    let (grammar, trie) = (grammar.unwrap(), trie());
    let guide = Guide::new(grammar.clone(), Arc::clone(&trie));
    let mut seen = [0; 4];
    for seed in 0..300 {
        let text = written(&guide, &trie, seed);
        let alarm: Alarm = serde_json::from_slice(&text)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text)));
        let had = [alarm.note.is_some(), alarm.tags.is_some(), alarm.is_open, alarm.within.is_some()];
        seen.iter_mut().zip(had).for_each(|(seen, had)| *seen += u32::from(had));
    }
    assert!(seen.iter().all(|n| *n > 5), "some members were hardly ever there: {seen:?}");
    for (text, is_in) in [
        (r#"{"id": 1, "level": "low", "is_open": true}"#, true),
        (r#"{"id": -7, "level": "high", "note": null, "tags": [1, 2.5], "is_open": false}"#, true),
        (r#"{"id": 1.5, "level": "low", "is_open": true}"#, false),
        (r#"{"id": 1, "level": 3, "is_open": true}"#, false),
        (r#"{"id": 1, "level": "low"}"#, false),
        (r#"{"id": 1, "level": "low", "is_open": true, "more": 1}"#, false),
        (r#"{, "id": 1, "level": "low", "is_open": true}"#, false),
    ] {
        assert_eq!(takes(&grammar, text), is_in, "{text}");
    }
}

#[test]
fn schemas_of_one_value_take_it_and_nothing_else() {
    use serde_json::json;
    for (value, takes_these, not_these) in [
        (json!({}), &["1", "\"a\"", "[{}]"][..], &[""][..]),
        (json!({ "type": "object" }), &["{}", "{\"a\": 1}"], &["[]"]),
        (json!({ "type": "object", "additionalProperties": false }), &["{}"], &["{\"a\": 1}"]),
        (
            json!({ "properties": { "a": {}, "b": {} } }),
            &["{}", "{\"a\":1,\"b\":2}", "{\"b\":2}"],
            &["{\"a\":1,}", "{,\"b\":2}", "{\"b\":2,\"a\":1}"],
        ),
        (json!({ "type": ["string", "null"] }), &["\"x\"", "null"], &["1"]),
        (json!({ "type": "array" }), &["[]", "[1, \"a\"]"], &["{}"]),
        (json!({ "items": { "type": "boolean" } }), &["[true,false]"], &["[1]"]),
        (
            json!({ "const": { "a\"\\": ["\u{6f0f}", 1.5] } }),
            &["{\"a\\\"\\\\\":[\"\u{6f0f}\",1.5]}"],
            &["{}"],
        ),
        (json!({ "enum": [1, "1", null] }), &["1", "\"1\"", "null"], &["2"]),
        (json!({ "type": "integer", "enum": [1, 1.5] }), &["1"], &["1.5"]),
    ] {
        let grammar = schema(&value.to_string()).unwrap();
        takes_these.iter().for_each(|text| assert!(takes(&grammar, text), "{value}: {text}"));
        not_these.iter().for_each(|text| assert!(!takes(&grammar, text), "{value}: {text}"));
    }
    // As they are written, not as they are sorted.
    let grammar = schema(r#"{"properties":{"b":{},"a":{}},"required":["a","b"]}"#).unwrap();
    assert!(takes(&grammar, r#"{"b":1,"a":2}"#) && !takes(&grammar, r#"{"a":2,"b":1}"#));
}

#[test]
fn what_no_grammar_can_hold_is_refused_by_its_name_and_place() {
    use serde_json::json;
    let mut deep = json!({});
    for _ in 0..limits::GRAMMAR_DEPTH_MAX {
        deep = json!({ "items": deep });
    }
    let chain: serde_json::Map<String, serde_json::Value> = (0..900)
        .map(|n| (format!("d{n}"), json!({ "items": { "$ref": format!("#/$defs/d{}", n + 1) } })))
        .collect();
    let wide: serde_json::Map<String, serde_json::Value> =
        (0..600).map(|n| (format!("m{n}"), json!({}))).collect();
    for (value, reason) in [
        (json!({ "type": "string", "pattern": "a+" }), "at #: pattern is not supported"),
        (json!({ "properties": { "a": { "minimum": 3 } } }), "at #/properties/a: minimum is not"),
        (json!({ "anyOf": [{ "allOf": [] }] }), "at #/anyOf/0: allOf is not supported"),
        (json!({ "type": "date" }), "no type \"date\""),
        (json!({ "anyOf": [{}], "type": "string" }), "anyOf and type can't stand together"),
        (json!({ "$ref": "#", "const": 1 }), "$ref and const can't stand together"),
        (json!({ "$ref": "#/$defs/a" }), "no \"#/$defs/a\" in this schema"),
        (json!({ "$ref": "https://example.com/a" }), "in this schema"),
        (json!({ "required": ["a"] }), "\"a\" is required, but not among"),
        (json!({ "enum": [] }), "no value satisfies it"),
        (json!({ "type": "null", "enum": [1] }), "no value satisfies it"),
        (json!({ "additionalProperties": {}, "type": "object" }), "true or false here"),
        (json!({ "items": true }), "invalid type: boolean"),
        (json!({ "$ref": "#" }), "can never end"),
        (json!({ "anyOf": [{ "$ref": "#" }, {}] }), "begins with itself"),
        (json!({ "required": ["a"], "properties": { "a": { "$ref": "#" } } }), "can never end"),
        (deep, "64 schemas within each other"),
        (json!({ "$ref": "#/$defs/d0", "$defs": chain }), "64 schemas within each other"),
        (json!({ "properties": wide }), "too large"),
    ] {
        let error = schema(&value.to_string()).unwrap_err();
        assert!(error.contains(reason) && error.len() < 500, "{error} where {reason} is due");
    }
}

#[test]
fn a_mask_holds_exactly_the_tokens_that_can_still_become_a_text() {
    let trie = trie();
    let grammar = Grammar::ebnf("root ::= \"ab\" tail | \"a\" [0-9]{2}\ntail ::= \"a\"* \"c\"").unwrap();
    let mut constraint = GrammarConstraint::new(&grammar, Arc::clone(&trie), ended());
    let open = |constraint: &mut GrammarConstraint| -> Vec<String> {
        let mask = constraint.mask().clone();
        let tokens = mask.iter().filter(|&id| id != END);
        tokens.map(|id| String::from_utf8_lossy(trie.token_bytes(id)).into_owned()).collect()
    };
    assert_eq!(open(&mut constraint), ["a", "ab", "aba"]);
    constraint.advance(u32::from(b'a')).unwrap();
    assert_eq!(open(&mut constraint), ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "b", "12"]);
    assert_eq!(constraint.advance(u32::from(b'a')), Err(NotAllowed(u32::from(b'a'))));
    constraint.advance(264).unwrap();
    assert!(constraint.is_done() && open(&mut constraint).is_empty());
    assert_eq!(constraint.forced(), Some(END));
}

#[test]
fn nesting_is_followed_and_calls_at_the_end_of_a_rule_cost_nothing() {
    let nested = Grammar::ebnf("root ::= \"(\" root? \")\"").unwrap();
    assert!(takes(&nested, "((()))") && !takes(&nested, "(()") && !takes(&nested, "())"));
    let list = Grammar::ebnf("root ::= [a-c] ( \",\" root )?").unwrap();
    let long = vec!["a"; 10_000].join(",");
    assert!(takes(&list, &long), "as many items as one likes");
}

/// A model that opened brackets and nothing else found none of them allowed any more, nor anything else, after 27 tokens: the
/// room for places to come back to was used up, for every later answer too.
#[test]
fn no_answer_is_ever_stuck_however_it_nests() {
    let trie = trie();
    let guide = Guide::new(Grammar::json().unwrap(), Arc::clone(&trie));
    for seed in 0..40 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut constraint = guide.constraint(ended());
        for step in 0..500 {
            let open: Vec<u32> = constraint.mask().iter().collect();
            assert!(!open.is_empty(), "stuck after {step} tokens");
            let opens = |id: &&u32| b"[{\":,1".contains(trie.token_bytes(**id).first().unwrap_or(&0));
            let deeper: Vec<u32> = open.iter().filter(opens).copied().collect();
            let token = if deeper.is_empty() { open[0] } else { deeper[rng.usize(..deeper.len())] };
            constraint.advance(token).unwrap();
            if token == END {
                break;
            }
        }
    }
    let brackets = Grammar::ebnf("root ::= \"(\" root \")\" root | \"x\"").unwrap();
    let nested = |depth: usize| "(".repeat(depth) + "x" + &")x".repeat(depth);
    assert!(takes(&brackets, &nested(limits::GRAMMAR_DEPTH_MAX)));
    assert!(!takes(&brackets, &nested(limits::GRAMMAR_DEPTH_MAX + 1)));
    // What is innermost takes two more rules within rules: room for them has to be left.
    let text = "root ::= \"(\" root \")\" | a \"!\"\na ::= b \"?\"\nb ::= \"b\"";
    let mut constraint = GrammarConstraint::new(&Grammar::ebnf(text).unwrap(), trie, ended());
    while constraint.advance(b'('.into()).is_ok() {}
    for byte in *b"b?!" {
        constraint.advance(byte.into()).expect("a way out");
    }
}

/// A class of no character, written as an intersection or as the negation of everything, is never on the way.
#[test]
fn what_no_character_satisfies_is_never_begun() {
    let trie = trie();
    for pattern in ["ab|b[a&&c]", "a(b[^\\s\\S])?", "(a[b&&c])*ab", "a[b[^b]]|b[^\\x00-\\x{10FFFF}]a"] {
        let grammar = Grammar::regex(pattern).unwrap();
        let guide = Guide::new(grammar, Arc::clone(&trie));
        for seed in 0..50 {
            let text = written(&guide, &trie, seed);
            assert!(text.starts_with(b"a"), "{pattern} {}", String::from_utf8_lossy(&text));
        }
    }
    assert!(matches!(Grammar::regex("a[b&&c]"), Err(BadGrammar::Endless(_))));
}

#[test]
fn what_was_forgotten_is_found_again() {
    let trie = trie();
    // Which of the last eighteen letters was an a: more states than are remembered. That the text began with an x, and that a c
    // is still to come, has to outlast that.
    let text = "root ::= \"x\" tail \"c\" | \"y\" tail \"d\"\ntail ::= [ab]* \"a\" [ab]{17}";
    let guide = Guide::new(Grammar::ebnf(text).unwrap(), Arc::clone(&trie));
    let regex = Regex::new(r"\Ax[ab]*a[ab]{17}c\z").unwrap();
    let mut cache = regex.create_cache();
    for seed in 0..3 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut constraint = guide.constraint(ended());
        let mut text = vec![b'x'];
        constraint.advance(b'x'.into()).unwrap();
        while !constraint.is_done() {
            assert!(!constraint.mask().contains(b'd'.into()));
            let may_end = text.len() > 12_000 && constraint.mask().contains(b'c'.into());
            let letter = if may_end { b'c' } else { b'a' + rng.u8(..2) };
            constraint.advance(letter.into()).unwrap();
            text.push(letter);
        }
        assert!(regex.is_match(&mut cache, &text[..]));
    }
}

#[test]
fn the_dialect_is_understood() {
    let text = "# a query\nroot ::= greeting | (\"x\" # one\n | \"y\")\n\ngreeting ::= \"h\\x69\" [^a-z\\]]? \"\\u6f0f\" .\nunused-rule ::= \"-\"{2,}";
    let grammar = Grammar::ebnf(text).unwrap();
    for (text, is_in) in
        [("x", true), ("y", true), ("hi漏é", true), ("hi!漏.", true), ("hi]漏.", false), ("xy", false)]
    {
        assert_eq!(takes(&grammar, text), is_in, "{text}");
    }
    let query = Grammar::ebnf(&crate::ask::grammar::grammar(&crate::ask::Book::default())).unwrap();
    assert!(takes(&query, "line: down\nperiod: last 3 hours\nabout: everything\nseverity: any\n"));
    assert!(!takes(&query, "line: down\nperiod: last 0 hours\nabout: everything\nseverity: any\n"));
}

#[test]
fn what_is_no_grammar_is_refused_with_its_place() {
    let many = format!("root ::= \"a\"{}", "?".repeat(9));
    let deep = format!("root ::= {}", "(".repeat(100_000));
    let links: String = (0..70).map(|n| format!("r{n} ::= r{} \"x\"\n", n + 1)).collect();
    let chain = format!("root ::= r0\n{links}r70 ::= \"y\"");
    let large = "root ::= ((\"a\"{1000}){1000}){1000}";
    for (text, reason) in [
        ("", "rule root is missing"),
        ("root ::= other", "line 1, column 10 of the grammar: rule other is missing"),
        ("root ::= \"a\"\nroot ::= \"b\"", "line 2, column 1 of the grammar: rule root is there already"),
        ("root ::= \"a", "not closed"),
        ("root ::= [a", "not closed by ]"),
        ("root ::= ( \"a\"", "( is not closed"),
        ("root ::= [z-a]", "wrong way round"),
        ("root ::= [^\\x00-\u{10ffff}]", "no character is left"),
        ("root ::= \"a\"{3,2}", "below its beginning"),
        ("root ::= \"a\"{9999}", "up to 1000"),
        ("root = \"a\"", "after root comes ::="),
        ("root ::= \"\\ud800\"", "half of a character"),
        ("root ::= root \"a\" | \"b\"", "rule root begins with itself"),
        ("root ::= x\nx ::= y? x \"a\" | \"b\"\ny ::= \"c\"", "rule x begins with itself"),
        ("root ::= \"(\" root \")\"", "rule root can never end"),
        (chain.as_str(), "ends only within more than 64 rules"),
        ("root ::= \"a\" ;", "';' is not understood"),
        (many.as_str(), "too many repetitions"),
        (deep.as_str(), "brackets deep"),
        (large, "places"),
    ] {
        let error = Grammar::ebnf(text).unwrap_err().to_string();
        assert!(error.contains(reason), "{error} where {reason} is due");
    }
    for (pattern, reason) in
        [("a(", "can't be used"), ("^a", "leave that out"), ("a{2000}", "more than 1000")]
    {
        let error = Grammar::regex(pattern).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-c:=|()\\[\\]{}?*+.,0-9\"\\\\xu^ \n#-]{0,60}") {
        let rule = format!("root ::= {text}");
        for text in [&text, &rule] {
            if let Ok(grammar) = Grammar::ebnf(text) {
                let trie = trie();
                let mut constraint = GrammarConstraint::new(&grammar, Arc::clone(&trie), ended());
                for _ in 0..20 {
                    let first = constraint.mask().iter().next();
                    match first {
                        Some(token) => constraint.advance(token).unwrap(),
                        None => break,
                    }
                }
            }
            let _ = Grammar::regex(text);
        }
    }
}

/// Eight grammars of one model kept two machines each, of 16 MiB and their masks, whatever the model might take.
#[test]
fn the_grammars_of_one_model_share_one_bound_and_write_the_same_within_it() {
    let trie = trie();
    let grammars: Vec<Grammar> = ["(ab|12)*c", "[a-f]{3,40}x", "pump[0-9]+", ".*!"]
        .iter()
        .map(|pattern| Grammar::regex(pattern).unwrap())
        .chain([Grammar::json().unwrap()])
        .collect();
    let all = |shelf: &Arc<Shelf>| -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        for seed in 0..20 {
            for grammar in &grammars {
                let guide = Guide::sharing(Arc::clone(shelf), grammar.clone(), Arc::clone(&trie));
                texts.extend([seed, seed + 100].map(|seed| written(&guide, &trie, seed)));
            }
        }
        texts
    };
    let (roomy, tight) = (Arc::new(Shelf::new()), Arc::new(Shelf::with_room(20_000)));
    assert_eq!(all(&roomy), all(&tight));
    assert!(roomy.bytes() > 100_000, "{roomy:?}: this test would show nothing");
    assert!(tight.bytes() <= 20_000, "{tight:?}");
}
