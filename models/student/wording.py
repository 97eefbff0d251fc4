"""How a scenario is put into words, in English and Chinese: the phrase tables and the one composer for both.

A phrase is a list of tokens separated by blanks. `<b>` stands for the event's own slot `<b{i}>`; `[ x | y ]` reads x if
all slots in x are available, else y (or nothing). English is rendered with a blank between tokens except before one of
`. , ; : ! )` and after `(`; Chinese without any.
"""

import re

import causes

FULL_CLAUSES = 3  # later events are worded briefly, so that six of them still fit into one short message

# Clauses: <pattern>.<ongoing|ended|brief|brief_ended>; a quantity's own wording has the prefix "door." or "link.".
EN_CLAUSES = {
    "high.ongoing": "<c> has been high since <s> [ , reaching <p> ] [ , above its limit of <l> ]",
    "high.ended": "<c> was high for <d> from <s> [ , reaching <p> ] [ , above its limit of <l> ]",
    "high.brief": "<c> is high [ at <p> ]",
    "high.brief_ended": "<c> was high [ at <p> ]",
    "low.ongoing": "<c> has been low since <s> [ , reaching <p> ] [ , below its limit of <l> ]",
    "low.ended": "<c> was low for <d> from <s> [ , reaching <p> ] [ , below its limit of <l> ]",
    "low.brief": "<c> is low [ at <p> ]",
    "low.brief_ended": "<c> was low [ at <p> ]",
    "rise.ongoing": "<c> has risen [ from <b> ] [ to <p> ] since <s> [ , above its limit of <l> ]",
    "rise.ended": "<c> rose [ from <b> ] [ to <p> ] at <s> [ , above its limit of <l> ] and recovered after <d>",
    "rise.brief": "<c> has risen [ to <p> ]",
    "rise.brief_ended": "<c> rose [ to <p> ] and recovered",
    "fall.ongoing": "<c> has fallen [ from <b> ] [ to <p> ] since <s> [ , below its limit of <l> ]",
    "fall.ended": "<c> fell [ from <b> ] [ to <p> ] at <s> [ , below its limit of <l> ] and recovered after <d>",
    "fall.brief": "<c> has fallen [ to <p> ]",
    "fall.brief_ended": "<c> fell [ to <p> ] and recovered",
    "spike.ongoing": "<c> spiked [ <k> times since | at ] <s> [ , reaching <p> ] [ , beyond its limit of <l> ]",
    "spike.ended": "<c> spiked [ <k> times within <d> from | at ] <s> [ , reaching <p> ] [ , beyond its limit of <l> ]",
    "spike.brief": "<c> spiked [ to <p> ]",
    "spike.brief_ended": "<c> spiked [ to <p> ] and recovered",
    "stuck.ongoing": "<c> has been stuck [ at <p> ] since <s>",
    "stuck.ended": "<c> was stuck [ at <p> ] for <d> from <s>",
    "stuck.brief": "<c> is stuck [ at <p> ]",
    "stuck.brief_ended": "<c> was stuck [ at <p> ]",
    "missing.ongoing": "<c> has sent no data since <s>",
    "missing.ended": "<c> sent no data for <d> from <s>",
    "missing.brief": "<c> sends no data",
    "missing.brief_ended": "<c> sent no data for a while",
    "flapping.ongoing": "<c> has been flapping since <s> [ , with <k> changes ]",
    "flapping.ended": "<c> was flapping for <d> from <s> [ , with <k> changes ]",
    "flapping.brief": "<c> is flapping",
    "flapping.brief_ended": "<c> was flapping",
    "door.high.ongoing": "<c> has been open since <s> [ , beyond its limit of <l> ]",
    "door.high.ended": "<c> was open for <d> from <s> [ , beyond its limit of <l> ]",
    "door.high.brief": "<c> is open",
    "door.high.brief_ended": "<c> was open",
    "link.low.ongoing": "<c> has been down since <s>",
    "link.low.ended": "<c> was down for <d> from <s>",
    "link.low.brief": "<c> is down",
    "link.low.brief_ended": "<c> was down",
}

ZH_CLAUSES = {
    "high.ongoing": "<c> 自 <s> 起 偏高 [ ， 达到 <p> ] [ ， 超过 限值 <l> ]",
    "high.ended": "<c> 自 <s> 起 偏高 ， 历时 <d> [ ， 达到 <p> ] [ ， 超过 限值 <l> ]",
    "high.brief": "<c> 偏高 [ ， 达到 <p> ]",
    "high.brief_ended": "<c> 曾 偏高 [ ， 达到 <p> ]",
    "low.ongoing": "<c> 自 <s> 起 偏低 [ ， 达到 <p> ] [ ， 低于 限值 <l> ]",
    "low.ended": "<c> 自 <s> 起 偏低 ， 历时 <d> [ ， 达到 <p> ] [ ， 低于 限值 <l> ]",
    "low.brief": "<c> 偏低 [ ， 达到 <p> ]",
    "low.brief_ended": "<c> 曾 偏低 [ ， 达到 <p> ]",
    "rise.ongoing": "<c> 自 <s> 起 [ 由 <b> ] [ 升至 <p> | 上升 ] [ ， 超过 限值 <l> ]",
    "rise.ended": "<c> 于 <s> [ 由 <b> ] [ 升至 <p> | 上升 ] [ ， 超过 限值 <l> ] ， <d> 后 恢复",
    "rise.brief": "<c> [ 升至 <p> | 上升 ]",
    "rise.brief_ended": "<c> 曾 [ 升至 <p> | 上升 ] ， 已 恢复",
    "fall.ongoing": "<c> 自 <s> 起 [ 由 <b> ] [ 降至 <p> | 下降 ] [ ， 低于 限值 <l> ]",
    "fall.ended": "<c> 于 <s> [ 由 <b> ] [ 降至 <p> | 下降 ] [ ， 低于 限值 <l> ] ， <d> 后 恢复",
    "fall.brief": "<c> [ 降至 <p> | 下降 ]",
    "fall.brief_ended": "<c> 曾 [ 降至 <p> | 下降 ] ， 已 恢复",
    "spike.ongoing": "<c> [ 自 <s> 起 突跳 <k> 次 | 于 <s> 突跳 ] [ ， 达到 <p> ] [ ， 越过 限值 <l> ]",
    "spike.ended": "<c> [ 自 <s> 起 在 <d> 内 突跳 <k> 次 | 于 <s> 突跳 ] [ ， 达到 <p> ] [ ， 越过 限值 <l> ]",
    "spike.brief": "<c> 突跳 [ 至 <p> ]",
    "spike.brief_ended": "<c> 曾 突跳 [ 至 <p> ]",
    "stuck.ongoing": "<c> 自 <s> 起 [ 停在 <p> | 读数 ] 不变",
    "stuck.ended": "<c> 自 <s> 起 [ 停在 <p> | 读数 ] 不变 ， 历时 <d>",
    "stuck.brief": "<c> [ 停在 <p> | 读数 ] 不变",
    "stuck.brief_ended": "<c> 曾 [ 停在 <p> | 读数 ] 不变",
    "missing.ongoing": "<c> 自 <s> 起 无 数据",
    "missing.ended": "<c> 自 <s> 起 无 数据 ， 历时 <d>",
    "missing.brief": "<c> 无 数据",
    "missing.brief_ended": "<c> 曾 无 数据",
    "flapping.ongoing": "<c> 自 <s> 起 反复 跳变 [ ， 共 <k> 次 ]",
    "flapping.ended": "<c> 自 <s> 起 反复 跳变 ， 历时 <d> [ ， 共 <k> 次 ]",
    "flapping.brief": "<c> 反复 跳变",
    "flapping.brief_ended": "<c> 曾 反复 跳变",
    "door.high.ongoing": "<c> 自 <s> 起 开启 [ ， 超过 限值 <l> ]",
    "door.high.ended": "<c> 自 <s> 起 开启 ， 历时 <d> [ ， 超过 限值 <l> ]",
    "door.high.brief": "<c> 开启",
    "door.high.brief_ended": "<c> 曾 开启",
    "link.low.ongoing": "<c> 自 <s> 起 中断",
    "link.low.ended": "<c> 自 <s> 起 中断 ， 历时 <d>",
    "link.low.brief": "<c> 中断",
    "link.low.brief_ended": "<c> 曾 中断",
}

EN_CAUSES = {
    "bearing_wear": ("bearing wear", "Inspect the bearing and its lubrication"),
    "cooling_failure": ("a cooling failure", "Check the fan , the coolant and the filters"),
    "blockage": ("a blockage", "Check the filters and the valves"),
    "leak": ("a leak", "Check the pipes and the seals for a leak"),
    "dry_running": ("dry running", "Check the pump and its inlet"),
    "overload": ("an overload", "Reduce the load and check the drive"),
    "power_supply": ("a power supply fault", "Check the supply , the fuses and the wiring"),
    "sensor_fault": ("a sensor fault", "Check the sensor and its wiring"),
    "network_link": ("a network fault", "Check the cable , the switch and the router"),
    "door_open": ("a door left open", "Close the door and check its seal"),
    "refrigeration_failure": ("a refrigeration failure", "Check the compressor and protect the goods"),
    "host_overload": ("an overloaded host", "Find the process that loads the host"),
    "disk_full": ("a filling disk", "Free space on the disk"),
    "ambient_heat": ("ambient heat", "Ventilate the room"),
    "icing": ("icing", "Defrost and check the heating"),
    "unknown": (None, "Check <c> on site"),
}

ZH_CAUSES = {
    "bearing_wear": ("轴承 磨损", "检查 轴承 及其 润滑"),
    "cooling_failure": ("冷却 故障", "检查 风扇 、 冷却液 和 滤网"),
    "blockage": ("堵塞", "检查 过滤器 和 阀门"),
    "leak": ("泄漏", "检查 管路 和 密封 是否 泄漏"),
    "dry_running": ("泵 空转", "检查 泵 及其 进口"),
    "overload": ("过载", "降低 负载 并 检查 驱动"),
    "power_supply": ("供电 故障", "检查 电源 、 熔断器 和 接线"),
    "sensor_fault": ("传感器 故障", "检查 传感器 及其 接线"),
    "network_link": ("网络 故障", "检查 网线 、 交换机 和 路由器"),
    "door_open": ("门 未 关好", "关好 门 并 检查 门封"),
    "refrigeration_failure": ("制冷 故障", "检查 压缩机 并 转移 货物"),
    "host_overload": ("主机 过载", "查找 占用 主机 的 进程"),
    "disk_full": ("磁盘 将满", "清理 磁盘 空间"),
    "ambient_heat": ("环境 过热", "加强 室内 通风"),
    "icing": ("结冰", "除霜 并 检查 加热"),
    "unknown": (None, "到 现场 检查 <c>"),
}

EN = {
    "clauses": EN_CLAUSES,
    "causes": EN_CAUSES,
    "outage": "The uplink was down for <o_dur> from <o_start> . Records kept : <o_kept> ,",
    "lost.no": "lost : none .",
    "lost.yes": "lost : <o_lost> , all declared .",
    "quiet.many": "From <from> to <to> , all <normal> channels were normal . No action is needed .",
    "quiet.one": "From <from> to <to> , the only channel was normal . No action is needed .",
    "quiet.none": "From <from> to <to> , no channel reported .",
    "asset": "<a> :",
    "likely": "Likely cause : {} .",
    "possible": "Possible cause : {} .",
    "stop": ".",
    "join": ";",
    "advice.now": "{} now .",
    "advice.soon": "{} soon .",
    "advice.visit": "{} at the next visit .",
    "advice.none": "No action is needed .",
    "more": "Further events : <more> .",
    "normal.many": "The other <normal> channels were normal .",
    "normal.one": "The other channel was normal .",
}

ZH = {
    "clauses": ZH_CLAUSES,
    "causes": ZH_CAUSES,
    "outage": "上行 链路 自 <o_start> 起 中断 ， 历时 <o_dur> 。 保留 记录 <o_kept> 条 ，",
    "lost.no": "无 丢失 。",
    "lost.yes": "丢失 <o_lost> 条 ， 均 已 声明 。",
    "quiet.many": "<from> 至 <to> ， 全部 <normal> 个 通道 正常 。 无需 处理 。",
    "quiet.one": "<from> 至 <to> ， 唯一 的 通道 正常 。 无需 处理 。",
    "quiet.none": "<from> 至 <to> ， 没有 通道 上报 。",
    "asset": "<a> ：",
    "likely": "原因 很 可能 是 {} 。",
    "possible": "原因 可能 是 {} 。",
    "stop": "。",
    "join": "；",
    "advice.now": "请 立即 {} 。",
    "advice.soon": "请 尽快 {} 。",
    "advice.visit": "请 在 下次 巡检 时 {} 。",
    "advice.none": "无需 处理 。",
    "more": "另有 <more> 个 事件 。",
    "normal.many": "其余 <normal> 个 通道 正常 。",
    "normal.one": "其余 一个 通道 正常 。",
}
LANGUAGES = {"en": EN, "zh": ZH}


def all_phrases(lang):
    """Every phrase of one language."""
    table = LANGUAGES[lang]
    phrases = list(table["clauses"].values())
    phrases += [p for pair in table["causes"].values() for p in pair if p]
    return phrases + [p.replace("{}", " ") for p in table.values() if isinstance(p, str)]


def fill(phrase, i, available):
    """Resolves the options of one phrase for event `i` (1-based): returns its tokens."""

    def choose(match):
        yes, _, no = match.group(1).partition("|")
        return yes if all(role in available for role in re.findall(r"<(\w)>", yes)) else no

    resolved = re.sub(r"\[([^\]]*)\]", choose, phrase)
    return re.sub(r"<([cabplsdk])>", rf"<\g<1>{i}>", resolved).split()


def clause(table, event, i, brief, roles=None):
    """One event in words, with its own slots only; `roles`: those that it fills, if the event does not tell."""
    kind = event["pattern"]
    if event["quantity"] == "door" and kind in ("high", "rise"):
        kind = "door.high"
    if event["quantity"] == "link" and kind in ("low", "fall", "missing"):
        kind = "link.low"
    state = "ongoing" if event["ongoing"] else "ended"
    if brief:
        state = "brief" if event["ongoing"] else "brief_ended"
    roles = causes.available_roles(event) if roles is None else roles
    return fill(table["clauses"][f"{kind}.{state}"], i, roles)


def group_sentence(table, facts, members):
    """One sentence for the events of one group: what was seen."""
    events = facts["events"]
    first = causes.number(facts, members[0])
    out = fill(table["asset"], first, "a") if events[members[0]]["asset"] is not None else []
    for n, i in enumerate(members):
        out += [table["join"]] if n else []
        number = causes.number(facts, i)
        out += clause(table, events[i], number, brief=number > FULL_CLAUSES)
    return [*out, table["stop"]]


def cause_sentence(table, facts):
    """What the first group's events point to; nothing if that is unknown."""
    name = table["causes"][causes.cause(facts)][0]
    certainty = "likely" if causes.is_corroborated(facts) else "possible"
    return table[certainty].replace("{}", name).split() if name else []


def text(facts, lang):
    """The whole message, as tokens."""
    table = LANGUAGES[lang]
    normal = causes.normal_class(facts)
    out = []
    if facts["outage"]:
        out += table["outage"].split() + table["lost.yes" if facts["outage"]["lost"] else "lost.no"].split()
    if not facts["events"]:
        return out + table[f"quiet.{normal}"].split()
    out += cause_sentence(table, facts)
    for members in causes.groups(facts["events"]):
        out += group_sentence(table, facts, members)
    urgency = causes.urgency(facts)
    advice = table["causes"][causes.cause(facts)][1]
    out += fill(table[f"advice.{urgency}"].replace("{}", advice), causes.number(facts, 0), "c")
    out += table["more"].split() if facts["more"] else []
    return out + (table[f"normal.{normal}"].split() if normal != "none" else [])


def render(tokens, slots, lang):
    """Tokens -> text, slots filled: the detokenisation rule that the reader of the model follows too."""
    out = ""
    for n, token in enumerate(tokens):
        if lang == "en" and n and token not in list(".,;:!)") and tokens[n - 1] != "(":
            out += " "
        out += slots[token] if token.startswith("<") else token
    return out
