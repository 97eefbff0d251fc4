//! What a handler is given and what it gives back.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use smol::stream::Stream;

/// A request that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// It is a `POST`; otherwise `GET` or `HEAD`, which a handler need not tell apart.
    pub post: bool,
    /// The path, percent-decoded, beginning with `/`.
    pub path: String,
    /// The query's pairs in order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// The body, at most [`crate::limits::HTTP_BODY_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

impl Request {
    pub(super) fn new(post: bool, path: &str, query: &str, body: Vec<u8>) -> Self {
        Self { post, path: percent_decode(path), query: parse_query(query), body }
    }

    /// A `GET` of `path_and_query`, as a browser would send it.
    pub fn get(path_and_query: &str) -> Self {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        Self::new(false, path, query, Vec::new())
    }

    /// The first value of `key` in the query.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// An answer: status, content type, body. The security headers are added on the way out.
#[derive(Debug)]
pub struct Response {
    status: u16,
    content_type: &'static str,
    content: Content,
    allow: Option<&'static str>,
}

/// What follows the head.
pub(super) enum Content {
    /// All of it, with its length; empty once it has been sent.
    Whole(Bytes),
    /// Piece by piece, as the handler has them. Dropped as soon as the peer is gone.
    Pieces(Pin<Box<dyn Stream<Item = Vec<u8>> + Send>>),
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Content::Pieces(_) => f.write_str("pieces"),
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Pieces(pieces) => {
                pieces.as_mut().poll_next(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

impl Response {
    /// Any content; `status` outside 100 to 999 becomes 500.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, content_type, content: Content::Whole(body.into().into()), allow: None }
    }

    /// Content that is still being made: each piece is sent as it comes. `pieces` is dropped when the peer goes away, which
    /// is how its maker learns that nobody wants the rest.
    pub fn pieces(content_type: &'static str, pieces: impl Stream<Item = Vec<u8>> + Send + 'static) -> Self {
        Self { status: 200, content_type, content: Content::Pieces(Box::pin(pieces)), allow: None }
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// A page.
    pub fn html(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "text/html; charset=utf-8", body)
    }

    /// A JSON document.
    pub fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", format!("{value}\n"))
    }

    /// The plain 404.
    pub fn not_found() -> Self {
        Self::text(404, "not found\n")
    }

    /// The same answer with another status.
    pub fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(super) fn with_allow(self, allow: &'static str) -> Self {
        Self { allow: Some(allow), ..self }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body; empty where it is sent piece by piece.
    pub fn body(&self) -> &[u8] {
        match &self.content {
            Content::Whole(bytes) => bytes,
            Content::Pieces(_) => &[],
        }
    }

    /// Whether the content is still being made.
    pub(super) fn is_pieces(&self) -> bool {
        matches!(self.content, Content::Pieces(_))
    }

    /// `head`: hyper sends the length and leaves the body out.
    pub(super) fn into_hyper(self, head: bool) -> hyper::Response<Content> {
        let length = (!self.is_pieces()).then(|| self.body().len());
        let content = if head { Content::Whole(Bytes::new()) } else { self.content };
        let mut response = hyper::Response::new(content);
        *response.status_mut() =
            hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in SECURITY_HEADERS {
            headers.insert(name.clone(), HeaderValue::from_static(value));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// `'self'` and nothing else: styles and scripts are files of this server, so no inline code ever runs, escaped or not.
const SECURITY_HEADERS: [(header::HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(&key.replace('+', " ")), percent_decode(&value.replace('+', " ")))
        })
        .collect()
}

/// `%XX` to bytes; a broken escape stays as written, broken UTF-8 becomes U+FFFD.
fn percent_decode(text: &str) -> String {
    let hex = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                out.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = after;
            }
            _ => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_a_broken_escape_stays() {
        let request = Request::get("/device/pump%20a?channel=a%2Fb+c&x&from=%zz%4");
        assert_eq!(request.path, "/device/pump a");
        assert_eq!(request.param("channel"), Some("a/b c"));
        assert_eq!(request.param("x"), Some(""));
        assert_eq!(request.param("from"), Some("%zz%4"));
        assert_eq!(request.param("to"), None);
    }

    #[test]
    fn bytes_that_are_no_text_do_not_break_decoding() {
        assert_eq!(Request::get("/%ff%00").path, "/\u{fffd}\0");
    }
}
