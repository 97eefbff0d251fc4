"""Plant scenarios: facts as the program would hand them over, the prompt for them and the wanted answer.

Two thirds of the groups are drawn from typical courses of a fault, one third at random over all quantities and patterns, so that
the student also meets what nobody thought of. Scenarios of two and more events are split by a hash of their combination
(what was measured and how it behaved, group by group): a combination is either trained on or held out, never both.
"""

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


def make_event(rng, quantity, pattern, asset, severity=None):
    """One event with a random subset of the values that its kind may carry."""
    chance = {"base": 0.85, "peak": 0.9, "limit": 0.45, "count": 0.7}
    return {
        "asset": asset,
        "quantity": quantity,
        "pattern": pattern,
        "severity": severity or rng.choices(vocab.SEVERITIES, [2, 5, 3])[0],
        "ongoing": rng.random() < 0.6,
        "values": [v for v in causes.optional_values(quantity, pattern) if rng.random() < chance[v]],
    }


def make_group(rng, asset, room):
    """The events of one asset, at most `room`."""
    size = min(room, rng.choices([1, 2, 3, 4], [45, 33, 16, 6])[0])
    if rng.random() < 0.65:
        course = rng.choice(list(COURSES.values()))
        picked = rng.sample(course, min(size, len(course)))
        kinds = [(q, rng.choice(patterns.split())) for q, patterns in picked]
    else:
        kinds = [(rng.choice(vocab.QUANTITIES), rng.choice(vocab.PATTERNS)) for _ in range(size)]
    shared = rng.choices(vocab.SEVERITIES, [2, 5, 3])[0] if rng.random() < 0.5 else None
    return [make_event(rng, q, p, asset, shared) for q, p in kinds]


def make_facts(rng):
    """One scenario without names and numbers: those are the program's business."""
    wanted = rng.choices([0, 1, 2, 3, 4, 5, 6], [4, 18, 28, 22, 14, 8, 6])[0]
    events, asset = [], 0
    while len(events) < wanted:
        asset += 1
        name = None if rng.random() < 0.25 else f"asset-{asset}"
        room = wanted - len(events)
        events += make_group(rng, name, 1 if name is None else room)
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
    for members in causes.groups(facts["events"]):
        named = facts["events"][members[0]]["asset"] is not None
        out += [f"<a{members[0] + 1}>" if named else "asset:none"]
        for i in members:
            out += event_tokens(facts["events"][i], i + 1)
    return [*out, "<sep>"]


def event_tokens(event, i):
    """One event of the prompt: what it is, then a slot for each value that it has."""
    out = [f"<c{i}>", f"q:{event['quantity']}", f"pat:{event['pattern']}", f"sev:{event['severity']}"]
    out += ["state:ongoing" if event["ongoing"] else "state:ended"]
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


def samples(seed, count, held_out):
    """Yields `count` distinct (facts, lang, prompt ids, answer ids) from one side of the split."""
    rng, seen = random.Random(seed), set()
    while len(seen) < count:
        facts, lang = make_facts(rng), rng.choice(vocab.LANGS)
        if is_held_out(facts) != held_out:
            continue
        ids = tuple(vocab.encode(prompt(facts, lang)))
        if ids in seen:
            continue
        seen.add(ids)
        yield facts, lang, list(ids), vocab.encode(answer(facts, lang))
