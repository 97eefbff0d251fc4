//! A small HTTP/1.1 server for the pages of both seats: loopback only unless the operator says otherwise.
//!
//! Everything is bounded in [`crate::limits`]: connections, heads, bodies, waits. There is no TLS; to read the pages from
//! another machine, forward the port (`ssh -L`) or put a proxy that authenticates in front.
//!
//! A page on the web can make its visitor's browser send requests to a loopback port. Three checks keep it out: the `Host`
//! header must name this machine (DNS rebinding), a request that changes something must come from a page of this
//! server (`Origin`), and the content security policy lets a page load nothing that this server did not send.

mod escape;
pub mod fetch;
mod guard;
mod message;

pub use escape::Esc;
pub use message::{Request, Response};

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use smol::future::FutureExt as _;
use smol::lock::Semaphore;
use smol::net::{TcpListener, TcpStream};
use smol::{LocalExecutor, Timer};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use crate::clock;
use crate::limits;
use crate::observe::metrics;
use crate::time::Mono;

/// Where to listen and whom to answer.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Address to listen on; port 0 takes a free one.
    pub addr: SocketAddr,
    /// Permits an address that other machines can reach. Off by default: there is neither TLS nor a login.
    pub allow_remote: bool,
    /// Paths that take `POST`; every other path takes `GET` and `HEAD` only.
    pub posts: &'static [&'static str],
    /// Paths whose answer may take [`limits::HTTP_SLOW_S_MAX`], first piece and all of it: a language model is at work.
    pub slow: &'static [&'static str],
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { addr: SocketAddr::from(([127, 0, 0, 1], 0)), allow_remote: false, posts: &[], slow: &[] }
    }
}

/// Why the server could not start; the configuration's or the machine's fault.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The address can be reached from other machines and nobody permitted that.
    #[error(
        "{addr} can be reached from other machines, without encryption or a login: listen on 127.0.0.1 and forward the \
         port, or set allow_remote = true"
    )]
    NotLoopback {
        /// The refused address.
        addr: SocketAddr,
    },
    /// The operating system refused the address.
    #[error("cannot listen on {addr}: {source}; choose another port, or stop what uses it")]
    Bind {
        /// The refused address.
        addr: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
}

/// A listening socket that does not answer yet.
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    guard: guard::Guard,
    slow: &'static [&'static str],
}

impl Server {
    /// Listens. Connections queue in the kernel until [`Server::serve`] is polled.
    pub async fn bind(options: HttpOptions) -> Result<Self, HttpError> {
        let HttpOptions { addr, allow_remote, posts, slow } = options;
        if !addr.ip().is_loopback() && !allow_remote {
            return Err(HttpError::NotLoopback { addr });
        }
        let bind = async {
            let listener = TcpListener::bind(addr).await?;
            let bound = listener.local_addr()?;
            Ok((listener, bound))
        };
        let (listener, bound) = bind.await.map_err(|source| HttpError::Bind { addr, source })?;
        let guard = guard::Guard { any_host: !bound.ip().is_loopback(), posts };
        Ok(Self { listener, addr: bound, guard, slow })
    }

    /// The address with its real port.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers requests with `handler` until the future is dropped; that closes every connection.
    ///
    /// The handler sees a request only when method, host, origin and sizes are in order. It must not block: database and file
    /// work belongs on another thread.
    pub async fn serve(self, handler: impl AsyncFn(Request) -> Response) {
        let slots = Semaphore::new(limits::HTTP_CONNECTIONS_MAX);
        let (slots, handler, server) = (&slots, &handler, &self);
        let connections = LocalExecutor::new();
        let accept = async {
            loop {
                let slot = slots.acquire().await;
                match self.listener.accept().await {
                    // The executor owns the task: it ends with this future at the latest.
                    Ok((stream, _)) => connections
                        .spawn(async move {
                            let _slot = slot;
                            converse(stream, server, handler).await;
                        })
                        .detach(),
                    // Out of file descriptors, most likely: an immediate retry would spin.
                    Err(_) => patience(Duration::from_millis(200)).await,
                }
            }
        };
        connections.run(accept).await
    }
}

/// Binds and serves until dropped; for callers that do not need the port.
pub async fn serve(
    options: HttpOptions,
    handler: impl AsyncFn(Request) -> Response,
) -> Result<(), HttpError> {
    Server::bind(options).await?.serve(handler).await;
    Ok(())
}

/// `/health`, `/ready` and `/metrics`, the same in both seats; `None` for every other path.
///
/// `/health` says that the process answers. `/ready` says 503 with the reason while `ready` is an error.
pub fn common(request: &Request, ready: impl FnOnce() -> Result<(), String>) -> Option<Response> {
    match request.path.as_str() {
        "/health" => Some(Response::text(200, "ok\n")),
        "/ready" => Some(match ready() {
            Ok(()) => Response::text(200, "ready\n"),
            Err(reason) => Response::text(503, format!("not ready: {reason}\n")),
        }),
        "/metrics" => Some(Response::new(200, "text/plain; version=0.0.4; charset=utf-8", metrics::render())),
        _ => None,
    }
}

/// One connection from accept to close.
async fn converse(stream: TcpStream, server: &Server, handler: &impl AsyncFn(Request) -> Response) {
    let until = Cell::new(clock::mono() + Duration::from_secs(limits::HTTP_CONNECTION_S_MAX));
    let until = &until;
    let service = service_fn(|request: hyper::Request<Incoming>| async move {
        Ok::<_, Infallible>(answer(request, server, until, handler).await)
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(SmolTimer::new())
        .header_read_timeout(Duration::from_secs(limits::HTTP_HEAD_S_MAX))
        .max_headers(limits::HTTP_HEADERS_MAX)
        .max_buf_size(limits::HTTP_HEAD_BYTES_MAX);
    let connection = async {
        // An error here is the peer's: it went away or spoke something else.
        let _ = builder.serve_connection(FuturesIo::new(stream), service).await;
    };
    let late = async {
        loop {
            match until.get().since(clock::mono()) {
                Duration::ZERO => return,
                left => patience(left).await,
            }
        }
    };
    connection.or(late).await;
}

async fn answer(
    request: hyper::Request<Incoming>,
    server: &Server,
    until: &Cell<Mono>,
    handler: &impl AsyncFn(Request) -> Response,
) -> hyper::Response<message::Content> {
    let head = *request.method() == Method::HEAD;
    let slow = server.slow.contains(&request.uri().path());
    let wait = Duration::from_secs(if slow { limits::HTTP_SLOW_S_MAX } else { limits::HTTP_ANSWER_S_MAX });
    if slow {
        until.set(clock::mono() + wait);
    }
    let response = async {
        if let Err(refusal) = server.guard.check(&request) {
            return refusal;
        }
        match take_in(request).await {
            Ok(request) => handler(request).await,
            Err(refusal) => refusal,
        }
    };
    let late = async {
        patience(wait).await;
        Response::text(503, "the answer took too long; try again, or ask for a shorter period\n")
    };
    response.or(late).await.into_hyper(head)
}

/// Collects the body within its bound.
async fn take_in(request: hyper::Request<Incoming>) -> Result<Request, Response> {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, limits::HTTP_BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes().to_vec(),
        Err(e) if e.is::<LengthLimitError>() => {
            let text = format!("the body exceeds {} bytes\n", limits::HTTP_BODY_BYTES_MAX);
            return Err(Response::text(StatusCode::PAYLOAD_TOO_LARGE.as_u16(), text));
        }
        Err(_) => return Err(Response::text(400, "the body could not be read\n")),
    };
    Ok(Request::new(parts.method == Method::POST, parts.uri.path(), parts.uri.query().unwrap_or(""), body))
}

async fn patience(wait: Duration) {
    Timer::after(wait).await;
}

#[cfg(test)]
mod tests;
