"""The grammar of FORMAT.md as a mask over the next token, for measuring; the program has its own.

It keeps what can be kept without knowing the wanted text: verdict not below the floor, words of the language, slots
that are there, values only of the channel named last, each event told in one of its own clauses (full or brief), channels
in the order of the prompt, no end before all are named.
"""

import torch

import vocabulary as vocab
import wording

RANK = {"info": 0, "warning": 1, "critical": 2}


class Grammar:
    """State of one answer."""

    def __init__(self, prompt_ids):
        prompt = vocab.decode(prompt_ids)
        lang = "en" if "lang:en" in prompt else "zh"
        self.floor = max((RANK[t.split(":")[1]] for t in prompt if t.startswith("sev")), default=0)
        self.channels = [t for t in prompt if t.startswith("<c")]
        self.given = {t for t in prompt if t in SLOTS}
        self.values = [t for t in prompt if t[:2] in ("<p", "<b", "<l", "<k")]
        common = [*vocab.GROUPS[f"word_{lang}"], *vocab.GROUPS[f"punct_{lang}"], "<from>", "<to>"]
        common += [t for t in self.given if t.startswith("<a")]
        common += ["<o_dur>", "<o_start>", "<o_kept>"] if "mode:offline" in prompt else []
        common += ["<o_lost>"] if "flag:lost" in prompt else []
        common += ["<more>"] if "flag:more" in prompt else []
        common += ["<normal>"] if "normal:many" in prompt else []
        self.common = common
        self.length, self.named, self.last = 0, 0, None
        self.marks = [";", "."] if lang == "en" else ["；", "。"]
        self.phrases = {channel: phrases(prompt, channel[2], lang) for channel in self.channels}
        self.clause = None  # (channel, tokens said of it) while a clause is under way

    def allowed(self):
        """Ids of the tokens that may come next."""
        if self.length == 0:
            return vocab.encode(vocab.GROUPS["verdict"][self.floor :])
        if self.length == 1:
            return vocab.encode(vocab.GROUPS["cause"][1:] if self.channels else ["cause:none"])
        if self.clause:
            channel, said = self.clause
            fits = [p for p in self.phrases[channel] if p[: len(said)] == said]
            return vocab.encode({t for p in fits for t in (p[len(said) : len(said) + 1] or self.marks)})
        tokens = list(self.common)
        if self.named < len(self.channels):
            tokens.append(self.channels[self.named])
        else:
            tokens += ["<eos>", *self.channels[:1]]
        if self.last:
            tokens += [f"<s{self.last}>", f"<d{self.last}>"] + [t for t in self.values if t[2] == self.last]
        return vocab.encode(tokens)

    def accept(self, token_id):
        """Takes one token."""
        token = vocab.TOKENS[token_id]
        self.length += 1
        if self.clause:
            channel, said = self.clause
            said.append(token)
            if not any(p[: len(said)] == said for p in self.phrases[channel]):
                self.clause = None
        elif self.named < len(self.channels) and token == self.channels[self.named]:
            self.clause = (token, [token])
        if token.startswith("<c") and token in self.channels:
            if self.named < len(self.channels) and token == self.channels[self.named]:
                self.named += 1
            self.last = token[2]
        elif token in (".", "。"):
            self.last = None

    def mask(self):
        """0 for what may come next, minus infinity for the rest: [vocabulary]."""
        mask = torch.full((len(vocab.TOKENS),), float("-inf"))
        mask[self.allowed()] = 0.0
        return mask


def phrases(prompt, number, lang):
    """The full and the brief clause of one event, read back from its tokens in the prompt."""
    attribute = {t.split(":")[0]: t.split(":")[1] for t in prompt if f"{number}:" in t and not t.startswith("<")}
    event = {
        "quantity": attribute[f"q{number}"],
        "pattern": attribute[f"pat{number}"],
        "ongoing": attribute[f"state{number}"] == "ongoing",
    }
    roles = {"c", "s", "d"} | {t[1] for t in prompt if t in SLOTS and t[2:-1] == number}
    table = wording.LANGUAGES[lang]
    return [wording.clause(table, event, int(number), brief, roles) for brief in (False, True)]


SLOTS = set(vocab.GROUPS["slot"])
