//! The gateway in front of a deployment that does not do as it should: what that costs its clients.

use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::gateway::{connect, gateway, head, scripted};
use super::wire::{ask, exchange, read};
use crate::rig::free_port;

const RUN: &str = "/api/v2/dags/etl/dagRuns";

/// Methods of the requests that the deployment received, in order.
type Came = Arc<Mutex<Vec<String>>>;

/// A deployment that answers so many requests of a connection and closes it when the next has come.
fn closing(answers: usize) -> (u16, Came) {
    let came = Came::default();
    let noted = Arc::clone(&came);
    let port = scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        for left in (0..=answers).rev() {
            let head = head(&mut reader);
            let Some((method, _)) = head.split_once(' ') else { return };
            noted.lock().unwrap().push(method.to_owned());
            if left > 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    });
    (port, came)
}

#[test]
fn a_connection_that_a_deployment_closes_costs_no_request_that_may_come_twice() {
    let (upstream, came) = closing(1);
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    let token = [("Authorization", &*bearer)];
    for round in 0..8 {
        for method in ["GET", "HEAD", "DELETE"] {
            let answer = ask(port, method, "/api/v2/dags/etl", &token, "");
            assert_eq!(answer.status, 200, "{method} in round {round}: {answer:?}");
        }
    }
    assert!(came.lock().unwrap().len() > 24, "no kept connection was closed");
    // A POST is not idempotent: the gateway sends it once, even if the connection fails.
    for round in 0..8 {
        assert_eq!(ask(port, "GET", "/api/v2/dags", &token, "").status, 200);
        came.lock().unwrap().clear();
        let answer = ask(port, "POST", RUN, &token, "");
        assert!([200, 502].contains(&answer.status), "round {round}: {answer:?}");
        assert_eq!(*came.lock().unwrap(), ["POST"], "round {round}");
    }
    // A request is sent at most twice.
    let (upstream, came) = closing(0);
    let (setting, port) = gateway(Some(upstream), "");
    let answer = ask(port, "GET", "/api/v2/dags", &[("Authorization", &setting.bearer())], "");
    assert_eq!((answer.status, answer.reason()), (502, "ok"), "{answer:?}");
    assert!(came.lock().unwrap().len() <= 2);
}

#[test]
fn a_request_that_is_sent_once_meets_no_connection_that_its_deployment_is_about_to_close() {
    // The worst time to close: the request has just arrived.
    let (upstream, came) = closing(1);
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    let token = [("Authorization", &*bearer)];
    for (method, body) in [("POST", "{}"), ("POST", ""), ("PATCH", "{}"), ("DELETE", "{}")] {
        let target = if method == "POST" { RUN } else { "/api/v2/dags/etl" };
        came.lock().unwrap().clear();
        assert_eq!(ask(port, method, target, &token, body).status, 200, "{method} {body}");
        // Longer than a connection lies unused for such a request, and shorter than servers keep one.
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(ask(port, method, target, &token, body).status, 200, "{method} {body}, later");
        assert_eq!(*came.lock().unwrap(), [method, method]);
        std::thread::sleep(Duration::from_millis(1500));
    }
    // A deployment that closes at once, and is known to have.
    let upstream = scripted(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if head(&mut reader).is_empty() {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.shutdown(Shutdown::Both);
    });
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    for round in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        let answer = ask(port, "POST", RUN, &[("Authorization", &bearer)], "");
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
    }
}

#[test]
fn an_answer_with_no_one_length_is_a_bad_gateway() {
    let lines = Arc::new(Mutex::new(String::new()));
    let said = Arc::clone(&lines);
    let upstream = scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if head(&mut reader).is_empty() {
            return;
        }
        let lines = said.lock().unwrap().clone();
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{lines}\r\nfives").as_bytes());
    });
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    let answered = |length: &str| {
        lines.lock().unwrap().clear();
        lines.lock().unwrap().push_str(length);
        ask(port, "GET", "/api/v2/dags", &[("Authorization", &bearer)], "")
    };
    for bad in [
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,5,5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\ncontent-length: 6\r\n",
        "Content-Length: 5\r\nX-A: b\r\nContent-Length: 4\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let answer = answered(bad);
        assert_eq!(
            (answer.status, answer.header("x-halligan-reason")),
            (502, Some("ok")),
            "{bad}: {answer:?}"
        );
        assert!(!answer.body.contains("fives"), "{bad}: {answer:?}");
        assert!(answer.header("x-halligan-event-id").is_some(), "{bad}: {answer:?}");
    }
    for good in ["Content-Length: 5\r\n", "content-length:5\r\n", "Connection: close\r\n"] {
        let answer = answered(good);
        assert_eq!((answer.status, &*answer.body), (200, "fives"), "{good}: {answer:?}");
    }
}

#[test]
fn what_a_client_breaks_off_is_no_fault_of_the_deployment() {
    let upstream = scripted(|stream| {
        let mut reader = BufReader::new(stream);
        while !head(&mut reader).is_empty() {}
    });
    let (setting, port) = gateway(Some(upstream), "");
    let asked = |framing: &str, body: &str| {
        format!(
            "POST {RUN} HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {}\r\n{framing}\r\n\r\n{body}",
            setting.bearer()
        )
    };
    for body in
        ["ZZ\r\n", "0x5\r\nabcde\r\n", "-1\r\n", "\r\n", "5\r\nabcdefgh\r\n", "g\r\n", "5\r\nabcde\r\n \r\n"]
    {
        let answer = read(&exchange(port, asked("Transfer-Encoding: chunked", body).as_bytes()));
        assert_eq!(answer.status, 400, "{body:?}: {answer:?}");
        assert!(answer.header("x-halligan-event-id").is_some(), "{body:?}: {answer:?}");
    }
    for (framing, body) in [
        ("Content-Length: 100000", "x"),
        ("Content-Length: 100000", ""),
        ("Transfer-Encoding: chunked", "5\r\nab"),
        ("Transfer-Encoding: chunked", "5\r\nabcde\r\n"),
        ("Transfer-Encoding: chunked", "5\r\nabcde\r\n0\r\nX-Trailer: "),
    ] {
        for half in [true, false] {
            let (mut stream, reader) = connect(port);
            stream.write_all(asked(framing, body).as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(50));
            if half {
                // It sends no more, and waits for the answer.
                stream.shutdown(Shutdown::Write).unwrap();
                let mut reader: BufReader<TcpStream> = reader;
                let status = read(head(&mut reader).as_bytes()).status;
                assert!([0, 400].contains(&status), "{framing} {body:?}: {status}");
            }
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let log = setting.rig.read_log("halligand.log");
    assert!(!log.contains("a deployment can't be reached"), "{log}");

    let (unreachable, port) = gateway(Some(free_port()), "");
    assert_eq!(ask(port, "POST", RUN, &[("Authorization", &unreachable.bearer())], "{}").status, 502);
    assert!(unreachable.rig.read_log("halligand.log").contains("a deployment can't be reached"));
}
