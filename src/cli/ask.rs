//! `outpost ask`: a question to the agent on this machine.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper::body::Bytes;
use serde_json::{Value, json};
use smol::future::FutureExt as _;
use smol::net::TcpStream;
use smol_hyper::rt::FuturesIo;

use super::args::AskArgs;
use super::exit::Failure;
use super::{print, reachable, sources};
use crate::limits;

/// Asks and prints the answer.
pub(super) fn main(args: &AskArgs, as_json: bool) -> Result<ExitCode, Failure> {
    let config = sources::agent_config(args.config.as_deref())?.config;
    let addr = reachable(config.http.listen);
    let answer = smol::block_on(ask(addr, &args.question)).map_err(Failure::Failed)?;
    if as_json {
        return print(&format!("{answer}\n"));
    }
    let text = |key: &str| answer[key].as_str().unwrap_or("").trim().to_owned();
    let mut out = format!("{}\n", text("text"));
    let digests: Vec<&str> =
        answer["digests"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !digests.is_empty() {
        out.push_str(&format!("digests of that time: {}\n", digests.join(" ")));
    }
    let understood = text("understood").replace('\n', "; ");
    if !understood.is_empty() {
        eprintln!("understood as: {understood}");
    }
    print(&out)
}

async fn ask(addr: SocketAddr, question: &str) -> anyhow::Result<Value> {
    let late = async {
        smol::Timer::after(Duration::from_secs(limits::HTTP_SLOW_S_MAX)).await;
        Err(anyhow::anyhow!("the agent on {addr} did not answer in time; see its log"))
    };
    exchange(addr, question).or(late).await
}

async fn exchange(addr: SocketAddr, question: &str) -> anyhow::Result<Value> {
    let nobody = |e: std::io::Error| {
        anyhow::anyhow!(
            "no agent answers on {addr} ({e}); start one with `outpost run`, or name its configuration with --config"
        )
    };
    let stream = TcpStream::connect(addr).await.map_err(nobody)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(FuturesIo::new(stream)).await?;
    let answer = async {
        let body = json!({ "question": question }).to_string();
        let request = Request::post("/api/ask")
            .header("host", addr.to_string())
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("the answer of {addr} broke off: {e}"))?.to_bytes();
        match serde_json::from_slice::<Value>(&body) {
            Ok(answer) if status.is_success() => Ok(answer),
            Ok(refusal) if refusal["error"].is_string() => {
                Err(anyhow::anyhow!("{}", refusal["error"].as_str().unwrap_or("")))
            }
            _ => Err(anyhow::anyhow!(
                "{addr} answers {status} to a question; is it an outpost agent of this version that runs there?"
            )),
        }
    };
    let drive = async {
        // The connection ends after the answer or with it; the answer tells what went wrong.
        let _ = connection.await;
        smol::future::pending().await
    };
    answer.or(drive).await
}

const BODY_BYTES_MAX: usize = 1 << 20;
