//! The closed vocabulary of a student: what each token is, and by which id it goes.
//!
//! Read from two files of the model: `vocab.txt`, one token per line, the id being the line number from 0, and
//! `vocab.json`, the groups as half-open id ranges. No word of either language may hold a digit: that is what makes a
//! wrong figure impossible, so a vocabulary that breaks it is refused.

use std::collections::HashMap;

use serde::Deserialize;

use crate::digest::Lang;
use crate::digest::clauses::Clauses;
use crate::digest::slots::Slot;
use crate::limits;
use crate::reading::{Severity, named_enum};

/// A token's id: its line in `vocab.txt`, from 0.
pub type TokenId = u32;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Padding, begin, separator: never in an answer.
    Control,
    /// Ends an answer.
    End,
    /// Part of a prompt: never in an answer.
    Attribute,
    /// How grave it is.
    Verdict(Severity),
    /// The likely cause.
    Cause(Cause),
    /// Filled from the facts.
    Slot(Slot),
    /// A word of one language.
    Word(Lang),
    /// A punctuation mark of one language.
    Mark(Lang),
}

named_enum! {
    /// The likely cause, a closed list. Append only.
    Cause {
        None = "none", BearingWear = "bearing_wear", CoolingFailure = "cooling_failure", Blockage = "blockage",
        Leak = "leak", DryRunning = "dry_running", Overload = "overload", PowerSupply = "power_supply",
        SensorFault = "sensor_fault", NetworkLink = "network_link", DoorOpen = "door_open",
        RefrigerationFailure = "refrigeration_failure", HostOverload = "host_overload", DiskFull = "disk_full",
        AmbientHeat = "ambient_heat", Icing = "icing",
        /// Something is wrong and nothing points at why.
        Unknown = "unknown",
    }
}

/// Tokens and their kinds.
#[derive(Debug, Clone)]
pub struct Vocab {
    texts: Vec<String>,
    kinds: Vec<Kind>,
    ids: HashMap<String, TokenId>,
    bos: TokenId,
    sep: TokenId,
    end: TokenId,
    clauses: Clauses,
}

/// A vocabulary that can't be used; the model's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadVocab {
    /// `vocab.json` can't be read.
    #[error("vocab.json can't be read: {0}; export the model again")]
    Json(String),
    /// The two files disagree, or a range is outside the vocabulary.
    #[error("vocab.json does not fit the {tokens} tokens of vocab.txt; export the model again")]
    Mismatch {
        /// Lines in `vocab.txt`.
        tokens: usize,
    },
    /// A token that its group does not allow, or one written twice.
    #[error("token {token:?} can't stand in group {group}; export the model again")]
    Token {
        /// The token.
        token: String,
        /// Its group.
        group: &'static str,
    },
    /// Something that every vocabulary must hold.
    #[error("the vocabulary lacks {0:?}; export the model again")]
    Lacks(String),
}

#[derive(Deserialize)]
struct Layout {
    size: usize,
    groups: HashMap<String, (usize, usize)>,
    bos: usize,
    sep: usize,
    end_ids: Vec<usize>,
    #[serde(default)]
    clauses: Clauses,
}

impl Vocab {
    /// Reads the two files and checks everything that the grammar relies on.
    pub fn parse(vocab_txt: &str, vocab_json: &str) -> Result<Vocab, BadVocab> {
        let layout: Layout = serde_json::from_str(vocab_json).map_err(|e| BadVocab::Json(e.to_string()))?;
        let texts: Vec<String> = vocab_txt.lines().map(str::to_owned).collect();
        let mismatch = BadVocab::Mismatch { tokens: texts.len() };
        if texts.len() != layout.size || !(1..=limits::VOCAB_TOKENS_MAX).contains(&texts.len()) {
            return Err(mismatch);
        }
        let id = |n: usize| (n < texts.len()).then_some(n as TokenId).ok_or_else(|| mismatch.clone());
        let (bos, sep) = (id(layout.bos)?, id(layout.sep)?);
        let ends: Vec<TokenId> = layout.end_ids.iter().map(|&n| id(n)).collect::<Result<_, _>>()?;
        let end = *ends.first().ok_or_else(|| BadVocab::Lacks("end_ids".into()))?;
        let mut kinds = kinds(&texts, &layout.groups, &mismatch)?;
        for &end in &ends {
            kinds[end as usize] = Kind::End;
        }
        let ids = index(&texts)?;
        let vocab = Vocab { texts, kinds, ids, bos, sep, end, clauses: layout.clauses };
        vocab.check()?;
        Ok(vocab)
    }

    /// How events may be told; empty for a model that leaves it open.
    pub fn clauses(&self) -> &Clauses {
        &self.clauses
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Never true: [`Vocab::parse`] refuses an empty vocabulary.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The id of the token written `text`.
    pub fn id(&self, text: &str) -> Option<TokenId> {
        self.ids.get(text).copied()
    }

    /// How a token is written; empty for an id outside the vocabulary.
    pub fn text(&self, id: TokenId) -> &str {
        self.texts.get(id as usize).map_or("", String::as_str)
    }

    /// What a token is; [`Kind::Control`] for an id outside the vocabulary.
    pub fn kind(&self, id: TokenId) -> Kind {
        self.kinds.get(id as usize).copied().unwrap_or(Kind::Control)
    }

    /// Every token with its kind, by id.
    pub fn tokens(&self) -> impl Iterator<Item = (TokenId, Kind)> + '_ {
        self.kinds.iter().enumerate().map(|(i, &kind)| (i as TokenId, kind))
    }

    /// Opens every prompt.
    pub fn bos(&self) -> TokenId {
        self.bos
    }

    /// Closes every prompt.
    pub fn sep(&self) -> TokenId {
        self.sep
    }

    /// Ends an answer: the one that the grammar allows.
    pub fn end(&self) -> TokenId {
        self.end
    }

    /// Whether the token closes a sentence.
    pub fn ends_sentence(&self, id: TokenId) -> bool {
        matches!(self.kind(id), Kind::Mark(_)) && matches!(self.text(id), "." | "。" | "!" | "！")
    }

    /// The marks that may follow a whole clause: the semicolon, and what closes a sentence.
    pub fn clause_ends(&self, lang: Lang) -> impl Iterator<Item = TokenId> + '_ {
        let semicolon = self.id(if lang == Lang::En { ";" } else { "；" });
        semicolon.into_iter().chain(self.full_stop(lang))
    }

    /// The full stop of a language.
    pub fn full_stop(&self, lang: Lang) -> Option<TokenId> {
        self.id(if lang == Lang::En { "." } else { "。" })
    }

    /// The comma of a language.
    pub fn comma(&self, lang: Lang) -> Option<TokenId> {
        self.id(if lang == Lang::En { "," } else { "，" })
    }

    /// The grammar needs these to be able to finish any answer.
    fn check(&self) -> Result<(), BadVocab> {
        for lang in Lang::ALL {
            self.full_stop(*lang).ok_or_else(|| BadVocab::Lacks(format!("full stop of {lang}")))?;
            self.comma(*lang).ok_or_else(|| BadVocab::Lacks(format!("comma of {lang}")))?;
        }
        for severity in Severity::ALL {
            if !self.kinds.contains(&Kind::Verdict(*severity)) {
                return Err(BadVocab::Lacks(format!("verdict:{severity}")));
            }
        }
        for slot in Slot::all() {
            if !self.kinds.contains(&Kind::Slot(slot)) {
                return Err(BadVocab::Lacks(format!("{slot:?}")));
            }
        }
        for cause in Cause::ALL {
            if !self.kinds.contains(&Kind::Cause(*cause)) {
                return Err(BadVocab::Lacks(format!("cause:{cause}")));
            }
        }
        Ok(())
    }
}

fn index(texts: &[String]) -> Result<HashMap<String, TokenId>, BadVocab> {
    let mut ids = HashMap::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        if ids.insert(text.clone(), i as TokenId).is_some() {
            return Err(BadVocab::Token { token: text.clone(), group: "two places" });
        }
    }
    Ok(ids)
}

fn kinds(
    texts: &[String],
    groups: &HashMap<String, (usize, usize)>,
    mismatch: &BadVocab,
) -> Result<Vec<Kind>, BadVocab> {
    let mut kinds = vec![Kind::Control; texts.len()];
    for group in GROUPS {
        let &(first, end) = groups.get(group).ok_or_else(|| BadVocab::Lacks(format!("group {group}")))?;
        let range = texts.get(first..end).ok_or_else(|| mismatch.clone())?;
        for (offset, token) in range.iter().enumerate() {
            kinds[first + offset] =
                kind_in(group, token).ok_or_else(|| BadVocab::Token { token: token.clone(), group })?;
        }
    }
    Ok(kinds)
}

fn kind_in(group: &str, token: &str) -> Option<Kind> {
    let wordlike =
        !token.is_empty() && !token.contains(char::is_numeric) && !token.contains(['<', '>', '[', ']']);
    Some(match group {
        "control" => Kind::Control,
        "attribute" => Kind::Attribute,
        "verdict" => Kind::Verdict(match token.strip_prefix("verdict:")? {
            "normal" => Severity::Info,
            name => Severity::from_name(name)?,
        }),
        "cause" => Kind::Cause(Cause::from_name(token.strip_prefix("cause:")?)?),
        "slot" => Kind::Slot(Slot::parse(token)?),
        "word_en" if wordlike => Kind::Word(Lang::En),
        "word_zh" if wordlike => Kind::Word(Lang::Zh),
        "punct_en" if wordlike => Kind::Mark(Lang::En),
        "punct_zh" if wordlike => Kind::Mark(Lang::Zh),
        _ => return None,
    })
}

const GROUPS: [&str; 9] =
    ["control", "attribute", "verdict", "cause", "slot", "punct_en", "punct_zh", "word_en", "word_zh"];
