//! `tokenizer.json` as the Python library writes it: read with a bound on everything, refused by name where it asks for more
//! than a byte-level BPE.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::added::{Added, AddedToken};
use super::merge::Merges;
use super::split::{GPT2, Split};
use super::{BadTokenizer, Step, Tokenizer, Tokens};
use crate::limits;

pub(super) fn read(bytes: &[u8]) -> Result<Tokenizer, BadTokenizer> {
    if bytes.len() as u64 > limits::IMPORT_TOKENIZER_BYTES_MAX {
        let what = format!("it has more than {} bytes", limits::IMPORT_TOKENIZER_BYTES_MAX);
        return Err(BadTokenizer::Damaged(what));
    }
    let file: File = serde_json::from_slice(bytes).map_err(|e| BadTokenizer::Json(e.to_string()))?;
    if let Some(normalizer) = file.normalizer.filter(|n| !n.does_nothing()) {
        return Err(BadTokenizer::Unsupported(format!("the normalizer {}", normalizer.kind)));
    }
    file.model.refuse_extras()?;
    let added: Vec<AddedToken> = file.added_tokens.into_iter().map(AddedToken::from).collect();
    let (tokens, ids) = tokens(&file.model.vocab.0, &added)?;
    let merges = merges(&file.model, &ids, &tokens)?;
    let added = Added::new(added)?;
    let mut prefix = Vec::new();
    file.post_processor.map_or(Ok(()), |post| post.prefix(&mut prefix))?;
    if let Some(id) = prefix.iter().find(|&&id| !added.is_special(id)) {
        return Err(BadTokenizer::Damaged(format!("the post-processor's token {id} is no special token")));
    }
    let mut steps = Vec::new();
    let is_byte_level = match file.pre_tokenizer {
        Some(pre) => pre.steps(&mut steps)?,
        None => false,
    };
    if !is_byte_level {
        return Err(BadTokenizer::Unsupported("a pre-tokenizer that does not end in ByteLevel".to_owned()));
    }
    Ok(Tokenizer { tokens, added, steps, merges, prefix })
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<AddedJson<'a>>,
    normalizer: Option<NormalizerJson>,
    pre_tokenizer: Option<PreTokenizerJson>,
    post_processor: Option<PostProcessorJson>,
    #[serde(borrow)]
    model: ModelJson<'a>,
}

#[derive(Deserialize)]
struct AddedJson<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    special: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
}

impl From<AddedJson<'_>> for AddedToken {
    fn from(json: AddedJson) -> AddedToken {
        AddedToken {
            id: json.id,
            content: json.content.into_owned(),
            special: json.special,
            normalized: json.normalized,
            single_word: json.single_word,
            lstrip: json.lstrip,
            rstrip: json.rstrip,
        }
    }
}

#[derive(Deserialize)]
struct NormalizerJson {
    #[serde(rename = "type")]
    kind: String,
    normalizers: Option<Vec<NormalizerJson>>,
}

impl NormalizerJson {
    fn does_nothing(&self) -> bool {
        self.normalizers.as_ref().is_some_and(|all| all.iter().all(NormalizerJson::does_nothing))
    }
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PreTokenizerJson {
    Sequence {
        pretokenizers: Vec<PreTokenizerJson>,
    },
    Split {
        pattern: PatternJson,
        behavior: String,
        #[serde(default)]
        invert: bool,
    },
    ByteLevel {
        #[serde(default)]
        add_prefix_space: bool,
        #[serde(default = "yes")]
        use_regex: bool,
    },
}

#[derive(Deserialize)]
enum PatternJson {
    Regex(String),
    String(String),
}

fn yes() -> bool {
    true
}

impl PreTokenizerJson {
    /// Appends its steps; true if it ends in bytes, behind which nothing may come.
    fn steps(self, steps: &mut Vec<Step>) -> Result<bool, BadTokenizer> {
        if steps.len() >= limits::TOKENIZER_STEPS_MAX {
            return Err(BadTokenizer::Damaged("it parts a text in too many steps".to_owned()));
        }
        match self {
            PreTokenizerJson::Sequence { pretokenizers } => {
                let mut ended = false;
                for step in pretokenizers {
                    if ended {
                        let what = "a pre-tokenizer behind ByteLevel".to_owned();
                        return Err(BadTokenizer::Unsupported(what));
                    }
                    ended = step.steps(steps)?;
                }
                Ok(ended)
            }
            PreTokenizerJson::Split { behavior, invert, .. } if behavior != "Isolated" || invert => {
                let what = format!("a split that is {behavior}{}", if invert { " and inverted" } else { "" });
                Err(BadTokenizer::Unsupported(what))
            }
            PreTokenizerJson::Split { pattern: PatternJson::String(text), .. } => {
                Err(BadTokenizer::Unsupported(format!("a split at the fixed text {text:?}")))
            }
            PreTokenizerJson::Split { pattern: PatternJson::Regex(pattern), .. } => {
                steps.push(Step::Split(Box::new(Split::new(&pattern)?)));
                Ok(false)
            }
            PreTokenizerJson::ByteLevel { add_prefix_space, use_regex } => {
                steps.extend(add_prefix_space.then_some(Step::Blank));
                if use_regex {
                    steps.push(Step::Split(Box::new(Split::new(GPT2)?)));
                }
                Ok(true)
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum PostProcessorJson {
    Sequence { processors: Vec<PostProcessorJson> },
    ByteLevel {},
    TemplateProcessing { single: Vec<PieceJson>, special_tokens: HashMap<String, SpecialJson> },
}

#[derive(Deserialize)]
enum PieceJson {
    SpecialToken { id: String },
    Sequence {},
}

#[derive(Deserialize)]
struct SpecialJson {
    ids: Vec<u32>,
}

impl PostProcessorJson {
    /// Appends the ids that it puts before a text.
    fn prefix(self, prefix: &mut Vec<u32>) -> Result<(), BadTokenizer> {
        match self {
            PostProcessorJson::Sequence { processors } => {
                processors.into_iter().try_for_each(|processor| processor.prefix(prefix))
            }
            PostProcessorJson::ByteLevel {} => Ok(()),
            PostProcessorJson::TemplateProcessing { single, special_tokens } => {
                let mut text_seen = false;
                for piece in single {
                    match piece {
                        PieceJson::Sequence {} => text_seen = true,
                        PieceJson::SpecialToken { id } if text_seen => {
                            let what = format!("a post-processor that puts {id:?} behind a text");
                            return Err(BadTokenizer::Unsupported(what));
                        }
                        PieceJson::SpecialToken { id } => {
                            let missing =
                                || BadTokenizer::Damaged(format!("the post-processor's {id:?} has no id"));
                            prefix.extend(&special_tokens.get(&id).ok_or_else(missing)?.ids);
                        }
                    }
                    if prefix.len() > limits::TOKENIZER_PREFIX_MAX {
                        let what = "the post-processor puts too much before a text".to_owned();
                        return Err(BadTokenizer::Damaged(what));
                    }
                }
                Ok(())
            }
        }
    }
}

#[derive(Deserialize)]
struct ModelJson<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(borrow)]
    vocab: VocabJson<'a>,
    #[serde(borrow)]
    merges: MergesJson<'a>,
}

impl ModelJson<'_> {
    fn refuse_extras(&self) -> Result<(), BadTokenizer> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let what = match self {
            ModelJson { kind: Some(kind), .. } if kind != "BPE" => format!("the model {kind}"),
            ModelJson { dropout: Some(dropout), .. } if *dropout != 0.0 => "dropout".to_owned(),
            // Every byte has a token (checked), so nothing is ever unknown.
            _ if given(&self.continuing_subword_prefix) => "a prefix of subwords".to_owned(),
            _ if given(&self.end_of_word_suffix) => "a suffix of words".to_owned(),
            _ => return Ok(()),
        };
        Err(BadTokenizer::Unsupported(what))
    }
}

/// Tokens with their ids, in the file's order.
struct VocabJson<'a>(Vec<(Cow<'a, str>, u32)>);

/// Pairs in the order of their rank.
struct MergesJson<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for VocabJson<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = VocabJson<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("tokens with their ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((Text(text), id)) = map.next_entry()? {
                    if entries.len() == limits::GLM_VOCAB_MAX {
                        return Err(A::Error::custom("the vocabulary is too large"));
                    }
                    entries.push((text, id));
                }
                Ok(VocabJson(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for MergesJson<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = MergesJson<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("pairs of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Pair(left, right)) = seq.next_element()? {
                    if pairs.len() == limits::TOKENIZER_MERGES_MAX {
                        return Err(A::Error::custom("there are too many merges"));
                    }
                    pairs.push((left, right));
                }
                Ok(MergesJson(pairs))
            }
        }
        deserializer.deserialize_seq(Pairs)
    }
}

/// A text that is borrowed from the file where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A merge: `"a b"`, or `["a", "b"]` in newer files.
struct Pair<'a>(Cow<'a, str>, Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Pair<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        const TWO: &str = "a merge has not two parts";
        impl<'de> Visitor<'de> for Either {
            type Value = Pair<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a pair of tokens")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Pair<'de>, E> {
                let (left, right) = text.split_once(' ').ok_or_else(|| E::custom(TWO))?;
                Ok(Pair(left.into(), right.into()))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pair<'de>, E> {
                let (left, right) = text.split_once(' ').ok_or_else(|| E::custom(TWO))?;
                Ok(Pair(left.to_owned().into(), right.to_owned().into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Pair<'de>, A::Error> {
                let (Some(Text(left)), Some(Text(right)), None) =
                    (seq.next_element()?, seq.next_element()?, seq.next_element::<Text>()?)
                else {
                    return Err(A::Error::custom(TWO));
                };
                Ok(Pair(left, right))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Lays out the bytes of every token, and finds ids by the file's texts.
fn tokens<'v>(
    vocab: &'v [(Cow<str>, u32)],
    added: &[AddedToken],
) -> Result<(Tokens, HashMap<&'v str, u32>), BadTokenizer> {
    let damaged = |what: String| BadTokenizer::Damaged(what);
    let ids: HashMap<&str, u32> = vocab.iter().map(|(text, id)| (text.as_ref(), *id)).collect();
    if ids.len() != vocab.len() {
        return Err(damaged("a token stands there twice".to_owned()));
    }
    let mut replaced = HashSet::with_capacity(added.len());
    for token in added {
        match ids.get(token.content.as_str()) {
            Some(&id) if id == token.id => replaced.insert(id),
            Some(id) => {
                return Err(damaged(format!("token {:?} has ids {} and {id}", token.content, token.id)));
            }
            None => false,
        };
    }
    let merged = vocab.iter().map(|(text, id)| (*id, text.as_ref(), true));
    let merged = merged.filter(|(id, ..)| !replaced.contains(id));
    let mut texts: Vec<(u32, &str, bool)> =
        merged.chain(added.iter().map(|token| (token.id, token.content.as_str(), false))).collect();
    texts.sort_unstable_by_key(|(id, ..)| *id);
    if let Some(pair) = texts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(damaged(format!("id {} has two tokens", pair[0].0)));
    }
    let unicode = byte_of_letter();
    let mut tokens = Tokens::default();
    for (id, text, merged) in texts {
        if id as usize >= limits::GLM_VOCAB_MAX || text.len() > limits::TOKEN_BYTES_MAX {
            return Err(damaged(format!("token {id} is out of bounds")));
        }
        let before = tokens.blob.len() as u32;
        tokens.ends.resize(id as usize, before);
        let from = tokens.blob.len();
        // A text with letters that stand for no byte is what it says, as in the Python library.
        let is_bytes = merged && text.chars().all(|c| unicode.contains_key(&c));
        match is_bytes {
            true => tokens.blob.extend(text.chars().filter_map(|c| unicode.get(&c))),
            false => tokens.blob.extend_from_slice(text.as_bytes()),
        }
        tokens.ends.push(tokens.blob.len() as u32);
        if is_bytes && from < tokens.blob.len() {
            tokens.sorted.push(id);
        }
    }
    let mut sorted = std::mem::take(&mut tokens.sorted);
    sorted.sort_unstable_by(|&a, &b| tokens.bytes(a).cmp(tokens.bytes(b)));
    tokens.sorted = sorted;
    Ok((tokens, ids))
}

fn merges(model: &ModelJson, ids: &HashMap<&str, u32>, tokens: &Tokens) -> Result<Merges, BadTokenizer> {
    let mut of_byte = [0; 256];
    for (byte, id) in (0..=u8::MAX).zip(&mut of_byte) {
        let missing = || BadTokenizer::Damaged(format!("the byte {byte:#04x} has no token"));
        *id = tokens.find(&[byte]).ok_or_else(missing)?;
    }
    let mut rules = HashMap::with_capacity(model.merges.0.len());
    let mut whole = String::new();
    for (rank, (left, right)) in model.merges.0.iter().enumerate() {
        let id = |text: &str| {
            let missing = || BadTokenizer::Damaged(format!("merge {rank} speaks of no token ({text:?})"));
            ids.get(text).copied().ok_or_else(missing)
        };
        whole.clear();
        whole.push_str(left);
        whole.push_str(right);
        // The later of two equal ones counts, as in the Python library.
        rules.insert((id(left)?, id(right)?), (rank as u32, id(&whole)?));
    }
    Ok(Merges { rules, of_byte, ignore_merges: model.ignore_merges })
}

/// The letter that stands for each byte in a file that may hold only what can be printed: printable bytes stand for
/// themselves, the others for letters from U+0100 on.
fn byte_of_letter() -> HashMap<char, u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = (0x100..).filter_map(char::from_u32);
    let letter = |byte: u8| if printable(byte) { Some(char::from(byte)) } else { next.next() };
    (0..=u8::MAX).map(letter).zip(0..=u8::MAX).filter_map(|(c, byte)| Some((c?, byte))).collect()
}
