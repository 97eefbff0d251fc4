//! Which requests reach a handler at all.

use hyper::{Method, Request, header};

use super::message::Response;

/// What one server answers.
pub(super) struct Guard {
    /// Takes any `Host`: the socket is open to other machines, so their names for it are unknown.
    pub any_host: bool,
    /// Paths that take `POST`.
    pub posts: &'static [&'static str],
}

impl Guard {
    /// The refusal, if `request` must not be handled.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), Response> {
        let takes_post = self.posts.contains(&request.uri().path());
        let host = header_text(request, header::HOST);
        match *request.method() {
            Method::GET | Method::HEAD => {}
            Method::POST if takes_post => {}
            _ => {
                let allow = if takes_post { "GET, HEAD, POST" } else { "GET, HEAD" };
                return Err(Response::text(405, "method not allowed\n").with_allow(allow));
            }
        }
        if !self.any_host && !host.is_some_and(is_loopback_host) {
            return Err(Response::text(421, "the Host header does not name this machine: use localhost\n"));
        }
        if *request.method() == Method::POST && !is_same_origin(header_text(request, header::ORIGIN), host) {
            return Err(Response::text(403, "a page of another origin may not do this\n"));
        }
        Ok(())
    }
}

fn header_text<B>(request: &Request<B>, name: header::HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback_host(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || name == "127.0.0.1" || name == "[::1]"
}

/// Browsers send `Origin` with every POST; a program that sends none is not a page.
fn is_same_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    match (origin, host) {
        (None, _) => true,
        (Some(origin), Some(host)) => origin.strip_prefix("http://") == Some(host),
        (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &str, path: &str, headers: &[(&str, &str)]) -> Option<u16> {
        let mut builder = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let guard = Guard { any_host: false, posts: &["/ask"] };
        guard.check(&builder.body(()).unwrap()).err().map(|r| r.status())
    }

    #[test]
    fn a_rebound_name_is_refused_and_every_loopback_name_is_taken() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:1", "[::1]:80", "[::1]"] {
            assert_eq!(status("GET", "/", &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "10.0.0.1"] {
            assert_eq!(status("GET", "/", &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(status("GET", "/", &[]), Some(421));
    }

    #[test]
    fn only_named_paths_take_post_and_only_from_their_own_pages() {
        let host = ("host", "localhost:7");
        assert_eq!(status("POST", "/", &[host]), Some(405));
        assert_eq!(status("DELETE", "/ask", &[host]), Some(405));
        assert_eq!(status("POST", "/ask", &[host]), None);
        assert_eq!(status("POST", "/ask", &[host, ("origin", "http://localhost:7")]), None);
        for origin in ["http://evil.example", "null", "http://localhost:8"] {
            assert_eq!(status("POST", "/ask", &[host, ("origin", origin)]), Some(403), "{origin}");
        }
    }
}
