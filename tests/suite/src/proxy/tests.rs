use super::{Fault, Proxy, Reply, Traffic};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// A server that sends `answer` on each connection, and tells how much it received to its end.
async fn server(answer: Vec<u8>) -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (sender, answer) = (sender.clone(), answer.clone());
            tokio::spawn(async move {
                stream.write_all(&answer).await.unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).await.expect("a cut is in good order for the server");
                sender.send(received).unwrap();
            });
        }
    });
    (addr, receiver)
}

/// What a client gets until the connection ends.
async fn received(client: &mut TcpStream) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 1_000]);
    while let Ok(read @ 1..) = client.read(&mut buffer).await {
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn a_connection_is_cut_after_exactly_so_many_bytes() {
    let (addr, mut seen) = server(vec![7; 100_000]).await;
    let proxy = Proxy::start(&addr).await;
    proxy.plan([
        Fault::CutRequest { after_bytes: 70_001 },
        Fault::CutRequest { after_bytes: 0 },
        Fault::CutAnswer { after_bytes: 10 },
    ]);
    for expected in [70_001, 0] {
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        let _ = client.write_all(&vec![3; 200_000]).await;
        assert_eq!(seen.recv().await.unwrap().len(), expected);
        received(&mut client).await;
    }
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(received(&mut client).await.len(), 10);
    assert_eq!(seen.recv().await.unwrap(), b"");
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(b"whole").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(received(&mut client).await.len(), 100_000);
    assert_eq!(seen.recv().await.unwrap(), b"whole");
    let Traffic { connections, cuts, to_server_bytes, .. } = proxy.traffic();
    assert_eq!((connections, cuts, to_server_bytes, proxy.planned()), (4, 3, 70_006, 0));
}

#[tokio::test]
async fn places_of_cuts_are_counted_over_all_connections() {
    let (addr, mut seen) = server(Vec::new()).await;
    let proxy = Proxy::start(&addr).await;
    for round in 0..2 {
        proxy.cut_at([70_001, 70_001, 100_000, 1_000_000]);
        for (sent, arrives) in [(80_000, 70_001), (80_000, 0), (80_000, 29_999), (50_000, 50_000)] {
            let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
            let _ = client.write_all(&vec![3; sent]).await;
            let _ = client.shutdown().await;
            assert_eq!(seen.recv().await.unwrap().len(), arrives);
        }
        let Traffic { cuts, to_server_bytes, .. } = proxy.traffic();
        assert_eq!((cuts, to_server_bytes), (3 * (round + 1), 150_000 * (round + 1)));
    }
}

#[tokio::test]
async fn an_answer_is_lost_where_it_was_said() {
    let (settings, headers, trailers) = (frame(4, 0, &[]), frame(1, 4, b"headers"), frame(1, 5, b"trailers"));
    let (addr, mut seen) = server([settings.clone(), headers.clone(), trailers].concat()).await;
    let proxy = Proxy::start(&addr).await;
    let request = [vec![b'P'; 24], frame(4, 0, &[]), frame(1, 4, b"call"), frame(0, 1, b"message")].concat();
    let reply = |passed_bytes| Fault::DropReply(Reply::Seen { passed_bytes });
    proxy.plan([Fault::DropReply(Reply::Unseen), reply(0), reply(20)]);

    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    client.write_all(&request).await.unwrap();
    client.write_all(&frame(6, 0, b"pingping")).await.unwrap();
    assert_eq!(seen.recv().await.unwrap(), request, "nothing after the request");
    for answered in [&[][..], &[&headers[..], &[0, 0, 8, 1]].concat()] {
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        client.write_all(&request).await.unwrap();
        assert_eq!(received(&mut client).await, [&settings, answered].concat());
        seen.recv().await.unwrap();
    }
    assert_eq!(proxy.traffic().cuts, 3);
}

#[tokio::test]
async fn what_stalls_stays_connected() {
    let (addr, mut seen) = server(Vec::new()).await;
    let proxy = Proxy::start(&addr).await;
    proxy.plan([Fault::Stall { after_bytes: 3 }]);
    let mut stalled = TcpStream::connect(proxy.addr()).await.unwrap();
    stalled.write_all(b"abcdef").await.unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(100), stalled.read_u8()).await;
    assert!(waited.is_err(), "the connection is there");
    proxy.cut();
    assert_eq!(seen.recv().await.unwrap(), b"abc");

    proxy.pause();
    let mut paused = TcpStream::connect(proxy.addr()).await.unwrap();
    paused.write_all(b"later").await.unwrap();
    paused.shutdown().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), seen.recv()).await.is_err());
    proxy.go_on();
    assert_eq!(seen.recv().await.unwrap(), b"later");
}

#[tokio::test]
async fn the_server_may_move() {
    let ((first, mut seen_first), (second, mut seen_second)) =
        (server(Vec::new()).await, server(Vec::new()).await);
    let proxy = Proxy::start(&first).await;
    for seen in [&mut seen_first, &mut seen_second] {
        let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
        client.write_all(b"here").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(seen.recv().await.unwrap(), b"here");
        proxy.point_at(&second);
    }
}
