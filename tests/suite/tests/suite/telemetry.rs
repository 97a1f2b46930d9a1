//! One trace from the client's span to the driver's and the query's; health, readiness and metrics.

use coffer_tests::{Cofferd, Token, cofferd::command, grpc::noise};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tonic::{Request, Response, Status};

/// A collector that keeps what it gets.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let service =
                resource.resource.iter().flat_map(|r| &r.attributes).find(|a| a.key == "service.name");
            let service = format!("{:?}", service.and_then(|a| a.value.clone()).and_then(|v| v.value));
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_client_to_the_driver_and_the_query() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener)));

    let mut cofferd = Cofferd::start_with(&[("telemetry.otlp_endpoint", endpoint.as_str())]).await;
    let source = cofferd.data_dir().join("source.bin");
    std::fs::write(&source, noise(3_000_000)).unwrap();
    let mut command = command("coffer");
    command.arg("upload").arg(&source).arg("traced.bin").arg("--json");
    command
        .env("COFFER_ADDR", format!("http://{}", cofferd.grpc_addr()))
        .env("COFFER_TOKEN", cofferd.token(&Token::user("ann", "clinic")));
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(cofferd.terminate().await.success(), "which sends the last spans");

    let since = Instant::now();
    let trace = loop {
        if let Some(trace) = find_trace(&collector) {
            break trace;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "spans of one trace: {:#?}", names(&collector));
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let id = data_encoding::HEXLOWER.encode(&trace[0].1.trace_id);
    println!("trace {id}");
    let parents: HashMap<_, _> =
        trace.iter().map(|(_, span)| (span.span_id.clone(), span.parent_span_id.clone())).collect();
    let roots = trace.iter().filter(|(_, span)| !parents.contains_key(&span.parent_span_id)).count();
    for (service, span) in &trace {
        println!("  {} {}", service, span.name);
    }
    assert_eq!(roots, 1, "every span hangs below the client's");
    // The audit trail names the same trace.
    let row = cofferd
        .database
        .connect()
        .await
        .query_one("SELECT trace_id FROM storage_operations WHERE operation = 'upload'", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), id);
}

fn names(collector: &Collector) -> Vec<(String, String)> {
    collector.0.lock().unwrap().iter().map(|(service, span)| (service.clone(), span.name.clone())).collect()
}

/// The spans of the trace that the client began, once all parts of it have arrived.
fn find_trace(collector: &Collector) -> Option<Vec<(String, Span)>> {
    let spans = collector.0.lock().unwrap();
    let client = spans.iter().find(|(service, _)| !service.contains("cofferd"))?;
    let trace: Vec<_> =
        spans.iter().filter(|(_, span)| span.trace_id == client.1.trace_id).cloned().collect();
    let names: HashSet<_> = trace.iter().map(|(_, span)| span.name.as_str()).collect();
    let has = |text: &str| names.iter().any(|name| name.contains(text));
    (has("WriteFile") && has("driver.finish") && has("store.commit_upload") && has("store.open_upload"))
        .then_some(trace)
}

/// Status and whole answer of a request to the HTTP port.
pub(crate) async fn get(cofferd: &Cofferd, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(cofferd.http_addr()).await.unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_says_how_it_is() {
    let cofferd = Cofferd::start().await;
    cofferd
        .clients(&Token::user("ann", "clinic"))
        .await
        .upload(coffer_tests::grpc::at("a"), b"abc")
        .await
        .unwrap();
    assert_eq!(get(&cofferd, "/livez").await.0, 200);
    assert_eq!(get(&cofferd, "/readyz").await.0, 200);
    assert_eq!(get(&cofferd, "/nothing").await.0, 404);
    let (status, metrics) = get(&cofferd, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("WriteFile"), "{metrics}");
    let names = |kind: &str| -> BTreeSet<String> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next());
        lines.map(str::to_owned).collect()
    };
    let measured = names("# TYPE ");
    assert!(measured.contains("coffer_store_batch_items"), "{metrics}");
    let described = names("# HELP ");
    let undescribed: Vec<_> = measured.difference(&described).collect();
    assert!(undescribed.is_empty(), "without a description: {undescribed:?}");
}
