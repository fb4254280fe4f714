//! Worker threads. Each has its own reactor, so that the thread that reads a request also decides and answers it, without
//! waking another thread.

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
use crate::dataplane::faces::guard::{Drain, Found, Guarded, MAX_FIELDS};
use crate::platform::net::activity::Activity;
use crate::platform::net::connections::{Stop, until_stopped};
use crate::platform::net::linger::Lingering;
use crate::platform::net::listener::{Bounds, Connections, FIRST, Place, accept};
use crate::platform::net::share::Each;

/// Maximum size of a request's line and headers, in bytes. Beyond it, and beyond [`MAX_FIELDS`], the answer is 431. A proxy adds
/// fields of its own to those of the client, and both limits are above those of every proxy, so that the proxy rejects the request.
const MAX_HEADERS: usize = 64 * 1024;

/// Maximum number of bytes that are read after the last answer of a connection.
const MAX_DRAINED: u64 = 16 << 20;

/// Maximum number of connections at a time. A proxy keeps some for each of its workers.
const MAX_CONNECTIONS: u32 = 4096;

/// Time for which a connection still answers after shutdown began, so that its client learns of the end from a response,
/// and not from a failed request.
const FAREWELL: Duration = Duration::from_millis(250);

/// Work for a thread.
enum Work {
    /// Serves a connection.
    Serve(std::net::TcpStream, IpAddr, Place),
    /// Decides on an unsigned token, and reports whether it was denied.
    Prove(oneshot::Sender<bool>),
}

/// State of one worker thread. Not shared, so that counting a request never touches another core's cache line.
struct Worker {
    face: Arc<Face>,
    stopped: watch::Receiver<()>,
}

/// Threads that serve the HTTP interface.
pub struct Workers {
    senders: Vec<mpsc::UnboundedSender<Work>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts the threads.
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
                            // The caller may have timed out.
                            Work::Prove(asked) => drop(asked.send(worker.face.authorizer.refuses())),
                        }
                    }
                    // Requests in progress are answered, and keep-alive connections end by themselves.
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

    /// Returns a prober of the threads. It must be dropped before the threads can end.
    #[must_use]
    pub fn prober(&self) -> Prober {
        Prober(self.senders.clone())
    }

    /// Accepts connections and distributes them over the threads, until shutdown.
    pub fn accept(
        &self,
        listener: TcpListener,
        each: Each,
        counted: Connections,
        stopped: watch::Receiver<()>,
    ) -> tokio::task::JoinHandle<()> {
        let senders = self.senders.clone();
        let next = AtomicUsize::new(0);
        let bounds = Bounds { name: "http", connections: MAX_CONNECTIONS, each: Some(each), counted };
        accept(listener, bounds, stopped, move |stream, peer, place| {
            let handed = stream.into_std().map(|stream| {
                let worker = next.fetch_add(1, Ordering::Relaxed) % senders.len();
                // A thread that ended has logged the reason.
                drop(senders[worker].send(Work::Serve(stream, peer, place)));
            });
            if let Err(error) = handed {
                tracing::warn!(%error, "a connection was lost");
            }
            std::future::ready(())
        })
    }

    /// Waits for the threads to end after shutdown began.
    pub fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            // A thread that panicked has logged it.
            let _ = thread.join();
        }
    }
}

/// Checks whether the threads decide.
#[derive(Clone)]
pub struct Prober(Vec<mpsc::UnboundedSender<Work>>);

impl Prober {
    /// Waits until every thread has decided on an unsigned token. Returns false if a thread allowed it, or has ended.
    pub async fn decided(&self) -> bool {
        let asked: Vec<_> = self
            .0
            .iter()
            .map(|thread| {
                let (asked, answer) = oneshot::channel();
                // A thread that ended drops the channel.
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

/// Serves a connection: first on the fast path, then with hyper.
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
    let activity = Arc::new(Activity::after(stop.silence().clone()));
    let reader = activity.watch(Cursor::new(unanswered).chain(reader));
    let found = Found::default();
    let drain = Drain { bytes: MAX_DRAINED, time: FIRST };
    let stream = tokio::io::join(reader, writer);
    let stream = Guarded::new(stream, MAX_HEADERS, found.clone(), Arc::clone(&activity), drain);
    let noted = Arc::clone(&activity);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let (worker, busy) = (Arc::clone(&worker), noted.begin());
        let fault = found.next();
        async move {
            let (request, body) = request.into_parts();
            let body = Lingering::new(&request, body);
            let (mut answer, ends) = match fault {
                Some(fault) => {
                    // The guard passes no bytes after a fault.
                    body.forget();
                    (worker.face.malformed(peer, &request, fault).await, true)
                }
                None => (worker.face.answer(peer, &request, body).await, false),
            };
            // An error means that the daemon has ended.
            if ends || worker.stopped.has_changed().unwrap_or(true) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(busy.sending(answer))
        }
    });
    let mut http = http1::Builder::new();
    // A response is one buffer, so vectored writes gain nothing.
    let connection = http
        .max_buf_size(MAX_HEADERS)
        .max_headers(MAX_FIELDS)
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    until_stopped(connection, http1::Connection::graceful_shutdown, FAREWELL, peer, stop, activity).await;
}
