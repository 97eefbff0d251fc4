"""What every wanted answer has to hold, checked on many scenarios: the student can't be better than its examples."""

import random
import re
import unittest

import causes
import scenarios
import vocabulary as vocab
import wording
from grammar import Grammar

CASES = list(scenarios.samples(77, 1500, held_out=False)) + list(scenarios.samples(78, 300, held_out=True))


def available_slots(prompt):
    """Slots by the table of FORMAT.md, from the prompt alone."""
    found = {t for t in prompt if t in vocab.GROUPS["slot"]} | {"<from>", "<to>"}
    found |= {f"<{role}{t[2]}>" for t in prompt if t.startswith("<c") for role in "sd"}
    found |= {"<o_dur>", "<o_start>", "<o_kept>"} if "mode:offline" in prompt else set()
    found |= {"<o_lost>"} if "flag:lost" in prompt else set()
    found |= {"<more>"} if "flag:more" in prompt else set()
    return found | ({"<normal>"} if "normal:many" in prompt else set())


class WantedAnswers(unittest.TestCase):
    def test_an_answer_uses_only_slots_that_its_prompt_offers(self):
        for facts, lang, prompt, answer in CASES:
            used = {t for t in vocab.decode(answer) if t in vocab.GROUPS["slot"]}
            self.assertLessEqual(used, available_slots(vocab.decode(prompt)))

    def test_every_event_is_named_and_a_value_follows_its_own_channel(self):
        for facts, lang, prompt, answer in CASES:
            channel, named = None, set()
            for token in vocab.decode(answer):
                slot = re.fullmatch(r"<([cbplsdk])(\d)>", token)
                if slot and slot[1] == "c":
                    channel = slot[2]
                    named.add(channel)
                elif slot:
                    self.assertEqual(slot[2], channel)
            self.assertEqual(len(named), len(facts["events"]))

    def test_the_grammar_lets_every_wanted_answer_pass(self):
        for _, _, prompt, answer in CASES:
            state = Grammar(prompt)
            for token in answer:
                self.assertIn(token, state.allowed())
                state.accept(token)

    def test_a_verdict_is_never_below_the_worst_event(self):
        for facts, *_ in CASES:
            floor = max((causes.SEVERITY_RANK[e["severity"]] for e in facts["events"]), default=0)
            self.assertGreaterEqual(causes.VERDICTS.index(causes.verdict(facts)), floor)

    def test_words_belong_to_the_language_that_was_asked_for(self):
        for _, lang, _, answer in CASES:
            other = {"en": "zh", "zh": "en"}[lang]
            foreign = set(vocab.GROUPS[f"word_{other}"]) | set(vocab.GROUPS[f"punct_{other}"])
            self.assertFalse(set(vocab.decode(answer)) & foreign)

    def test_prompt_and_answer_fit_the_context(self):
        rng = random.Random(5)
        for _ in range(3000):  # the longest: six events, all values, everything flagged
            events = []
            for i in range(vocab.EVENTS_MAX):
                quantity, pattern = rng.choice(vocab.QUANTITIES), rng.choice(vocab.PATTERNS)
                event = scenarios.make_event(rng, quantity, pattern, None if rng.random() < 0.5 else f"asset-{i}")
                events.append(event | {"values": list(causes.optional_values(quantity, pattern))})
            facts = {"events": events, "outage": {"lost": True}, "more": True, "normal": 7}
            for lang in vocab.LANGS:
                prompt, answer = scenarios.prompt(facts, lang), scenarios.answer(facts, lang)
                self.assertLessEqual(len(prompt), 67)
                self.assertLessEqual(len(answer), 150)
                self.assertLessEqual(len(prompt) + len(answer), vocab.CONTEXT_TOKENS_MAX)

    def test_a_combination_is_either_trained_on_or_held_out(self):
        for facts, *_ in CASES[:1500]:
            self.assertFalse(scenarios.is_held_out(facts))
        for facts, *_ in CASES[1500:]:
            self.assertTrue(scenarios.is_held_out(facts))

    def test_two_signs_of_a_worn_bearing_on_one_machine_are_critical(self):
        def facts(asset):
            heat = {"asset": "pump", "quantity": "temperature", "pattern": "rise"}
            shake = {"asset": asset, "quantity": "vibration", "pattern": "high"}
            rest = {"severity": "warning", "ongoing": True, "values": []}
            return {"events": [heat | rest, shake | rest], "outage": None, "more": False, "normal": 2}

        self.assertEqual((causes.cause(facts("pump")), causes.verdict(facts("pump"))), ("bearing_wear", "critical"))
        self.assertEqual(causes.verdict(facts("fan")), "warning")

    def test_english_has_blanks_between_words_and_chinese_has_none(self):
        tokens = "<c1> is high ; <c2> is low .".split()
        slots = {"<c1>": "A", "<c2>": "B"}
        self.assertEqual(wording.render(tokens, slots, "en"), "A is high; B is low.")
        self.assertEqual(wording.render("<c1> 偏高 。".split(), slots, "zh"), "A偏高。")


if __name__ == "__main__":
    unittest.main()
