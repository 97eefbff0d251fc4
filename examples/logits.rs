//! What a model says after every token, for comparing engines: `logits BUNDLE THREADS CONTEXT f16|f32|int8 < sequences > logits`.
//!
//! A sequence is its length and its token ids, all u32 of this machine's order; out come the f32 logits of every position. The
//! last argument is how keys and values are kept. `benches/llama` holds the same program over llama.cpp.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use anyhow::{Context, bail};
use outpost::glm::bundle::Bundle;
use outpost::glm::engine::{Batch, Engine, EngineOptions};
use outpost::glm::kernels::KvFormat;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [bundle, threads, context, kv] = args.as_slice() else {
        bail!("usage: logits BUNDLE THREADS CONTEXT f16|f32|int8 < sequences > logits");
    };
    let context_tokens: usize = context.parse().context("CONTEXT is a number")?;
    let kv_format = KvFormat::from_name(kv).context("no such cache format")?;
    let weights = Bundle::open(Path::new(bundle))?.weights()?;
    let options = EngineOptions {
        threads: threads.parse().context("THREADS is a number")?,
        context_tokens,
        kv_format,
        chunk_tokens: context_tokens,
        rows_max: context_tokens,
        ..EngineOptions::default()
    };
    let mut engine = Engine::new(&weights, options)?;
    let mut from = BufReader::new(io::stdin().lock());
    let mut to = BufWriter::new(io::stdout().lock());
    while let Some(length) = number(&mut from)? {
        let tokens: Option<Vec<u32>> = (0..length).map(|_| number(&mut from)).collect::<io::Result<_>>()?;
        let tokens = tokens.context("a sequence is cut off")?;
        let mut batch = Batch::default();
        batch.push(0, 0, &tokens, false);
        batch.logits.extend(0..length);
        for logit in engine.run(&batch)? {
            to.write_all(&logit.to_ne_bytes())?;
        }
    }
    Ok(to.flush()?)
}

/// The next number, or `None` at the end.
fn number(from: &mut impl Read) -> io::Result<Option<u32>> {
    let mut bytes = [0; 4];
    match from.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(u32::from_ne_bytes(bytes))),
    }
}
