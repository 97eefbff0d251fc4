//! Sources from the field: logs, field buses, brokers and other programs.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use smol::channel::Sender;

use super::can::{self, CanOptions};
use super::exec::{self, ExecOptions};
use super::logs::{self, LogInput, LogsOptions};
use super::modbus::{Modbus, ModbusOptions};
use super::outlet::Batch;
use super::push::{Push, PushOptions};
use super::subscribe::{self, SubscribeOptions};
use super::{SourceError, SourceHandle, Stop, polled, start};
use crate::limits;

/// What to read from the field.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldOptions {
    /// Log lines, counted by what they say.
    Logs(LogsOptions),
    /// A Modbus device.
    Modbus(ModbusOptions),
    /// A broker's topics.
    Subscribe(SubscribeOptions),
    /// A CAN bus.
    Can(CanOptions),
    /// Lines that programs post.
    Push(PushOptions),
    /// A program that is run again and again.
    Exec(ExecOptions),
}

/// Opens the source and starts its thread.
pub(super) fn spawn(
    name: &str,
    options: FieldOptions,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    match options {
        FieldOptions::Logs(options) => log(name, options, out, stop),
        FieldOptions::Modbus(options) => {
            let (interval, from) = (options.interval, options.link.place());
            let sensor = Modbus::new(options);
            start(name, "modbus", from, None, out, stop, async move |o| polled(sensor, interval, o).await)
        }
        FieldOptions::Subscribe(options) => {
            let from = format!("{}:{}", options.host, options.port);
            start(name, "mqtt", from, None, out, stop, async move |o| subscribe::run(options, o).await)
        }
        FieldOptions::Can(options) => {
            let (dbc, from) = (can::load(name, &options.dbc)?, options.interface.clone());
            start(name, "can", from, None, out, stop, async move |o| {
                can::run(options, dbc, o, can::open).await
            })
        }
        FieldOptions::Push(options) => {
            let push = Push::bind(options)?;
            let address = push.address();
            let from = address.to_string();
            start(name, "push", from, Some(address), out, stop, async move |o| push.run(o).await)
        }
        FieldOptions::Exec(options) => {
            let from = options.command.join(" ");
            start(name, "exec", from, None, out, stop, async move |o| exec::run(options, o).await)
        }
    }
}

/// Starts a CAN source that reads its frames from `frames` instead of an interface, a `struct can_frame` each: what stands in
/// for a bus where the kernel has none.
pub fn spawn_frames(
    name: &str,
    options: CanOptions,
    frames: File,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    let (dbc, from) = (can::load(name, &options.dbc)?, options.interface.clone());
    start(name, "can", from, None, out, stop, async move |o| {
        can::run(options, dbc, o, |_| frames.try_clone()).await
    })
}

fn log(
    name: &str,
    options: LogsOptions,
    out: Sender<Batch>,
    stop: Stop,
) -> Result<SourceHandle, SourceError> {
    let from = options.input.place();
    match options.input.clone() {
        LogInput::Files(patterns) => start(name, "logs", from, None, out, stop, async move |outlet| {
            logs::follow(options, patterns, outlet).await
        }),
        LogInput::Syslog { udp, tcp, allow_remote } => {
            let listener = logs::Listener::bind(udp, tcp, allow_remote, options)?;
            let address = listener.address();
            start(name, "syslog", from, address, out, stop, async move |outlet| listener.run(outlet).await)
        }
        LogInput::Journal(command) => start(name, "journal", from, None, out, stop, async move |outlet| {
            logs::listen(options, command, outlet).await
        }),
    }
}

/// What stands in a file of one line.
pub(super) fn secret(path: &Path) -> Result<String, SourceError> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(limits::SECRET_BYTES_MAX).read_to_string(&mut text));
    let wrong = |what: String| SourceError::File { path: path.to_owned(), what };
    read.map_err(|e| wrong(e.to_string()))?;
    match text.trim() {
        "" => Err(wrong("the file is empty; write the secret into it".into())),
        secret => Ok(secret.to_owned()),
    }
}
