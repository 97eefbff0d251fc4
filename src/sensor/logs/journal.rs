//! The systemd journal, as `journalctl -f -o json` tells it.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::Value;
use smol::Timer;
use smol::future::or;
use smol::io::AsyncReadExt as _;
use smol::process::{Child, Command, Stdio};

use super::memory::{Keeper, Kept};
use super::serve::{Shared, windows};
use super::{Book, LogsOptions, Piece, Splitter};
use crate::clock;
use crate::limits;
use crate::observe::{emit, sensor as events};
use crate::sensor::SourceError;
use crate::sensor::outlet::Outlet;
use crate::sync::backoff::{Backoff, BackoffOptions, Cause};

/// Starts the program and counts what it writes; when it ends, it is started again, the sooner the longer it ran.
///
/// Errors: it can't be started at all.
pub(in crate::sensor) async fn listen(
    options: LogsOptions,
    command: Vec<String>,
    outlet: Outlet,
) -> Result<(), SourceError> {
    let (mut keeper, Kept { tally, cursor, .. }) = Keeper::open(&options, outlet.source());
    let book = RefCell::new(Book::new(&options, &tally, &outlet));
    let shared = Shared { book, outlet, cursor: RefCell::new(cursor) };
    let counted = async {
        windows(&shared, &mut keeper, &options, None).await;
        Ok(())
    };
    or(read(&command, &shared), counted).await
}

async fn read(command: &[String], shared: &Shared) -> Result<(), SourceError> {
    let mut backoff = Backoff::new(BackoffOptions::default());
    let mut rng = fastrand::Rng::new();
    let mut ended_at_once = 0;
    loop {
        let after = shared.cursor.borrow().clone();
        let mut child = start(command, after.as_deref())?;
        let began = clock::mono();
        read_to_end(&mut child, shared).await;
        let got_nowhere = clock::mono().since(began) < SENSIBLE && *shared.cursor.borrow() == after;
        ended_at_once = if got_nowhere { ended_at_once + 1 } else { 0 };
        if ended_at_once >= ENDS_MAX && shared.cursor.borrow_mut().take().is_some() {
            shared.book.borrow_mut().journal_gap();
        }
        emit(&events::ProgramEnded { source: shared.outlet.source(), program: &command.join(" ") });
        backoff.lived(clock::mono().since(began));
        Timer::after(backoff.failed(Cause::Line, &mut rng)).await;
    }
}

/// A program that ends sooner without an entry has not got to reading.
const SENSIBLE: Duration = Duration::from_secs(1);
/// After so many such ends in a row it may be the cursor that it does not understand, and never would.
const ENDS_MAX: u32 = 5;

/// From behind the entry `after` on, or from now.
fn start(command: &[String], after: Option<&str>) -> Result<Child, SourceError> {
    let place = match after {
        Some(cursor) => vec!["--no-tail".to_owned(), format!("--after-cursor={cursor}")],
        None => vec!["--lines=0".to_owned()],
    };
    let (program, arguments) = command.split_first().map_or(("", command), |(first, rest)| (first, rest));
    Command::new(program)
        .args(arguments)
        .args(place)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| SourceError::Program { program: program.to_owned(), source })
}

async fn read_to_end(child: &mut Child, shared: &Shared) {
    let Some(stdout) = &mut child.stdout else { return };
    let (mut chunk, mut splitter) = (vec![0; limits::LINE_BYTES_MAX], Splitter::default());
    while let Ok(len @ 1..) = stdout.read(&mut chunk).await {
        splitter.feed(&chunk[..len], |piece| take(shared, piece));
        smol::future::yield_now().await;
    }
}

fn take(shared: &Shared, piece: Piece<'_>) {
    let mut book = shared.book.borrow_mut();
    let Piece::Line(line) = piece else { return book.piece(piece) };
    let entry = serde_json::from_slice::<Value>(line).ok();
    match entry.as_ref().and_then(said) {
        Some(said) => book.line(said.as_bytes()),
        None => book.malformed(&"no entry of the journal with a MESSAGE", line),
    }
    if let Some(cursor) = entry.as_ref().and_then(|entry| entry.get("__CURSOR")?.as_str()) {
        *shared.cursor.borrow_mut() = Some(cursor.to_owned());
    }
}

/// `program: message`. What is no text is told as a list of bytes.
fn said(entry: &Value) -> Option<String> {
    let message = match entry.get("MESSAGE")? {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let bytes: Option<Vec<u8>> = bytes.iter().map(|b| u8::try_from(b.as_u64()?).ok()).collect();
            String::from_utf8_lossy(&bytes?).into_owned()
        }
        _ => return None,
    };
    let program = ["SYSLOG_IDENTIFIER", "_COMM"].iter().find_map(|key| entry.get(key)?.as_str());
    Some(program.map_or(message.clone(), |program| format!("{program}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_text_or_as_bytes() {
        let said = |text: &str| said(&serde_json::from_str(text).unwrap());
        assert_eq!(
            said(r#"{"MESSAGE":"up","SYSLOG_IDENTIFIER":"app","PRIORITY":"6"}"#).as_deref(),
            Some("app: up")
        );
        assert_eq!(said(r#"{"MESSAGE":[104,105]}"#).as_deref(), Some("hi"));
        assert_eq!(said(r#"{"MESSAGE":[999]}"#), None);
        assert_eq!(said(r#"{"MESSAGE":null}"#), None);
        assert_eq!(said(r#"{"_COMM":"x"}"#), None);
    }
}
