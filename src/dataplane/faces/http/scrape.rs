//! Answers scrapes of the metrics.

use std::sync::Arc;

use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::{Face, plain};
use crate::dataplane::faces::answer::Answer;
use crate::dataplane::observe::metrics::MEDIA_TYPE;

impl Face {
    /// Returns the metrics. They are encoded on a blocking thread, one scrape after another, so that no number of scrapes keeps
    /// the worker threads from deciding.
    pub(super) async fn scrape(&self) -> Answer {
        let turn = self.authorizer.metrics.encoding_turn().await;
        let authorizer = Arc::clone(&self.authorizer);
        let encoding = tokio::task::spawn_blocking(move || {
            // Held here, since a client that leaves does not stop this thread.
            let _turn = turn;
            authorizer.metrics.text()
        });
        let Ok(text) = encoding.await else {
            return plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be encoded\n");
        };
        let mut answer = Response::new(Full::from(text));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, clippy::unwrap_used)]

    use std::num::NonZeroU16;
    use std::sync::Mutex;
    use std::sync::mpsc;
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::*;
    use crate::dataplane::audit::AuditLog;
    use crate::dataplane::authorize::Authorizer;
    use crate::dataplane::decide::snapshot::Snapshot;
    use crate::dataplane::faces::answer::Answers;
    use crate::dataplane::faces::http::Workers;
    use crate::dataplane::node::state::Live;
    use crate::dataplane::observe::metrics::Metrics;
    use crate::platform::clock::Clock;
    use crate::platform::net::share::Share;
    use crate::protocol::id::NodeId;
    use crate::protocol::key::SigningKey;
    use crate::protocol::time::Time;

    const NOW: Time = Time::from_unix(1_800_000_000);
    /// Limit of a test that fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    struct Served {
        workers: Workers,
        stream: TcpStream,
        _stop: watch::Sender<()>,
        _directory: TempDir,
    }

    /// A face with one worker thread and a connection to it. `encoding` is called while the metrics are encoded.
    async fn serve(encoding: impl Fn() + Send + Sync + 'static) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let clock: Clock = Arc::new(|| NOW);
        let live = Arc::new(Live::new(Snapshot::absent(), Time::default(), NOW));
        let (node, key) = (NodeId::new("nod_a").unwrap(), Arc::new(SigningKey::from_seed(&[7; 32])));
        let path = directory.path().join("audit.db");
        let audit = Arc::new(AuditLog::open(&path, node.clone(), key, Arc::clone(&clock), 100).unwrap());
        let metrics =
            Metrics::new(Arc::clone(&live), Arc::clone(&clock)).with_signatures_waiting(move || {
                encoding();
                0
            });
        let counted = metrics.connections();
        let authorizer = Arc::new(Authorizer::plain((live, audit), node, clock, metrics));
        let answers = Answers { pass_status: false, identity: None };
        let face = Arc::new(Face { authorizer, trusted: ArcSwap::default(), answers, code: None });
        let (stop, stopped) = watch::channel(());
        let workers = Workers::start(NonZeroU16::MIN, &face, &stopped).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(workers.accept(listener, face.each(Share::Quarter), counted, stopped));
        let stream = TcpStream::connect(address).await.unwrap();
        Served { workers, stream, _stop: stop, _directory: directory }
    }

    async fn ask(stream: &mut TcpStream) {
        let request = "GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn answer(stream: &mut TcpStream) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_worker_decides_while_a_scrape_is_encoded() {
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let mut served = serve(move || {
            begun.send(()).unwrap();
            // Ends when the test drops the sender.
            let _ = held.lock().unwrap().recv();
        })
        .await;
        ask(&mut served.stream).await;
        begins.recv().await.unwrap();
        let decided = tokio::time::timeout(PATIENCE, served.workers.prober().decided()).await;
        drop(release);
        assert_eq!(decided, Ok(true), "the only worker decides nothing during a scrape");
        let answer = answer(&mut served.stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(MEDIA_TYPE) && answer.contains("halligan_signatures_waiting 0"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_that_cant_be_encoded_are_an_error() {
        let mut served = serve(|| panic!("a collector that fails")).await;
        ask(&mut served.stream).await;
        let answer = answer(&mut served.stream).await;
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
}
