//! Guard in front of the HTTP/1.1 parser of the gateway and of the interface for proxies. The parser rejects an invalid head
//! without a callback in which an event could be recorded or a reason returned, so the guard checks each head first.
//!
//! A head that is invalid, or whose framing is ambiguous, is replaced by a valid one and marked: the interface answers it according to
//! the [`Fault`]. A target that RFC 3986 does not permit is replaced in the same way. No bytes after a fault are read, and the answer
//! ends the connection. Bodies pass unchanged; the guard follows their framing only to find the next head.

mod framing;

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use framing::{Chunk, Place, chunk_size, framing, head_length, target};
pub(super) use framing::{Fault, MAX_FIELDS};

use crate::dataplane::decide::routes::is_target;
use crate::platform::net::activity::Activity;

/// Maximum number of bytes that are read and discarded after a head that is too large. Most such heads end soon, and who sends
/// without end is cut off.
const MAX_DRAINED_HEAD: u64 = 512 << 10;

/// Length that the line with a chunk's size, or of a trailer field, may always have, in bytes.
const MAX_LINE: usize = 256;

/// Bytes that are neither a chunk's size, nor a trailer field, nor the end of a chunked body.
const NO_CHUNK: &[u8] = b"\rx";

/// State that the guard of a connection shares with the handlers of its requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Found(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Number and fault of the faulty request. There is at most one, the last.
    fault: OnceLock<(u64, Fault)>,
    requests: AtomicU64,
    /// True if the answer in progress ends the connection, so that nothing more is read.
    last: AtomicBool,
}

impl Found {
    /// Returns the fault of the next request from the parser. The guard counts heads as the parser counts requests.
    pub(super) fn next(&self) -> Option<Fault> {
        let number = self.0.requests.fetch_add(1, Ordering::Relaxed);
        self.0.fault.get().filter(|(faulty, _)| *faulty == number).map(|(_, fault)| *fault)
    }

    /// Records that the answer to a request ends the connection, so that later bytes are ignored.
    pub(super) fn end(&self) {
        self.0.last.store(true, Ordering::Relaxed);
    }

    fn ended(&self) -> bool {
        self.0.last.load(Ordering::Relaxed)
    }
}

/// Maximum number of bytes that are read and discarded after the last request, and maximum time. A connection that is
/// closed with unread bytes is reset, and the reset can overtake the answer (RFC 9112 section 9.6).
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// Stream whose heads are checked.
pub(super) struct Guarded<S> {
    stream: S,
    place: Place,
    /// Received bytes that are not checked yet.
    held: Vec<u8>,
    /// Number of held bytes that are known to contain no end of a head.
    scanned: usize,
    /// Bytes that the parser may read, from `taken` on.
    cleared: Vec<u8>,
    taken: usize,
    heads: u64,
    header_bytes: usize,
    found: Found,
    activity: Arc<Activity>,
    drain: Drain,
    /// Deadline for the discarded bytes. Set once the sending side is shut down.
    draining: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(
        stream: S,
        header_bytes: usize,
        found: Found,
        activity: Arc<Activity>,
        drain: Drain,
    ) -> Self {
        let (held, cleared) = (Vec::new(), Vec::new());
        Self {
            stream,
            place: Place::Head,
            held,
            scanned: 0,
            cleared,
            taken: 0,
            heads: 0,
            header_bytes,
            found,
            activity,
            drain,
            draining: None,
        }
    }

    /// Clears held bytes that the parser may read.
    fn follow(&mut self) {
        loop {
            match self.place {
                Place::Faulty => return self.held.clear(),
                Place::Beyond => return self.cleared.append(&mut self.held),
                Place::Head => match head_length(&self.held, self.scanned) {
                    Some(length) if length <= self.header_bytes => self.head(length),
                    None if self.held.len() <= self.header_bytes => {
                        self.scanned = self.held.len();
                        return;
                    }
                    _ => self.refuse(Fault::TooLarge),
                },
                Place::Body(0) => self.begin_head(),
                Place::Body(rest) => {
                    let Some(rest) = self.pass(rest) else { return };
                    self.place = Place::Body(rest);
                }
                Place::Chunk(Chunk::Data(0)) => self.place = Place::Chunk(Chunk::Size),
                Place::Chunk(Chunk::Data(rest)) => {
                    let Some(rest) = self.pass(rest) else { return };
                    self.place = Place::Chunk(Chunk::Data(rest));
                }
                Place::Chunk(chunk) => {
                    let end = self.held.iter().position(|&byte| byte == b'\n');
                    if end.unwrap_or(self.held.len()) > self.header_bytes.max(MAX_LINE) {
                        return self.break_body();
                    }
                    let Some(end) = end else { return };
                    let line = self.held[..end].strip_suffix(b"\r").unwrap_or(&self.held[..end]);
                    let next = match (chunk, line) {
                        (Chunk::Size, line) => chunk_size(line).map(|size| match size {
                            0 => Place::Chunk(Chunk::Trailer),
                            size => Place::Chunk(Chunk::Data(size + 2)),
                        }),
                        (_, []) => Some(Place::Body(0)),
                        (chunk, _) => Some(Place::Chunk(chunk)),
                    };
                    let Some(next) = next else { return self.break_body() };
                    self.place = next;
                    self.cleared.extend(self.held.drain(..=end));
                }
            }
        }
    }

    /// Ends a chunked body that the guard can't follow. The parser might read on where the guard does not (it takes any number of
    /// leading zeros), and would then find heads that nobody checked. So it gets bytes that it rejects, and nothing after them.
    fn break_body(&mut self) {
        self.cleared.extend_from_slice(NO_CHUNK);
        self.found.end();
        self.place = Place::Faulty;
        self.held.clear();
    }

    /// Clears up to `rest` bytes, and returns the number of bytes left, or `None` if none are held.
    fn pass(&mut self, rest: u64) -> Option<u64> {
        if self.held.is_empty() {
            return None;
        }
        let length = usize::try_from(rest).map_or(self.held.len(), |rest| rest.min(self.held.len()));
        self.cleared.extend(self.held.drain(..length));
        Some(rest - length as u64)
    }

    fn begin_head(&mut self) {
        (self.place, self.scanned) = (Place::Head, 0);
    }

    /// Checks a head of this length.
    fn head(&mut self, length: usize) {
        let mut head: Vec<u8> = self.held.drain(..length).collect();
        let wrong_target = target(&head).filter(|range| !is_target(&head[range.clone()]));
        if let Some(range) = &wrong_target {
            head.splice(range.clone(), *b"/");
        }
        match framing(&head) {
            Err(fault) => self.refuse(fault),
            Ok(_) if wrong_target.is_some() => {
                self.mark(Fault::Target);
                self.cleared.append(&mut head);
            }
            Ok(place) => {
                self.heads += 1;
                (self.place, self.scanned) = (place, 0);
                self.cleared.append(&mut head);
            }
        }
    }

    /// Replaces a faulty head with one that the parser can read.
    fn refuse(&mut self, fault: Fault) {
        self.mark(fault);
        self.cleared.extend_from_slice(b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n");
    }

    fn mark(&mut self, fault: Fault) {
        // It is the first fault: nothing after it is checked.
        let _ = self.found.0.fault.set((self.heads, fault));
        self.found.end();
        self.place = Place::Faulty;
        self.held.clear();
        if fault == Fault::TooLarge {
            self.drain.bytes = self.drain.bytes.min(MAX_DRAINED_HEAD);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.taken < this.cleared.len() {
                let length = buffer.remaining().min(this.cleared.len() - this.taken);
                buffer.put_slice(&this.cleared[this.taken..this.taken + length]);
                this.taken += length;
                if this.taken == this.cleared.len() {
                    this.cleared.clear();
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            match this.place {
                // The end of the stream would cancel the request in progress. Its answer ends the connection.
                _ if this.found.ended() => return Poll::Pending,
                Place::Beyond => return Pin::new(&mut this.stream).poll_read(context, buffer),
                _ => {}
            }
            let mut space = [0; 8192];
            let mut read = ReadBuf::new(&mut space);
            let polled = Pin::new(&mut this.stream).poll_read(context, &mut read);
            // Part of a head may have arrived together with the request before it. The limit for a head begins only when
            // the connection waits for more bytes: while a client takes no answer, the connection does not read.
            this.activity
                .set_within_head(polled.is_pending() && this.place == Place::Head && !this.held.is_empty());
            ready!(polled)?;
            if read.filled().is_empty() {
                // The client ended the stream within a head or a body.
                this.place = Place::Beyond;
                if this.held.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            this.held.extend_from_slice(read.filled());
            this.follow();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Shuts the sending side down, then reads and discards unread bytes, and within the limits also bytes that are still expected.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.draining.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let ended = this.found.ended();
        if this.place == Place::Beyond && !ended {
            // In another protocol, one direction may end alone.
            return Poll::Ready(Ok(()));
        }
        let awaited = ended || this.place != Place::Head;
        let longest = this.drain.time;
        let deadline = this.draining.get_or_insert_with(|| Box::pin(sleep(longest)));
        while deadline.as_mut().poll(context).is_pending() {
            let mut space = [0; 8192];
            let mut read = ReadBuf::new(&mut space);
            let broken = match Pin::new(&mut this.stream).poll_read(context, &mut read) {
                Poll::Pending if awaited => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(read) => read.is_err(),
            };
            let length = read.filled().len() as u64;
            if broken || length == 0 || length > this.drain.bytes {
                break;
            }
            this.drain.bytes -= length;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
