//! Sources from the field: logs, field buses, brokers and other programs.

use std::fs::File;
use std::io::ErrorKind;
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
use crate::files::read_file;
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

impl FieldOptions {
    /// See [`super::SourceOptions::file`].
    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            FieldOptions::Can(options) => Some(&options.dbc),
            FieldOptions::Push(options) => options.token_file.as_deref(),
            FieldOptions::Subscribe(options) => options.password_file.as_deref(),
            _ => None,
        }
    }
}

/// Opens the source and starts its thread; `content` is what stands in its file.
pub(super) fn spawn(
    name: &str,
    options: FieldOptions,
    content: Option<&[u8]>,
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
            let login = options.login_with(content)?;
            start(name, "mqtt", from, None, out, stop, async move |o| subscribe::run(options, login, o).await)
        }
        FieldOptions::Can(options) => {
            let dbc = can::parse(name, &options.dbc, content.unwrap_or_default())?;
            let from = options.interface.clone();
            start(name, "can", from, None, out, stop, async move |o| {
                can::run(options, dbc, o, can::open).await
            })
        }
        FieldOptions::Push(options) => {
            let token = options.token_file.as_deref();
            let token = token.map(|path| secret(path, content.unwrap_or_default())).transpose()?;
            let push = Push::bind(options, token)?;
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
    let dbc = can::parse(name, &options.dbc, &content(&options.dbc)?)?;
    let from = options.interface.clone();
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

/// What stands in a file beside the configuration. Blocks shortly.
pub(super) fn content(path: &Path) -> Result<Vec<u8>, SourceError> {
    read_file(path, limits::SOURCE_FILE_BYTES_MAX).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::FileTooLarge => format!("larger than {} bytes", limits::SOURCE_FILE_BYTES_MAX),
            _ => error.to_string(),
        };
        SourceError::File { path: path.to_owned(), what }
    })
}

/// The secret in a file of one line.
pub(super) fn secret(path: &Path, content: &[u8]) -> Result<String, SourceError> {
    let wrong = |what: String| SourceError::File { path: path.to_owned(), what };
    if content.len() > limits::SECRET_BYTES_MAX {
        return Err(wrong(format!(
            "longer than {} bytes; write the secret alone into it",
            limits::SECRET_BYTES_MAX
        )));
    }
    match std::str::from_utf8(content).map(str::trim) {
        Ok("") => Err(wrong("the file is empty; write the secret into it".into())),
        Ok(secret) => Ok(secret.to_owned()),
        Err(_) => Err(wrong("not a text; write the secret into it as UTF-8".into())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sensor::{Precision, SourceOptions, spawn_with, stopper};

    fn options(path: &Path) -> [FieldOptions; 3] {
        let nowhere = ([127, 0, 0, 1], 0).into();
        let path = path.to_owned();
        [
            FieldOptions::Can(CanOptions {
                interface: "none".into(),
                channel_prefix: String::new(),
                dbc: path.clone(),
                interval: Duration::from_secs(1),
            }),
            FieldOptions::Push(PushOptions {
                listen: nowhere,
                allow_remote: false,
                token_file: Some(path.clone()),
                precision: Precision::Nanos,
                durable: false,
            }),
            FieldOptions::Subscribe(SubscribeOptions {
                host: "127.0.0.1".into(),
                port: 1,
                tls: None,
                client_id: "x".into(),
                user: Some("x".into()),
                password_file: Some(path),
                certificates_every: Duration::from_secs(1),
                topics: Vec::new(),
            }),
        ]
    }

    /// A file that was replaced between the look at it and the start was read in another state than it was compared by.
    #[test]
    fn a_source_begins_with_what_was_read_and_does_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let start = |options: FieldOptions, content: &[u8]| {
            let ((out, _batches), (_stopper, stop)) = (smol::channel::bounded(1), stopper());
            spawn_with("x", SourceOptions::Field(options), Some(content), out, stop).map(drop)
        };
        for options in options(&path) {
            std::fs::write(&path, "BO_ 1 M: 8 E\n SG_ S : 0|16@1+ (1,0) [0|0] \"\" X\n").unwrap();
            let read = SourceOptions::Field(options.clone()).content().unwrap().unwrap();
            std::fs::write(&path, "").unwrap();
            start(options, &read).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        for options in options(&path) {
            let missing = SourceOptions::Field(options).content().unwrap_err().to_string();
            assert!(missing.contains("file: No such file"), "{missing}");
        }
    }

    #[test]
    fn what_is_no_secret_is_told() {
        let path = Path::new("token");
        assert_eq!(secret(path, b" s3cret\n").unwrap(), "s3cret");
        let long = vec![b'x'; limits::SECRET_BYTES_MAX + 1];
        for (content, words) in [(&b"\n"[..], "empty"), (b"\xff", "UTF-8"), (&long, "longer than 4096")] {
            let error = secret(path, content).unwrap_err().to_string();
            assert!(error.contains("token: ") && error.contains(words), "{error}");
        }
    }
}
