//! One GET from a page on loopback.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use smol::future::FutureExt as _;
use smol::net::TcpStream;
use smol_hyper::rt::FuturesIo;

/// The body of `http://addr/path`, at most `BODY_BYTES_MAX` bytes. Fails on any status but 200 and after
/// `PATIENCE`.
pub async fn get(addr: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer from http://{addr}{path}")))
    };
    exchange(addr, path).or(late).await
}

/// The same, read as JSON.
pub async fn get_json<T: serde::de::DeserializeOwned>(addr: SocketAddr, path: &str) -> io::Result<T> {
    let body = get(addr, path).await?;
    serde_json::from_slice(&body)
        .map_err(|e| io::Error::other(format!("http://{addr}{path} is not as expected: {e}")))
}

const PATIENCE: Duration = Duration::from_secs(3);
const BODY_BYTES_MAX: usize = 4 << 20;

async fn exchange(addr: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(FuturesIo::new(stream)).await.map_err(io::Error::other)?;
    let answer = async {
        let request = Request::get(path).header("host", addr.to_string()).body(Empty::<Bytes>::new());
        let response =
            sender.send_request(request.map_err(io::Error::other)?).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            let missing = response.status() == hyper::StatusCode::NOT_FOUND;
            let kind = if missing { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
            return Err(io::Error::new(kind, format!("http://{addr}{path} answers {}", response.status())));
        }
        let body =
            Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await.map_err(io::Error::other)?;
        Ok(body.to_bytes().to_vec())
    };
    let drive = async {
        // The connection ends after the answer or with it; the answer tells what went wrong.
        let _ = connection.await;
        smol::future::pending().await
    };
    answer.or(drive).await
}
