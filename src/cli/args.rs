//! What was typed into what is meant; reads neither files nor the environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, Parser};

use super::machine_args::{BackendsArgs, InitArgs, SelftestArgs, SensorsArgs};
use super::model_args::ModelArgs;
use super::spec::{self, CommandSpec, OptionSpec};
use crate::config::{closest, parse_duration};
use crate::digest::Lang;
use crate::limits;
use crate::reading::named_enum;

/// One call of the program, as meant.
#[derive(Debug, PartialEq)]
pub struct Invocation {
    /// What to do.
    pub command: Command,
    /// Answer in JSON.
    pub json: bool,
    /// When to colour.
    pub color: Color,
}

named_enum! {
    /// When to colour.
    Color { Auto = "auto", Always = "always", Never = "never" }
}

named_enum! {
    /// One of the program's two seats.
    Seat { Agent = "agent", Aggregator = "aggregator" }
}

named_enum! {
    /// What to do with a spool.
    SpoolAction { Stat = "stat", Ls = "ls", Export = "export", Fsck = "fsck", Replay = "replay" }
}

named_enum! {
    /// How weights are kept.
    WeightFormat { Q4 = "q4_0", Q8 = "q8_0", F32 = "f32" }
}

/// A command with its arguments.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// The main job on one machine.
    Demo(DemoArgs),
    /// A recording, told.
    Replay(ReplayArgs),
    /// A recording, judged row by row.
    Detect(DetectArgs),
    /// What is wrong, and what to do.
    Check(CheckArgs),
    /// The gateway seat.
    Run(RunArgs),
    /// A question to the running agent.
    Ask(AskArgs),
    /// What is on this machine.
    Sensors(SensorsArgs),
    /// A configuration from what is on this machine.
    Init(InitArgs),
    /// Accelerators, and what runs the small models.
    Backends(BackendsArgs),
    /// A language model of one's own.
    Model(ModelArgs),
    /// The cloud seat.
    Aggregate(AggregateArgs),
    /// Whether every record is accounted for.
    Ledger(LedgerArgs),
    /// A stopped agent's spool.
    Spool(SpoolArgs),
    /// Whether the program works here.
    Selftest(SelftestArgs),
    /// A vendor's code, apart from the agent.
    Worker,
    /// The front page, or the page of one command.
    Help(Option<&'static CommandSpec>),
    /// Which build this is.
    Version,
}

/// Arguments of `outpost demo`.
#[derive(Debug, PartialEq)]
pub struct DemoArgs {
    /// End after so long, at least [`DEMO_MIN`]; none: at Ctrl-C.
    pub length: Option<Duration>,
    /// How long the line is cut.
    pub cut: Duration,
    /// Language of digests.
    pub lang: Lang,
    /// Where everything is kept; none: a temporary folder.
    pub dir: Option<PathBuf>,
}

/// Arguments of `outpost replay`.
#[derive(Debug, PartialEq)]
pub struct ReplayArgs {
    /// At least one.
    pub files: Vec<PathBuf>,
    /// Where limits, labels and windows come from.
    pub config: Option<PathBuf>,
    /// 0 is as fast as possible; finite, not negative.
    pub speed: f64,
    /// Recorded time per digest; none: one at the end.
    pub every: Option<Duration>,
    /// Language of digests; none: the configuration's.
    pub lang: Option<Lang>,
}

/// Arguments of `outpost detect`.
#[derive(Debug, PartialEq)]
pub struct DetectArgs {
    /// The recording.
    pub file: PathBuf,
    /// The channel to judge; none: all of them, together if there are several.
    pub column: Option<String>,
}

/// Arguments of `outpost check`.
#[derive(Debug, PartialEq)]
pub struct CheckArgs {
    /// What to print or look at.
    pub what: CheckWhat,
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
    /// Leave the line alone.
    pub offline: bool,
}

/// What `check` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckWhat {
    /// A configuration and this machine; without a seat, by the file's name.
    Machine(Option<Seat>),
    /// Print the example file.
    Example(Seat),
    /// Print the reference.
    Reference(Seat),
}

/// Arguments of `outpost run`.
#[derive(Debug, PartialEq)]
pub struct RunArgs {
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
}

/// Arguments of `outpost ask`.
#[derive(Debug, PartialEq)]
pub struct AskArgs {
    /// The question, not empty.
    pub question: String,
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
}

/// Arguments of `outpost aggregate`.
#[derive(Debug, PartialEq)]
pub struct AggregateArgs {
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
}

/// Arguments of `outpost spool`.
#[derive(Debug, PartialEq)]
pub struct SpoolArgs {
    /// What to do.
    pub action: SpoolAction,
    /// The spool's folder; none: the configured one.
    pub dir: Option<PathBuf>,
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
    /// Export blocks as they are.
    pub blocks: bool,
    /// Mend what a check finds.
    pub repair: bool,
    /// Files to replay.
    pub files: Vec<PathBuf>,
}

/// Arguments of `outpost ledger`.
#[derive(Debug, PartialEq)]
pub struct LedgerArgs {
    /// Whose.
    pub of: LedgerOf,
    /// The file; none: the usual places.
    pub config: Option<PathBuf>,
    /// This device of the fleet alone.
    pub device: Option<String>,
    /// What is owed for longer is missing; none: as configured.
    pub grace: Option<Duration>,
}

/// Whose ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerOf {
    /// The configured agent's or aggregator's.
    Seat(Seat),
    /// A stopped agent's, by the folder of its spool.
    Spool(PathBuf),
    /// A running agent's, by the address of its page.
    Page(SocketAddr),
    /// An aggregator's, by its database.
    Store(PathBuf),
}

/// A command line that cannot be understood; the message ends with what to type.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

/// Shorter, and the line could not be cut, mended and drained.
pub const DEMO_MIN: Duration = Duration::from_secs(30);

impl Command {
    /// What was typed to get it.
    pub const fn name(&self) -> &'static str {
        match self {
            Command::Demo(_) => "demo",
            Command::Replay(_) => "replay",
            Command::Detect(_) => "detect",
            Command::Check(_) => "check",
            Command::Run(_) => "run",
            Command::Ask(_) => "ask",
            Command::Sensors(_) => "sensors",
            Command::Init(_) => "init",
            Command::Ledger(_) => "ledger",
            Command::Model(_) => "model",
            Command::Aggregate(_) => "aggregate",
            Command::Backends(_) => "backends",
            Command::Spool(_) => "spool",
            Command::Selftest(_) => "selftest",
            Command::Worker => "worker",
            Command::Help(_) => "help",
            Command::Version => "version",
        }
    }
}

/// Understands the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let low = LowArgs::parse(Parser::from_args(args))?;
    let json = low.has("json");
    let color = low.word("color", Color::from_name, "auto, always or never")?.unwrap_or(Color::Auto);
    let command = low.command()?;
    Ok(Invocation { command, json, color })
}

/// What was typed, sorted: the command, its options, the rest.
pub(super) struct LowArgs {
    pub spec: &'static CommandSpec,
    options: Vec<(&'static OptionSpec, OsString)>,
    pub operands: Vec<OsString>,
}

impl LowArgs {
    fn parse(mut parser: Parser) -> Result<Self, UsageError> {
        let mut low = Self { spec: help_spec(), options: Vec::new(), operands: Vec::new() };
        let mut named = false;
        while let Some(arg) = parser.next().map_err(|e| usage(low.spec, &e.to_string()))? {
            let option = match arg {
                Arg::Value(word) if !named => {
                    low.spec = find_command(&word)?;
                    named = true;
                    continue;
                }
                Arg::Value(word) if low.spec.is_group() => {
                    low.spec = find_action(low.spec, &word)?;
                    continue;
                }
                Arg::Value(word) => {
                    low.operands.push(word);
                    continue;
                }
                Arg::Short('V') | Arg::Long("version") if !named => {
                    low.spec = spec::command("version").unwrap_or(low.spec);
                    named = true;
                    continue;
                }
                Arg::Short(c) => find_option(low.spec, named, |o| o.short == Some(c), &format!("-{c}"))?,
                Arg::Long(name) => {
                    let name = name.to_owned();
                    find_option(low.spec, named, |o| o.long == name, &format!("--{name}"))?
                }
            };
            if low.options.iter().any(|(o, _)| std::ptr::eq(*o, option)) {
                return Err(usage(low.spec, &format!("--{} is given twice", option.long)));
            }
            let value = match option.value {
                "" => OsString::new(),
                _ => parser.value().map_err(|e| usage(low.spec, &e.to_string()))?,
            };
            low.options.push((option, value));
        }
        Ok(low)
    }

    fn command(self) -> Result<Command, UsageError> {
        if self.has("help") {
            // `outpost --help` names no command, so its page is the front page.
            return Ok(Command::Help(Some(self.spec).filter(|c| c.name != "help")));
        }
        if !matches!(self.spec.name, "help" | "replay" | "detect" | "spool" | "ask")
            && !self.spec.name.contains(' ')
        {
            self.no_operands()?;
        }
        Ok(match self.spec.name {
            "demo" => Command::Demo(self.demo()?),
            "replay" => Command::Replay(self.replay()?),
            "detect" => Command::Detect(self.detect()?),
            "check" => Command::Check(self.check()?),
            "run" => Command::Run(RunArgs { config: self.path("config") }),
            "ask" => Command::Ask(self.ask()?),
            "sensors" => Command::Sensors(SensorsArgs { watch: self.has("watch") }),
            "init" => Command::Init(InitArgs::from_low(&self)),
            "backends" => Command::Backends(BackendsArgs::from_low(&self)),
            name if name.starts_with("model") => Command::Model(ModelArgs::from_low(&self)?),
            "aggregate" => Command::Aggregate(AggregateArgs { config: self.path("config") }),
            "ledger" => Command::Ledger(self.ledger()?),
            "spool" => Command::Spool(self.spool()?),
            "selftest" => Command::Selftest(SelftestArgs::from_low(&self)?),
            "worker" => Command::Worker,
            "version" => Command::Version,
            _ => Command::Help(self.topic()?),
        })
    }

    fn demo(&self) -> Result<DemoArgs, UsageError> {
        let length = self.time("for")?;
        if length.is_some_and(|d| d < DEMO_MIN) {
            return Err(self.bad("for", "at least 30 s"));
        }
        let longest = length.map_or(Duration::MAX, |d| d / 2);
        let cut = self.time("cut")?.unwrap_or(Duration::from_secs(20).min(longest));
        if cut > longest {
            return Err(self.bad("cut", "at most half of --for"));
        }
        Ok(DemoArgs { length, cut, lang: self.lang()?.unwrap_or(Lang::En), dir: self.path("dir") })
    }

    fn replay(&self) -> Result<ReplayArgs, UsageError> {
        if self.operands.is_empty() {
            return Err(usage(self.spec, "name at least one CSV file"));
        }
        let speed = |s: &str| s.parse::<f64>().ok().filter(|x| x.is_finite() && *x >= 0.0);
        Ok(ReplayArgs {
            files: self.operands.iter().map(PathBuf::from).collect(),
            config: self.path("config"),
            speed: self.word("speed", speed, "a number, 0 or more")?.unwrap_or(0.0),
            every: self.time("every")?,
            lang: self.lang()?,
        })
    }

    fn detect(&self) -> Result<DetectArgs, UsageError> {
        let [file] = &self.operands[..] else { return Err(usage(self.spec, "name one CSV file")) };
        let column = self.word("column", |s| Some(s.to_owned()), "the name of a column")?;
        Ok(DetectArgs { file: file.into(), column })
    }

    fn check(&self) -> Result<CheckArgs, UsageError> {
        let seat = |name| self.word(name, Seat::from_name, "agent or aggregator");
        let what = match (seat("example")?, seat("reference")?) {
            (Some(seat), None) => CheckWhat::Example(seat),
            (None, Some(seat)) => CheckWhat::Reference(seat),
            (None, None) => CheckWhat::Machine(seat("seat")?),
            (Some(_), Some(_)) => return Err(usage(self.spec, "give one of --example and --reference")),
        };
        Ok(CheckArgs { what, config: self.path("config"), offline: self.has("offline") })
    }

    fn ask(&self) -> Result<AskArgs, UsageError> {
        let words: Vec<_> = self.operands.iter().map(|word| word.to_string_lossy()).collect();
        let question = words.join(" ").trim().to_owned();
        match question.len() {
            0 => Err(usage(self.spec, "say what to ask, such as \"what happened today?\"")),
            1..=limits::ASK_QUESTION_BYTES_MAX => Ok(AskArgs { question, config: self.path("config") }),
            _ => Err(usage(self.spec, "the question is too long")),
        }
    }

    /// The command that help is asked for.
    fn topic(&self) -> Result<Option<&'static CommandSpec>, UsageError> {
        let Some(word) = self.operands.first() else { return Ok(None) };
        let command = find_command(word)?;
        match self.operands.get(1).filter(|_| command.is_group()) {
            Some(action) => find_action(command, action).map(Some),
            None => Ok(Some(command)),
        }
    }

    fn spool(&self) -> Result<SpoolArgs, UsageError> {
        let names = || SpoolAction::ALL.iter().map(|a| a.name());
        let Some((action, files)) = self.operands.split_first() else {
            return Err(usage(
                self.spec,
                &format!("say what to do: {}", names().collect::<Vec<_>>().join(", ")),
            ));
        };
        let word = action.to_string_lossy();
        let Some(action) = SpoolAction::from_name(&word) else {
            let meant = closest(&word, names()).map_or("use stat, ls or export".into(), did_you_mean);
            return Err(usage(self.spec, &format!("`{word}` is nothing that spool can do; {meant}")));
        };
        if (action == SpoolAction::Replay) == files.is_empty() {
            return Err(usage(self.spec, "replay takes the files to be read, and nothing else does"));
        }
        for (option, of) in [("blocks", SpoolAction::Export), ("repair", SpoolAction::Fsck)] {
            if self.has(option) && action != of {
                return Err(usage(self.spec, &format!("--{option} belongs to spool {}", of.name())));
            }
        }
        Ok(SpoolArgs {
            action,
            dir: self.path("dir"),
            config: self.path("config"),
            blocks: self.has("blocks"),
            repair: self.has("repair"),
            files: files.iter().map(PathBuf::from).collect(),
        })
    }

    fn ledger(&self) -> Result<LedgerArgs, UsageError> {
        let seat = self.word("seat", Seat::from_name, "agent or aggregator")?.map(LedgerOf::Seat);
        let page = self.word("url", page_address, "the address of a page, such as http://127.0.0.1:9750")?;
        let named = [
            seat,
            self.path("spool").map(LedgerOf::Spool),
            page.map(LedgerOf::Page),
            self.path("store").map(LedgerOf::Store),
        ];
        let mut named = named.into_iter().flatten();
        let of = named.next().unwrap_or(LedgerOf::Seat(Seat::Agent));
        if named.next().is_some() {
            return Err(usage(self.spec, "give one of --seat, --spool, --url and --store"));
        }
        let device = self.word("device", |name| Some(name.to_owned()), "the name of a device")?;
        Ok(LedgerArgs { of, config: self.path("config"), device, grace: self.time("grace")? })
    }

    fn lang(&self) -> Result<Option<Lang>, UsageError> {
        self.word("lang", Lang::from_name, "en or zh")
    }

    fn time(&self, option: &str) -> Result<Option<Duration>, UsageError> {
        self.word(option, parse_duration, "a time such as 60s or 5min")
    }

    pub fn has(&self, option: &str) -> bool {
        self.value(option).is_some()
    }

    pub fn path(&self, option: &str) -> Option<PathBuf> {
        self.value(option).map(PathBuf::from)
    }

    pub fn word<T>(
        &self,
        option: &str,
        read: impl Fn(&str) -> Option<T>,
        allowed: &str,
    ) -> Result<Option<T>, UsageError> {
        let Some(value) = self.value(option) else { return Ok(None) };
        value.to_str().and_then(read).map(Some).ok_or_else(|| self.bad(option, allowed))
    }

    fn value(&self, option: &str) -> Option<&OsString> {
        self.options.iter().find(|(o, _)| o.long == option).map(|(_, value)| value)
    }

    pub fn bad(&self, option: &str, allowed: &str) -> UsageError {
        let value = self.value(option).map(|v| v.to_string_lossy()).unwrap_or_default();
        usage(self.spec, &format!("--{option} {value} cannot be used; allowed: {allowed}"))
    }

    fn no_operands(&self) -> Result<(), UsageError> {
        match self.operands.first() {
            None => Ok(()),
            Some(word) => {
                let word = word.to_string_lossy();
                Err(usage(self.spec, &format!("`{}` takes no `{word}`", self.spec.name)))
            }
        }
    }
}

/// `http://127.0.0.1:9750/`, or the address alone.
fn page_address(url: &str) -> Option<SocketAddr> {
    url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').parse().ok()
}

fn help_spec() -> &'static CommandSpec {
    let Some(help) = spec::command("help") else { unreachable!("the table has help") };
    help
}

fn find_command(word: &OsString) -> Result<&'static CommandSpec, UsageError> {
    let word = word.to_string_lossy();
    let whole = || spec::COMMANDS.iter().filter(|c| !c.name.contains(' '));
    whole().find(|c| c.name == word).ok_or_else(|| {
        let meant = closest(&word, whole().map(|c| c.name));
        let next = meant.map_or("`outpost help` lists the commands".into(), did_you_mean);
        UsageError(format!("there is no command `{word}`; {next}"))
    })
}

fn find_action(group: &'static CommandSpec, word: &OsString) -> Result<&'static CommandSpec, UsageError> {
    let word = word.to_string_lossy();
    let actions = || spec::actions(group.name);
    actions().find(|(name, _)| *name == word).map(|(_, action)| action).ok_or_else(|| {
        let meant = closest(&word, actions().map(|(name, _)| name));
        let next = meant.map_or_else(|| format!("use one of {}", group.operands), did_you_mean);
        usage(group, &format!("`{word}` is nothing that {} can do; {next}", group.name))
    })
}

fn find_option(
    command: &'static CommandSpec,
    named: bool,
    is_it: impl Fn(&OptionSpec) -> bool,
    typed: &str,
) -> Result<&'static OptionSpec, UsageError> {
    command.all_options().find(|o| is_it(o)).ok_or_else(|| {
        let meant = closest(typed.trim_start_matches('-'), command.all_options().map(|o| o.long));
        let elsewhere = spec::COMMANDS.iter().find(|c| c.options.iter().any(&is_it));
        match (meant, elsewhere) {
            (Some(word), _) => {
                usage(command, &format!("unknown option {typed}; {}", did_you_mean(&format!("--{word}"))))
            }
            (None, Some(other)) if !named => {
                let next = format!("write the command first: `outpost {} {typed}`", other.name);
                usage(command, &format!("{typed} is no option of outpost itself; {next}"))
            }
            _ => usage(command, &format!("unknown option {typed}")),
        }
    })
}

fn did_you_mean(word: &str) -> String {
    format!("did you mean `{word}`?")
}

pub(super) fn usage(command: &CommandSpec, problem: &str) -> UsageError {
    let page =
        if command.name == "help" { "outpost help".into() } else { format!("outpost help {}", command.name) };
    UsageError(format!("{problem}\n`{page}` explains it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Result<Invocation, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn meant(line: &str) -> Command {
        said(line).unwrap_or_else(|e| panic!("{line}: {e}")).command
    }

    fn refused(line: &str) -> String {
        said(line).map(|i| i.command).expect_err(line).to_string()
    }

    #[test]
    fn every_command_of_the_table_is_understood_and_has_a_page() {
        for command in spec::COMMANDS.iter().filter(|c| c.name != "help") {
            let line = format!("{} --help", command.name);
            let Command::Help(Some(page)) = meant(&line) else { panic!("{line}") };
            assert_eq!(page.name, command.name);
        }
        assert_eq!(meant("--help"), Command::Help(None));
        assert_eq!(meant(""), Command::Help(None));
        assert_eq!(meant("--version"), Command::Version);
    }

    #[test]
    fn every_option_of_the_table_is_taken() {
        for command in spec::COMMANDS {
            for option in command.all_options() {
                let sample = match option.value {
                    "" => "",
                    "TIME" => "40s",
                    "WHEN" => "never",
                    "SEAT" => "agent",
                    "en|zh" => "zh",
                    "FACTOR" => "2",
                    "N" => "16",
                    "X" => "0.5",
                    "FORMAT" => "q8_0",
                    "KIND" => "int8",
                    "URL" => "http://127.0.0.1:1/",
                    _ => "x",
                };
                let operand = match command.name {
                    "replay" | "detect" => "a.csv",
                    "spool" => match option.long {
                        "blocks" => "export",
                        "repair" => "fsck",
                        _ => "stat",
                    },
                    "ask" => "why?",
                    "model" => "list",
                    name if name.contains(' ') => "dir",
                    _ => "",
                };
                let line = format!("{} {operand} --{} {sample}", command.name, option.long);
                // --cut alone is bounded by --for only if that is given.
                assert!(said(&line).is_ok(), "{line}: {:?}", said(&line));
            }
        }
    }

    #[test]
    fn options_reach_their_fields() {
        let demo = DemoArgs {
            length: Some(Duration::from_secs(60)),
            cut: Duration::from_secs(20),
            lang: Lang::Zh,
            dir: Some("d".into()),
        };
        assert_eq!(meant("demo --for 60s --lang=zh --dir d"), Command::Demo(demo));
        let Command::Demo(shortest) = meant("demo --for 30s") else { panic!() };
        assert_eq!(shortest.cut, Duration::from_secs(15));
        assert_eq!(meant("run -cx.toml"), Command::Run(RunArgs { config: Some("x.toml".into()) }));
        let Command::Replay(replay) = meant("replay a.csv b.csv --speed 60") else { panic!() };
        assert_eq!((replay.files.len(), replay.speed), (2, 60.0));
        let Command::Check(check) = meant("check --seat aggregator --offline") else { panic!() };
        assert_eq!((check.what, check.offline), (CheckWhat::Machine(Some(Seat::Aggregator)), true));
        assert!(said("version --json").is_ok_and(|i| i.json));
        let ledger = LedgerArgs {
            of: LedgerOf::Page(([127, 0, 0, 1], 9750).into()),
            config: None,
            device: Some("gw-1".into()),
            grace: Some(Duration::from_secs(60)),
        };
        assert_eq!(
            meant("ledger --url http://127.0.0.1:9750/ --device gw-1 --grace 60s"),
            Command::Ledger(ledger)
        );
        let ask = AskArgs { question: "what happened today".into(), config: None };
        assert_eq!(meant("ask what happened today"), Command::Ask(ask));
        assert!(
            matches!(meant("help model import"), Command::Help(Some(page)) if page.name == "model import")
        );
        assert!(matches!(meant("model --help"), Command::Help(Some(page)) if page.name == "model"));
    }

    #[test]
    fn a_typing_mistake_is_answered_with_the_closest_word() {
        assert!(refused("chekc").starts_with("there is no command `chekc`; did you mean `check`?"));
        assert!(refused("check --confg x").contains("did you mean `--config`?"));
        assert!(refused("spool stats").contains("did you mean `stat`?"));
        assert!(refused("model imprt x").contains("did you mean `import`?"));
        assert!(refused("model --replace x").contains("unknown option --replace"));
        assert!(refused("--offline").contains("`outpost check --offline`"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_is_allowed() {
        for (line, part) in [
            ("demo --for 5s", "at least 30 s"),
            ("demo --for 40s --cut 30s", "at most half"),
            ("demo --for soon", "a time such as"),
            ("replay", "at least one CSV file"),
            ("replay a.csv --speed -1", "0 or more"),
            ("replay a.csv --speed nan", "0 or more"),
            ("detect", "name one CSV file"),
            ("detect a.csv b.csv", "name one CSV file"),
            ("run x", "takes no `x`"),
            ("run --config", "missing argument"),
            ("run -c a -c b", "given twice"),
            ("check --example cloud", "agent or aggregator"),
            ("spool", "stat, ls, export, fsck, replay"),
            ("spool replay", "takes the files"),
            ("spool stat --repair", "belongs to spool fsck"),
            ("help me", "no command `me`"),
            ("ledger --url there", "the address of a page"),
            ("ledger --spool x --store y", "one of"),
            ("ask", "say what to ask"),
            ("model", "say what to do"),
            ("model import", "say which"),
            ("model verify a b", "one folder"),
            ("model import x --format q5", "q4_0, q8_0 or f32"),
            ("model chat x --temperature -1", "from 0 to 5"),
            ("model chat x --top-p 1.5", "from 0 to 1"),
            ("model bench x --repeat 0", "a whole number from 1"),
        ] {
            assert!(refused(line).contains(part), "{line}: {}", refused(line));
        }
    }
}
