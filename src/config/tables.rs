//! Every key of both files: the single source of parser, reference and example.
//!
//! Ranges are wide enough for every sensible plant and narrow enough that a slip of the unit is caught.

mod channels;
mod field;
mod hardware;
mod model;
mod source;
mod together;

use super::kind::Kind::{Address, Flag, Integer, Name, Number, OneOf, Path, Size, Text, Time, Topic};
use super::schema::{Key, Schema, Section, Shape};
use crate::limits;

const S: u64 = 1000;
const MIN: u64 = 60 * S;
const H: u64 = 60 * MIN;
const D: u64 = 24 * H;

/// The gateway's file.
pub static AGENT: Schema = Schema {
    seat: "agent",
    file: "outpost.toml",
    meaning: "Configuration of an agent: one gateway that reads sensors, judges, words and keeps.",
    sections: &[
        Section { name: "", shape: Shape::Top, meaning: "Who this gateway is.", keys: TOP },
        Section { name: "mqtt", shape: Shape::Table, meaning: "The line to the broker.", keys: AGENT_MQTT },
        Section {
            name: "spool",
            shape: Shape::Table,
            meaning: "What is kept on disk until it is acknowledged.",
            keys: SPOOL,
        },
        Section {
            name: "uplink",
            shape: Shape::Table,
            meaning: "What a metered line may carry; alarms always go, what waits is kept in the spool.",
            keys: UPLINK,
        },
        Section { name: "raw", shape: Shape::Table, meaning: "The lane of single readings.", keys: RAW },
        Section {
            name: "windows",
            shape: Shape::Table,
            meaning: "Summaries of each channel over windows of event time.",
            keys: WINDOWS,
        },
        Section {
            name: "digest",
            shape: Shape::Table,
            meaning: "What happened, in plain language.",
            keys: DIGEST,
        },
        Section {
            name: "glm",
            shape: Shape::Table,
            meaning: "A language model of your own: what digest.model names when it is the folder of an imported model, and one that a device runs whole.",
            keys: GLM,
        },
        Section {
            name: "http",
            shape: Shape::Table,
            meaning: "Status page, /health, /ready and /metrics.",
            keys: AGENT_HTTP,
        },
        Section { name: "log", shape: Shape::Table, meaning: "Log lines on standard error.", keys: LOG },
        Section {
            name: "source",
            shape: Shape::List,
            meaning: "Where readings come from; without any, the gateway watches itself (kind = \"host\").",
            keys: source::SOURCE,
        },
        Section {
            name: "chip",
            shape: Shape::List,
            meaning: "A chip on a bus: a source of kind \"i2c\" or \"spi\". Its channels are <name>.temperature and the like.",
            keys: hardware::CHIP,
        },
        Section {
            name: "line",
            shape: Shape::List,
            meaning: "A line of a GPIO chip: a source of kind \"gpio\".",
            keys: hardware::LINE,
        },
        Section {
            name: "model",
            shape: Shape::List,
            meaning: "A small model that judges windows of samples beside the detectors; its alarms name it.",
            keys: model::MODEL,
        },
        Section {
            name: "tflite",
            shape: Shape::Table,
            meaning: "TensorFlow Lite, for builds with the feature tflite: the machine's own library, in a process of its own.",
            keys: model::TFLITE,
        },
        Section {
            name: "accelerator",
            shape: Shape::Named,
            meaning: "An accelerator that small models and the student may run on, its vendor's code in a process of its own; `outpost backends` knows the names.",
            keys: model::ACCELERATOR,
        },
        Section {
            name: "group",
            shape: Shape::List,
            meaning: "Channels that move together: each is judged by what the others make one expect, and alarms name the odd one.",
            keys: together::GROUP,
        },
        Section {
            name: "rule",
            shape: Shape::List,
            meaning: "What is harmless on one channel and a fault together with another; limits of single channels are in [channels].",
            keys: together::RULE,
        },
        Section {
            name: "register",
            shape: Shape::List,
            meaning: "A value of a Modbus device: of a source of kind \"modbus\".",
            keys: field::REGISTER,
        },
        Section {
            name: "topic",
            shape: Shape::List,
            meaning: "A kind of message at a broker in the field: of a source of kind \"mqtt\".",
            keys: field::TOPIC,
        },
        Section {
            name: "channels",
            shape: Shape::Named,
            meaning: "What is known of channels, by name or pattern (* any run, ? one character); all entries that match apply in the order of the file, later ones win.",
            keys: channels::CHANNELS,
        },
    ],
};

/// The cloud side's file.
pub static AGGREGATOR: Schema = Schema {
    seat: "aggregator",
    file: "aggregator.toml",
    meaning: "Configuration of an aggregator: it takes what agents send, commits it and acknowledges.",
    sections: &[
        Section { name: "", shape: Shape::Top, meaning: "The fleet as a whole.", keys: FLEET },
        Section {
            name: "mqtt",
            shape: Shape::Table,
            meaning: "The line to the broker.",
            keys: AGGREGATOR_MQTT,
        },
        Section { name: "store", shape: Shape::Table, meaning: "The database.", keys: STORE },
        Section {
            name: "http",
            shape: Shape::Table,
            meaning: "Fleet and device pages, JSON, /health, /ready and /metrics.",
            keys: AGGREGATOR_HTTP,
        },
        Section { name: "log", shape: Shape::Table, meaning: "Log lines on standard error.", keys: LOG },
    ],
};

const TOP: &[Key] = &[
    Key::optional(
        "device",
        Name,
        "\"gw-17\"",
        "Name of this gateway, unique in the fleet and a level of every topic; when absent, the host name.",
    ),
    Key::new("data_dir", Path, "\"outpost-data\"", "Folder of the spool and of what is learnt."),
    Key::new("language", OneOf(&["en", "zh"]), "\"en\"", "Language of digests."),
];

const FLEET: &[Key] = &[
    Key::new(
        "silent_after",
        Time { min_ms: 10 * S, max_ms: 7 * D },
        "\"90 s\"",
        "A device without a heartbeat for so long is shown as silent; three heartbeats are a good measure.",
    ),
    Key::new(
        "undeclared_after",
        Time { min_ms: 10 * S, max_ms: 7 * D },
        "\"5 min\"",
        "Records that a device promised and holds no more are a gap when they have not arrived for so long.",
    ),
    Key::optional(
        "certificates",
        Path,
        "\"devices\"",
        "Folder with certificates of devices (PEM), `<device>.pem` each: heartbeats of these devices must be signed with its key.",
    ),
];

const HOST: Key = Key::new(
    "host",
    Text { min: 1, max: 253 },
    "\"localhost\"",
    "Name or address of the broker; its certificate must carry it.",
);
const PORT: Key = Key::new(
    "port",
    Integer { min: 1, max: 65_535 },
    "8883",
    "Port of the broker: 8883 with TLS, 1883 without.",
);
const PROTOCOL: Key = Key::new(
    "protocol",
    OneOf(&["5", "3.1.1"]),
    "\"5\"",
    "Version of MQTT; 3.1.1 is for brokers that know nothing newer, and tells less when something is refused.",
);
const WEBSOCKET: Key = Key::optional(
    "websocket",
    Text { min: 1, max: 253 },
    "\"/mqtt\"",
    "Path of the broker's WebSocket, for lines that let only the web through; when absent, MQTT runs on TLS itself.",
);
const PREFIX: Key = Key::new(
    "prefix",
    Topic,
    "\"outpost/v1\"",
    "First levels of every topic; the same for agents and aggregator.",
);
const KEEP_ALIVE: Key = Key::new(
    "keep_alive",
    Time { min_ms: 5 * S, max_ms: 20 * MIN },
    "\"30 s\"",
    "A silent line is given up after one and a half times this.",
);
const WINDOW: Key = Key::new(
    "window",
    Integer { min: 1, max: 1000 },
    "64",
    "Most messages on their way at once; the broker may allow fewer.",
);
const BACKOFF_MIN: Key = Key::new(
    "backoff_min",
    Time { min_ms: 100, max_ms: MIN },
    "\"500 ms\"",
    "First wait before connecting again; waits double, with full jitter. Where the broker closed the line, waits are spread over 10 s at least.",
);
const BACKOFF_MAX: Key = Key::new(
    "backoff_max",
    Time { min_ms: S, max_ms: H },
    "\"1 min\"",
    "Longest wait before connecting again; half of it at least after the broker's no.",
);
const TLS: Key = Key::new(
    "tls",
    OneOf(&["on", "off-insecure"]),
    "\"on\"",
    "TLS 1.2 or newer; off-insecure sends everything readable by anyone on the way.",
);
const CA: Key =
    Key::new("ca", Path, "\"tls/ca.crt\"", "Certificate of the authority that signed the broker's (PEM).");
const CERT: Key = Key::new(
    "cert",
    Path,
    "\"tls/device.crt\"",
    "Own certificate (PEM); empty together with `key` for none. When the file changes, it is in use within a minute.",
);
const KEY: Key = Key::new("key", Path, "\"tls/device.key\"", "Private key of `cert` (PEM, mode 0600).");

const AGENT_MQTT: &[Key] = &[
    HOST,
    PORT,
    PROTOCOL,
    WEBSOCKET,
    Key::optional(
        "client_id",
        Name,
        "\"outpost-gw-17\"",
        "MQTT client id; when absent, `outpost-` and the device.",
    ),
    PREFIX,
    TLS,
    CA,
    CERT,
    KEY,
    KEEP_ALIVE,
    WINDOW,
    BACKOFF_MIN,
    BACKOFF_MAX,
    Key::new("heartbeat_every", Time { min_ms: 5 * S, max_ms: H }, "\"30 s\"", "Time between heartbeats."),
    Key::new(
        "ack",
        OneOf(&["aggregator", "broker"]),
        "\"aggregator\"",
        "Who releases what is kept: an aggregator after its commit, or the broker's PUBACK where there is none.",
    ),
    Key::new(
        "payload",
        OneOf(&["blocks", "json"]),
        "\"blocks\"",
        "Compact blocks for an aggregator, or JSON documents for other clouds (needs ack = \"broker\").",
    ),
];

const AGGREGATOR_MQTT: &[Key] = &[
    HOST,
    PORT,
    PROTOCOL,
    WEBSOCKET,
    Key::optional(
        "client_id",
        Name,
        "\"outpost-aggregator-1\"",
        "MQTT client id; when absent, `outpost-aggregator-` and the host name.",
    ),
    PREFIX,
    TLS,
    CA,
    CERT,
    KEY,
    KEEP_ALIVE,
    WINDOW,
    BACKOFF_MIN,
    BACKOFF_MAX,
    Key::new(
        "shared",
        Flag,
        "true",
        "Shared subscription: several aggregators on one database's host may divide the work.",
    ),
    Key::new("group", Name, "\"outpost\"", "Name of the shared subscription."),
];

const LANE_SIZE: super::kind::Kind = Size { min: limits::SPOOL_LANE_BYTES_MIN, max: 64 << 30 };

const SPOOL: &[Key] = &[
    Key::new(
        "bytes_max",
        Size { min: 4 << 20, max: 64 << 30 },
        "\"256 MiB\"",
        "Most bytes kept; beyond, records are given up, lowest lane first and each in a declared gap. The files on disk take as much where blocks are full, and up to four times that where they are small.",
    ),
    Key::optional(
        "raw_bytes_max",
        LANE_SIZE,
        "\"100 MiB\"",
        "Most of it that single readings take; at least their reserve, a tenth of bytes_max. When absent, what the others leave.",
    ),
    Key::optional(
        "metric_bytes_max",
        LANE_SIZE,
        "\"200 MiB\"",
        "Most of it that summaries take; at least their reserve, a fifth.",
    ),
    Key::optional(
        "digest_bytes_max",
        LANE_SIZE,
        "\"100 MiB\"",
        "Most of it that digests take, beyond which the oldest go; at least their reserve, a tenth.",
    ),
    Key::optional(
        "alarm_bytes_max",
        LANE_SIZE,
        "\"200 MiB\"",
        "Most of it that alarms take, beyond which new ones are refused (`alarms_refused` in the heartbeat); at least their reserve, a fifth.",
    ),
    Key::new(
        "raw_when_full",
        OneOf(&["drop_oldest", "thin", "refuse_newest"]),
        "\"drop_oldest\"",
        "What single readings give up: their history, every second block of it, or what comes now.",
    ),
    Key::new(
        "metric_when_full",
        OneOf(&["drop_oldest", "thin", "refuse_newest"]),
        "\"thin\"",
        "What summaries give up: likewise. Digests go after both, the oldest first; new alarms last of all.",
    ),
    Key::new(
        "disk_free_min",
        Size { min: 1 << 20, max: 64 << 30 },
        "\"64 MiB\"",
        "Free space on the file system below which the spool stops growing.",
    ),
    Key::new(
        "commit_interval",
        Time { min_ms: 5, max_ms: 5 * S },
        "\"50 ms\"",
        "Records of so long share one durable commit, or less: about 64 KiB of them begin one, an alarm commits at once.",
    ),
];

const PERCENT: super::kind::Kind = Integer { min: 0, max: 100 };

const UPLINK: &[Key] = &[
    Key::optional(
        "bytes_per_day",
        Size { min: 1 << 20, max: 1 << 40 },
        "\"50 MiB\"",
        "Most bytes per day of UTC, both directions and TLS together; when short, single readings wait, then summaries. When absent, no bound.",
    ),
    Key::new("share_raw", PERCENT, "100", "The most of it that single readings may take, in percent."),
    Key::new("share_metric", PERCENT, "100", "The most of it that summaries may take, in percent."),
    Key::new("share_digest", PERCENT, "100", "The most of it that digests may take, in percent."),
    Key::optional(
        "raw_windows",
        Text { min: 11, max: 256 },
        "\"22:00-06:00, 12:00-13:00\"",
        "Times of the day in UTC when single readings may be sent; when absent, always.",
    ),
    Key::new(
        "backfill_share",
        PERCENT,
        "20",
        "What the backlog keeps of a kind of record while new ones of it flow, in percent of the bytes: 0, new ones always go first; 100, the backlog does.",
    ),
];

const RAW: &[Key] = &[
    Key::new(
        "keep",
        Flag,
        "false",
        "Keep and send every single reading, not only summaries, alarms, digests and the readings around alarms.",
    ),
    Key::new(
        "clip",
        Integer { min: 0, max: limits::CLIP_READINGS_MAX as i64 },
        "30",
        "Without keep: so many readings before and after the begin of an alarm are kept and sent all the same.",
    ),
];

const WINDOWS: &[Key] = &[
    Key::new(
        "kind",
        OneOf(&["fixed", "sliding", "session"]),
        "\"fixed\"",
        "Windows side by side or overlapping, the length before a reading, or as long as readings keep coming.",
    ),
    Key::new(
        "length",
        Time { min_ms: S, max_ms: H },
        "\"15 min\"",
        "Length of a window; the longest session. Detectors look at every reading, whatever the windows are.",
    ),
    Key::optional(
        "hop",
        Time { min_ms: S, max_ms: H },
        "\"10 s\"",
        "From the start of a window to the start of the next, which overlaps it; when absent, its length. Of sliding windows the least time from one to the next.",
    ),
    Key::new("gap", Time { min_ms: S, max_ms: H }, "\"1 min\"", "Silence that ends a session."),
    Key::new(
        "detail",
        Flag,
        "false",
        "Summaries also tell quantiles (5, 50 and 95 %), how often the value changed, and its rate as a counter's. Update aggregators before gateways.",
    ),
    Key::new(
        "lateness",
        Time { min_ms: 0, max_ms: 10 * MIN },
        "\"2 s\"",
        "How much later than the newest a reading may come and still count.",
    ),
];

const DIGEST: &[Key] = &[
    Key::new("enabled", Flag, "true", "Word digests at all."),
    Key::new(
        "every",
        Time { min_ms: S, max_ms: 7 * D },
        "\"1 h\"",
        "A digest at least so often; an alarm is worded at once.",
    ),
    Key::new(
        "model",
        Text { min: 1, max: limits::CONFIG_PATH_BYTES_MAX },
        "\"builtin\"",
        "The language model: \"builtin\" for the student inside the program, or the folder of another student or of an imported model (`outpost model import`).",
    ),
    Key::optional(
        "device",
        Name,
        "\"hailo\"",
        "Accelerator whose plug-in may compute parts of the student, prompts and single tokens each if it does so rightly and no slower; when absent, the CPU does it all.",
    ),
    Key::new(
        "offline_after",
        Time { min_ms: S, max_ms: D },
        "\"1 min\"",
        "After an outage of at least so long, a digest of it is the first thing sent.",
    ),
];

const GLM: &[Key] = &[
    Key::optional(
        "device",
        Name,
        "\"hailo\"",
        "Accelerator whose plug-in runs a language model whole (RKLLM and the like): it words digests and answers first, the models on the CPU where it does not.",
    ),
    Key::optional(
        "device_model",
        Path,
        "\"/var/lib/outpost/chat.hef\"",
        "File of the model for `device`, as the vendor's converter made it.",
    ),
    Key::optional(
        "threads",
        Integer { min: 1, max: 256 },
        "2",
        "Threads of the model; when absent, one per processor, at most 8.",
    ),
    Key::optional(
        "memory_max",
        Size { min: 16 << 20, max: 1 << 40 },
        "\"1536 MiB\"",
        "Most memory that the model may take, weights included, and never more than the machine has free; one that needs more is not loaded.",
    ),
    Key::new(
        "context_tokens",
        Integer { min: 512, max: 131_072 },
        "4096",
        "Longest prompt and answer together; each place in the batch keeps so many.",
    ),
    Key::new(
        "kv_format",
        OneOf(&["f16", "int8", "f32"]),
        "\"f16\"",
        "How keys and values are kept: int8 takes half of f16's memory.",
    ),
    Key::new(
        "batch_max",
        Integer { min: 1, max: 16 },
        "4",
        "Most answers written at a time; others wait, and an alarm takes the place of something less important.",
    ),
    Key::new(
        "answer_tokens_max",
        Integer { min: 16, max: 8192 },
        "512",
        "Longest answer in tokens, whatever a client asks for.",
    ),
    Key::new(
        "digest_budget",
        Time { min_ms: 2 * S, max_ms: 10 * MIN },
        "\"30 s\"",
        "Longest time for the words of a digest or of an answer to a question; after that the template words it. An outage has 2 s.",
    ),
    Key::new(
        "idle_unload",
        Time { min_ms: S, max_ms: 7 * D },
        "\"10 min\"",
        "After so long without work the model gives its memory back; it is loaded again when it is needed.",
    ),
    Key::new(
        "temperature_max",
        Number { min: 30.0, max: 125.0 },
        "85.0",
        "Above so many degrees Celsius in the hottest thermal zone the model waits; alarms do not.",
    ),
    Key::new(
        "load_max",
        Number { min: 0.1, max: 1.0 },
        "1.0",
        "While other programs use more than this share of the processors the model waits; alarms do not. 1.0 never waits.",
    ),
    Key::new(
        "chat",
        Flag,
        "false",
        "Serve the model to programs on this machine at /v1/chat/completions of the status page, as OpenAI's API does.",
    ),
];

const AGENT_HTTP: &[Key] = &[
    Key::new("listen", Address, "\"127.0.0.1:9750\"", "Address of the page; port 0 takes any free one."),
    ALLOW_REMOTE,
];
const AGGREGATOR_HTTP: &[Key] = &[
    Key::new("listen", Address, "\"127.0.0.1:9751\"", "Address of the pages; port 0 takes any free one."),
    ALLOW_REMOTE,
];
const ALLOW_REMOTE: Key = Key::new(
    "allow_remote",
    Flag,
    "false",
    "Allow an address that others can reach; the page has neither password nor TLS of its own.",
);

const LOG: &[Key] = &[
    Key::new("format", OneOf(&["text", "json"]), "\"text\"", "Lines for people or JSON for machines."),
    Key::new(
        "level",
        OneOf(&["error", "warn", "info", "debug"]),
        "\"info\"",
        "The quietest lines still written.",
    ),
];

const STORE: &[Key] = &[
    Key::new("path", Path, "\"aggregator.sqlite\"", "The SQLite file; its folder must exist."),
    Key::new(
        "retention",
        Time { min_ms: H, max_ms: 3650 * D },
        "\"30 d\"",
        "How long single readings are kept.",
    ),
];

#[cfg(test)]
mod tests {
    use toml::de::DeValue;

    use super::*;
    use crate::reading::Quantity;

    fn keys() -> impl Iterator<Item = (&'static Section, &'static Key)> {
        [&AGENT, &AGGREGATOR]
            .into_iter()
            .flat_map(|schema| schema.sections)
            .flat_map(|section| section.keys.iter().map(move |key| (section, key)))
    }

    #[test]
    fn every_default_and_example_is_of_its_kind_and_in_its_range() {
        for (section, key) in keys() {
            for text in [key.default.unwrap_or(key.example), key.example] {
                let value =
                    DeValue::parse(text).unwrap_or_else(|e| panic!("{}.{}: {e}", section.name, key.name));
                assert!(key.kind.read(value.get_ref()).is_some(), "{}.{} = {text}", section.name, key.name);
            }
        }
    }

    #[test]
    fn every_key_is_named_once_and_says_what_it_does() {
        for (section, key) in keys() {
            assert_eq!(section.keys.iter().filter(|k| k.name == key.name).count(), 1, "{}", key.name);
            assert!(key.meaning.ends_with('.'), "{}.{}", section.name, key.name);
        }
    }

    #[test]
    fn the_quantities_are_those_of_the_readings() {
        assert_eq!(channels::QUANTITIES, Quantity::ALL.iter().map(|q| q.name()).collect::<Vec<_>>());
    }
}
