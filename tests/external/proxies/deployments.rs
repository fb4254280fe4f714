//! The gateway in front of a misbehaving deployment, and the effects on its clients.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::contract::Setting;
use super::gateway::{connect, gateway, head, scripted};
use super::wire::{ask, exchange, read};
use crate::rig::{Answer, free_port};

const RUN: &str = "/api/v2/dags/etl/dagRuns";

/// Methods of the requests that the deployment received, in order.
type Came = Arc<Mutex<Vec<String>>>;

/// Starts a deployment that answers this number of requests of a connection, and closes the connection at the next one.
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
    // A POST is not idempotent: it is sent once, on a connection of its own.
    for round in 0..8 {
        assert_eq!(ask(port, "GET", "/api/v2/dags", &token, "").status, 200);
        came.lock().unwrap().clear();
        let answer = ask(port, "POST", RUN, &token, "");
        assert_eq!(answer.status, 200, "round {round}: {answer:?}");
        assert_eq!(*came.lock().unwrap(), ["POST"], "round {round}");
    }
}

#[test]
fn a_request_that_is_sent_once_meets_no_connection_that_its_deployment_is_about_to_close() {
    // The connection closes just after the request has arrived, which is the worst moment.
    let (upstream, came) = closing(1);
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    let token = [("Authorization", &*bearer)];
    for (method, body) in [("POST", "{}"), ("POST", ""), ("PATCH", "{}"), ("DELETE", "{}")] {
        let target = if method == "POST" { RUN } else { "/api/v2/dags/etl" };
        came.lock().unwrap().clear();
        for round in 0..4 {
            let answer = ask(port, method, target, &token, body);
            assert_eq!(answer.status, 200, "{method} {body}, round {round}: {answer:?}");
        }
        assert_eq!(*came.lock().unwrap(), [method; 4]);
    }
}

#[test]
fn no_post_is_lost_to_a_deployment_that_closes_idle_connections() {
    const CLIENTS: u64 = 9;
    const POSTS: usize = 50;
    let came = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&came);
    // Closes a connection that was idle for 0 to 30 ms after an answer.
    let upstream = scripted(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut random = StdRng::seed_from_u64(u64::from(stream.peer_addr().unwrap().port()));
        loop {
            if head(&mut reader).is_empty() {
                return;
            }
            noted.fetch_add(1, Ordering::Relaxed);
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").is_err() {
                return;
            }
            let idle = Duration::from_micros(random.random_range(1..30_000));
            stream.set_read_timeout(Some(idle)).unwrap();
            if reader.fill_buf().is_err() {
                return;
            }
            stream.set_read_timeout(None).unwrap();
        }
    });
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| {
            let request = format!(
                "POST {RUN} HTTP/1.1\r\nHost: prod.example\r\nAuthorization: {bearer}\r\nContent-Length: 0\r\n\r\n"
            );
            std::thread::spawn(move || {
                let mut random = StdRng::seed_from_u64(seed);
                let (mut stream, mut reader) = connect(port);
                (0..POSTS)
                    .map(|_| {
                        std::thread::sleep(Duration::from_micros(random.random_range(0..30_000)));
                        stream.write_all(request.as_bytes()).unwrap();
                        let answer = read(head(&mut reader).as_bytes());
                        let length = answer.header("content-length").unwrap().parse().unwrap();
                        reader.read_exact(&mut vec![0; length]).unwrap();
                        answer.status
                    })
                    .filter(|status| *status != 200)
                    .count()
            })
        })
        .collect();
    let lost: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    let (came, sent) = (came.load(Ordering::Relaxed), usize::try_from(CLIENTS).unwrap() * POSTS);
    assert_eq!((lost, came), (0, sent), "lost, and received by the deployment");
}

#[test]
fn a_request_that_may_have_been_done_is_told_from_one_that_was_not_sent() {
    let problem = |answer: &Answer| (answer.status, answer.json()["code"].as_str().unwrap().to_owned());
    let log = |setting: &Setting| setting.rig.read_log("halligand.log");
    let (unanswered, unreachable) =
        ("a deployment ended a connection without an answer", "a deployment can't be reached");
    // The deployment reads the request and closes the connection. A POST is sent once, a GET at most twice.
    let (upstream, came) = closing(0);
    let (setting, port) = gateway(Some(upstream), "");
    let bearer = setting.bearer();
    for (method, target, body, most) in
        [("POST", RUN, "", 1), ("POST", RUN, "{}", 1), ("GET", "/api/v2/dags", "", 2)]
    {
        came.lock().unwrap().clear();
        let answer = ask(port, method, target, &[("Authorization", &bearer)], body);
        assert_eq!(problem(&answer), (502, "upstream_unanswered".to_owned()), "{answer:?}");
        assert_eq!(answer.reason(), "ok");
        let came = came.lock().unwrap().len();
        assert!((1..=most).contains(&came), "{method} came {came} times");
    }
    assert!(log(&setting).contains(unanswered) && !log(&setting).contains(unreachable));
    // The deployment's answer is not HTTP.
    let upstream = scripted(|stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        if !head(&mut reader).is_empty() {
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let (setting, port) = gateway(Some(upstream), "");
    let answer = ask(port, "POST", RUN, &[("Authorization", &setting.bearer())], "");
    assert_eq!(problem(&answer), (502, "upstream_invalid".to_owned()), "{answer:?}");
    assert!(!log(&setting).contains(unreachable) && !log(&setting).contains(unanswered));
    // The deployment is not listening.
    let (setting, port) = gateway(Some(free_port()), "");
    let answer = ask(port, "POST", RUN, &[("Authorization", &setting.bearer())], "");
    assert_eq!(problem(&answer), (502, "upstream_unreachable".to_owned()), "{answer:?}");
    assert!(log(&setting).contains(unreachable) && !log(&setting).contains(unanswered));
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
                // The client closes its sending side and waits for the answer.
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
