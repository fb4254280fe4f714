//! Worker threads: each has a reactor of its own, so that a request is read, decided and answered where it came in, and
//! no other thread is woken for it.

use std::convert::Infallible;
use std::io::Cursor;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Face, fast_path};
use crate::dataplane::listening::{Stop, until_stopped};
use crate::net::activity::Activity;
use crate::net::listener::{Bounds, Connections, Place, accept};
use crate::platform::net::fields::head_bytes;

/// The most a request's line and headers may take, in bytes; above it the answer is 431.
const MAX_HEADERS: usize = 64 * 1024;

/// Connections at a time: a proxy keeps some for each of its workers.
const MAX_CONNECTIONS: u32 = 4096;

/// The most header fields of a request. A proxy passes on what a client sends, and adds its own: the bound lies above that of
/// any proxy, so that it is the proxy that refuses.
const MAX_FIELDS: usize = 1024;

/// How long a connection that is told to end may still ask: its client must learn of the end from an answer, and not
/// from a request that finds nobody.
const FAREWELL: Duration = Duration::from_millis(250);

/// What a thread is given to do.
enum Work {
    /// Serve a connection.
    Serve(std::net::TcpStream, IpAddr, Place),
    /// Decide about a token nobody issued, and say whether it was refused.
    Prove(oneshot::Sender<bool>),
}

/// What a thread serves with. Each thread has its own: whom it counts, no other core is asked for.
struct Worker {
    face: Arc<Face>,
    stopped: watch::Receiver<()>,
}

/// The threads that serve a face.
pub struct Workers {
    senders: Vec<mpsc::UnboundedSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts so many threads.
    pub fn start(
        count: NonZeroU16,
        face: &Arc<Face>,
        stopped: &watch::Receiver<()>,
    ) -> std::io::Result<Self> {
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for number in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (sender, mut work) = mpsc::unbounded_channel();
            let worker = Arc::new(Worker { face: Arc::clone(face), stopped: stopped.clone() });
            let run = move || {
                runtime.block_on(async {
                    while let Some(work) = work.recv().await {
                        match work {
                            Work::Serve(stream, peer, place) => match TcpStream::from_std(stream) {
                                Ok(stream) => {
                                    drop(tokio::spawn(place.hold(serve(stream, peer, Arc::clone(&worker)))));
                                }
                                Err(error) => tracing::warn!(%error, "a connection was lost"),
                            },
                            // Whoever asked may have lost patience.
                            Work::Prove(asked) => drop(asked.send(worker.face.authorizer.refuses())),
                        }
                    }
                    // Whoever is being answered gets the answer; keep-alive connections end by themselves.
                    let mut waited = 0;
                    while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 && waited < 100 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        waited += 1;
                    }
                });
            };
            threads.push(std::thread::Builder::new().name(format!("http-{number}")).spawn(run)?);
            senders.push(sender);
        }
        Ok(Self { senders, threads })
    }

    /// What finds out whether the threads decide. They don't end before it is dropped.
    #[must_use]
    pub fn prober(&self) -> Prober {
        Prober(self.senders.clone())
    }

    /// Accepts connections and hands them round, until told to stop.
    pub fn accept(
        &self,
        listener: TcpListener,
        counted: Connections,
        stopped: watch::Receiver<()>,
    ) -> tokio::task::JoinHandle<()> {
        let senders = self.senders.clone();
        let next = AtomicUsize::new(0);
        let bounds = Bounds { name: "http", connections: MAX_CONNECTIONS, each: None, counted };
        accept(listener, bounds, stopped, move |stream, peer, place| {
            let handed = stream.into_std().map(|stream| {
                let worker = next.fetch_add(1, Ordering::Relaxed) % senders.len();
                // A worker that is gone has said why.
                drop(senders[worker].send(Work::Serve(stream, peer, place)));
            });
            if let Err(error) = handed {
                tracing::warn!(%error, "a connection was lost");
            }
            std::future::ready(())
        })
    }

    /// Waits for the threads to end, once they have been told to.
    pub fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// Finds out whether the threads decide.
#[derive(Clone)]
pub struct Prober(Vec<mpsc::UnboundedSender<Work>>);

impl Prober {
    /// Waits until every thread has decided about a token nobody issued; false when one let it through, or is gone.
    pub async fn decided(&self) -> bool {
        let asked: Vec<_> = self
            .0
            .iter()
            .map(|thread| {
                let (asked, answer) = oneshot::channel();
                // A thread that is gone drops what it is asked.
                let _ = thread.send(Work::Prove(asked));
                answer
            })
            .collect();
        for answer in asked {
            if !answer.await.unwrap_or(false) {
                return false;
            }
        }
        true
    }
}

/// Serves a connection: on the fast path as long as that goes, and with hyper from there on.
async fn serve(mut stream: TcpStream, peer: IpAddr, worker: Arc<Worker>) {
    let mut stop = Stop::from(worker.stopped.clone());
    let unanswered = match fast_path::serve(&mut stream, peer, &worker.face, &mut stop).await {
        Ok(Some(unanswered)) => unanswered,
        Ok(None) => return,
        Err(error) => {
            tracing::debug!(%error, %peer, "a connection broke");
            return;
        }
    };
    let (reader, writer) = stream.into_split();
    let stream = tokio::io::join(Cursor::new(unanswered).chain(reader), writer);
    let activity = Arc::new(Activity::default());
    let noted = Arc::clone(&activity);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (worker, busy) = (Arc::clone(&worker), noted.begin());
        async move {
            let request = request.into_parts().0;
            // hyper reads whole pieces, and counts only between them.
            let mut answer = if head_bytes(&request) > MAX_HEADERS {
                worker.face.too_large(peer)
            } else {
                worker.face.answer(peer, &request).await
            };
            // An error means that the daemon is gone already.
            if worker.stopped.has_changed().unwrap_or(true) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(busy);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut http = http1::Builder::new();
    // An answer is one piece: it is not gathered from several.
    let connection = http
        .max_buf_size(MAX_HEADERS)
        .max_headers(MAX_FIELDS)
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    until_stopped(connection, http1::Connection::graceful_shutdown, FAREWELL, peer, stop, activity).await;
}
