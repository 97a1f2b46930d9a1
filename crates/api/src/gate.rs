//! In front of each service of the contract: who calls, and for whom.
//!
//! It stands before the handlers because it may have to wait: for an issuer's new keys, or for a look at whom an app acts for.

use crate::{
    Api,
    edge::Reading,
    fields::Fields,
    metadata::{self, ClientIp, Peer},
    status::status,
};
use coffer_domain::{
    Error, Result, caller::Principal, error::Unauthenticated, id::UserId, operation::OperationKind,
};
use http::{HeaderMap, request::Parts};
use std::{
    convert::Infallible,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tonic::{Request, Status, body::Body, metadata::MetadataMap, server::NamedService};
use tower::Service;

/// Names the user an app acts for.
const ON_BEHALF_OF: &str = "coffer-on-behalf-of";

/// Who calls: an extension that the gate sets. `None`: nobody says so.
#[derive(Debug, Clone)]
pub(crate) struct Known(pub(crate) Option<Principal>);

/// A service behind the gate.
#[derive(Clone)]
pub(crate) struct Gate<S> {
    api: Arc<Api>,
    inner: S,
}

impl<S> Gate<S> {
    pub(crate) fn new(api: Arc<Api>, inner: S) -> Self {
        Self { api, inner }
    }
}

impl<S: NamedService> NamedService for Gate<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = Arc::clone(&self.api);
        // The clone has not been asked whether it is ready.
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            let admitted = match api.admit(&mut head).await {
                Ok(()) => ready(http::Request::from_parts(head, body)).await.map_err(|error| status(&error)),
                Err(status) => Err(status),
            };
            match admitted {
                Ok(request) => inner.call(request).await,
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl Api {
    /// Puts who calls on a request. Bad credentials are refused even where none are needed.
    async fn admit(&self, head: &mut Parts) -> Result<(), Status> {
        let source = head.extensions.get().map(|ClientIp(address)| *address);
        let certificate = head.extensions.get().and_then(|peer: &Peer| peer.certificate.clone());
        let certificate = certificate.as_deref();
        let principal = match self.authenticator.authenticate(&head.headers, certificate).await {
            Ok(principal) => principal,
            Err(error) => return Err(self.unknown(source, &error)),
        };
        let principal = if head.headers.contains_key(ON_BEHALF_OF) {
            Some(self.delegated(head, source, principal).await?)
        } else {
            principal
        };
        head.extensions.insert(Known(principal));
        Ok(())
    }

    fn unknown(&self, source: Option<IpAddr>, error: &Error) -> Status {
        if let Error::Unauthenticated(why) = error {
            self.coffer.unauthenticated(source, *why);
        }
        status(error)
    }

    /// The app as the user it acts for. What is refused here stands in the audit trail under the app's own name.
    async fn delegated(
        &self,
        head: &Parts,
        source: Option<IpAddr>,
        app: Option<Principal>,
    ) -> Result<Principal, Status> {
        let Some(app) = app else {
            return Err(self.unknown(source, &Error::Unauthenticated(Unauthenticated::Missing)));
        };
        let outcome = match user(&head.headers) {
            Ok(user) => self.coffer.delegate(app.clone(), user).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(principal) => Ok(principal),
            Err(error) => {
                let metadata = MetadataMap::from_headers(head.headers.clone());
                let request = Request::from_parts(metadata, head.extensions.clone(), ());
                // What else is wrong with the metadata is not what this is about.
                let caller = metadata::caller(&request, Some(app), &mut Fields::default());
                Err(status(&self.coffer.refused(&caller, OperationKind::Authenticate, error).await))
            }
        }
    }
}

/// The request once its caller may have one more and it is its turn.
async fn ready(mut request: http::Request<Body>) -> Result<http::Request<Body>> {
    let caller =
        request.extensions().get().and_then(|Known(principal)| principal.as_ref().map(Principal::scope));
    match request.extensions_mut().remove::<Reading>() {
        Some(reading) => reading.ready(caller, request).await,
        // Nobody set rules: there is no edge.
        None => Ok(request),
    }
}

fn user(headers: &HeaderMap) -> Result<UserId> {
    let mut values = headers.get_all(ON_BEHALF_OF).iter();
    match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
        (Some(text), None) => text.parse().map_err(|problem| Error::invalid(ON_BEHALF_OF, problem)),
        _ => Err(Error::invalid(ON_BEHALF_OF, "must be one UUID")),
    }
}
