//! Requests to the server of a volume.

use super::{config::Config, error::refused, secret::secret};
use crate::{
    remote::{Failure, names::unescape, xml::begins_with_entries},
    wire::{self, Body, USER_AGENT, Wire},
};
use bytes::Bytes;
use coffer_domain::{driver::ErrorKind, path::Key};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, Uri,
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, USER_AGENT as USER_AGENT_HEADER},
};
use hyper::body::Incoming;
use std::{fmt, time::Duration};

/// The server of a volume.
pub(super) struct Client {
    pub(super) wire: Wire,
    /// `https://host:port`.
    origin: String,
    /// The path of the folder, as it is sent and as it reads, without a slash at the end.
    path: String,
    readable_path: String,
    secret: Option<(HeaderName, HeaderValue)>,
    prefix: String,
    by_query: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, path, prefix, by_query, .. } = self;
        f.debug_struct("Client")
            .field("origin", origin)
            .field("path", path)
            .field("prefix", prefix)
            .field("by_query", by_query)
            .finish_non_exhaustive()
    }
}

/// A request.
pub(super) struct Ask<'a> {
    method: &'static str,
    name: &'a str,
    headers: Vec<(&'static str, String)>,
    body: Body,
    /// How much longer than usual the answer may take.
    longer: Duration,
}

impl<'a> Ask<'a> {
    /// For what is at `name` in the volume's place; a folder ends with a slash.
    pub(super) fn new(method: &'static str, name: &'a str) -> Self {
        Self { method, name, headers: Vec::new(), body: wire::empty(), longer: Duration::ZERO }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// That takes the server longer than usual, by as much.
    pub(super) fn longer(mut self, longer: Duration) -> Self {
        self.longer = longer;
        self
    }

    /// With a body of this length.
    pub(super) fn body(mut self, body: Body, size: u64) -> Self {
        self.body = body;
        self.header(CONTENT_LENGTH.as_str(), size.to_string())
    }

    /// With a body whose end shows its length.
    pub(super) fn stream(mut self, body: Body) -> Self {
        self.body = body;
        self
    }
}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let uri: Uri = config.url.parse().map_err(|_| unusable("the URL is none"))?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else {
            return Err(unusable("a URL begins with http:// or https:// and a host"));
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(unusable("a URL has no password and no query"));
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        let readable_path = unescape(&path, false).ok_or_else(|| unusable("the URL's path is no text"))?;
        Ok(Self {
            origin: format!("{scheme}://{authority}"),
            path,
            readable_path,
            secret: secret(config.login.as_ref())?,
            prefix: config.prefix.clone(),
            by_query: config.use_query_params,
            wire: Wire::new(config.wire.clone())?,
        })
    }

    /// The name of a key.
    pub(super) fn name(&self, key: &Key) -> String {
        self.below(key.as_str())
    }

    /// A name below the volume's prefix.
    pub(super) fn below(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    /// What a name is within the volume.
    pub(super) fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix.as_str())
    }

    /// Where a name is.
    pub(super) fn url(&self, name: &str) -> String {
        let Self { origin, path, by_query, .. } = self;
        match by_query {
            true => {
                format!("{origin}{}?id={}", if path.is_empty() { "/" } else { path }, escape(name, false))
            }
            false => format!("{origin}{path}/{}", escape(name, true)),
        }
    }

    /// The name that a server's own address of something has; `None` if that is not below the volume's place.
    pub(super) fn name_of(&self, href: &str) -> Option<String> {
        let uri: Uri = href.parse().ok()?;
        let origin = uri
            .authority()
            .map(|authority| format!("{}://{authority}", uri.scheme_str().unwrap_or_default()));
        if origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(&self.origin)) {
            return None;
        }
        let path = unescape(uri.path(), false)?;
        path.strip_prefix(self.readable_path.as_str())?.strip_prefix('/').map(str::to_owned)
    }

    /// Whether a redirect says no more than that a name is a folder's.
    pub(super) fn is_folder(&self, failure: &Failure, name: &str) -> bool {
        let Failure::Wire(wire::Failure::Redirect(_, location)) = failure else { return false };
        let folder = format!("{name}/");
        self.name_of(location).is_some_and(|found| found == folder)
    }

    /// The head of an answer that is no refusal.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Response<Incoming>, Failure> {
        let Ask { method, name, headers, body, longer } = ask;
        let method = Method::from_bytes(method.as_bytes()).expect("methods are tokens");
        let mut request = Request::builder()
            .method(method)
            .uri(self.url(name))
            .header(USER_AGENT_HEADER, USER_AGENT)
            // A length is that of the content and not of something packed.
            .header(ACCEPT_ENCODING, "identity");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some((name, value)) = &self.secret {
            request = request.header(name, value);
        }
        let request = request.body(body).map_err(|error| wire::Failure::Malformed(error.to_string()))?;
        let answer = self.wire.send(request, longer).await?;
        match answer.status().as_u16() {
            status if status < 300 => Ok(answer),
            status => {
                // Read, so that the connection can be used again.
                let _ = self.wire.words(answer.into_body(), 16 * 1024).await;
                Err(refused(status))
            }
        }
    }

    /// A request whose answer's body does not matter.
    pub(super) async fn tell(&self, ask: Ask<'_>) -> Result<(), Failure> {
        let answer = self.ask(ask).await?;
        if answer.status().as_u16() == 207 {
            // Something below what was asked for failed: in use, as a rule.
            return Err(Failure::wrong(ErrorKind::Unavailable, "it was done in part"));
        }
        let _ = self.wire.words(answer.into_body(), 64 * 1024).await;
        Ok(())
    }

    /// A request whose answer is a document with this root, read whole.
    pub(super) async fn fetch(&self, ask: Ask<'_>, most: usize, root: &str) -> Result<Bytes, Failure> {
        let answer = self.ask(ask).await?;
        let begins_well = |document: &[u8]| begins_with_entries(document, |found| found == root);
        Ok(self.wire.whole(answer.into_body(), most, begins_well).await?)
    }
}

pub(super) fn unusable(reason: &'static str) -> Failure {
    Failure::wrong(ErrorKind::Denied, reason)
}

/// Everything but what needs no escape anywhere is escaped; slashes where they do not separate.
fn escape(name: &str, keeps_slashes: bool) -> String {
    let mut escaped = String::with_capacity(name.len() + 16);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            b'/' if keeps_slashes => escaped.push('/'),
            byte => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_domain::{endpoint::Login, secret::Secret};

    fn client(url: &str, login: Option<Login>, use_query_params: bool) -> Result<Client, Failure> {
        Client::new(&Config { use_query_params, ..Config::new(url, login) })
    }

    #[test]
    fn names_are_escaped_into_urls_and_read_back_from_answers() {
        let dav = client("http://host:81/a%20b/", None, false).unwrap();
        assert_eq!(dav.url("x y/ü?#%2f"), "http://host:81/a%20b/x%20y/%C3%BC%3F%23%252f");
        for (href, name) in [
            ("/a%20b/x%20y/%C3%BC", Some("x y/ü")),
            ("http://host:81/a%20b/x", Some("x")),
            ("http://other:81/a%20b/x", None),
            ("https://host:81/a%20b/x", None),
            ("/elsewhere/x", None),
            ("/a%20bc/x", None),
            ("/a%20b", None),
            ("/a%20b/%ff", None),
            ("", None),
        ] {
            assert_eq!(dav.name_of(href).as_deref(), name, "{href}");
        }
        let query = client("https://host", None, true).unwrap();
        assert_eq!(query.url("a/b&c"), "https://host/?id=a%2Fb%26c");
    }

    #[test]
    fn settings_that_cannot_be_right_are_refused() {
        for url in
            ["", "host", "ftp://host", "file:///x", "http://a:b@host", "http://host/?x", "http://host/%ff"]
        {
            assert!(client(url, None, false).is_err(), "{url}");
        }
        let header = |name: &str, value: &str| Login::CustomHeader {
            name: name.to_owned(),
            value: Secret::new(value),
        };
        for login in [
            header("Host", "x"),
            header("transfer-encoding", "chunked"),
            header("Proxy-Authorization", "x"),
            header("User-Agent", "x"),
            header("if", "x"),
            header("a b", "x"),
            header("x-key", "a\r\nb: c"),
            Login::Bearer { token: Secret::new("a\nb") },
            Login::Basic { username: "a:b".to_owned(), password: Secret::new("") },
            Login::S3 { access_key: "a".to_owned(), secret_key: Secret::new("b") },
        ] {
            assert!(client("http://host", Some(login.clone()), false).is_err(), "{login:?}");
        }
        assert!(client("http://host", Some(header("X-Api-Key", "k")), false).is_ok());
    }
}
