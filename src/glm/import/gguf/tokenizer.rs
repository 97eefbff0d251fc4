//! The tokenizer in a GGUF file's keys as a `tokenizer.json`.
//!
//! The keys hold the same byte-level BPE in another form: tokens and merges as lists, kinds of tokens as numbers, the split by
//! the name of a pattern. What the file does not say is what every GLM has: no normaliser, `[gMASK]<sop>` before a text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::reader::Gguf;
use crate::glm::import::ImportError;
use crate::glm::import::error::clip;
use crate::glm::import::source::END_TOKENS;
use crate::limits;

/// What a file's keys give.
pub(super) struct Made {
    /// `tokenizer.json`; `None` where the file has no tokenizer.
    pub(super) json: Option<Vec<u8>>,
    /// Ids of tokens that end an answer, by their texts and by the file's keys.
    pub(super) end_ids: Vec<u32>,
}

/// How a GLM's text is split before merging.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;
const UNUSED: i128 = 5;

/// Writes the file; `vocab` is the number of tokens that the model has.
pub(super) fn make(gguf: &Gguf, vocab: usize) -> Result<Made, ImportError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = gguf.text(&key("model")) else { return Ok(Made { json: None, end_ids: Vec::new() }) };
    if model != "gpt2" {
        let what = format!("a tokenizer of model {}", clip(model));
        return Err(ImportError::unsupported(what, "byte-level BPE (gpt2) is; convert the model anew"));
    }
    let ignore_merges = match gguf.text(&key("pre")) {
        Some("glm4") => true,
        Some("chatglm-bpe") => false,
        other => {
            let what = format!("a tokenizer with the split {}", clip(other.unwrap_or("default")));
            return Err(ImportError::unsupported(
                what,
                "GLM's splits (glm4, chatglm-bpe) are; convert the model anew",
            ));
        }
    };
    let kinds = kinds(gguf, &key("token_type"), vocab)?;
    let tokens = Tokens::read(gguf, &key("tokens"), &kinds, vocab)?;
    let merges = merges(gguf, &key("merges"))?;
    let mut end_ids = tokens.end_ids.clone();
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        let id = gguf.integer(&key(name)).and_then(|id| u32::try_from(id).ok());
        end_ids.extend(id.filter(|id| (*id as usize) < vocab));
    }
    end_ids.sort_unstable();
    end_ids.dedup();
    Ok(Made { json: Some(tokens.json(&merges, ignore_merges)), end_ids })
}

fn kinds(gguf: &Gguf, key: &str, vocab: usize) -> Result<Vec<u8>, ImportError> {
    let mut kinds = Vec::new();
    gguf.integers(key, |n, kind| {
        if n as usize >= vocab {
            return Err(gguf.blob.damaged("it has more kinds of tokens than tokens"));
        }
        kinds.push(u8::try_from(kind).unwrap_or(0));
        Ok(())
    })?;
    Ok(kinds)
}

/// `["a","b"]` of every merge, joined by commas.
fn merges(gguf: &Gguf, key: &str) -> Result<String, ImportError> {
    let mut text = String::new();
    let found = gguf.texts(key, |n, merge| {
        // The second part may begin with a blank no more than the first one: blanks are written as another letter.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        let parts = at.map(|at| (&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty());
        let (left, right) = parts.ok_or_else(|| gguf.blob.damaged(format!("merge {n} has not two parts")))?;
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{},{}]", quoted(left), quoted(right));
        Ok(())
    })?;
    match found {
        Some(_) => Ok(text),
        None => Err(gguf.blob.damaged(format!("the key {key} is missing"))),
    }
}

/// Tokens on their way into the file.
struct Tokens {
    /// `"text":id` of those that merges make, joined by commas.
    vocab: String,
    /// Objects of those that stand for themselves, joined by commas.
    added: String,
    end_ids: Vec<u32>,
    /// Ids of the two that stand before a text.
    begin: [Option<u32>; 2],
}

impl Tokens {
    fn read(gguf: &Gguf, key: &str, kinds: &[u8], vocab: usize) -> Result<Tokens, ImportError> {
        let mut tokens =
            Tokens { vocab: String::new(), added: String::new(), end_ids: Vec::new(), begin: [None; 2] };
        let mut seen = BTreeMap::new();
        let found = gguf.texts(key, |n, text| {
            let id = u32::try_from(n).ok().filter(|id| (*id as usize) < vocab.min(limits::GLM_VOCAB_MAX));
            let id =
                id.ok_or_else(|| gguf.blob.damaged(format!("it has more than the model's {vocab} tokens")))?;
            let kind = kinds.get(id as usize).map_or(1, |kind| i128::from(*kind));
            if kind == UNUSED {
                return Ok(());
            }
            tokens.add(id, &text, kind);
            match seen.insert(text, id) {
                Some(first) => Err(gguf.blob.damaged(format!("tokens {first} and {id} have one text"))),
                None => Ok(()),
            }
        })?;
        match found {
            Some(_) => Ok(tokens),
            None => Err(gguf.blob.damaged(format!("the key {key} is missing"))),
        }
    }

    fn add(&mut self, id: u32, text: &str, kind: i128) {
        if END_TOKENS.contains(&text) {
            self.end_ids.push(id);
        }
        for (begin, name) in self.begin.iter_mut().zip(BEGIN_TOKENS) {
            if text == name {
                *begin = Some(id);
            }
        }
        if kind != CONTROL && kind != USER_DEFINED {
            let comma = if self.vocab.is_empty() { "" } else { "," };
            let _ = write!(self.vocab, "{comma}{}:{id}", quoted(text));
            return;
        }
        let comma = if self.added.is_empty() { "" } else { "," };
        let _ = write!(
            self.added,
            r#"{comma}{{"id":{id},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":{}}}"#,
            quoted(text),
            kind == CONTROL
        );
    }

    fn json(&self, merges: &str, ignore_merges: bool) -> Vec<u8> {
        let post_processor = match self.begin {
            [Some(mask), Some(begin)] => before(mask, begin),
            _ => r#"{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true}"#
                .to_owned(),
        };
        let Tokens { vocab, added, .. } = self;
        let mut text = String::with_capacity(vocab.len() + added.len() + merges.len() + 2048);
        text.push_str(r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":["#);
        text.push_str(added);
        text.push_str(r#"],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"#);
        text.push_str(&quoted(SPLIT));
        text.push_str(r#"},"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]},"post_processor":"#);
        text.push_str(&post_processor);
        text.push_str(r#","decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":"#);
        text.push_str(if ignore_merges { "true" } else { "false" });
        text.push_str(r#","vocab":{"#);
        text.push_str(vocab);
        text.push_str(r#"},"merges":["#);
        text.push_str(merges);
        text.push_str("]}}");
        text.into_bytes()
    }
}

const BEGIN_TOKENS: [&str; 2] = ["[gMASK]", "<sop>"];

/// The post-processor that puts the two before a text.
fn before(mask: u32, begin: u32) -> String {
    let special = |text: &str| format!(r#"{{"SpecialToken":{{"id":"{text}","type_id":0}}}}"#);
    let [first, second] = BEGIN_TOKENS.map(special);
    let sequence = |id: &str, type_id: u32| format!(r#"{{"Sequence":{{"id":"{id}","type_id":{type_id}}}}}"#);
    let (a, b) = (sequence("A", 0), sequence("B", 1));
    let known =
        |text: &str, id: u32| format!(r#""{text}":{{"id":"{text}","ids":[{id}],"tokens":["{text}"]}}"#);
    let [mask, begin] = [known(BEGIN_TOKENS[0], mask), known(BEGIN_TOKENS[1], begin)];
    format!(
        r#"{{"type":"TemplateProcessing","single":[{first},{second},{a}],"pair":[{first},{second},{a},{b}],"special_tokens":{{{mask},{begin}}}}}"#
    )
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
