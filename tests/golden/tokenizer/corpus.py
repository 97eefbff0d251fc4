"""Text to train a small tokenizer on: sentences of made-up and real words in several scripts, numbers, code, always the same."""

import random

ENGLISH = """the a of and to in is was at for on with by from it that this be are as an or not has had have will can no more
than after before while when then there their which what who how why yes pump motor fan valve sensor gateway channel
temperature pressure vibration current voltage power flow level speed humidity door link memory disk network line record
alarm digest warning critical info high low rose fell rising falling stuck missing spike normal above below limit since until
during between hours minutes seconds days value values count times first last lost kept sent open closed started stopped
returned stayed reached crossed caused because likely cause blocked worn loose cold hot dry wet leak filter bearing seal please
show tell happened down offline online report summary question answer system user assistant tool function name type string
number object required description parameters""".split()
CHINESE = """的 是 在 了 和 有 不 我 你 他 这 那 一 二 三 个 中 上 下 时 分 秒 年 月 日 温度 压力 振动 电流 电压 功率 流量 液位 速度 湿度 网关 传感器
通道 水泵 电机 风扇 阀门 过滤器 轴承 报警 警告 严重 正常 升高 降低 持续 恢复 断开 连接 离线 在线 超过 低于 上限 下限 期间 之后 之前
发生 什么 为什么 可能 原因 堵塞 磨损 松动 泄漏 记录 丢失 保存 发送 摘要 请 告诉 今天 昨天 小时 分钟 数据 系统 用户 助手 工具 函数 参数""".split()
SYLLABLES = {
    "latin": "ba be bi co da de di en er est fo ga ing ion ka le lo ma mi mo ne no ou per pre ra re ri ro sa se ta te ti tion tor un ve vi".split(),
    "accented": "é è ê ça ñ ö ü ä ß ø å ćë ğı şa ž č ną łó őű".split(),
    "cyrillic": "на не ко то ра по ста про ни ель ость ком тем да ре".split(),
    "greek": "κα το αν μα ρι σης θερ μο πί εση".split(),
    "hangul": "온도 압력 이 가 은 는 습니다 하 고 서 경보 기록 에".split(),
    "kana": "です ます の は を が に と カメラ ポンプ センサー した て".split(),
    "devanagari": "ता प मा न है का की में और दबा व".split(),
    "arabic": "ال من في على حرا رة ضغط و ان ت ي".split(),
    "hebrew": "של את על לא טמפ רטו רה לחץ ים".split(),
}
EMOJI = "😀 🔥 🚨 ✅ 👍🏽 👩‍🔧 🇨🇳 🌡️ ⚠️ 🛠️".split()


def number(rng):
    kind = rng.randrange(5)
    if kind == 0:
        return str(rng.randrange(10 ** rng.randrange(1, 7)))
    if kind == 1:
        return f"{rng.uniform(-50, 500):.{rng.randrange(1, 4)}f}"
    if kind == 2:
        return f"{rng.randrange(2020, 2030)}-{rng.randrange(1, 13):02}-{rng.randrange(1, 29):02}"
    if kind == 3:
        return f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    return f"0x{rng.randrange(1 << 20):x}"


def word(rng):
    script = rng.choice(list(SYLLABLES))
    made = "".join(rng.choices(SYLLABLES[script], k=rng.randrange(1, 4)))
    return made.capitalize() if rng.random() < 0.2 else made


def sentence(rng):
    kind = rng.random()
    if kind < 0.45:
        words = [rng.choice(ENGLISH) if rng.random() < 0.8 else word(rng) for _ in range(rng.randrange(4, 14))]
        if rng.random() < 0.6:
            words.insert(rng.randrange(len(words)), number(rng))
        return " ".join(words).capitalize() + rng.choice([".", "!", "?", ";", ", it's so.", ": we'll see."])
    if kind < 0.75:
        parts = [rng.choice(CHINESE) if rng.random() < 0.9 else number(rng) for _ in range(rng.randrange(4, 16))]
        return "".join(parts) + rng.choice("。！？；，")
    if kind < 0.85:
        return " ".join(word(rng) for _ in range(rng.randrange(2, 9))) + " " + rng.choice(EMOJI)
    if kind < 0.93:
        pairs = [f'"{rng.choice(ENGLISH)}": {number(rng)}' for _ in range(rng.randrange(1, 4))]
        return "{\n    " + ",\n    ".join(pairs) + "\n}"
    indent = " " * rng.choice([0, 2, 4, 8])
    return f"{indent}if {rng.choice(ENGLISH)}_{rng.choice(ENGLISH)} >= {number(rng)}:\n{indent}    return {rng.choice(ENGLISH)}()\n\n"


def corpus(seed=1, sentences=12_000):
    rng = random.Random(seed)
    return [sentence(rng) for _ in range(sentences)]
