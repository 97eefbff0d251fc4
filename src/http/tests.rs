//! The server over a real loopback socket.

use std::io::{Read as _, Write as _};
use std::task::{Context, Poll};

use super::*;

/// Sends `request` as it stands to a server with an echoing handler; the whole answer.
fn exchange(request: &[u8]) -> String {
    let options = HttpOptions { posts: &["/echo"], ..HttpOptions::default() };
    let server = smol::block_on(Server::bind(options)).unwrap();
    let addr = server.addr();
    let request = request.to_vec();
    let client = smol::unblock(move || {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        // The server may hang up before it has read everything.
        let _ = stream.write_all(&request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let handler = async |request: Request| match request.path.as_str() {
        "/echo" => Response::text(200, request.body),
        _ => common(&request, || Err("warming up".into())).unwrap_or_else(Response::not_found),
    };
    smol::block_on(client.or(async {
        server.serve(handler).await;
        String::new()
    }))
}

fn get(method: &str, path: &str) -> String {
    exchange(format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
}

#[test]
fn health_readiness_and_metrics_answer_with_the_security_headers() {
    let health = get("GET", "/health");
    assert!(health.starts_with("HTTP/1.1 200 ") && health.ends_with("ok\n"), "{health}");
    for header in
        ["content-security-policy: default-src 'none'", "nosniff", "cache-control: no-store", "DENY"]
    {
        assert!(health.contains(header), "{header} is missing in {health}");
    }
    let ready = get("GET", "/ready");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("warming up"), "{ready}");
    assert!(get("GET", "/metrics").contains("# TYPE outpost_intake_blocks_total counter"));
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let answer = get("HEAD", "/health");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("content-length: 3\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn an_unknown_path_is_404_and_an_unknown_method_405_with_what_is_allowed() {
    assert!(get("GET", "/nothing").starts_with("HTTP/1.1 404 "));
    let refused = get("DELETE", "/health");
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD\r\n"), "{refused}");
}

#[test]
fn a_body_within_the_bound_arrives_and_a_larger_one_is_refused() {
    let post = |body: &str| {
        let head = "POST /echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ";
        exchange(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes())
    };
    assert!(post("hello").ends_with("\r\n\r\nhello"));
    let refused = post(&"x".repeat(limits::HTTP_BODY_BYTES_MAX + 1));
    assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
}

#[test]
fn a_head_beyond_the_bound_is_refused() {
    let long = "x".repeat(limits::HTTP_HEAD_BYTES_MAX);
    let answer = exchange(format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let many = "a: b\r\n".repeat(limits::HTTP_HEADERS_MAX + 1);
    let answer = exchange(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[test]
fn an_address_that_others_can_reach_needs_permission() {
    let addr = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = smol::block_on(Server::bind(HttpOptions { addr, ..HttpOptions::default() }));
    assert!(matches!(refused, Err(HttpError::NotLoopback { .. })));
    let allowed = HttpOptions { addr, allow_remote: true, ..HttpOptions::default() };
    assert!(smol::block_on(Server::bind(allowed)).is_ok());
}

#[test]
fn a_silent_peer_does_not_keep_others_out() {
    let server = smol::block_on(Server::bind(HttpOptions::default())).unwrap();
    let addr = server.addr();
    let client = smol::unblock(move || {
        let _silent: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(addr).unwrap()).collect();
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let handler = async |request: Request| common(&request, || Ok(())).unwrap_or_else(Response::not_found);
    let answer = smol::block_on(client.or(async {
        server.serve(handler).await;
        String::new()
    }));
    assert!(answer.ends_with("ok\n"), "{answer}");
}

/// Pieces without end, or none for ever; tells when it is dropped.
struct Endless(bool, smol::channel::Sender<()>);

impl smol::stream::Stream for Endless {
    type Item = Vec<u8>;
    fn poll_next(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if self.0 { Poll::Ready(Some(vec![b'x'; 1000])) } else { Poll::Pending }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.1.try_send(());
    }
}

#[test]
fn pieces_arrive_one_by_one_and_nobody_makes_more_of_them_once_the_peer_is_gone() {
    let server = smol::block_on(Server::bind(HttpOptions::default())).unwrap();
    let addr = server.addr();
    let (gone, told) = smol::channel::bounded(1);
    let (next, given) = smol::channel::bounded::<Vec<u8>>(1);
    let ask = move |path: &str| {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
        stream
    };
    let client = smol::unblock(move || {
        let (mut stream, mut seen, mut buffer) = (ask("/pieces"), String::new(), [0; 4096]);
        for piece in ["one", "two"] {
            next.send_blocking(piece.into()).unwrap();
            while !seen.contains(piece) {
                let n = stream.read(&mut buffer).unwrap();
                assert!(n > 0, "closed after {seen}");
                seen += &String::from_utf8_lossy(&buffer[..n]);
            }
        }
        assert!(seen.contains("transfer-encoding: chunked\r\n") && seen.contains("nosniff"), "{seen}");
        for path in ["/endless", "/silent"] {
            let mut stream = ask(path);
            assert!(stream.read(&mut buffer).unwrap() > 0);
            drop(stream);
            told.recv_blocking().unwrap();
        }
        "done".to_owned()
    });
    let handler = async |request: Request| match request.path.as_str() {
        "/pieces" => Response::pieces("text/event-stream", given.clone()),
        path => Response::pieces("text/event-stream", Endless(path == "/endless", gone.clone())),
    };
    let answer = smol::block_on(client.or(async {
        server.serve(handler).await;
        String::new()
    }));
    assert_eq!(answer, "done");
}
