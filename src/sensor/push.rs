//! HTTP push: programs post lines, in the forms of [`super::LineParser`], and are told what became of them.
//!
//! `POST` to any path, a body of JSON or Influx lines, `Authorization: Bearer <token>` (or `Token <token>`, as Influx clients
//! write it) where a token is configured. 204 says that every line was taken, and is on the disk where every reading is kept;
//! 400 that some were not understood, with their number and the first reason: what was understood counts all the same. 503 says
//! that the disk takes nothing now: what was posted waits in memory, and posted again it may count twice. While the pipeline is
//! full the answer waits.

use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use smol::Async;
use smol::future::or;
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::SourceError;
use super::lines::{Idle, LineParser, Malformed, Piece, Precision, Splitter, bind_tcp, serve};
use super::malformed::MalformedLog;
use super::outlet::{Closed, Handover, Outlet};
use crate::clock;
use crate::limits;
use crate::reading::{ChannelInfo, Reading};

/// Where to listen.
#[derive(Debug, Clone, PartialEq)]
pub struct PushOptions {
    /// Address and port.
    pub listen: SocketAddr,
    /// Whether an address other than loopback is allowed; the token travels readable.
    pub allow_remote: bool,
    /// File with what a client must show; none lets everybody in.
    pub token_file: Option<PathBuf>,
    /// Unit of times in Influx lines.
    pub precision: Precision,
    /// Whether every reading is kept as a record of its own: then a post is answered once they are on the disk. Otherwise
    /// they go into windows of minutes, for which no client can wait.
    pub durable: bool,
}

/// A bound socket, ready to serve.
pub(super) struct Push {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<String>,
    precision: Precision,
    durable: bool,
}

struct Shared {
    token: Option<String>,
    durable: bool,
    parser: RefCell<LineParser>,
    malformed: RefCell<MalformedLog>,
    outlet: Outlet,
}

impl Push {
    pub(super) fn bind(options: PushOptions, token: Option<String>) -> Result<Self, SourceError> {
        let (listener, address) = bind_tcp(options.listen, options.allow_remote)?;
        Ok(Self { listener, address, token, precision: options.precision, durable: options.durable })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the pipeline is gone.
    pub(super) async fn run(self, outlet: Outlet) -> Result<(), SourceError> {
        let place = self.address.to_string();
        let listener = Async::new(self.listener).map_err(|source| SourceError::Listen { place, source })?;
        let shared = Rc::new(Shared {
            token: self.token,
            durable: self.durable,
            parser: RefCell::new(LineParser::new(self.precision)),
            malformed: RefCell::new(MalformedLog::new(outlet.source())),
            outlet,
        });
        let accept = async || listener.accept().await.map(|(stream, _)| stream);
        let each = |stream, _idle: Rc<Cell<Idle>>| connection(stream, Rc::clone(&shared));
        serve(accept, &shared.outlet, each).await;
        Ok(())
    }
}

/// One connection, for a bounded time: a peer that says nothing can't hold its place for ever.
async fn connection(stream: Async<std::net::TcpStream>, shared: Rc<Shared>) -> Result<(), Closed> {
    let answer =
        service_fn(async |request| Ok::<_, std::convert::Infallible>(answered(&shared, request).await));
    let serving = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_S_MAX))
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX)
        .max_headers(limits::HTTP_HEADERS_MAX)
        .serve_connection(FuturesIo::new(stream), answer);
    let served = async {
        // What breaks a connection is the peer's affair; he sees it.
        let _ = serving.await;
    };
    let late = async {
        smol::Timer::after(Duration::from_secs(limits::HTTP_CONNECTION_S_MAX)).await;
    };
    or(served, late).await;
    if shared.outlet.is_closed() { Err(Closed) } else { Ok(()) }
}

async fn answered(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return told(StatusCode::METHOD_NOT_ALLOWED, "post lines of JSON or Influx line protocol\n".into());
    }
    if !is_let_in(shared, &request) {
        let text = "a token is wanted: Authorization: Bearer <token>\n";
        return told(StatusCode::UNAUTHORIZED, text.into());
    }
    let body = Limited::new(request.into_body(), limits::PUSH_BODY_BYTES_MAX).collect();
    let late = async {
        smol::Timer::after(Duration::from_secs(limits::HTTP_ANSWER_S_MAX)).await;
        None
    };
    match or(async { Some(body.await) }, late).await {
        Some(Ok(body)) => take(shared, &body.to_bytes()).await,
        Some(Err(_)) => {
            let text =
                format!("more than {} bytes, or cut off; post less at a time\n", limits::PUSH_BODY_BYTES_MAX);
            told(StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        None => told(StatusCode::REQUEST_TIMEOUT, "the body took too long\n".into()),
    }
}

/// Compared in a time that does not tell how much of it was right.
fn is_let_in(shared: &Shared, request: &Request<Incoming>) -> bool {
    let Some(token) = &shared.token else { return true };
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ").or(value.strip_prefix("Token ")));
    shown.is_some_and(|shown| {
        let different = shown.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        shown.len() == token.len() && different == 0
    })
}

async fn take(shared: &Shared, body: &[u8]) -> Response<Full<Bytes>> {
    let (mut readings, mut bad, mut first_reason) = (Vec::new(), 0, None);
    let infos = {
        let (mut parser, mut malformed) = (shared.parser.borrow_mut(), shared.malformed.borrow_mut());
        let arrival = clock::wall();
        let mut each = |piece: Piece<'_>| {
            let (result, line) = match piece {
                Piece::Line(line) => (parser.parse(line, arrival, &mut readings), line),
                Piece::TooLong(start) => (Err(Malformed::TooLong), start),
            };
            if let Err(reason) = result {
                malformed.note(&reason, line);
                bad += 1;
                first_reason.get_or_insert(reason);
            }
        };
        let mut splitter = Splitter::default();
        splitter.feed(body, &mut each);
        splitter.finish(&mut each);
        let counters = shared.outlet.counters();
        counters.set_malformed(malformed.total());
        counters.set_ignored(parser.ignored());
        parser.take_infos()
    };
    match handed_on(shared, readings, infos).await {
        Ok(Kept::Yes) => {}
        Ok(Kept::NotYet) => {
            let text = "the disk takes nothing now; post again\n";
            return told(StatusCode::SERVICE_UNAVAILABLE, text.into());
        }
        Err(Closed) => {
            let text = "the agent is stopping; post again\n";
            return told(StatusCode::SERVICE_UNAVAILABLE, text.into());
        }
    }
    match first_reason {
        None => told(StatusCode::NO_CONTENT, String::new()),
        Some(reason) => {
            told(StatusCode::BAD_REQUEST, format!("{bad} lines were not understood; the first: {reason}\n"))
        }
    }
}

/// Whether what was posted is as safe as it gets here.
enum Kept {
    Yes,
    NotYet,
}

async fn handed_on(shared: &Shared, readings: Vec<Reading>, infos: Vec<ChannelInfo>) -> Result<Kept, Closed> {
    if readings.is_empty() && infos.is_empty() {
        return Ok(Kept::Yes);
    }
    let (receipt, committed) = smol::channel::bounded(1);
    let receipt = shared.durable.then_some(receipt);
    shared.outlet.hand_over(Handover { readings, infos, receipt, ..Handover::default() }).await?;
    let late = async {
        smol::Timer::after(Duration::from_secs(limits::HTTP_ANSWER_S_MAX)).await;
        Kept::NotYet
    };
    // Without a receipt under way there is nothing to wait for.
    let kept = async {
        match committed.recv().await {
            Err(_) if shared.durable => Kept::NotYet,
            _ => Kept::Yes,
        }
    };
    Ok(or(kept, late).await)
}

fn told(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::sensor::{Batch, FieldOptions, SourceHandle, SourceOptions, Stopper, spawn, stopper};
    use smol::channel::Receiver;

    fn start(token: Option<&str>) -> (SourceHandle, Receiver<Batch>, Stopper) {
        start_with(token, false)
    }

    fn start_with(token: Option<&str>, durable: bool) -> (SourceHandle, Receiver<Batch>, Stopper) {
        let (sender, batches) = smol::channel::bounded(64);
        let (stopper, stop) = stopper();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{}\n", token.unwrap_or("x"))).unwrap();
        let options = PushOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            allow_remote: false,
            token_file: token.map(|_| file),
            precision: Precision::Nanos,
            durable,
        };
        let handle = spawn("push", SourceOptions::Field(FieldOptions::Push(options)), sender, stop).unwrap();
        (handle, batches, stopper)
    }

    #[test]
    fn where_every_reading_is_kept_a_post_is_answered_once_they_are_on_the_disk() {
        let (handle, batches, stopper) = start_with(None, true);
        let lines = "a,x=1 v=1 1700000000000000000\n".repeat(limits::SENSOR_BATCH_READINGS_MAX + 1);
        let answered = std::thread::scope(|scope| {
            let answer = scope.spawn(|| send(&handle, &post("", &lines)));
            let first = batches.recv_blocking().unwrap();
            assert!(first.receipt.is_none(), "the last batch speaks for all");
            let last = batches.recv_blocking().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert!(!answer.is_finished(), "nothing is on the disk yet");
            last.receipt.unwrap().try_send(Vec::new()).unwrap();
            answer.join().unwrap()
        });
        assert_eq!(answered.0, 204);
        // Nothing but blank lines: nothing to wait for.
        assert_eq!(send(&handle, &post("", "\n\n")).0, 204);
        drop(stopper);
        handle.join();
    }

    /// The status and the body of the answer.
    fn send(handle: &SourceHandle, request: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(handle.address().unwrap()).unwrap();
        // A request that is refused early may not be read to its end.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        (status, text.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
    }

    fn post(head: &str, body: &str) -> Vec<u8> {
        let len = body.len();
        format!("POST /write HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {len}\r\n\r\n{body}")
            .into_bytes()
    }

    #[test]
    fn lines_of_both_forms_are_taken_and_mistakes_are_told() {
        let (handle, batches, stopper) = start(None);
        let (status, _) = send(&handle, &post("", "m a=1\n{\"b\":2,\"ts\":1700000000}"));
        assert_eq!(status, 204);
        let batch = batches.recv_blocking().unwrap();
        let seen: Vec<_> = batch.readings.iter().map(|r| (r.channel.as_str(), r.value)).collect();
        assert_eq!((seen, batch.infos.len()), (vec![("m.a", Ok(1.0)), ("b", Ok(2.0))], 2));
        let (status, text) = send(&handle, &post("", "m a=1\nnonsense\n{\"c\n"));
        assert_eq!(status, 400);
        assert!(text.contains("2 lines were not understood"), "{text}");
        assert_eq!(batches.recv_blocking().unwrap().readings.len(), 1, "the good line counts");
        assert_eq!(send(&handle, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").0, 405);
        assert_eq!(handle.stats().malformed, 2);
        drop(stopper);
        handle.join();
    }

    #[test]
    fn without_the_token_nothing_is_taken() {
        let (handle, batches, stopper) = start(Some("secret"));
        for head in [
            "",
            "Authorization: Bearer secreT\r\n",
            "Authorization: Bearer secret1\r\n",
            "Authorization: secret\r\n",
        ] {
            assert_eq!(send(&handle, &post(head, "m a=1")).0, 401, "{head}");
        }
        assert!(batches.is_empty());
        for head in ["Authorization: Bearer secret\r\n", "Authorization: Token secret\r\n"] {
            assert_eq!(send(&handle, &post(head, "m a=1")).0, 204, "{head}");
        }
        drop(stopper);
        handle.join();
    }

    /// Only who posts knows whether lines that come again are the same ones.
    #[test]
    fn what_is_posted_twice_counts_twice() {
        let (handle, batches, stopper) = start(None);
        for _ in 0..2 {
            assert_eq!(send(&handle, &post("", "m a=1 1700000000000000000")).0, 204);
            assert_eq!(batches.recv_blocking().unwrap().readings.len(), 1);
        }
        drop(stopper);
        handle.join();
    }

    /// Takes half a minute, the time that a body may take.
    #[test]
    fn a_body_that_does_not_come_is_given_up_and_others_do_not_wait_for_it() {
        let (handle, batches, stopper) = start(None);
        let slow = &post("", "m a=1\nm b=2")[..];
        let mut stream = TcpStream::connect(handle.address().unwrap()).unwrap();
        stream.write_all(&slow[..slow.len() - 3]).unwrap();
        assert_eq!(send(&handle, &post("", "m a=1")).0, 204);
        assert_eq!(batches.recv_blocking().unwrap().readings.len(), 1);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("took too long"), "{answer}");
        assert!(batches.is_empty(), "half a body is nothing");
        drop(stopper);
        handle.join();
    }

    #[test]
    fn a_body_without_end_and_garbage_harm_nobody() {
        let (handle, batches, stopper) = start(None);
        let giant = "x".repeat(limits::PUSH_BODY_BYTES_MAX + 1);
        let (status, _) = send(&handle, &post("", &giant));
        // The answer may be lost when the peer is still writing.
        assert!(status == 413 || status == 0, "{status}");
        assert_eq!(send(&handle, b"\x16\x03\x01\0garbage\r\n\r\n").0, 400);
        let cut = &post("", "m a=1\nm b=2")[..];
        drop(TcpStream::connect(handle.address().unwrap()).unwrap().write_all(&cut[..cut.len() - 3]));
        assert_eq!(send(&handle, &post("", "m a=1")).0, 204);
        assert_eq!(batches.recv_blocking().unwrap().readings.len(), 1);
        drop(stopper);
        handle.join();
    }
}
