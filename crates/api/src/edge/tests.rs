use super::*;
use coffer_domain::error::FieldViolation;
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use std::{convert::Infallible, io, sync::Mutex, time::Duration};
use tokio::sync::mpsc;
use tonic::Status;
use tonic_types::StatusExt as _;
use tower::{ServiceExt as _, service_fn};
use tracing_subscriber::fmt::MakeWriter;

type Frames = StreamBody<tokio_stream::wrappers::UnboundedReceiverStream<Result<Frame<Bytes>, Infallible>>>;

const PATH: &str = "/coffer.v1.FileService/GetFile";

fn request(headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::post(PATH);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

fn grpc(headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    request(&[headers, &[("content-type", "application/grpc")]].concat())
}

/// A body that gives what is sent to it.
fn frames() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>, Frames) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, StreamBody::new(receiver.into()))
}

fn trailers(code: &str) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::trailers(HeaderMap::from_iter([(call::GRPC_STATUS, code.parse().unwrap())])))
}

async fn through<F, Fut>(request: Request<Empty<Bytes>>, answer: F) -> Response<EdgeBody<Frames>>
where
    F: Fn(Request<RequestBody<Empty<Bytes>>>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<Response<Frames>, Infallible>> + Send + 'static,
{
    EdgeLayer::new(Rules::default()).layer(service_fn(answer)).oneshot(request).await.unwrap()
}

async fn ok(_: Request<RequestBody<Empty<Bytes>>>) -> Result<Response<Frames>, Infallible> {
    let (sender, body) = frames();
    sender.send(trailers("0")).unwrap();
    Ok(Response::new(body))
}

fn status_of(headers: &HeaderMap) -> Status {
    Status::from_header_map(headers).expect("a grpc-status")
}

#[tokio::test]
async fn what_is_no_grpc_request_is_refused_in_http() {
    let mut get = grpc(&[]);
    *get.method_mut() = Method::GET;
    assert_eq!(through(get, ok).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    for kind in [
        "text/plain",
        "application/json",
        "application/grpc-web",
        "application/grpc+json",
        "application/grpcx",
    ] {
        let answer = through(request(&[("content-type", kind)]), ok).await;
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(through(request(&[]), ok).await.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    for kind in ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"] {
        assert_eq!(through(request(&[("content-type", kind)]), ok).await.status(), StatusCode::OK, "{kind}");
    }
}

#[tokio::test]
async fn a_timeout_that_cannot_be_read_is_a_bad_field() {
    for value in ["99999999999Z", "0n", "-1S"] {
        let answer = through(grpc(&[("grpc-timeout", value)]), ok).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let status = status_of(answer.headers());
        assert_eq!(status.code() as i32, 3);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "FIELD_INVALID");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "grpc-timeout");
        assert!(answer.headers().contains_key(TRACE_ID));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_an_rpc_that_has_not_answered() {
    let answer = through(grpc(&[("grpc-timeout", "2S")]), |_| std::future::pending()).await;
    let status = status_of(answer.headers());
    assert_eq!(status.code() as i32, 4);
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
}

#[tokio::test(start_paused = true)]
async fn what_outlives_its_rpc_can_know_the_deadline() {
    let seen = Arc::new(Mutex::new(None));
    let begun = Instant::now();
    let sees = seen.clone();
    through(grpc(&[("grpc-timeout", "2S")]), move |request| {
        *sees.lock().unwrap() = request.extensions().get().map(|Deadline(at)| *at);
        ok(request)
    })
    .await;
    assert_eq!(*seen.lock().unwrap(), Some(begun + Duration::from_secs(2)));
}

#[tokio::test]
async fn a_request_that_breaks_off_has_not_ended() {
    let broken = StreamBody::new(tokio_stream::iter([
        Ok(Frame::data(Bytes::from_static(b"first"))),
        Err(Status::cancelled("h2 protocol error")),
    ]));
    // As tonic puts it before a handler.
    let mut body = tonic::body::Body::new(RequestBody::counted(broken, Arc::default()));
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let status = body.frame().await.unwrap().unwrap_err();
    assert!(Gone::caused(&status) && status.code() as i32 != 1, "{status:?}");
    assert!(!Gone::caused(&Status::internal("not a message")));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_stream_in_its_middle() {
    let (sender, body) = frames();
    let body = Arc::new(Mutex::new(Some(body)));
    let begun = Instant::now();
    let answer = through(grpc(&[("grpc-timeout", "2S")]), move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok(Response::new(body)) }
    })
    .await;
    sender.send(Ok(Frame::data(Bytes::from_static(b"first")))).unwrap();
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    assert_eq!(status_of(&trailers).code() as i32, 4);
    assert!(trailers.contains_key(TRACE_ID));
    assert!(sender.is_closed(), "what produces the stream is dropped");
    assert!(http_body::Body::is_end_stream(&body) && body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_in_time_ends_as_it_says() {
    for timeout in ["2S", "99999999H"] {
        let answer = through(grpc(&[("grpc-timeout", timeout)]), ok).await;
        let trailers = answer.into_body().collect().await.unwrap().trailers().cloned().unwrap();
        assert_eq!(status_of(&trailers).code() as i32, 0);
    }
}

#[tokio::test]
async fn answers_name_the_trace_of_the_caller() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let seen = Arc::new(Mutex::new(None));
    let sees = seen.clone();
    let answer = through(grpc(&[("traceparent", &parent)]), move |request| {
        *sees.lock().unwrap() = request.extensions().get::<TraceId>().cloned();
        ok(request)
    })
    .await;
    assert_eq!(answer.headers()[TRACE_ID], trace);
    assert_eq!(*seen.lock().unwrap(), Some(TraceId(trace.to_owned())));
}

/// Lines of the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// The lines since the last time.
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn each_rpc_is_told_once_when_it_has_ended() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    let _default = tracing::subscriber::set_default(subscriber);

    let answer = through(grpc(&[]), ok).await;
    assert!(log.lines().is_empty(), "the stream has not ended");
    answer.into_body().collect().await.unwrap();
    let lines = log.lines();
    assert_eq!(lines.len(), 1);
    for part in ["INFO", "rpc finished", "rpc.code=\"OK\"", "rpc.method=\"GetFile\"", "trace.id="] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }

    drop(through(grpc(&[]), ok).await);
    assert!(log.lines().iter().any(|line| line.contains("rpc.code=\"CANCELLED\"")));

    let refused = |_| async {
        let error = Error::Invalid(vec![FieldViolation { field: "a".into(), problem: "b".into() }]);
        let (_, body) = frames();
        Ok(status(&error).into_http::<Option<Frames>>().map(|_| body))
    };
    let answer = through(grpc(&[]), refused).await;
    assert_eq!(log.lines().iter().filter(|line| line.contains("rpc.code=\"INVALID_ARGUMENT\"")).count(), 1);
    drop(answer);
    assert!(log.lines().is_empty(), "told once");

    let mut made_up = grpc(&[]);
    *made_up.uri_mut() = "/made.up/Thing".parse().unwrap();
    through(made_up, ok).await.into_body().collect().await.unwrap();
    assert!(log.lines()[0].contains("rpc.service=\"unknown\""), "callers must not make up labels");
}

#[tokio::test]
async fn the_layer_goes_around_tonics_routes() {
    let service = EdgeLayer::new(Rules::default()).layer(tonic::service::Routes::default());
    let request = grpc(&[]).map(tonic::body::Body::new);
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(status_of(answer.headers()).code() as i32, 12);
}
