//! `outpost model chat`: a conversation in the terminal, streamed as it is written.
//!
//! At the prompt, Ctrl-C ends the program as usual; while an answer is written it ends the answer, after one token at most.
//! Standard input that is no terminal is one message, and one answer follows.

use std::io::{BufRead, IsTerminal as _, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, anyhow};
use async_signal::{Signal, Signals};
use smol::stream::StreamExt as _;

use super::threads;
use crate::cli::exit::Failure;
use crate::cli::model_args::ChatArgs;
use crate::cli::{Style, kv_format};
use crate::glm::available_bytes;
use crate::glm::engine::EngineOptions;
use crate::glm::generate::{Priority, Usage};
use crate::glm::sample::Sampling;
use crate::glm::speaker::{BadTalk, End, Form, Message, Role, Said, Speaker, Talk};
use crate::limits;

/// Talks until the input ends.
pub(super) fn main(args: &ChatArgs, style: Style) -> Result<ExitCode, Failure> {
    chat(args, style).map_err(Failure::Failed)
}

fn chat(args: &ChatArgs, style: Style) -> anyhow::Result<ExitCode> {
    let mut chat = Chat::open(args)?;
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        let mut message = String::new();
        stdin.lock().take(limits::HTTP_BODY_BYTES_MAX as u64).read_to_string(&mut message)?;
        return match chat.answer(message.trim())?.0 {
            End::Refused(reason) | End::Failed(reason) => Err(anyhow!(reason)),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    eprintln!(
        "{} is here. /new begins anew, /quit or Ctrl-D ends; Ctrl-C stops an answer.",
        args.dir.display()
    );
    converse(&mut chat, stdin.lock(), &style.bold("you> "))?;
    Ok(ExitCode::SUCCESS)
}

/// Answers line by line until the input ends or says so. What the model can't go on with, a conversation longer than its context
/// most of all, ends nothing: it is told, and the conversation is as it was before.
fn converse(chat: &mut Chat, mut input: impl BufRead, prompt: &str) -> std::io::Result<()> {
    loop {
        eprint!("{prompt}");
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            eprintln!();
            return Ok(());
        }
        match line.trim() {
            "" => {}
            "/quit" => return Ok(()),
            "/new" => chat.begin_anew(),
            message => match chat.answer(message) {
                Ok((end, usage)) => eprintln!("{}", remark(&end, &usage)),
                Err(e) => eprintln!("[not asked: {e}; or begin anew with /new]"),
            },
        }
    }
}

/// A model and the conversation so far.
struct Chat {
    speaker: Speaker,
    messages: Vec<Message>,
    system: Option<Message>,
    /// The conversation up to the next answer.
    talk: Talk,
    /// Set by Ctrl-C while an answer is written.
    cancel: Arc<Mutex<Option<Arc<AtomicBool>>>>,
    seed: u64,
}

impl Chat {
    fn open(args: &ChatArgs) -> anyhow::Result<Chat> {
        let options = EngineOptions {
            threads: threads(args.threads),
            context_tokens: args.context,
            kv_format: kv_format(args.kv),
            memory_bytes_max: available_bytes(Path::new("/")),
            ..EngineOptions::default()
        };
        let speaker = Speaker::open(&args.dir, options)?;
        let sampling = Sampling {
            temperature: args.temperature,
            top_k: args.top_k,
            top_p: args.top_p,
            min_p: args.min_p,
            repetition_penalty: args.repetition_penalty,
            seed: 0,
        };
        let form =
            match &args.grammar {
                None => Form::Free,
                Some(path) => Form::Grammar(std::fs::read_to_string(path).with_context(|| {
                    format!("{} can't be read; name a file with a grammar", path.display())
                })?),
            };
        let talk = Talk { sampling, form, priority: Priority::Ask, ..Talk::new(Vec::new(), args.max_tokens) };
        let system = args.system.as_ref().map(|text| Message::new(Role::System, text));
        let cancel = Arc::new(Mutex::new(None));
        listen(Arc::clone(&cancel))?;
        let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
        let mut chat = Chat { speaker, messages: Vec::new(), system, talk, cancel, seed };
        chat.begin_anew();
        Ok(chat)
    }

    fn begin_anew(&mut self) {
        self.messages = self.system.iter().cloned().collect();
    }

    /// Streams the answer to `message` to standard output, and keeps both; neither where it can't be asked.
    fn answer(&mut self, message: &str) -> Result<(End, Usage), BadTalk> {
        self.messages.push(Message::new(Role::User, message));
        self.talk.messages.clone_from(&self.messages);
        self.talk.sampling.seed = self.seed;
        self.seed = self.seed.wrapping_add(1);
        let flag = Arc::new(AtomicBool::new(false));
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&flag));
        let said = Arc::new(Mutex::new((String::new(), None)));
        let heard = Arc::clone(&said);
        let listener = move |piece| {
            let mut said = heard.lock().unwrap_or_else(PoisonError::into_inner);
            match piece {
                Said::Text(text) => {
                    said.0.push_str(&text);
                    let mut out = std::io::stdout().lock();
                    // A reader that has had enough (`| head`) ends the answer.
                    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
                }
                Said::End { why, usage } => {
                    said.1 = Some((why, usage));
                    true
                }
            }
        };
        let begun = self.speaker.begin(&self.talk, Some(flag), Box::new(listener));
        while begun.is_ok() && !self.speaker.is_idle() {
            self.speaker.step(Priority::Periodic);
        }
        *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Err(e) = begun {
            self.messages.pop();
            return Err(e);
        }
        // The end of a line is part of no answer. Should nobody read it, the answer has been heard all the same.
        let _ = writeln!(std::io::stdout());
        let (text, end) = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        self.messages.push(Message::new(Role::Assistant, text.trim()));
        Ok(end.unwrap_or((End::Failed("the model fell silent".into()), Usage::default())))
    }
}

/// Ctrl-C: ends the answer that is being written, or the program if there is none.
fn listen(cancel: Arc<Mutex<Option<Arc<AtomicBool>>>>) -> std::io::Result<()> {
    let mut signals = Signals::new([Signal::Int])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        smol::block_on(async {
            while signals.next().await.is_some() {
                match cancel.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    Some(flag) => flag.store(true, Ordering::Relaxed),
                    None => std::process::exit(i32::from(crate::cli::exit::FAILURE)),
                }
            }
        });
    })?;
    Ok(())
}

fn remark(end: &End, usage: &Usage) -> String {
    let seconds = usage.decode_us as f64 / 1e6;
    let speed = f64::from(usage.answer_tokens.saturating_sub(1)) / seconds.max(1e-6);
    let why = match end {
        End::Stop => String::new(),
        End::Length => ", as long as it may be (--max-tokens, --context)".into(),
        End::Late => ", its time was up".into(),
        End::Cancelled => ", stopped".into(),
        End::Refused(reason) | End::Failed(reason) => format!(", failed: {reason}"),
    };
    format!(
        "[{} tokens, {speed:.1}/s; prompt {}, {} of them known; first after {:.2} s{why}]",
        usage.answer_tokens,
        usage.prompt_tokens,
        usage.cached_tokens,
        (usage.queued_us + usage.prefill_us) as f64 / 1e6,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KvKind;
    use crate::glm::import::{ImportOptions, import};

    #[test]
    fn a_conversation_that_outgrows_the_context_goes_on_where_it_was_or_anew() {
        let dir = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/glm/glm_edge");
        let bundle = dir.path().join("tiny.bundle");
        import(&source, &bundle, &ImportOptions::default(), &mut |_| {}).unwrap();
        let mut chat = Chat::open(&ChatArgs {
            dir: bundle,
            system: None,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: Some(1),
            max_tokens: 4,
            context: 128,
            grammar: None,
            threads: Some(1),
            kv: KvKind::F16,
        })
        .unwrap();
        let long = "word ".repeat(100);
        let input = format!("hello\n{long}\nand you?\n");
        converse(&mut chat, input.as_bytes(), "").unwrap();
        let asked = |chat: &Chat| -> Vec<String> {
            let of = chat.messages.iter().filter(|message| message.role == Role::User);
            of.map(|message| message.content.clone()).collect()
        };
        assert_eq!(asked(&chat), ["hello", "and you?"], "what does not fit is not kept");
        converse(&mut chat, "/new\nonce more\n/quit\nnever\n".as_bytes(), "").unwrap();
        assert_eq!(asked(&chat), ["once more"]);
    }
}
