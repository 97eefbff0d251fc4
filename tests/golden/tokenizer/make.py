"""Makes the tokenizer fixtures (see README.md): `pip install -r requirements.txt && python make.py`."""

import json
import random
from pathlib import Path

from awkward import awkward
from corpus import corpus
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
VOCAB = 3000
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIAL = "<|endoftext|> [MASK] [gMASK] [sMASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|>".split()
PREFIX = "[gMASK]", "<sop>"


def train():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=VOCAB, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    template = processors.TemplateProcessing(
        "[gMASK]:0 <sop>:0 $A:0", "[gMASK]:0 <sop>:0 $A:0 $B:1", [(token, made.token_to_id(token)) for token in PREFIX]
    )
    byte_level = processors.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)
    made.post_processor = processors.Sequence([byte_level, template])
    return made


def encoded(tokenizer, text):
    """`ids` with special tokens in the text understood, `plain` taking them for text, left out where it is the same."""
    tokenizer.encode_special_tokens = False
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.encode(text, add_special_tokens=True).ids
    assert whole == [tokenizer.token_to_id(token) for token in PREFIX] + ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = False
    assert tokenizer.decode(plain, skip_special_tokens=False) == text
    return {"text": text, "ids": ids} | ({} if plain == ids else {"plain": plain})


def decoded(tokenizer, ids):
    text = tokenizer.decode(ids, skip_special_tokens=False)
    clean = tokenizer.decode(ids, skip_special_tokens=True)
    return {"ids": ids, "text": text} | ({} if clean == text else {"clean": clean})


def broken(tokenizer, count=200, seed=3):
    """Ids as a model that has gone astray writes them: characters cut off, bytes that are no UTF-8."""
    rng = random.Random(seed)
    size = tokenizer.get_vocab_size()
    lists = [[rng.randrange(256 if rng.random() < 0.5 else size) for _ in range(rng.randrange(1, 12))] for _ in range(count // 2)]
    texts = awkward()
    while len(lists) < count:
        ids = tokenizer.encode(rng.choice(texts), add_special_tokens=False).ids
        if len(ids) > 1:
            lists.append(ids[rng.randrange(len(ids)) :][: rng.randrange(1, 9)])
    for ids in lists[::4]:
        ids.insert(rng.randrange(len(ids) + 1), size - 1 - rng.randrange(len(SPECIAL)))
    return [decoded(tokenizer, ids) for ids in lists]


def variant(tokenizer, merges, count=150):
    """The same with `ignore_merges`: a piece that is a token is that token, though merges alone don't reach it."""
    changed = json.loads(tokenizer.to_str())
    changed["model"]["merges"] = changed["model"]["merges"][:merges]
    plain = Tokenizer.from_str(json.dumps(changed))
    changed["model"]["ignore_merges"] = True
    other = Tokenizer.from_str(json.dumps(changed))
    texts = [text for text in corpus(9, 300) if other.encode(text).ids != plain.encode(text).ids]
    cases = [{"text": text, "ids": other.encode(text, add_special_tokens=False).ids} for text in texts[:count]]
    return {"merges": merges, "cases": cases}


TOOL = {
    "type": "function",
    "function": {
        "name": "history", "description": "Values of a channel <b>& their 单位</b>.",
        "parameters": {"type": "object", "properties": {"channel": {"type": "string"}, "hours": {"type": "number"}}, "required": ["channel"]},
    },
}
USER = {"role": "user", "content": "What happened while the line was down?"}
TALK = [
    {"role": "system", "content": " You answer in one sentence. \n"},
    USER,
    {"role": "assistant", "content": "<think>two pumps</think>\nThe pump's temperature rose to 85.3 ℃.\n"},
    {"role": "user", "content": "为什么？ <| user |> 🔥"},
]
CALLS = [
    USER,
    {"role": "assistant", "tool_calls": [{"function": {"name": "history", "arguments": {"channel": "泵/1", "hours": 1.5}}}], "content": ""},
    {"role": "observation", "content": "[85.3, 85.1]"},
]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "温度 "}, {"type": "image"}, {"type": "text", "text": "12345"}]}]
WITH_TOOLS = [{"role": "system", "content": "", "tools": [TOOL, {"type": "query"}]}, USER | {"metadata": "q1"}]
CONVERSATIONS = [
    ("glm4_chat", [USER], {}), ("glm4_chat", TALK, {}), ("glm4_chat", TALK[:3], {"add_generation_prompt": False}), ("glm4_chat", WITH_TOOLS, {}),
    ("glm4_0414", [USER], {}), ("glm4_0414", TALK, {}), ("glm4_0414", TALK, {"brief": True}), ("glm4_0414", CALLS, {"tools": [TOOL]}),
    ("glm4_0414", PARTS, {}), ("glm4_0414", TALK[:3], {"add_generation_prompt": False}), ("glm4_0414", [USER | {"role": "robot"}], {}),
    ("glm_edge", [USER], {}), ("glm_edge", TALK, {}), ("glm_edge", TALK[:3], {"add_generation_prompt": False}),
]


def rendered(tokenizer, name, messages, options):
    """A conversation as text and ids; the tokenizer adds its prefix only where the template has not."""
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    template = (HERE / "templates" / f"{name}.jinja").read_text()
    options = {"add_generation_prompt": True} | options
    case = {"template": name, "messages": messages, "options": options}
    try:
        text = fast.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
    except Exception as error:  # raise_exception of the template, a class of jinja2's
        return case | {"error": str(error)}
    prefixed = text.startswith("".join(PREFIX))
    return case | {"text": text, "ids": tokenizer.encode(text, add_special_tokens=not prefixed).ids}


def write(name, value):
    """One case per line, so that a change shows as one."""
    lines = [json.dumps(key) + ": " + ("[\n" + ",\n".join(json.dumps(v, ensure_ascii=True) for v in part) + "\n]" if isinstance(part, list)
             else json.dumps(part, ensure_ascii=True)) for key, part in value.items()]
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    train().save(str(HERE / "tokenizer.json"), pretty=False)
    tokenizer = Tokenizer.from_file(str(HERE / "tokenizer.json"))
    cases = {"encode": [encoded(tokenizer, text) for text in awkward()], "decode": broken(tokenizer), "ignore_merges": variant(tokenizer, 1200)}
    write("cases.json", cases)
    write("chats.json", {"chats": [rendered(tokenizer, *c) for c in CONVERSATIONS]})
    print({key: len(part) for key, part in cases.items()}, len(cases["ignore_merges"]["cases"]), tokenizer.get_vocab_size())
