"""A thousand strings that trip tokenizers, always the same: hand-picked ones first, then mixtures of awkward pieces."""

import random
import unicodedata

PICKED = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\t\t ", " \n", "\n ", " \n ", "  \n\n  x", "x  \n", "\u3000", "\u00a0", "\u2028x",
    "\u0085", "\u200b", "\ufeffBOM", "\x00", "\x00\x01\x02\x1b[31m", "\x7f", "\u009f", "a\x00b", "\x1c \x1d", "\u180e",
    "Hello, world!", "hello  world", " hello", "hello ", "HELLO'S", "it's we'll I'M they'RE 'twas", "'s", "' s", "''s", "x'Sy", "don't've", "'ſ", "'ſt",
    "1", "12", "123", "1234", "12345", "123456", "1234567", "1234567890123456789012345678901", "1,234,567.89", "3.14", "-5", "+86 138-0013-8000",
    "x1y22z333w4444", "１２３４５", "٣٤٥٦٧", "²³¹½¾", "Ⅻ", "〇一二三", "१२३४५", "1½", "12³45", "0xDEADbeef", "1e-10", "2026-11-25T23:59:60Z",
    "你好", "你好，世界！", "水泵的温度在12:30升高到85.3℃，超过上限。", "中文English混排123测试", "繁體中文測試", "𠮷野家", "㐂", "〆切", "ㄅㄆㄇ", "「」『』【】", "……——",
    "日本語のテキスト", "カタカナ ｶﾀｶﾅ", "한국어 텍스트", "한글", "Tiếng Việt", "Việt", "Ελληνικά", "Русский текст", "ѐё й й",
    "שלום עולם", "שָׁלוֹם", "مرحبا بالعالم", "مَرْحَبًا", "\u202eright to left\u202c", "\u2067abc\u2069", "हिन्दी पाठ", "क्षत्रिय", "ภาษาไทย", "မြန်မာ", "ქართული", "አማርኛ", "ᏣᎳᎩ",
    "😀", "😀😀😀", "👍🏽", "👩‍🔧", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇨🇳🇩🇪", "🇨", "☺", "☺️", "❤️‍🔥", "1️⃣2️⃣", "‍", "x‍y", "🧑🏿‍🤝‍🧑🏻", "🫠🪿", "a😀b 😀 c",
    "\u00e9 e\u0301", "\u00f1 n\u0303", "\u00c5 A\u030a \u212b", "\u304c \u304b\u3099", "\u0439 \u0438\u0306", "\u1ec7 e\u0323\u0302", "\ud55c \u1112\u1161\u11ab", "ﬁ ﬂ ﬃ", "Ǆ ǅ ǆ", "ß ẞ SS", "İi ıI", "Z̴̧͔̑a̵l̷g̶o̸", "a\u0301\u0302\u0303\u0304\u0305", "\u0301", " \u0301x", "\u0301\u0301", "x\u20dd",
    "<|endoftext|>", "<|user|>", "[gMASK]<sop>", "<|user|>\nhi<|assistant|>\n", "<sop>", "<eop>x<eop>", "<|system|>", "a<|observation|>b", " <|user|> ", "<|user|><|user|>",
    "<|User|>", "<|user|", "|user|>", "<| user |>", "<|us er|>", "<|user|>>", "<<|user|>", "<|user|\u200b>", "[gMASK", "[GMASK]", "[[gMASK]]", "[MASK]", "[sMASK]", "< sop>", "<sop/>", "</sop>",
    "<|endoftext|", "＜|user|＞", "<|unknown|>", "<|end", "of", "text|>", "<|assistant|>\n<|assistant|>", "x[gMASK]y<sop>z", "<pad>", "<unk>", "<s>", "</s>", "[CLS]", "##ing", "Ġhello", "ĠĠ", "Ċ", "▁x", "<0x0A>",
    "\\n \\t \\u0041 \\x00", "%00%ff", "&#0; &amp;", "\\ud83d\\ude00", "\\", "\\\\", '"', "'", "`", "''''", '""""', "\\\"", "$(rm -rf)", "${x}", "{{x}}", "{% x %}", "\ufffd", "\ufffd\ufffd", "\ufffe", "\uffff", "\U0010ffff", "\ue000",
    "----------", "==========", "!!!!!!!!!!!!", "...", "?!?!", "~~~", "#### Title", "* a\n* b\n", "a_b__c", "a-b--c", "C++ C# F#", "http://example.com/?q=1&r=%20#x", "me@example.org", "a/b\\c", "/a/b/", "!\n\n!", " !\n", " ! ", "?\r\n\r\n",
    "if x:\n    return y\n\n\n", "\tif (x) {\n\t\ty();\n\t}\n", "fn main() { println!(\"{}\", 1); }", "SELECT * FROM t;", '{"a": [1, 2.5, null], "b": "\\u00e9"}', "a = b  # c", "x=1;y=2",
    "a" * 300, "ab" * 150, "1" * 100, " " * 100, "\n" * 50, "中" * 80, "😀" * 40, "é" * 60, "e\u0301" * 60, "!" * 130, " a" * 80, "a " * 80, "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    "temperature", " temperature", "Temperature", "TEMPERATURE", "temperaturetemperature", "tem per a ture", "温度温度", " 温度", "温 度",
]
PIECES = [
    lambda r: " " * r.randrange(1, 5), lambda r: r.choice(["\n", "\r\n", "\n\n", "\t", " \n", "\u00a0", "\u3000", "\u2003", "\u2029"]),
    lambda r: str(r.randrange(10 ** r.randrange(1, 12))), lambda r: r.choice(["'s", "'T", "'re", "'VE", "'m", "'LL", "'d", "'x", "’s"]),
    lambda r: "".join(chr(r.randrange(0x4E00, 0x9FA5)) for _ in range(r.randrange(1, 5))), lambda r: chr(r.randrange(0x20000, 0x2A6D0)),
    lambda r: chr(r.randrange(0x1F300, 0x1F6FF)) + r.choice(["", "\ufe0f", "\U0001f3fd", "\u200d" + chr(r.randrange(0x1F466, 0x1F46A))]),
    lambda r: "".join(r.choice("abcdefghijklmnopqrstuvwxyzABCXYZ") for _ in range(r.randrange(1, 9))),
    lambda r: "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(r.randrange(1, 6))),
    lambda r: chr(r.randrange(0x0300, 0x036F)), lambda r: chr(r.choice([*range(0x00, 0x20), *range(0x7F, 0xA0)])),
    lambda r: "".join(chr(r.randrange(0x0410, 0x0450)) for _ in range(r.randrange(1, 6))), lambda r: chr(r.randrange(0x05D0, 0x05EB)) + chr(r.randrange(0x05B0, 0x05BD)),
    lambda r: "".join(chr(r.randrange(0x0620, 0x064A)) for _ in range(r.randrange(1, 5))), lambda r: "".join(chr(r.randrange(0xAC00, 0xD7A3)) for _ in range(r.randrange(1, 4))),
    lambda r: chr(r.randrange(0x1100, 0x1200)), lambda r: chr(r.choice([*range(0x200B, 0x2010), *range(0x202A, 0x202F), 0x2060, 0xFEFF, 0xFFFD])),
    lambda r: r.choice(["<|user|>", "<|assistant|>", "<|endoftext|>", "<sop>", "[gMASK]", "<|use", "r|>", "[gMAS", "<eop", "<|observation|>", "<|x|>"]),
    lambda r: r.choice(["the", " the", " temperature", "pump", "温度", "超过", " limit", "warning", "'s", " 12", "if", "    return"]),
    lambda r: chr(r.choice([*range(0x0660, 0x066A), *range(0xFF10, 0xFF1A), *range(0x0966, 0x0970), *range(0x2160, 0x2170), *range(0x00B2, 0x00B4), 0x1D7D8])),
    lambda r: unicodedata.normalize("NFD", chr(r.randrange(0x00C0, 0x017F))), lambda r: chr(any_scalar(r)),
]


def any_scalar(rng):
    """Any Unicode scalar value that the pinned versions of Python and of the Rust regex engine classify alike."""
    while True:
        c = rng.randrange(0x110000)
        if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn":
            return c


def awkward(count=1000, seed=2):
    rng = random.Random(seed)
    made = list(dict.fromkeys(PICKED))
    while len(made) < count:
        made.append("".join(rng.choice(PIECES)(rng) for _ in range(rng.randrange(2, 9))))
    return made
