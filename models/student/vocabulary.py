"""The closed vocabulary: every token that the student can read or write, in groups of consecutive ids.

No word token holds a digit, so no number can be written that is not a slot. The words are collected from the phrase
tables in `wording.py`; the rest is listed here. `vocab.txt` and `vocab.json` are written from this module.
"""

import json
import re
from pathlib import Path

import wording

HERE = Path(__file__).parent
EVENTS_MAX = 6
CONTEXT_TOKENS_MAX = 256

LANGS = ["en", "zh"]
QUANTITIES = (
    "temperature vibration current voltage power pressure flow level speed humidity door link cpu load memory disk "
    "network count other"
).split()
PATTERNS = "high low rise fall spike stuck missing flapping".split()
SEVERITIES = "info warning critical".split()
VERDICTS = "normal warning critical".split()
CAUSES = (
    "none bearing_wear cooling_failure blockage leak dry_running overload power_supply sensor_fault network_link "
    "door_open refrigeration_failure host_overload disk_full ambient_heat icing unknown"
).split()
EVENT_SLOTS = "c a b p l s d k".split()
GLOBAL_SLOTS = "o_dur o_start o_kept o_lost normal more from to".split()


def _words(lang):
    """Tokens of one language's phrases: (words, punctuation), each sorted, without slots and template marks."""
    tokens = {t for phrase in wording.all_phrases(lang) for t in re.sub(r"[\[\]|]", " ", phrase).split()}
    tokens = {t for t in tokens if not t.startswith("<")}
    marks = {t for t in tokens if not any(ch.isalnum() for ch in t)}
    return sorted(tokens - marks), sorted(marks)


def _groups():
    """Group name -> tokens, in the order of their ids."""
    en_words, en_marks = _words("en")
    zh_words, zh_marks = _words("zh")
    attributes = [f"lang:{x}" for x in LANGS] + ["mode:online", "mode:offline", "flag:lost", "flag:more"]
    attributes += [f"normal:{x}" for x in ("none", "one", "many")]
    attributes += ["asset:none"]
    for i in range(1, EVENTS_MAX + 1):
        attributes += [f"q{i}:{x}" for x in QUANTITIES] + [f"pat{i}:{x}" for x in PATTERNS]
        attributes += [f"sev{i}:{x}" for x in SEVERITIES] + [f"state{i}:ongoing", f"state{i}:ended"]
        attributes += [f"join{i}:{j}" for j in range(i + 1, EVENTS_MAX + 1)]
        attributes += [f"then{i}:{j}" for j in range(2, EVENTS_MAX + 1) if j != i] + [f"last{i}"]
    slots = [f"<{role}{i}>" for i in range(1, EVENTS_MAX + 1) for role in EVENT_SLOTS]
    slots += [f"<{x}>" for x in GLOBAL_SLOTS]
    return {
        "control": ["<pad>", "<bos>", "<sep>", "<eos>", "<|user|>", "<|observation|>"],
        "attribute": attributes,
        "verdict": [f"verdict:{x}" for x in VERDICTS],
        "cause": [f"cause:{x}" for x in CAUSES],
        "slot": slots,
        "punct_en": en_marks,
        "punct_zh": zh_marks,
        "word_en": en_words,
        "word_zh": zh_words,
    }


GROUPS = _groups()
TOKENS = [t for tokens in GROUPS.values() for t in tokens]
ID = {t: i for i, t in enumerate(TOKENS)}
assert len(ID) == len(TOKENS), "a token stands in two groups"
assert not any(ch.isdigit() for g in ("word_en", "word_zh", "punct_en", "punct_zh") for t in GROUPS[g] for ch in t)

PAD, BOS, SEP, EOS = (ID[t] for t in ("<pad>", "<bos>", "<sep>", "<eos>"))
END_IDS = [ID[t] for t in ("<eos>", "<|user|>", "<|observation|>")]


def encode(tokens):
    """Token texts -> ids."""
    return [ID[t] for t in tokens]


def decode(ids):
    """Ids -> token texts."""
    return [TOKENS[i] for i in ids]


def write_files():
    """Writes `vocab.txt` (one token per line, id = line number from 0) and `vocab.json` (groups as [first, end), clauses)."""
    (HERE / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
    ranges = {name: [ID[tokens[0]], ID[tokens[0]] + len(tokens)] for name, tokens in GROUPS.items()}
    doc = {"size": len(TOKENS), "groups": ranges, "bos": BOS, "sep": SEP, "pad": PAD, "end_ids": END_IDS}
    doc["clauses"] = {lang: wording.LANGUAGES[lang]["clauses"] for lang in LANGS}
    (HERE / "vocab.json").write_text(json.dumps(doc, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_files()
    print({name: len(tokens) for name, tokens in GROUPS.items()}, len(TOKENS))
