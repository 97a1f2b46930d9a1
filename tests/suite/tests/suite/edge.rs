//! The transport: what is no proper gRPC call is refused as it should be, and the connection survives.

use bytes::{BufMut as _, Bytes, BytesMut};
use coffer_proto::v1;
use coffer_tests::{
    Cofferd, Token,
    grpc::{at, by_id, noise},
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};
use tonic::Code;

type Body = BoxBody<Bytes, Infallible>;

/// A bare HTTP/2 connection.
struct Wire {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    authority: String,
    token: String,
}

/// HTTP status, gRPC status (from trailers, or headers where there are only those), and the decoded reason.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    http: u16,
    grpc: Option<i32>,
}

impl Wire {
    async fn connect(cofferd: &Cofferd) -> Self {
        let stream = tokio::net::TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let token = format!("Bearer {}", cofferd.token(&Token::user("ann", "clinic")));
        Self { sender, authority: cofferd.grpc_addr().to_owned(), token }
    }

    async fn call(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.authority))
            .header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", &self.token);
        }
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            if !value.is_empty() {
                request = request.header(*name, *value);
            }
        }
        let answer = self.sender.send_request(request.body(Full::new(body).boxed()).unwrap()).await.unwrap();
        read(answer).await
    }

    async fn list(&mut self, headers: &[(&str, &str)]) -> Answer {
        self.call(
            Method::POST,
            "/coffer.v1.FileService/ListFiles",
            headers,
            message(&v1::ListFilesRequest::default()),
        )
        .await
    }
}

async fn read(answer: Response<hyper::body::Incoming>) -> Answer {
    let status = |headers: &HeaderMap| {
        headers.get("grpc-status").map(|value| value.to_str().unwrap().parse().unwrap())
    };
    let (parts, body) = answer.into_parts();
    let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned());
    Answer {
        http: parts.status.as_u16(),
        grpc: status(&parts.headers).or_else(|| trailers.as_ref().and_then(status)),
    }
}

/// A message in gRPC's framing.
fn message(message: &impl prost::Message) -> Bytes {
    framed(0, &message.encode_to_vec())
}

fn framed(flag: u8, content: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(flag);
    bytes.put_u32(content.len() as u32);
    bytes.put_slice(content);
    bytes.freeze()
}

fn grpc(code: Code) -> Answer {
    Answer { http: 200, grpc: Some(code as i32) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_grpc_call() {
    let cofferd = Cofferd::start().await;
    let mut wire = Wire::connect(&cofferd).await;
    let list = "/coffer.v1.FileService/ListFiles";
    assert_eq!(wire.list(&[]).await, grpc(Code::Ok));
    for path in ["/coffer.v1.FileService/NoSuch", "/coffer.v1.NoSuch/ListFiles", "/"] {
        assert_eq!(
            wire.call(Method::POST, path, &[], Bytes::new()).await,
            grpc(Code::Unimplemented),
            "{path}"
        );
    }
    assert_eq!(
        wire.call(Method::GET, list, &[], Bytes::new()).await.http,
        StatusCode::METHOD_NOT_ALLOWED.as_u16()
    );
    for content_type in ["text/plain", "application/json", ""] {
        assert_eq!(
            wire.list(&[("content-type", content_type)]).await.http,
            StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            "{content_type:?}"
        );
    }
    for timeout in ["99999999999Z", "0n0", "-1S", "S", "123456789S"] {
        assert_eq!(wire.list(&[("grpc-timeout", timeout)]).await, grpc(Code::InvalidArgument), "{timeout}");
    }
    let cases: Vec<(&str, Bytes, Code)> = vec![
        ("declares 4 GiB - 1", Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), Code::OutOfRange),
        ("over 4 MiB", framed(0, &noise(4 * 1024 * 1024 + 1)), Code::OutOfRange),
        ("truncated", Bytes::from_static(&[0, 0, 0, 0, 9, 1, 2]), Code::Internal),
        ("no message", Bytes::new(), Code::Internal),
        ("random bytes", framed(0, &noise(1_000)), Code::Internal),
        ("not UTF-8", framed(0, &[0x12, 0x02, 0xff, 0xfe]), Code::Internal),
        ("wrong wire type", framed(0, &[0x0d, 1, 2, 3, 4]), Code::Internal),
        ("compressed without encoding", framed(1, &[]), Code::Internal),
        ("unknown flag", framed(7, &[]), Code::Internal),
    ];
    assert_eq!(cases.len(), 9);
    for (name, body, code) in cases {
        assert_eq!(wire.call(Method::POST, list, &[], body).await, grpc(code), "{name}");
    }
    assert_eq!(wire.list(&[("grpc-encoding", "gzip")]).await, grpc(Code::Unimplemented));
    for authorization in ["", "Basic YTpi", "Bearer", "Bearer a.b.c"] {
        assert_eq!(
            wire.list(&[("authorization", authorization)]).await,
            grpc(Code::Unauthenticated),
            "{authorization:?}"
        );
    }
    let good = wire.token.clone();
    assert_eq!(
        wire.list(&[("authorization", &good), ("authorization", &good)]).await,
        grpc(Code::Unauthenticated),
        "two tokens"
    );
    assert_eq!(wire.list(&[("traceparent", "garbage")]).await, grpc(Code::Ok));

    let twice =
        [message(&v1::ListFilesRequest::default()), message(&v1::ListFilesRequest::default())].concat();
    assert_eq!(
        wire.call(Method::POST, list, &[], twice.into()).await,
        grpc(Code::Ok),
        "the second message is not looked at"
    );
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ] {
        assert_eq!(wire.call(Method::POST, path, &[], Bytes::new()).await, grpc(Code::Ok), "{path}");
    }

    // Nesting without end.
    let mut nested = Vec::new();
    for _ in 0..3_000 {
        let mut outer = vec![0x2a];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    assert_eq!(
        wire.call(Method::POST, "/coffer.v1.TransferService/WriteFile", &[], framed(0, &nested)).await.http,
        200
    );
    // The connection survived all of it.
    assert_eq!(wire.list(&[]).await, grpc(Code::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_headers_and_the_wrong_protocol() {
    let cofferd = Cofferd::start().await;
    let mut wire = Wire::connect(&cofferd).await;
    let large = "x".repeat(64 * 1024);
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/coffer.v1.FileService/ListFiles", wire.authority))
        .header("content-type", "application/grpc")
        .header("coffer-purpose", &large)
        .body(Full::new(Bytes::new()).boxed())
        .unwrap();
    if let Ok(answer) = wire.sender.send_request(request).await {
        assert_ne!(read(answer).await.grpc, Some(0));
    }
    // Many small ones are as much as one large one.
    let mut wire = Wire::connect(&cofferd).await;
    let mut request = http::Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}/coffer.v1.FileService/ListFiles", wire.authority));
    for n in 0..10_000 {
        request = request.header(format!("x-{n}"), "y");
    }
    if let Ok(answer) = wire.sender.send_request(request.body(Full::new(Bytes::new()).boxed()).unwrap()).await
    {
        assert_ne!(read(answer).await.grpc, Some(0));
    }
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut plain = tokio::net::TcpStream::connect(cofferd.grpc_addr()).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(15), plain.read_to_end(&mut answer))
        .await
        .expect("HTTP/1.1 is not kept open");
    assert_eq!(Wire::connect(&cofferd).await.list(&[]).await, grpc(Code::Ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_kept_with_their_own_code() {
    let cofferd = Cofferd::start().await;
    let mut wire = Wire::connect(&cofferd).await;
    let request = |method: &str, timeout: &str, body: Body| {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/coffer.v1.TransferService/{method}", wire.authority));
        let request = request
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout);
        request.header("authorization", &wire.token).body(body).unwrap()
    };
    // Before the answer: an upload that never ends.
    let first = message(&coffer_tests::grpc::messages(at("slow"), b"").remove(0));
    let endless = tokio_stream::StreamExt::chain(
        tokio_stream::once(Ok(hyper::body::Frame::data(first))),
        tokio_stream::pending(),
    );
    let upload = request("WriteFile", "300m", http_body_util::BodyExt::boxed(StreamBody::new(endless)));
    let ann = cofferd.clients(&Token::user("ann", "clinic")).await;
    let file = ann.upload(at("large"), &noise(60_000_000)).await.unwrap();
    let read_file = v1::ReadFileRequest { file: by_id(&file.id), ..Default::default() };
    let download = request("ReadFile", "500m", Full::new(message(&read_file)).boxed());
    let since = Instant::now();
    assert_eq!(read(wire.sender.send_request(upload).await.unwrap()).await, grpc(Code::DeadlineExceeded));
    assert!(since.elapsed() < Duration::from_secs(5));
    // In the middle of a stream.
    let answer = wire.sender.send_request(download).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(read(answer).await, grpc(Code::DeadlineExceeded));
    // Nothing is stored of the first.
    let since = Instant::now();
    while cofferd.database.number("SELECT count(*) FROM storage_uploads WHERE state = 'OPEN'").await > 0 {
        assert!(since.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cofferd.objects().len(), 1);
}
