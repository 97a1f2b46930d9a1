//! The first bytes of a connection: HTTP/2's preface, or a readable refusal.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// With which every HTTP/2 client begins.
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const WORDS: &str =
    "gRPC is spoken here, which needs HTTP/2. Probes and metrics have an address of their own.\n";

/// Whether the client speaks HTTP/2. One that does not is answered in the HTTP it speaks, if it does.
///
/// # Errors
///
/// The connection broke.
pub(super) async fn is_http2(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<bool> {
    let (mut received, mut length) = ([0; PREFACE.len()], 0);
    while length < PREFACE.len() {
        let bytes = stream.read(&mut received[length..]).await?;
        if bytes == 0 {
            return Ok(false);
        }
        length += bytes;
        if !PREFACE.starts_with(&received[..length]) {
            if is_http1(&received[..length]) {
                refuse(stream).await?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}

/// A method begins with a capital; a TLS handshake, for one, does not.
fn is_http1(received: &[u8]) -> bool {
    received.first().is_some_and(u8::is_ascii_uppercase)
}

async fn refuse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        WORDS.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(WORDS.as_bytes()).await?;
    stream.shutdown().await?;
    // Closed while there is more to read, the connection would be reset, and the client might not see the answer.
    let mut rest = [0; 1024];
    for _ in 0..16 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{PREFACE, is_http2};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What becomes of a client that sends this and closes, and what it is answered.
    async fn greet(parts: &[&[u8]]) -> (bool, String) {
        let (mut client, mut server) = tokio::io::duplex(1024);
        let serving = tokio::spawn(async move { is_http2(&mut server).await.unwrap() });
        for part in parts {
            // A refusal may come before the last part.
            let _ = client.write_all(part).await;
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (serving.await.unwrap(), answer)
    }

    #[tokio::test]
    async fn http2_begins_with_its_preface() {
        assert_eq!(greet(&[PREFACE]).await, (true, String::new()));
        assert!(greet(&[&PREFACE[..3], &PREFACE[3..20], &PREFACE[20..]]).await.0);
        assert_eq!(greet(&[&PREFACE[..23]]).await, (false, String::new()));
        assert_eq!(greet(&[]).await, (false, String::new()));
    }

    #[tokio::test]
    async fn http1_is_refused_in_its_own_words() {
        for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "P", "PRI * HTTP/1.1\r\n\r\n"] {
            let (is_http2, answer) = greet(&[request.as_bytes()]).await;
            assert!(!is_http2);
            assert_eq!(answer.starts_with("HTTP/1.1 505 "), request != "P", "{request:?}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_http_is_closed_without_a_word() {
        for bytes in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"\0\0\0\0", b"\xff"] {
            assert_eq!(greet(&[bytes]).await, (false, String::new()));
        }
    }
}
