use super::*;
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const CANARY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Listens, and counts who comes.
struct Listening {
    count: Arc<AtomicUsize>,
    _accepts: AbortOnDropHandle<()>,
}

impl Listening {
    fn on(listener: TcpListener) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let accepts = tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { count, _accepts: AbortOnDropHandle::new(accepts) }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

/// Two listeners on one port.
async fn both() -> (Listening, Listening, u16) {
    loop {
        let ours = TcpListener::bind((OURS, 0)).await.unwrap();
        let port = ours.local_addr().unwrap().port();
        // Somebody else may have it there.
        if let Ok(canary) = TcpListener::bind((CANARY, port)).await {
            return (Listening::on(ours), Listening::on(canary), port);
        }
    }
}

/// A connector that may dial [`OURS`] alone, for whose resolver names have these addresses, one after the other.
fn connector(answers: &[&[Ipv4Addr]]) -> Connector {
    let policy = Policy { allow: vec!["127.0.0.1/32".parse().unwrap()], deny: Vec::new() };
    let connector = Connector::new(policy, None, Duration::from_secs(5)).unwrap();
    let left: VecDeque<Vec<Ipv4Addr>> = answers.iter().map(|answer| answer.to_vec()).collect();
    let left = Mutex::new(left);
    let lookup = move |_: String, port: u16| -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let next = left.lock().unwrap().pop_front().expect("each connection is looked up once");
        let found = next.into_iter().map(|address| SocketAddr::new(IpAddr::V4(address), port)).collect();
        Box::pin(async move { Ok(found) })
    };
    let Connector { dialler, tls } = connector;
    Connector { dialler: Dialler { lookup: Arc::new(lookup), ..dialler }, tls }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_moves_is_dialled_where_it_was_checked() {
    let (ours, canary, port) = both().await;
    let uri: Uri = format!("http://rebinding.example:{port}/").parse().unwrap();
    // The second answer is for whoever would look again before dialling.
    let connector = connector(&[&[OURS], &[CANARY], &[CANARY, OURS], &[OURS, CANARY], &[]]);
    let stream = connector.clone().connect(uri.clone()).await.unwrap();
    let Stream::Plain(stream) = &stream else { panic!("nobody asked for TLS") };
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::from((OURS, port)));
    assert!(
        matches!(connector.clone().connect(uri.clone()).await, Err(Failure::Forbidden(_))),
        "it has moved"
    );
    for of in ["behind one that is forbidden", "before one"] {
        connector.clone().connect(uri.clone()).await.unwrap_or_else(|failure| panic!("{of}: {failure}"));
    }
    assert!(matches!(connector.connect(uri).await, Err(Failure::Unresolved(_))), "it is nowhere");
    while ours.count() < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!((ours.count(), canary.count()), (3, 0));
}

/// It would be dialled if the policy let it: then the count above says something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_counts_who_is_let_to_it() {
    let (ours, canary, port) = both().await;
    let policy = Policy { allow: vec!["127.0.0.0/8".parse().unwrap()], deny: Vec::new() };
    let Connector { dialler, tls } = connector(&[&[CANARY]]);
    let connector = Connector { dialler: Dialler { policy: Arc::new(policy), ..dialler }, tls };
    connector.connect(format!("http://rebinding.example:{port}/").parse().unwrap()).await.unwrap();
    while canary.count() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((ours.count(), canary.count()), (0, 1));
}
