//! Tests the pages over real connections, also with clients that try to block the server.

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::*;

async fn start(pages: Pages) -> SocketAddr {
    let http = Http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = http.address().unwrap();
    tokio::spawn(http.serve(pages, std::future::pending()));
    address
}

fn pages() -> Pages {
    Pages::new(|| "a_metric 1\n".to_owned(), || Ok(()))
}

/// Sends the request, and returns everything that the server sends until it closes the connection.
async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    stream.write_all(request).await.ok();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await.expect("an end").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(address: SocketAddr, page: &str) -> String {
    exchange(address, format!("GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn only_the_three_pages_exist() {
    let address = start(pages()).await;
    let metrics = get(address, "/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 ") && metrics.ends_with("\r\n\r\na_metric 1\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{metrics}");
    for page in ["/healthz", "/readyz", "/readyz?verbose"] {
        let answer = get(address, page).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{page}: {answer}");
    }
    for page in ["/", "/metrics/", "/debug/pprof", "//metrics", "/%6detrics"] {
        assert!(get(address, page).await.starts_with("HTTP/1.1 404 "), "{page}");
    }
    let post =
        exchange(address, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let post = post.await;
    assert!(post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"), "{post}");
}

#[tokio::test]
async fn an_unready_driver_says_why_and_is_healthy() {
    let address = start(Pages::new(String::new, || Err("the store is read-only".to_owned()))).await;
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the store is read-only\n"), "{answer}");
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_check_that_hangs_or_panics_is_answered_with_an_error() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let hang = move || held.lock().unwrap().recv().map_err(|error| error.to_string());
    let address = start(Pages::new(|| panic!("no metrics"), hang)).await;
    for _ in 0..2 {
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the check takes too long\n"), "{answer}");
    }
    assert!(get(address, "/metrics").await.starts_with("HTTP/1.1 503 "));
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    drop(release);
}

#[tokio::test]
async fn slow_clients_cannot_keep_others_out() {
    let address = start(pages()).await;
    let mut slow = Vec::new();
    for _ in 0..CONNECTIONS * 2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metr").await.unwrap();
        slow.push(stream);
    }
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
    // The first connections were closed to make room.
    let mut end = [0; 1];
    let read = tokio::time::timeout(HEAD, slow[0].read(&mut end)).await.expect("closed before its time is up");
    assert_eq!(read.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_never_ends_is_refused() {
    let address = start(pages()).await;
    let large = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_BYTES));
    let answer = exchange(address, large.as_bytes()).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let endless = exchange(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: y").await;
    assert!(!endless.contains("200 OK"), "a head that never ends is given up: {endless}");
}
