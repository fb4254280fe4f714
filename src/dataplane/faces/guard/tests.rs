//! Tests of the guard: what passes, what is refused, and what is drained.

#![allow(clippy::unwrap_used)]
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::framing::FEW_FIELDS;
use super::*;

const DRAIN: Drain = Drain { bytes: 10_000, time: Duration::from_millis(400) };
const REFUSED: &str = "GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Returns the bytes that pass if `bytes` arrive in pieces of this size, and the fault.
fn passed(bytes: &str, piece: usize) -> (String, Option<(u64, Fault)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let found = Found::default();
        let mut guarded = Guarded::new(server, 1000, found.clone(), Arc::default(), DRAIN);
        let mut all = Vec::new();
        for bytes in bytes.as_bytes().chunks(piece) {
            client.write_all(bytes).await.unwrap();
            let mut space = [0; 4096];
            let read = tokio::time::timeout(Duration::from_millis(1), guarded.read(&mut space));
            if let Ok(Ok(length)) = read.await {
                all.extend_from_slice(&space[..length]);
            }
        }
        drop(client);
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_millis(10), guarded.read_to_end(&mut rest));
        let _ = end.await;
        all.extend_from_slice(&rest);
        (String::from_utf8(all).unwrap(), found.0.fault.get().copied())
    })
}

#[test]
fn what_can_be_read_passes_as_it_came_however_it_is_cut() {
    let all = "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n\
               \r\nPOST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\r\n\r\nxPOST /a HTTP/1.1\r\n\
               transfer-encoding: Chunked\r\n\r\n3;x=\"y\"\r\na\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
               GET http://a/b HTTP/1.1\nHost: a\n\nGET /c HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n\0\r\n\r\n\x01";
    for piece in [1, 2, 3, 7, 64, 4096] {
        assert_eq!(passed(all, piece), (all.to_owned(), None), "{piece}");
    }
    for cut in 0..60 {
        assert_eq!(passed(&all[..cut], 4096), (all[..cut].to_owned(), None), "{cut}");
    }
}

#[test]
fn a_head_that_leaves_doubt_is_replaced_and_nothing_follows_it() {
    let good = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    for (head, fault) in [
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: foo, chunked\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nTransfer-Encoding: \r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nContent-Length: +5\r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nContent-Length: \r\n\r\n", Fault::Head),
        ("POST /a HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", Fault::Head),
        ("GET /a HTTP/1.1\r\na b: c\r\n\r\n", Fault::Head),
        ("GET /a HTTP/1.1\r\na : c\r\n\r\n", Fault::Head),
        ("GET /a HTTP/1.1\r\n a: c\r\n\r\n", Fault::Head),
        ("GET /a HTTP/2.0\r\n\r\n", Fault::Head),
        ("nonsense\r\n\r\n", Fault::Head),
        ("G\0T /a HTTP/1.1\r\n\r\n", Fault::Head),
    ] {
        for (before, heads) in [("", 0), (good, 1)] {
            let (all, found) = passed(&format!("{before}{head}GET /smuggled HTTP/1.1\r\n\r\n"), 4096);
            assert_eq!((all, found), (format!("{before}{REFUSED}"), Some((heads, fault))), "{head:?}");
        }
    }
    let long = format!("GET /a HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(2000));
    assert_eq!(passed(&long, 512), (REFUSED.to_owned(), Some((0, Fault::TooLarge))));
    assert_eq!(passed(&long[..1500], 512), (REFUSED.to_owned(), Some((0, Fault::TooLarge))));
    let wide = format!("GET /a HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(200));
    assert_eq!(passed(&wide, 4096).1, None);
}

#[test]
fn nothing_follows_a_chunked_body_that_the_guard_does_not_follow() {
    let head = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let smuggled = "POST /b HTTP/1.1\r\nTransfer-Encoding: foo, chunked\r\n\r\n0\r\n\r\n";
    let (zeros, long) = ("0".repeat(16), "x".repeat(1001));
    for (before, line) in [
        ("", format!("{zeros}3\r\nabc\r\n0\r\n\r\n")),
        ("3\r\nabc\r\n", format!("{zeros}\r\n\r\n")),
        ("", "FFFFFFFFFFFFFFFF\r\nabc".into()),
        ("", "10000000000000000\r\n\r\n".into()),
        ("", "+3\r\nabc\r\n0\r\n\r\n".into()),
        ("", "0x3\r\nabc\r\n0\r\n\r\n".into()),
        ("", ";a\r\nabc\r\n0\r\n\r\n".into()),
        ("1\r\na\r\n", "\r\n0\r\n\r\n".into()),
        ("", format!("3;{long}\r\nabc\r\n0\r\n\r\n")),
        ("0\r\n", format!("a: {long}\r\n\r\n")),
    ] {
        for piece in [1, 7, 4096] {
            let passed = passed(&format!("{head}{before}{line}{smuggled}"), piece);
            assert_eq!(passed, (format!("{head}{before}\rx"), None), "{line:?} in pieces of {piece}");
        }
    }
}

#[test]
fn a_target_that_is_none_is_replaced_and_the_rest_of_its_head_is_kept() {
    for target in ["/a#b", "/a?b#c", "/a?\"", "/a?<", "/a>", "/a?\u{e9}", "/a b", "/a?`", "/\t", "#"] {
        let rest = "HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n";
        let expected = (format!("PUT / {rest}"), Some((0, Fault::Target)));
        assert_eq!(passed(&format!("PUT {target} {rest}GET / HTTP/1.1\r\n\r\n"), 4096), expected, "{target}");
    }
}

#[tokio::test]
async fn what_comes_behind_the_last_request_is_read_within_bounds() {
    let body = b"POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\nabc";
    let chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc";
    let no_chunks = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n";
    let (whole, other) = (b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n");
    for (request, more, awaited) in [
        (&b"nonsense\r\n\r\n"[..], 9_000, true),
        (b"nonsense\r\n\r\n", 20_000, true),
        (b"nonsense\r\n\r\n", 0, true),
        (body, 9_000, true),
        (chunks, 0, true),
        (no_chunks, 9_000, true),
        (whole, 9_000, false),
        (whole, 0, false),
        (other, 9_000, false),
    ] {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut guarded = Guarded::new(server, 1000, Found::default(), Arc::default(), DRAIN);
        client.write_all(request).await.unwrap();
        let mut space = [0; 4096];
        assert_ne!(guarded.read(&mut space).await.unwrap(), 0);
        client.write_all(&vec![b'x'; more]).await.unwrap();
        let began = tokio::time::Instant::now();
        guarded.shutdown().await.unwrap();
        let waited = began.elapsed() >= DRAIN.time;
        let mut left = Vec::new();
        let _ = tokio::time::timeout(Duration::from_millis(1), guarded.stream.read_to_end(&mut left)).await;
        let what = String::from_utf8_lossy(request);
        // Bytes above the limit, and bytes of another protocol, are not read.
        let stays = more > 10_000 || request == other;
        assert_eq!((waited, left.is_empty()), (awaited && !stays, !stays), "{what}{more}");
    }
}

#[tokio::test]
async fn part_of_a_head_counts_as_begun_even_if_it_arrives_with_the_request_before_it() {
    let (first, idle) = (Duration::from_millis(200), Duration::from_secs(2));
    let get = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let chunks = "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    // In the last row the connection asks for nothing more, as while its client takes no answer.
    for (before, more, asks, begun) in [
        (get, "", true, false),
        (post, "", true, false),
        (chunks, "", true, false),
        (get, "G", true, true),
        (post, "GET /a HTTP/1.1\r\nHost: a\r\n", true, true),
        (chunks, "GET /a HTTP/1.1\r\nHost: a\r\nX-Half", true, true),
        (get, "GET /a HTTP/1.1\r\n\r", true, true),
        (get, "GET /a HTTP/1.1\r\nHost: a\r\n", false, false),
    ] {
        let activity = Arc::new(Activity::within(first, idle));
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(format!("{before}{more}").as_bytes()).await.unwrap();
        let watched = activity.watch(server);
        let mut guarded = Guarded::new(watched, 1000, Found::default(), Arc::clone(&activity), DRAIN);
        let length = guarded.read(&mut [0; 4096]).await.unwrap();
        assert_eq!(length, before.len(), "{before}{more}");
        drop(activity.begin());
        if asks {
            let mut rest = [0; 16];
            let awaited = tokio::time::timeout(Duration::from_millis(1), guarded.read(&mut rest)).await;
            assert!(awaited.is_err(), "{before}{more}");
        }
        let began = tokio::time::Instant::now();
        activity.ceases().await;
        let lasted = began.elapsed();
        assert_eq!(lasted < idle, begun, "{before}{more}: {lasted:?}");
    }
}

#[test]
fn a_head_may_have_as_many_fields_as_the_parser_takes() {
    for (fields, good) in
        [(FEW_FIELDS, true), (FEW_FIELDS + 1, true), (MAX_FIELDS, true), (MAX_FIELDS + 1, false)]
    {
        let head = format!("GET /a HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(fields));
        assert_eq!(framing(head.as_bytes()).is_ok(), good, "{fields}");
    }
}
