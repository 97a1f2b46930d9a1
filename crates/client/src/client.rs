//! The client: one connection, cheap to clone, used by any number of tasks at once.

use crate::{Error, Options, Result, Timeouts, call::CallMetadata, retry::Retry};
use futures_util::future::BoxFuture;
use std::{error::Error as _, future::Future, time::Duration};
use tonic::{
    Request, Response, Status, TimeoutExpired, service::interceptor::InterceptedService, transport::Channel,
};
use tracing::{Instrument as _, Span, field};
use uuid::Uuid;

/// A channel that puts the caller's metadata into each call.
pub(crate) type Service = InterceptedService<Channel, CallMetadata>;

/// A connection to the service. Clones share it; a lost connection is made anew by the next call.
///
/// What failed for a reason that passes is tried again: calls a few times, transfers as [`Timeouts::retry`] says. What is returned in
/// `Err` is the service's refusal ([`Error::Refused`]) or what happened on this side of the wire. Dropping the future of a call
/// cancels it.
#[derive(Clone, Debug)]
pub struct Client {
    service: Service,
    timeouts: Timeouts,
}

impl Client {
    /// Connects; tries up to four times within about a second where the connection is refused.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for options that cannot be used, [`Error::Connect`] when nobody answers.
    pub async fn connect(options: &Options) -> Result<Self> {
        let metadata = options.call_metadata()?;
        let channel = options.connect().await?;
        Ok(Self { service: InterceptedService::new(channel, metadata), timeouts: options.timeouts })
    }

    pub(crate) fn service(&self) -> Service {
        self.service.clone()
    }

    pub(crate) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Makes a call that transfers no content, within its deadline and a span of its own, and a few times if the connection
    /// or the service is away: for calls that are safe to repeat. The future is boxed, because those of the transport are large.
    pub(crate) fn unary<M, R, F>(
        &self,
        method: &'static str,
        message: M,
        call: impl Fn(Service, Request<M>) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<R>>
    where
        M: Clone + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let client = self.clone();
        Box::pin(async move {
            let mut retry = Retry::call(client.timeouts.retry);
            loop {
                let answer = client.unary_within(client.timeouts.call, method, message.clone(), &call).await;
                match answer {
                    // Its deadline is all the time that a caller expects a call to take.
                    Err(error) if !matches!(error, Error::TimedOut { .. }) => retry.wait_after(error).await?,
                    answer => return answer,
                }
            }
        })
    }

    /// The same once, within a deadline of its own.
    pub(crate) fn unary_within<M, R, F>(
        &self,
        deadline: Duration,
        method: &'static str,
        message: M,
        call: impl FnOnce(Service, Request<M>) -> F,
    ) -> BoxFuture<'static, Result<R>>
    where
        R: Send + 'static,
        F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    {
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let answer = Box::pin(call(self.service(), request));
        let work = async move {
            // The transport keeps the same deadline, but only until the answer begins, and reports it as a cancellation.
            match tokio::time::timeout(deadline, answer).await {
                Ok(Ok(answer)) => Ok(answer.into_inner()),
                Ok(Err(status)) if !is_timeout(&status) => Err(status.into()),
                Ok(Err(_)) | Err(_) => Err(Error::TimedOut { what: "the service's answer", after: deadline }),
            }
        };
        Box::pin(in_span(method, work))
    }
}

/// The caller's `request_id`, or one of its own: what makes a change safe to repeat.
pub(crate) fn or_random(request_id: String) -> String {
    if request_id.is_empty() { Uuid::new_v4().to_string() } else { request_id }
}

/// The transport's own deadline passed.
fn is_timeout(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Runs a call in a span that names it as OpenTelemetry's conventions for RPCs do.
pub(crate) async fn in_span<T>(method: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let span = tracing::info_span!(
        "call",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = field::Empty,
        rpc.system = "grpc",
        rpc.method = method,
        error.message = field::Empty,
    );
    async {
        let outcome = work.await;
        if let Err(error) = &outcome {
            Span::current()
                .record("otel.status_code", "ERROR")
                .record("error.message", field::display(error));
        }
        outcome
    }
    .instrument(span)
    .await
}

/// The part of an answer that the contract promises.
pub(crate) fn promised<T>(part: Option<T>, what: &'static str) -> Result<T> {
    part.ok_or_else(|| Error::Protocol(format!("an answer came without its {what}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };
    use tonic::transport::Endpoint;

    /// A client that never connects: the tests answer for the service.
    fn client(timeouts: Timeouts) -> Client {
        let channel = Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let metadata = Options::new("localhost:1").call_metadata().unwrap();
        Client { service: InterceptedService::new(channel, metadata), timeouts }
    }

    /// Makes a call that is answered with `refusals` first; answers how often it was made.
    async fn made(timeouts: Timeouts, refusals: u32, refusal: Status) -> (Result<u32>, u32) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let outcome = client(timeouts).unary("test", 7, move |_, request: Request<u32>| {
            let made = counted.fetch_add(1, Ordering::Relaxed);
            let answer = if made < refusals { Err(refusal.clone()) } else { Ok(request.into_inner()) };
            async move { answer.map(Response::new) }
        });
        (outcome.await, count.load(Ordering::Relaxed))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_made_again_while_the_service_is_away() {
        let away = || Status::unavailable("restarting");
        let (outcome, count) = made(Timeouts::default(), 2, away()).await;
        assert_eq!((outcome.unwrap(), count), (7, 3));
        let (outcome, count) = made(Timeouts::default(), u32::MAX, away()).await;
        assert!(matches!(outcome, Err(Error::Refused(_))), "{outcome:?}");
        assert_eq!(count, 4);
        let never = Timeouts { retry: Duration::ZERO, ..Timeouts::default() };
        assert_eq!(made(never, 1, away()).await.1, 1);
        assert_eq!(made(Timeouts::default(), 1, Status::not_found("no")).await.1, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_and_is_not_made_again() {
        let timeouts = Timeouts { call: Duration::from_secs(3), ..Timeouts::default() };
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let answer = client(timeouts).unary("test", (), move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::pending::<Result<Response<()>, Status>>()
        });
        let outcome = answer.await;
        assert!(matches!(outcome, Err(Error::TimedOut { .. })), "{outcome:?}");
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn changes_have_a_request_id() {
        assert_eq!(or_random("mine".to_owned()), "mine");
        assert!(Uuid::try_parse(&or_random(String::new())).is_ok());
        assert_ne!(or_random(String::new()), or_random(String::new()));
    }
}
