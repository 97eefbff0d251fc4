"""The author's rules: which events belong together, what the likely cause is, and how bad it is.

A group is the events of one asset, in order of first appearance; an event without an asset is a group of its own,
because nothing says that two such channels have anything to do with each other. The student learns these rules from
examples; the program that runs it holds the verdict at or above the events' own severity.
"""

SEVERITY_RANK = {"info": 0, "warning": 1, "critical": 2}
VERDICTS = ["normal", "warning", "critical"]

UP = {"high", "rise", "spike"}
DOWN = {"low", "fall"}
DEAD = {"stuck", "missing", "flapping"}

# Causes that damage machines: two serious signs of one of these make it critical.
MECHANICAL = {"bearing_wear", "cooling_failure", "blockage", "leak", "dry_running", "overload", "refrigeration_failure"}
# What a cause can be seen by.
EXPLAINED = {
    "bearing_wear": "vibration temperature current power speed",
    "cooling_failure": "temperature flow speed pressure",
    "blockage": "flow pressure current power level",
    "leak": "pressure level flow",
    "dry_running": "flow level current power vibration pressure temperature",
    "overload": "current power speed temperature vibration",
    "power_supply": "voltage current power speed",
    "network_link": "link network",
    "door_open": "door temperature humidity",
    "refrigeration_failure": "temperature humidity power current",
    "host_overload": "cpu load memory temperature",
    "disk_full": "disk load",
    "ambient_heat": "temperature humidity",
    "icing": "temperature flow power pressure",
}
# Causes that the sensor sees directly, so that one sign is enough to call them likely.
DIRECT = {"door_open", "disk_full", "network_link", "power_supply", "host_overload"}

# Values that an event may carry, by pattern: value -> slot role. Start and duration are always known.
OPTIONAL_VALUES = {
    "high": {"peak": "p", "limit": "l"},
    "low": {"peak": "p", "limit": "l"},
    "rise": {"base": "b", "peak": "p", "limit": "l"},
    "fall": {"base": "b", "peak": "p", "limit": "l"},
    "spike": {"peak": "p", "limit": "l", "count": "k"},
    "stuck": {"peak": "p"},
    "missing": {},
    "flapping": {"count": "k"},
}
# These two have states, not values: base and peak say nothing.
STATE_QUANTITIES = {"door", "link"}


def optional_values(quantity, pattern):
    """Value -> slot role of the values that such an event may carry, in canonical order."""
    table = OPTIONAL_VALUES[pattern]
    if quantity in STATE_QUANTITIES:
        return {k: v for k, v in table.items() if k in ("limit", "count")}
    return table


def available_roles(event):
    """The slot roles that one event fills."""
    table = optional_values(event["quantity"], event["pattern"])
    roles = {"c", "s", "d"} | {table[v] for v in event["values"] if v in table}
    return roles | ({"a"} if event["asset"] is not None else set())


def number(facts, i):
    """The number of event `i` (from 0) in its slots: i + 1, unless training numbers with gaps."""
    return facts["numbers"][i] if "numbers" in facts else i + 1


def groups(events):
    """Indices of the events that belong together, in order of first appearance."""
    found, place = [], {}
    for i, event in enumerate(events):
        asset = event["asset"]
        if asset is not None and asset in place:
            found[place[asset]].append(i)
            continue
        if asset is not None:
            place[asset] = len(found)
        found.append([i])
    return found


def group_cause(events):
    """The likely cause of one group. It has to explain the most severe event, else that event is judged alone."""
    found = _matching_rule(events)
    return found if explains(found, events[0]) else _matching_rule(events[:1])


def explains(cause, event):
    """True if the cause can have led to this event."""
    if event["pattern"] in DEAD and cause in ("sensor_fault", "network_link", "power_supply"):
        return True
    return event["quantity"] in EXPLAINED.get(cause, "").split()


def _matching_rule(events):
    """The first rule that applies to these events."""
    up = {e["quantity"] for e in events if e["pattern"] in UP}
    down = {e["quantity"] for e in events if e["pattern"] in DOWN}
    dead = {e["quantity"] for e in events if e["pattern"] in DEAD}
    missing = sum(e["pattern"] == "missing" for e in events)
    if down & {"voltage"} or dead & {"voltage"} - _stuck(events):
        return "power_supply"
    if "link" in up | down | dead or missing >= 2:
        return "network_link"
    if "vibration" in up:
        return "dry_running" if down & {"flow", "level"} else "bearing_wear"
    if "flow" in down:
        return _low_flow(up, down)
    if "temperature" in up:
        return _hot(events, up, down)
    if "temperature" in down:
        return "icing"
    if down & {"pressure", "level"}:
        return "leak"
    if up & {"current", "power"} or "speed" in down:
        return "overload"
    if "door" in up:
        return "door_open"
    if "disk" in up:
        return "disk_full"
    if up & {"cpu", "load", "memory"}:
        return "host_overload"
    if "network" in up | down | dead:
        return "network_link"
    return "sensor_fault" if dead else "unknown"


def _stuck(events):
    """Quantities of which some channel is stuck: a stuck voltage is a sensor's fault, not the supply's."""
    return {e["quantity"] for e in events if e["pattern"] == "stuck"}


def _low_flow(up, down):
    """Too little flow: is the pump dry, the pipe blocked, or the coolant missing?"""
    if down & {"level", "current", "power"}:
        return "dry_running"
    if "temperature" in up and "pressure" not in up:
        return "cooling_failure"
    return "leak" if "pressure" in down else "blockage"


def _hot(events, up, down):
    """Too warm: a door, a machine that works too hard, refrigeration, cooling, or the weather."""
    if "door" in up:
        return "door_open"
    if "humidity" in up or down & {"current", "power"}:
        return "refrigeration_failure"
    if up & {"current", "power"}:
        return "overload"
    return "ambient_heat" if events[0]["asset"] is None else "cooling_failure"


def cause(facts):
    """The cause of the first group, which holds the most severe event."""
    events = facts["events"]
    return group_cause([events[i] for i in groups(events)[0]]) if events else "none"


def is_corroborated(facts):
    """The first group has a second sign, or the sensor sees the cause itself."""
    return cause(facts) in DIRECT or len(groups(facts["events"])[0]) >= 2


def verdict(facts):
    """At least the highest severity; critical where the first machine shows two serious signs of damage, ongoing."""
    events = facts["events"]
    rank = max((SEVERITY_RANK[e["severity"]] for e in events), default=0)
    first = [events[i] for i in groups(events)[0]] if events else []
    if len(first) >= 2 and first[1]["severity"] != "info" and first[0]["ongoing"] and cause(facts) in MECHANICAL:
        rank = 2
    return VERDICTS[rank]


def urgency(facts):
    """How soon somebody should act: none, now, soon or at the next visit."""
    level, ongoing = verdict(facts), facts["events"][0]["ongoing"]
    if level == "normal":
        return "none"
    if level == "critical":
        return "now" if ongoing else "soon"
    return "soon" if ongoing else "visit"


def normal_class(facts):
    """`none`, `one` or `many` channels without an event."""
    return "none" if facts["normal"] == 0 else "one" if facts["normal"] == 1 else "many"
