//! One request at a time: rusoto's types and XML, our signature and our wire.
//!
//! rusoto believes what it reads: an error with status 200 is an empty listing to it, and a number that is none makes it panic. So the
//! root of each answer is looked at before it sees it, and each call is guarded.

use super::{config::Config, error::refused};
use crate::{
    remote::{Failure, xml},
    wire::{self, USER_AGENT, Wire},
};
use bytes::Bytes;
use coffer_domain::{driver::ErrorKind, path::Key};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use http::{Request, Response};
use hyper::body::Incoming;
use rusoto_core::{
    DispatchSignedRequest, HttpDispatchError, Region, RusotoError,
    credential::AwsCredentials,
    request::{DispatchSignedRequestFuture, HttpResponse},
    signature::{SignedRequest, SignedRequestPayload},
};
use rusoto_s3::S3Client;
use std::{
    fmt, io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Most bytes of an answer that is read whole: a thousand keys of 1,024 bytes, each byte escaped, and what is around them.
const MOST_ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Most bytes of a refusal that are read.
const MOST_REFUSAL_BYTES: usize = 16 * 1024;

/// The bucket of a volume.
pub(super) struct Client {
    wire: Wire,
    region: Region,
    credentials: AwsCredentials,
    pub(super) bucket: String,
    is_virtual_host: bool,
    prefix: String,
    /// Whether objects that are replaced or removed stay as versions.
    pub(super) keeps_versions: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, bucket, prefix, .. } = self;
        f.debug_struct("Client")
            .field("region", region)
            .field("bucket", bucket)
            .field("prefix", prefix)
            .finish_non_exhaustive()
    }
}

/// What a request has that rusoto does not know of, and what its answer has to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Further headers.
    pub(super) headers: Vec<(&'static str, String)>,
    /// The root element of the answer; `None` where it has no body that matters.
    pub(super) root: Option<&'static str>,
    /// A body instead of rusoto's.
    pub(super) body: Option<Bytes>,
    /// Whether the answer's body is read as it comes.
    pub(super) is_stream: bool,
    /// How much longer than usual the answer may take.
    pub(super) longer: Duration,
}

impl Shape {
    /// An answer with this root.
    pub(super) fn root(root: &'static str) -> Self {
        Self { root: Some(root), ..Self::default() }
    }
}

/// What was seen of an answer beside what rusoto makes of it.
#[derive(Debug, Default)]
struct Seen {
    failure: Option<Failure>,
    body: Bytes,
}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let uri: http::Uri = config.endpoint.parse().map_err(|_| unusable("the endpoint is no URL"))?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().ok_or_else(|| unusable("the endpoint names no host"))?;
        if !is_http
            || authority.as_str().contains('@')
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(unusable("an endpoint is http:// or https:// with a host and no path"));
        }
        let is_plain =
            |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !is_plain(&config.bucket) || !is_plain(&config.region) {
            return Err(unusable("a bucket and a region need names"));
        }
        Ok(Self {
            wire: Wire::new(config.wire.clone())?,
            region: Region::Custom {
                name: config.region.clone(),
                endpoint: config.endpoint.trim_end_matches('/').to_owned(),
            },
            credentials: AwsCredentials::new(
                config.access_key.clone(),
                config.secret_key.expose().to_owned(),
                None,
                None,
            ),
            bucket: config.bucket.clone(),
            is_virtual_host: config.is_virtual_host,
            prefix: config.prefix.clone(),
            keeps_versions: false,
        })
    }

    /// The key in the bucket.
    pub(super) fn name(&self, key: &Key) -> String {
        self.below(key.as_str())
    }

    /// A name below the volume's prefix.
    pub(super) fn below(&self, text: &str) -> String {
        format!("{}{text}", self.prefix)
    }

    /// What a name in the bucket is within the volume.
    pub(super) fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix.as_str())
    }

    /// One request.
    pub(super) async fn call<T, E, F>(
        self: &Arc<Self>,
        shape: Shape,
        ask: impl FnOnce(S3Client) -> F,
    ) -> Result<T, Failure>
    where
        E: std::error::Error + 'static,
        F: Future<Output = Result<T, RusotoError<E>>> + Send,
    {
        self.call_seen(shape, ask).await.map(|(answer, _)| answer)
    }

    /// One request, with the body of its answer as it came.
    pub(super) async fn call_seen<T, E, F>(
        self: &Arc<Self>,
        shape: Shape,
        ask: impl FnOnce(S3Client) -> F,
    ) -> Result<(T, Bytes), Failure>
    where
        E: std::error::Error + 'static,
        F: Future<Output = Result<T, RusotoError<E>>> + Send,
    {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let dispatch = Dispatch { client: Arc::clone(self), shape, seen: Arc::clone(&seen) };
        let client = rusoto_core::Client::new_not_signing(dispatch);
        let s3 = S3Client::new_with_client(client, self.region.clone());
        let answer = AssertUnwindSafe(Box::pin(ask(s3))).catch_unwind().await;
        let seen = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(failure) = seen.failure {
            return Err(failure);
        }
        match answer {
            Ok(Ok(answer)) => Ok((answer, seen.body)),
            Ok(Err(error)) => Err(wire::Failure::Malformed(error.to_string()).into()),
            Err(_panic) => Err(wire::Failure::Malformed("a value that is none".to_owned()).into()),
        }
    }
}

fn unusable(reason: &'static str) -> Failure {
    Failure::wrong(ErrorKind::Denied, reason)
}

/// Signs a request, sends it, and looks at the answer before rusoto does.
struct Dispatch {
    client: Arc<Client>,
    shape: Shape,
    seen: Arc<Mutex<Seen>>,
}

impl DispatchSignedRequest for Dispatch {
    fn dispatch(&self, request: SignedRequest, _: Option<Duration>) -> DispatchSignedRequestFuture {
        let (client, shape, seen) = (Arc::clone(&self.client), self.shape.clone(), Arc::clone(&self.seen));
        Box::pin(async move {
            let note =
                |change: &dyn Fn(&mut Seen)| change(&mut seen.lock().unwrap_or_else(PoisonError::into_inner));
            match client.dispatch(request, &shape).await {
                Ok((response, body)) => {
                    note(&|seen| seen.body = body.clone());
                    Ok(response)
                }
                Err(failure) => {
                    let text = failure.to_string();
                    note(&|seen| seen.failure = Some(failure.clone()));
                    Err(HttpDispatchError::new(text))
                }
            }
        })
    }
}

impl Client {
    async fn dispatch(
        &self,
        request: SignedRequest,
        shape: &Shape,
    ) -> Result<(HttpResponse, Bytes), Failure> {
        let is_head = request.method() == "HEAD";
        let response = self.wire.send(self.signed(request, shape)?, shape.longer).await?;
        let status = response.status().as_u16();
        if status >= 300 {
            let words = self.wire.words(response.into_body(), MOST_REFUSAL_BYTES).await;
            return Err(refused(status, &words));
        }
        if is_head || !shape.is_stream {
            return self.whole(response, shape).await;
        }
        let (status, headers) = head(&response)?;
        let pieces = self.wire.pieces(response.into_body()).map_err(io::Error::other);
        let body = rusoto_core::ByteStream::new(pieces);
        Ok((HttpResponse { status, headers, body }, Bytes::new()))
    }

    async fn whole(
        &self,
        response: Response<Incoming>,
        shape: &Shape,
    ) -> Result<(HttpResponse, Bytes), Failure> {
        let (status, headers) = head(&response)?;
        let is_wanted = |root: &str| {
            // rclone leaves the last word away.
            shape.root.is_some_and(|wanted| root == wanted || wanted.strip_suffix("Result") == Some(root))
        };
        let begins_well = |document: &[u8]| xml::begins_with_entries(document, is_wanted);
        let body = self.wire.whole(response.into_body(), MOST_ANSWER_BYTES, begins_well).await?;
        if let Some(wanted) = shape.root {
            let root = xml::root(&body)?;
            if root == "Error" {
                return Err(refused(status.as_u16(), &body));
            }
            if !is_wanted(&root) {
                return Err(wire::Failure::Malformed(format!("{root} for {wanted}")).into());
            }
        }
        let kept = if shape.root.is_some() { body.clone() } else { Bytes::new() };
        let body = rusoto_core::ByteStream::from(body.to_vec());
        Ok((HttpResponse { status, headers, body }, kept))
    }

    /// The request as it is sent: nothing is changed after it was signed.
    fn signed(&self, mut request: SignedRequest, shape: &Shape) -> Result<Request<wire::Body>, Failure> {
        for (name, value) in &shape.headers {
            request.remove_header(name);
            request.add_header(*name, value);
        }
        request.remove_header("user-agent");
        request.add_header("user-agent", USER_AGENT);
        if let Some(body) = &shape.body {
            request.set_payload(Some(body.clone()));
        }
        if self.is_virtual_host {
            let bucket = format!("/{}", self.bucket);
            if let Some(rest) = request.path.strip_prefix(&bucket) {
                request.path = if rest.is_empty() { "/".to_owned() } else { rest.to_owned() };
                let host = request.hostname();
                request.set_hostname(Some(format!("{}.{host}", self.bucket)));
            }
        }
        request.sign(&self.credentials);
        let mut uri = format!("{}://{}{}", request.scheme(), request.hostname(), request.canonical_path());
        if !request.canonical_query_string().is_empty() {
            uri = format!("{uri}?{}", request.canonical_query_string());
        }
        let mut builder = Request::builder().method(request.method()).uri(uri);
        for (name, values) in &request.headers {
            for value in values {
                builder = builder.header(name.as_str(), value.as_slice());
            }
        }
        let body = match request.payload.take() {
            None => wire::empty(),
            Some(SignedRequestPayload::Buffer(bytes)) if bytes.is_empty() => wire::empty(),
            Some(SignedRequestPayload::Buffer(bytes)) => wire::of_pieces(vec![bytes]),
            Some(SignedRequestPayload::Stream(stream)) => wire::of_stream(stream.boxed()),
        };
        builder.body(body).map_err(|error| wire::Failure::Malformed(error.to_string()).into())
    }
}

/// Status and headers in the version of the types that rusoto speaks.
fn head(response: &Response<Incoming>) -> Result<(http02::StatusCode, http02::HeaderMap<String>), Failure> {
    let status = http02::StatusCode::from_u16(response.status().as_u16())
        .map_err(|error| wire::Failure::Malformed(error.to_string()))?;
    let mut headers = http02::HeaderMap::with_capacity(response.headers().len());
    for (name, value) in response.headers() {
        let name = http02::header::HeaderName::from_bytes(name.as_str().as_bytes())
            .map_err(|error| wire::Failure::Malformed(error.to_string()))?;
        headers.append(name, String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    Ok((status, headers))
}
