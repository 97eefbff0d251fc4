//! The words of the command line: every command, every option, once.

/// One command.
#[derive(Debug, PartialEq)]
pub struct CommandSpec {
    /// What is typed.
    pub name: &'static str,
    /// What stands after the name in the usage line, options aside.
    pub operands: &'static str,
    /// One line for the list of commands.
    pub summary: &'static str,
    /// What it does and when one wants it, a few lines.
    pub purpose: &'static str,
    /// Options besides those that every command takes.
    pub options: &'static [OptionSpec],
    /// Command lines with what they do.
    pub examples: &'static [(&'static str, &'static str)],
}

/// One option.
#[derive(Debug, PartialEq)]
pub struct OptionSpec {
    /// Long name, without dashes.
    pub long: &'static str,
    /// Short name, if it has one.
    pub short: Option<char>,
    /// What its value is called; empty: it takes none.
    pub value: &'static str,
    /// What it does; ends with its default.
    pub meaning: &'static str,
}

/// Every command, in the order of the help.
pub static COMMANDS: &[CommandSpec] = &[
    DEMO,
    REPLAY,
    SENSORS,
    INIT,
    DETECT,
    CHECK,
    RUN,
    ASK,
    AGGREGATE,
    LEDGER,
    SPOOL,
    BACKENDS,
    MODEL,
    MODEL_IMPORT,
    MODEL_VERIFY,
    MODEL_LIST,
    MODEL_BENCH,
    MODEL_CHAT,
    WORKER,
    SELFTEST,
    HELP,
    VERSION,
];

/// Options of every command.
pub static COMMON: &[OptionSpec] = &[
    option("json", None, "", "Answer in JSON, for machines. Default: text for people."),
    option("color", None, "WHEN", "auto, always or never. Default: auto, which honours NO_COLOR."),
    option("help", Some('h'), "", "Explain the command."),
];

/// The command of that name.
pub fn command(name: &str) -> Option<&'static CommandSpec> {
    COMMANDS.iter().find(|c| c.name == name)
}

/// The commands whose names begin with `group` and a blank, with the rest of their names.
pub fn actions(group: &str) -> impl Iterator<Item = (&'static str, &'static CommandSpec)> {
    COMMANDS.iter().filter_map(move |c| Some((c.name.strip_prefix(group)?.strip_prefix(' ')?, c)))
}

impl CommandSpec {
    /// Whether it is only said which of its actions is meant.
    pub fn is_group(&self) -> bool {
        actions(self.name).next().is_some()
    }

    /// Its own options, then those of every command.
    pub fn all_options(&self) -> impl Iterator<Item = &'static OptionSpec> {
        self.options.iter().chain(COMMON)
    }
}

const fn option(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec { long, short, value, meaning }
}

const AGENT_CONFIG: OptionSpec = option(
    "config",
    Some('c'),
    "FILE",
    "Configuration file. Default: ./outpost.toml, else /etc/outpost/outpost.toml.",
);

const LANG: OptionSpec = option("lang", None, "en|zh", "Language of digests. Default: en.");

const DEMO: CommandSpec = CommandSpec {
    name: "demo",
    operands: "",
    summary: "show the main job on this machine, with nothing to set up",
    purpose: "\
Starts an MQTT broker on loopback, makes throw-away certificates, starts the aggregator and one agent over
mutual TLS, and feeds the agent with this machine's vitals and a recording of a plant with faults. It cuts the
line, mends it, shows the offline digest arrive first and the backlog drain, and compares the ledgers of both
sides. The page of the aggregator stays open until Ctrl-C.",
    options: &[
        option("for", None, "TIME", "End by itself after so long, at least 30 s. Default: until Ctrl-C."),
        option(
            "cut",
            None,
            "TIME",
            "How long the line is cut, at most half of --for. Default: 20 s, or that half where it is less.",
        ),
        LANG,
        option(
            "dir",
            None,
            "DIR",
            "Keep everything in this new folder. Default: a temporary one, removed at the end.",
        ),
    ],
    examples: &[
        ("outpost demo", "watch it, then open the page it names"),
        ("outpost demo --for 60s --json", "for scripts: one JSON report, exit code 0 if all was well"),
    ],
};

const REPLAY: CommandSpec = CommandSpec {
    name: "replay",
    operands: "FILE.csv...",
    summary: "say what it would make of a recording",
    purpose: "\
Runs windows, detectors and the language model over CSV recordings and prints alarms and digests. Needs no
broker and writes nothing. A recording has a header, a time column (RFC 3339, date and time, or Unix time) and
value columns; a unit may stand in brackets: `pump2.bearing_temp [Cel]`.",
    options: &[
        option(
            "config",
            Some('c'),
            "FILE",
            "Take limits, labels and windows from this configuration. Default: none.",
        ),
        option("speed", None, "FACTOR", "1 is the recording's own pace, 0 as fast as possible. Default: 0."),
        option("every", None, "TIME", "A digest per so much recorded time. Default: one at the end."),
        LANG,
    ],
    examples: &[
        ("outpost replay plant.csv", "alarms as they happen, one digest at the end"),
        ("outpost replay --lang zh --every 1h plant.csv", "a Chinese digest per recorded hour"),
        ("outpost replay --json plant.csv | jq .text", "one JSON object per record"),
    ],
};

const SENSORS: CommandSpec = CommandSpec {
    name: "sensors",
    operands: "",
    summary: "list what is on this machine, and what it says",
    purpose: "\
Lists I2C buses with the chips that say what they are, SPI devices, GPIO chips, what kernel drivers publish (hardware
monitors, industrial I/O, 1-Wire thermometers) with its values, and serial ports. Only chips that can be recognised
are asked, by reading an identity register at an address that such a part can have; nothing else is written to any
chip, and an address that a kernel driver holds is left alone. SHT3x, INA219, ADS1115 and parts on SPI have nothing
to recognise them by.",
    options: &[option(
        "watch",
        None,
        "",
        "Read everything found and show it live, until Ctrl-C; with --json one line per reading. Default: list once.",
    )],
    examples: &[
        ("outpost sensors", "what is there"),
        ("outpost sensors --watch", "live values as sparklines, this machine's vitals among them"),
        ("outpost sensors --json | jq .i2c", "for scripts: one object"),
    ],
};

const INIT: CommandSpec = CommandSpec {
    name: "init",
    operands: "",
    summary: "write a commented configuration from what is on this machine",
    purpose: "\
Looks as `outpost sensors` does and writes a configuration that reads everything that it found; what it can only
propose is commented out. The broker and its certificates remain to be filled in.",
    options: &[
        option("to", None, "FILE", "Where to; - prints it. Default: outpost.toml in this folder."),
        option("replace", None, "", "Take the place of a file that is there. Default: refuse."),
    ],
    examples: &[
        ("outpost init", "then `outpost check`, which says what is still to be done"),
        ("outpost init --to -", "only look at it"),
    ],
};

const DETECT: CommandSpec = CommandSpec {
    name: "detect",
    operands: "FILE.csv",
    summary: "judge a recording row by row, with reasons",
    purpose: "\
Runs the detectors that learn over one column of a CSV recording and prints `timestamp,value,score,flag,reason` for
each row: the score from 0 to 1, a flag of 1 where something new was found, and why, in words. A recording with
several columns is judged as one group: the row names the channel that does not fit the others, and its value. A
row that can't be read is left out and told with its line. Needs no configuration and writes nothing.",
    options: &[option(
        "column",
        None,
        "NAME",
        "Judge this column by itself. Default: the only one, or all together.",
    )],
    examples: &[
        ("outpost detect cpu.csv > judged.csv", "every row with its score"),
        ("outpost detect --column pump2.vibration plant.csv | awk -F, '$4'", "the findings on one channel"),
        ("outpost detect --json plant.csv", "one JSON object per finding, for scripts"),
    ],
};

const CHECK: CommandSpec = CommandSpec {
    name: "check",
    operands: "",
    summary: "say what is wrong with a configuration and this machine, and what to do",
    purpose: "\
Reads the configuration and reports every mistake at once; then looks at certificates, key permissions, the
clock, disk space, the data folder, the model, the sources, and whether the broker answers. Changes nothing.
Exit codes: 0 all fine, 10 warnings, 20 errors.",
    options: &[
        AGENT_CONFIG,
        option("seat", None, "SEAT", "agent or aggregator. Default: by the file's name, else agent."),
        option(
            "offline",
            None,
            "",
            "Leave out everything that needs the line. Default: knock at the broker.",
        ),
        option(
            "example",
            None,
            "SEAT",
            "Print a commented configuration with every key instead of checking.",
        ),
        option("reference", None, "SEAT", "Print every key with default, range and meaning as Markdown."),
    ],
    examples: &[
        ("outpost check -c outpost.toml", "before the first start and after every change"),
        ("outpost check --example agent > outpost.toml", "a file to begin with"),
        ("outpost check --offline --json", "in a build pipeline"),
    ],
};

const RUN: CommandSpec = CommandSpec {
    name: "run",
    operands: "",
    summary: "run the gateway seat",
    purpose: "\
Reads the sources, judges, words, keeps and sends, until SIGTERM or Ctrl-C. Starts without a line and with a
damaged spool; nothing that it has promised to keep is lost without being declared. Logs to standard error.
Status page on http://127.0.0.1:9750/ unless configured otherwise.",
    options: &[AGENT_CONFIG],
    examples: &[
        ("outpost run -c outpost.toml", "in the foreground; a service manager keeps it running"),
        ("curl -s http://127.0.0.1:9750/ready", "whether it is well"),
    ],
};

const ASK: CommandSpec = CommandSpec {
    name: "ask",
    operands: "QUESTION",
    summary: "ask the running agent what happened",
    purpose: "\
Asks the agent on this machine, through its status page, and prints the answer with the records that prove it. The
question may name channels or assets, a time (the last 3 hours, yesterday, between 10:00 and 11:30 UTC, while the
line was down) and how grave it must be; in English or Chinese. The answer is made of what the agent remembers and
of what waits in its spool, so it needs no line. No figure in it is anything but a fact; a language model of your
own (digest.model) understands freer questions, the rules of the built-in reader do for plain ones.",
    options: &[AGENT_CONFIG],
    examples: &[
        ("outpost ask \"what happened while the line was down?\"", "the outage, with citations"),
        ("outpost ask \"pump 1 昨天有严重报警吗？\"", "the language of the question is that of the answer"),
        ("outpost ask --json what is going on now", "for scripts: text, citations, facts and what was understood"),
    ],
};

const AGGREGATE: CommandSpec = CommandSpec {
    name: "aggregate",
    operands: "",
    summary: "run the cloud seat",
    purpose: "\
Takes what agents send through any MQTT 5 broker, commits it to SQLite and only then acknowledges it, until
SIGTERM or Ctrl-C. Fleet and device pages on http://127.0.0.1:9751/ unless configured otherwise.",
    options: &[option(
        "config",
        Some('c'),
        "FILE",
        "Configuration file. Default: ./aggregator.toml, else /etc/outpost/aggregator.toml.",
    )],
    examples: &[
        ("outpost aggregate -c aggregator.toml", "in the foreground; a service manager keeps it running"),
        ("outpost check --example aggregator > aggregator.toml", "a file to begin with"),
    ],
};

const LEDGER: CommandSpec = CommandSpec {
    name: "ledger",
    operands: "",
    summary: "say whether every record is accounted for, on either side",
    purpose: "\
Per lane: admitted = acknowledged + pending + evicted. On a gateway the running agent is asked on its page; a
stopped one's spool is read, and its blocks are counted and checked. On an aggregator every device's account,
as its latest heartbeat gives and signs it, is held against what the database holds: what was promised must be
here, declared lost with a reason, or still wait on the device. What is none of these for longer than the grace
period is a gap that nobody declared. An account that goes back shows that an older image of a spool is in use.
Exit codes: 0 all is accounted for, 1 it does not balance or something is missing undeclared.",
    options: &[
        option(
            "config",
            Some('c'),
            "FILE",
            "Configuration file of that seat. Default: as for `run` and `aggregate`.",
        ),
        option("seat", None, "SEAT", "agent or aggregator. Default: agent."),
        option("spool", None, "DIR", "A stopped agent's spool. Default: as configured."),
        option("url", None, "URL", "A running agent's page, by its address. Default: as configured."),
        option("store", None, "FILE", "An aggregator's database. Default: as configured."),
        option("device", None, "NAME", "This device of the fleet alone. Default: every device."),
        option(
            "grace",
            None,
            "TIME",
            "What is owed for longer is missing. Default: undeclared_after as configured, else 5 min.",
        ),
    ],
    examples: &[
        ("outpost ledger -c outpost.toml", "the gateway's side, whether the agent runs or not"),
        ("outpost ledger --seat aggregator", "the cloud's side, for every device"),
        ("outpost ledger --store fleet.sqlite --device gw-17 --json", "for a watchdog: one object, and the exit code"),
    ],
};

const SPOOL: CommandSpec = CommandSpec {
    name: "spool",
    operands: "stat|ls|export|fsck|replay [FILE...]",
    summary: "look into a stopped agent's spool, check it, fill it",
    purpose: "\
stat prints the ledger per lane: admitted = acknowledged + pending + evicted. ls lists the blocks that wait.
export writes their records as JSON lines, or the blocks as they are. fsck reads every block, holds the books
against what is there and tells what it found (exit code 1 if anything); with --repair it mends as a start would:
salvages what reads and declares the rest. replay admits the records of exported blocks and of dead letters (blocks
that the far side refused, in the folder `dead`) anew. A running agent holds the spool: ask it on its page instead,
or stop it first.",
    options: &[
        AGENT_CONFIG,
        option("dir", None, "DIR", "The spool's folder. Default: `spool` in the configured data_dir."),
        option("blocks", None, "", "With export: blocks, for replay. Default: JSON lines."),
        option("repair", None, "", "With fsck: mend what is found. Default: only tell."),
    ],
    examples: &[
        ("outpost spool stat -c outpost.toml", "what waits, and what was given up"),
        (
            "outpost spool export --dir outpost-data/spool > records.jsonl",
            "everything that waits, as JSON lines",
        ),
        ("outpost spool fsck --repair --dir outpost-data/spool", "check and mend"),
        ("outpost spool replay outpost-data/spool/dead/*.block", "send again what was refused"),
    ],
};

const BACKENDS: CommandSpec = CommandSpec {
    name: "backends",
    operands: "",
    summary: "show which accelerators there are, and what runs the models",
    purpose: "\
Looks for the device nodes, libraries and permissions of every accelerator that is known, without loading anybody's
code; then loads the configured small models as the agent would and says of each which backend serves it, how many
operators run on a device, how far it is off its golden vectors, how long a run takes, and why the others do not; the
same of the student where digest.device names an accelerator, of prompts and of single tokens. A model that glm.device
runs whole is loaded and asked for a few words.
With --verify every accelerator that was found is tried, too, with the cold_room model, in a process of its own. States:
absent, probed (its device is there), loaded (its code and the model are), verified (it claims operators, its answers are
right and it is no slower than the CPU), serving (a configured model runs on it), quarantined.",
    options: &[
        AGENT_CONFIG,
        option("root", None, "DIR", "Look for devices and libraries below this folder. Default: /."),
        option("verify", None, "", "Load and try what was found, configured or not. Default: what is configured."),
        option("example", None, "NAME", "Print a configuration for this accelerator, such as vx, and do nothing else."),
    ],
    examples: &[
        ("outpost backends -c outpost.toml", "on a new board, before the first start"),
        ("outpost backends --example vx >> outpost.toml", "how the NPU of an i.MX8M Plus is configured"),
        ("outpost backends --verify", "whether the NPU claims anything, is right, and is faster than the CPU"),
        ("outpost backends --json | jq .models", "for scripts"),
    ],
};

const SELFTEST: CommandSpec = CommandSpec {
    name: "selftest",
    operands: "",
    summary: "check that this program works on this machine",
    purpose: "\
Lets the program prove its parts here, on this processor and this disk: the models inside it and the kernels against
known answers, a panic that unwinds, a spool whose process is killed while it writes, TLS in memory, MQTT over
loopback, dates beyond 2038, and a sensor's driver on a scripted bus. Needs no configuration and no network, and
leaves nothing behind. Exit code 1 if anything failed.",
    options: &[
        option(
            "dir",
            None,
            "DIR",
            "Folder on the disk to be tested; a new folder in it is used and removed. Default: the system's temporary folder.",
        ),
        option(
            "runner",
            None,
            "COMMAND",
            "What starts this program where it can't be started as it is: an emulator with its options. Default: nothing.",
        ),
        option("writer", None, "", "Be the process that is killed: fill the spool in --dir. Default: be the one that kills."),
    ],
    examples: &[
        ("outpost selftest --dir /var/lib/outpost", "on a new gateway, before the first start"),
        ("outpost selftest --json | jq .checks", "for scripts"),
    ],
};

const WORKER: CommandSpec = CommandSpec {
    name: "worker",
    operands: "",
    summary: "run a vendor's code apart from the agent, which starts it",
    purpose: "\
The agent starts one for each accelerator that is configured: the vendor's plug-in is loaded there, so that it may
crash, hang or leak without harm. Its standard input must be the socket of an agent; by hand it only says so.",
    options: &[],
    examples: &[("ps -C outpost -o pid,args", "the agent and its workers")],
};

const MODEL: CommandSpec = CommandSpec {
    name: "model",
    operands: "import|verify|list|bench|chat",
    summary: "bring, check, measure and try a language model of your own",
    purpose: "\
A dense GLM (GLM-Edge, GLM-4-9B, GLM-4-0414) is imported once into a folder of its own, the bundle: quantised
weights that are used where they lie, tokenizer, chat template and hashes. Name the folder as digest.model in
outpost.toml and the agent's digests and answers are worded by it. The student inside the program needs none of
this.",
    options: &[],
    examples: &[
        ("outpost model import ./glm-edge-1.5b-chat", "a Hugging Face folder, a .gguf or an .onnx file"),
        ("outpost model chat glm-edge-1.5b-chat.bundle", "try it in the terminal"),
        ("outpost help model import", "the page of one of them"),
    ],
};

const MODEL_IMPORT: CommandSpec = CommandSpec {
    name: "model import",
    operands: "PATH",
    summary: "make a bundle from a checkpoint",
    purpose: "\
Takes a Hugging Face folder (config.json, *.safetensors, tokenizer.json) of model_type glm or glm4, a GGUF file of
architecture chatglm or glm4, or an ONNX export with its cache as inputs and outputs. Weights flow through in
pieces, so that memory stays below 100 MiB whatever the model's size; blocks of a GGUF file that the engine knows
are kept to the bit, everything else is quantised. An import that was interrupted goes on where it stopped when it
is called again; until it is whole there is no bundle.",
    options: &[
        option("to", None, "DIR", "Folder of the bundle. Default: the source's name with .bundle, in this folder."),
        option(
            "format",
            None,
            "FORMAT",
            "Layers as q4_0, q8_0 or f32. Default: the source's blocks, else q4_0 for a large model, q8_0 for a small one.",
        ),
        option("ends", None, "FORMAT", "Embedding and head likewise. Default: the source's blocks, else q8_0."),
        THREADS,
        option("replace", None, "", "Take the place of a bundle that has the name already. Default: refuse."),
    ],
    examples: &[
        ("outpost model import ./glm-edge-1.5b-chat", "into glm-edge-1.5b-chat.bundle"),
        ("outpost model import glm-4-9b-chat-Q4_K_M.gguf --to /var/lib/outpost/glm-9b", "a GGUF file, to a place of its own"),
    ],
};

const MODEL_VERIFY: CommandSpec = CommandSpec {
    name: "model verify",
    operands: "DIR",
    summary: "check a bundle: every hash, and golden tokens",
    purpose: "\
Reads the whole bundle and compares every hash with its manifest, then lets the model write a few tokens and
compares them with those of the day of its import. A bundle that was copied badly, or a disk that rots, shows here.",
    options: &[THREADS],
    examples: &[("outpost model verify glm-edge-1.5b-chat.bundle", "after copying it to a gateway")],
};

const MODEL_LIST: CommandSpec = CommandSpec {
    name: "model list",
    operands: "[DIR]",
    summary: "list the bundles in a folder",
    purpose: "Names, shapes, sizes and origins of the bundles right below a folder. Default: this folder.",
    options: &[],
    examples: &[("outpost model list /var/lib/outpost", "what is there")],
};

const MODEL_BENCH: CommandSpec = CommandSpec {
    name: "model bench",
    operands: "DIR",
    summary: "measure a model on this machine",
    purpose: "\
Loads the model, reads a prompt and writes an answer of random tokens, and says how fast: time to the first token,
tokens per second read and written, bytes of weights per second, peak memory. `builtin` measures the student inside
the program. Nothing else should run meanwhile.",
    options: &[
        option("prompt", None, "N", "Tokens of the prompt. Default: 512, the student 64."),
        option("generate", None, "N", "Tokens written. Default: 128, the student 64."),
        option("depth", None, "N", "Tokens that are in the context before either. Default: 0."),
        option("repeat", None, "N", "Repetitions; mean and spread are told. Default: 3."),
        THREADS,
        KV,
        option("isa", None, "NAME", "Instruction set of the kernels. Default: the best of this machine."),
    ],
    examples: &[
        ("outpost model bench glm-edge-1.5b-chat.bundle", "is this machine fast enough?"),
        ("outpost model bench builtin --threads 1 --json", "one JSON object, for scripts"),
    ],
};

const MODEL_CHAT: CommandSpec = CommandSpec {
    name: "model chat",
    operands: "DIR",
    summary: "talk with a model in the terminal",
    purpose: "\
Reads a line, streams the answer, and so on; the conversation is kept until /new or the end. Ctrl-C stops an
answer, at the prompt it ends the program. Standard input that is no terminal is one single message.",
    options: &[
        option("system", None, "TEXT", "Instruction before the conversation. Default: none."),
        option("temperature", None, "X", "0 always takes the likeliest token. Default: 0.7."),
        option("top-k", None, "N", "Choose among the N likeliest tokens; 0 among all. Default: 40."),
        option("top-p", None, "X", "Choose among the likeliest that make up this share. Default: 0.9."),
        option(
            "min-p",
            None,
            "X",
            "Leave out what is less likely than this share of the likeliest. Default: 0.",
        ),
        option("repetition-penalty", None, "X", "Above 1 makes what was said less likely. Default: 1."),
        option("seed", None, "N", "The same seed gives the same answers. Default: another one every time."),
        option("max-tokens", None, "N", "Longest answer. Default: 512."),
        option("context", None, "N", "Longest conversation in tokens. Default: 4096."),
        option("grammar", None, "FILE", "Hold every answer to this grammar (EBNF). Default: none."),
        THREADS,
        KV,
    ],
    examples: &[
        ("outpost model chat glm-edge-1.5b-chat.bundle", "a conversation"),
        (
            "echo 'Name three colours.' | outpost model chat glm.bundle --temperature 0 --grammar list.ebnf",
            "one answer, held to a grammar",
        ),
    ],
};

const THREADS: OptionSpec = option("threads", None, "N", "Threads. Default: one per processor.");

const KV: OptionSpec = option("kv", None, "KIND", "Keys and values as f16, int8 or f32. Default: f16.");

const HELP: CommandSpec = CommandSpec {
    name: "help",
    operands: "[COMMAND [ACTION]]",
    summary: "explain a command",
    purpose: "Without a command: what outpost is and where to begin.",
    options: &[],
    examples: &[("outpost help check", "the same as `outpost check --help`")],
};

const VERSION: CommandSpec = CommandSpec {
    name: "version",
    operands: "",
    summary: "say which build this is",
    purpose: "Version, source commit, target and features.",
    options: &[],
    examples: &[("outpost version --json", "for an inventory")],
};
