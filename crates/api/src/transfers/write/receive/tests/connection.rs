//! Over real connections, behind the edge and through a proxy that cuts them.

use super::*;
use crate::{
    edge::{EdgeLayer, Rules},
    metadata::Deadline,
};
use coffer_proto::v1::{WriteFileResponse, transfer_service_client::TransferServiceClient};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Streaming, body::Body, server::Grpc};
use tonic_prost::ProstCodec;
use tower::{Layer as _, ServiceExt as _, service_fn};

const MESSAGE_BYTES: usize = 512 * 1024;

/// A server of WriteFile as the real one is built, with a sink that notes.
#[derive(Clone)]
struct Server {
    sink: Notebook,
    /// Cancelled when the RPC's handler was dropped.
    left: CancellationToken,
    /// `grpc-timeout` of every request. A client that sent it itself would end the RPC as well.
    timeout: &'static str,
}

impl tonic::server::ClientStreamingService<WriteFileRequest> for Server {
    type Response = WriteFileResponse;
    type Future = BoxFuture<'static, Result<Response<WriteFileResponse>, Status>>;

    fn call(&mut self, request: Request<Streaming<WriteFileRequest>>) -> Self::Future {
        let Self { sink, left, .. } = self.clone();
        Box::pin(async move {
            let _guard = left.clone().drop_guard();
            let deadline = request.extensions().get().map(|Deadline(at)| *at);
            let work = async move {
                sink.receive(request.into_inner(), Handler { left, deadline, place: None }).await
            };
            tokio::spawn(work).await.unwrap()?;
            Ok(Response::new(WriteFileResponse::default()))
        })
    }
}

impl Server {
    fn new(sink: Notebook, timeout: &'static str) -> Self {
        Self { sink, left: CancellationToken::new(), timeout }
    }

    /// Listens for one connection.
    async fn listen(&self, tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = self.clone();
        let service = EdgeLayer::new(Rules::default()).layer(service_fn(move |request| {
            let server = server.clone();
            let mut grpc: Grpc<ProstCodec<WriteFileResponse, WriteFileRequest>> = Grpc::new(ProstCodec::new());
            async move { Ok::<http::Response<Body>, Infallible>(grpc.client_streaming(server, request).await) }
        }));
        let timeout = self.timeout.parse::<http::HeaderValue>().unwrap();
        let service = service.map_request(move |mut request: http::Request<Incoming>| {
            request.headers_mut().insert("grpc-timeout", timeout.clone());
            request
        });
        tasks.spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(4 * 1024 * 1024)
                .initial_connection_window_size(4 * 1024 * 1024)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            // It breaks where a test breaks it.
            let _ = serving.await;
        });
        address
    }
}

/// Passes on one connection until it is cut, and tells how much of the client's it has passed.
struct Proxy {
    address: SocketAddr,
    passed: watch::Receiver<usize>,
    cut: CancellationToken,
}

impl Proxy {
    async fn before(server: SocketAddr, tasks: &mut JoinSet<()>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, passed) = watch::channel(0);
        let cut = CancellationToken::new();
        let is_cut = cut.clone();
        tasks.spawn(async move {
            let (client, _) = listener.accept().await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_server, mut to_server) = server.into_split();
            let forward = async {
                let mut bytes = vec![0; 64 * 1024];
                loop {
                    let length = from_client.read(&mut bytes).await.unwrap();
                    to_server.write_all(&bytes[..length]).await.unwrap();
                    tell.send_modify(|passed| *passed += length);
                }
            };
            // Dropping the halves closes both connections, behind what was passed on.
            tokio::select! {
                () = forward => {}
                _ = copy(&mut from_server, &mut to_client) => {}
                () = is_cut.cancelled() => {}
            }
        });
        Self { address, passed, cut }
    }
}

#[tokio::test]
async fn messages_that_had_arrived_are_written_when_the_connection_breaks() {
    let mut tasks = JoinSet::new();
    let server = Server::new(Notebook::closed(), "1H");
    let mut proxy = Proxy::before(server.listen(&mut tasks).await, &mut tasks).await;
    let mut client = TransferServiceClient::connect(format!("http://{}", proxy.address)).await.unwrap();

    let content = vec![7; MESSAGE_BYTES];
    let offset = |number: usize| i64::try_from(number * MESSAGE_BYTES).unwrap();
    let messages = (0..5).map(move |number| data(offset(number), &content).unwrap());
    let messages = stream::iter(messages.collect::<Vec<_>>()).chain(stream::pending());
    tasks.spawn(async move {
        client.write_file(messages).await.unwrap_err();
    });

    // The fifth message has begun, so four are whole. All but the first, which the sink does not take, are in HTTP/2's buffers.
    let framing = 64 * 1024;
    proxy.passed.wait_for(|passed| *passed > 4 * MESSAGE_BYTES + framing).await.unwrap();
    assert_eq!(server.sink.written_bytes(), 0);
    proxy.cut.cancel();
    server.left.cancelled().await;
    server.sink.open.cancel();

    let notes = server.sink.noted(|note| matches!(note, Note::Refused(_))).await;
    assert_eq!(notes.last(), Some(&Note::Refused("CLIENT_LEFT")));
    let whole: Vec<_> =
        (0..4).map(|number| Note::Written(number * MESSAGE_BYTES as u64, MESSAGE_BYTES)).collect();
    assert_eq!(notes[..4], whole);
}

#[tokio::test]
async fn a_cancelled_stream_has_not_ended() {
    let mut tasks = JoinSet::new();
    let server = Server::new(Notebook::new(), "1H");
    let address = server.listen(&mut tasks).await;
    let mut client = TransferServiceClient::connect(format!("http://{address}")).await.unwrap();

    let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
    let whole = WriteFileRequest { finish: true, ..data(0, b"abc").unwrap() };
    sender.send(whole).unwrap();
    let call =
        tokio::spawn(
            async move { client.write_file(UnboundedReceiverStream::new(messages)).await.map(drop) },
        );
    server.sink.noted(|note| matches!(note, Note::Written(..))).await;
    call.abort();
    let notes = server.sink.noted(|note| matches!(note, Note::Refused(_) | Note::Finished(_))).await;
    assert_eq!(notes.last(), Some(&Note::Refused("CLIENT_LEFT")));
}

#[tokio::test]
async fn an_rpc_whose_time_is_over_keeps_what_had_arrived() {
    let mut tasks = JoinSet::new();
    let server = Server::new(Notebook::closed(), "300m");
    let address = server.listen(&mut tasks).await;
    let mut client = TransferServiceClient::connect(format!("http://{address}")).await.unwrap();

    let (sender, messages) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..3 {
        sender.send(data(number * 3, b"abc").unwrap()).unwrap();
    }
    let messages = UnboundedReceiverStream::new(messages);
    let call = tokio::spawn(async move { client.write_file(messages).await.map(drop) });
    server.left.cancelled().await;
    server.sink.open.cancel();
    let notes = server.sink.noted(|note| matches!(note, Note::Refused(_))).await;
    let written = (0..3).map(|number| Note::Written(number * 3, 3));
    assert_eq!(notes, written.chain([Note::Refused("DEADLINE_EXCEEDED")]).collect::<Vec<_>>());
    let status = call.await.unwrap().unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "DEADLINE_EXCEEDED");
}
