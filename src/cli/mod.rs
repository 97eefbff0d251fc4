//! Arguments, help, exit codes.
//!
//! The words of the command line stand in one table ([`spec`]): parser, help and "did you mean" read it. Parsing comes
//! first ([`args::parse`]: what was typed into what is meant) and touches neither files nor terminal; each command then
//! has a file of its own.
//!
//! Standard output carries what was asked for; everything else goes to standard error.

#[cfg(feature = "aggregator")]
mod aggregate;
pub mod args;
#[cfg(feature = "gateway")]
mod ask;
#[cfg(feature = "gateway")]
mod backends;
pub mod check;
#[cfg(feature = "demo")]
mod demo;
#[cfg(feature = "gateway")]
mod detect;
pub mod exit;
#[cfg(feature = "gateway")]
mod field;
#[cfg(feature = "gateway")]
mod hardware;
mod help;
#[cfg(feature = "gateway")]
mod init;
mod ledger;
mod link;
pub mod machine_args;
#[cfg(feature = "gateway")]
mod model;
pub mod model_args;
#[cfg(feature = "gateway")]
mod replay;
#[cfg(feature = "gateway")]
mod run;
#[cfg(feature = "gateway")]
mod selftest;
#[cfg(feature = "gateway")]
mod sensors;
mod signals;
mod sources;
pub mod spec;
#[cfg(feature = "gateway")]
mod spool;
mod style;
mod version;
#[cfg(feature = "gateway")]
mod worker;

pub use sources::{agent_config, aggregator_config};
pub use style::Style;

use std::io::Write as _;
#[cfg(feature = "gateway")]
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use args::{Command, Invocation};
use exit::Failure;

/// Runs the program and says how it ended; see [`exit`] for the codes.
pub fn main() -> ExitCode {
    let parsed = args::parse(std::env::args_os().skip(1));
    let (json, result) = match parsed {
        Ok(invocation) => (invocation.json, dispatch(&invocation)),
        Err(usage) => (false, Err(Failure::Usage(usage))),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.report(json);
            failure.code()
        }
    }
}

fn dispatch(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let style = Style::resolve(invocation.color);
    match &invocation.command {
        Command::Help(topic) => print(&help::text(*topic, style)),
        Command::Version => print(&version::text(invocation.json)),
        Command::Check(args) => apart(|| check::main(args, invocation.json, style)),
        #[cfg(feature = "aggregator")]
        Command::Aggregate(args) => apart(|| aggregate::main(args)),
        #[cfg(feature = "demo")]
        Command::Demo(args) => apart(|| demo::main(args, invocation.json)),
        #[cfg(feature = "gateway")]
        Command::Backends(args) => apart(|| backends::main(args, invocation.json)),
        #[cfg(feature = "gateway")]
        Command::Detect(args) => apart(|| detect::main(args, invocation.json)),
        #[cfg(feature = "gateway")]
        Command::Ask(args) => apart(|| ask::main(args, invocation.json)),
        Command::Ledger(args) => apart(|| ledger::main(args, invocation.json, style)),
        #[cfg(feature = "gateway")]
        Command::Init(args) => apart(|| init::main(args, invocation.json)),
        #[cfg(feature = "gateway")]
        Command::Selftest(args) => apart(|| selftest::main(args, invocation.json, style)),
        #[cfg(feature = "gateway")]
        Command::Sensors(args) => apart(|| sensors::main(args, invocation.json, style)),
        #[cfg(feature = "gateway")]
        Command::Model(args) => apart(|| model::main(args, invocation.json, style)),
        #[cfg(feature = "gateway")]
        Command::Replay(args) => apart(|| replay::main(args, invocation.json, style)),
        #[cfg(feature = "gateway")]
        Command::Run(args) => apart(|| run::main(args)),
        #[cfg(feature = "gateway")]
        Command::Worker => apart(worker::main),
        #[cfg(feature = "gateway")]
        Command::Spool(args) => apart(|| spool::main(args, invocation.json)),
        #[allow(unreachable_patterns, reason = "with every feature each command has an arm of its own")]
        command => Err(Failure::NotBuilt(command.name())),
    }
}

/// Runs a command in a stack frame of its own. In one with all others it would touch 150 kB whatever it does.
#[inline(never)]
fn apart(command: impl FnOnce() -> Result<ExitCode, Failure>) -> Result<ExitCode, Failure> {
    command()
}

/// A page that listens on every address is reached on loopback.
#[cfg(feature = "gateway")]
fn reachable(listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
        ip if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, listen.port())),
        _ => listen,
    }
}

/// Writes to standard output. A reader that has had enough (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<ExitCode, Failure> {
    match std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::Failed(e.into())),
        _ => Ok(ExitCode::SUCCESS),
    }
}

#[cfg(feature = "gateway")]
fn kv_format(kind: crate::config::KvKind) -> crate::glm::kernels::KvFormat {
    use crate::config::KvKind;
    use crate::glm::kernels::KvFormat;
    match kind {
        KvKind::F16 => KvFormat::F16,
        KvKind::Int8 => KvFormat::Int8,
        KvKind::F32 => KvFormat::F32,
    }
}
