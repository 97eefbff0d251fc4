"""Plant scenarios: facts as the program would hand them over, the prompt for them and the wanted answer.

Two thirds of the groups are drawn from typical courses of a fault, one third at random over all quantities and
patterns, so that the student also meets what nobody thought of. Scenarios of two and more events are split by a hash of
their combination (what was measured and how it behaved, group by group): a combination is either trained on or held
out, never both.
"""

import dataclasses
import hashlib
import random

import causes
import vocabulary as vocab
import wording

HELD_OUT_SHARE = 0.1

# Typical courses: cause -> (quantity, patterns) that tend to come together on one asset.
COURSES = {
    "bearing_wear": [("vibration", "high rise spike"), ("temperature", "rise high"), ("current", "rise high")],
    "cooling_failure": [("temperature", "rise high"), ("flow", "fall low"), ("speed", "fall low")],
    "blockage": [("flow", "fall low"), ("pressure", "rise high"), ("current", "rise")],
    "leak": [("pressure", "fall low"), ("level", "fall low"), ("flow", "rise high")],
    "dry_running": [("flow", "fall low"), ("level", "low"), ("current", "fall low"), ("vibration", "high")],
    "overload": [("current", "high rise"), ("power", "high rise"), ("speed", "fall"), ("temperature", "rise")],
    "power_supply": [("voltage", "fall low flapping"), ("current", "fall spike"), ("speed", "fall stuck")],
    "sensor_fault": [("temperature", "stuck missing"), ("pressure", "stuck flapping"), ("humidity", "stuck missing")],
    "network_link": [("link", "low missing flapping"), ("temperature", "missing"), ("count", "missing")],
    "door_open": [("door", "high"), ("temperature", "rise"), ("humidity", "rise")],
    "refrigeration_failure": [("temperature", "rise high"), ("power", "fall low"), ("humidity", "rise high")],
    "host_overload": [("cpu", "high spike"), ("load", "high rise"), ("memory", "rise high"), ("temperature", "rise")],
    "disk_full": [("disk", "rise high"), ("load", "high"), ("count", "rise spike")],
    "ambient_heat": [("temperature", "rise high"), ("humidity", "rise fall")],
    "icing": [("temperature", "fall low"), ("flow", "fall"), ("power", "rise")],
    "unknown": [("other", "high low spike"), ("count", "spike rise"), ("humidity", "low high")],
}


@dataclasses.dataclass
class Mix:
    """How often what is drawn: weights of 0..6 events and of groups of 1..4, chance of each value to be known."""

    events: list[int]
    group: list[int]
    values: dict[str, float]


PLAUSIBLE = Mix([4, 18, 28, 22, 14, 8, 6], [45, 33, 16, 6], {"base": 0.85, "peak": 0.9, "limit": 0.45, "count": 0.7})
# What is rare in a plant and hard to learn, so that training sees enough of it.
HARD = Mix([0, 2, 5, 4, 3, 3, 3], [25, 40, 25, 10], {"base": 0.5, "peak": 0.5, "limit": 0.5, "count": 0.5})
HARD_SHARE = 0.5
GAPS_SHARE = 0.7  # of the hard ones: numbered with gaps (2, 5), so that high numbers are met in short prompts too
# Several events on one asset first: where the cause has to be weighed.
WEIGHED = Mix([0, 0, 5, 4, 3, 1, 1], [5, 45, 35, 15], PLAUSIBLE.values)
QUIET_SHARE = 0.06  # of what is trained on, on top: most periods are quiet, and their sentences must never fail


def make_event(rng, quantity, pattern, asset, severity=None, mix=PLAUSIBLE):
    """One event with a random subset of the values that its kind may carry."""
    return {
        "asset": asset,
        "quantity": quantity,
        "pattern": pattern,
        "severity": severity or rng.choices(vocab.SEVERITIES, [2, 5, 3])[0],
        "ongoing": rng.random() < 0.6,
        "values": [v for v in causes.optional_values(quantity, pattern) if rng.random() < mix.values[v]],
    }


def make_group(rng, asset, room, mix):
    """The events of one asset, at most `room`."""
    size = min(room, rng.choices([1, 2, 3, 4], mix.group)[0])
    if rng.random() < 0.65:
        course = rng.choice(list(COURSES.values()))
        picked = rng.sample(course, min(size, len(course)))
        kinds = [(q, rng.choice(patterns.split())) for q, patterns in picked]
    else:
        kinds = [(rng.choice(vocab.QUANTITIES), rng.choice(vocab.PATTERNS)) for _ in range(size)]
    shared = rng.choices(vocab.SEVERITIES, [2, 5, 3])[0] if rng.random() < 0.5 else None
    return [make_event(rng, q, p, asset, shared, mix) for q, p in kinds]


def make_facts(rng, mix=PLAUSIBLE):
    """One scenario without names and numbers: those are the program's business."""
    wanted = rng.choices([0, 1, 2, 3, 4, 5, 6], mix.events)[0]
    events, asset = [], 0
    while len(events) < wanted:
        asset += 1
        name = None if rng.random() < 0.25 else f"asset-{asset}"
        room = wanted - len(events)
        events += make_group(rng, name, 1 if name is None else room, mix)
    rng.shuffle(events)  # their starts interleave
    events.sort(key=lambda e: -causes.SEVERITY_RANK[e["severity"]])
    outage = {"lost": rng.random() < 0.35} if rng.random() < 0.35 else None
    more = len(events) == vocab.EVENTS_MAX and rng.random() < 0.5
    return {"events": events, "outage": outage, "more": more, "normal": rng.choices([0, 1, 7], [15, 15, 70])[0]}


def prompt(facts, lang):
    """The one prompt of these facts, as tokens."""
    out = ["<bos>", f"lang:{lang}", "mode:offline" if facts["outage"] else "mode:online"]
    out += ["flag:lost"] if facts["outage"] and facts["outage"]["lost"] else []
    out += ["flag:more"] if facts["more"] else []
    out += [f"normal:{causes.normal_class(facts)}"]
    groups = causes.groups(facts["events"])
    follow = followers(facts, groups)
    for members in groups:
        named = facts["events"][members[0]]["asset"] is not None
        out += [f"<a{causes.number(facts, members[0])}>" if named else "asset:none"]
        for i in members:
            out += event_tokens(facts["events"][i], causes.number(facts, i), follow[i])
    return [*out, "<sep>"]


def followers(facts, groups):
    """What comes after each event: the next of its group, the first of the next group, or nothing."""
    found = {}
    for n, members in enumerate(groups):
        for i, j in zip(members, members[1:]):
            found[i] = f"join{causes.number(facts, i)}:{causes.number(facts, j)}"
        end = causes.number(facts, members[-1])
        last = n + 1 == len(groups)
        found[members[-1]] = f"last{end}" if last else f"then{end}:{causes.number(facts, groups[n + 1][0])}"
    return found


def event_tokens(event, i, follower):
    """One event of the prompt: what it is, then a slot for each value that it has."""
    out = [f"<c{i}>", f"q{i}:{event['quantity']}", f"pat{i}:{event['pattern']}", f"sev{i}:{event['severity']}"]
    out += [f"state{i}:{'ongoing' if event['ongoing'] else 'ended'}", follower]
    roles = causes.optional_values(event["quantity"], event["pattern"])
    return out + [f"<{role}{i}>" for value, role in roles.items() if value in event["values"]]


def answer(facts, lang):
    """The wanted answer, as tokens, with its end."""
    head = [f"verdict:{causes.verdict(facts)}", f"cause:{causes.cause(facts)}"]
    return [*head, *wording.text(facts, lang), "<eos>"]


def is_held_out(facts):
    """True for the combinations that training never sees; none and one event are always trained on."""
    if len(facts["events"]) < 2:
        return False
    events = facts["events"]
    key = [[f"{events[i]['quantity']}/{events[i]['pattern']}" for i in members] for members in causes.groups(events)]
    digest = hashlib.sha256("|".join("+".join(sorted(g)) for g in sorted(key)).encode()).digest()
    return int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32


def drills(seed, count):
    """Yields prompt ids and the first two answer ids of scenarios whose cause rests on two or more events."""
    rng, found = random.Random(seed), 0
    while found < count:
        facts, lang = make_facts(rng, WEIGHED), rng.choice(vocab.LANGS)
        if len(causes.groups(facts["events"])[0]) >= 2 and not is_held_out(facts):
            found += 1
            yield vocab.encode(prompt(facts, lang)), vocab.encode(answer(facts, lang)[:2])


def operation(seed, count):
    """Yields scenarios as `PLAUSIBLE` draws them, none and one event included; those of more are all held out."""
    rng = random.Random(seed)
    for _ in range(count):
        wanted = len(make_facts(rng)["events"])
        facts = make_facts(rng)
        while len(facts["events"]) != wanted or (wanted >= 2 and not is_held_out(facts)):
            facts = make_facts(rng)
        lang = rng.choice(vocab.LANGS)
        yield facts, lang, vocab.encode(prompt(facts, lang)), vocab.encode(answer(facts, lang))


def samples(seed, count, held_out):
    """Yields (facts, lang, prompt ids, answer ids) from one side of the split, `count` distinct ones if held out.

    The held-out side is plausible throughout; the side for training is in part hard.
    """
    rng, seen, made = random.Random(seed), set(), 0
    while made < count:
        hard = not held_out and rng.random() < HARD_SHARE
        facts, lang = make_facts(rng, HARD if hard else PLAUSIBLE), rng.choice(vocab.LANGS)
        if not held_out and rng.random() < QUIET_SHARE:
            facts["events"], facts["more"] = [], False
        elif hard and rng.random() < GAPS_SHARE:
            lowest = rng.choice([1, vocab.EVENTS_MAX + 1 - len(facts["events"])])
            facts["numbers"] = sorted(rng.sample(range(lowest, vocab.EVENTS_MAX + 1), len(facts["events"])))
        if is_held_out(facts) != held_out:
            continue
        ids = tuple(vocab.encode(prompt(facts, lang)))
        if held_out and ids in seen:
            continue
        seen.add(ids)
        made += 1
        yield facts, lang, list(ids), vocab.encode(answer(facts, lang))
