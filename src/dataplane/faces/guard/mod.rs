//! Guard in front of the HTTP/1.1 parser of the gateway and of the interface for proxies. The parser rejects an invalid head
//! without a callback in which an event could be recorded or a reason returned, so the guard checks each head first.
//!
//! A head that is invalid, or whose framing is ambiguous, is replaced by a valid one and marked: the interface answers it according to
//! the [`Fault`]. A target that RFC 3986 does not permit is replaced in the same way. No bytes after a fault are read, and the answer
//! ends the connection. Bodies pass unchanged; the guard follows their framing only to find the next head.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::dataplane::decide::routes::is_target;
use crate::platform::net::activity::Activity;

/// Maximum number of header fields of a request, in addition to the limit of bytes.
pub(super) const MAX_FIELDS: usize = 1024;

/// Number of fields that are parsed without an allocation. Few heads have more.
const FEW_FIELDS: usize = 64;

/// Maximum number of bytes that are read and discarded after a head that is too large. Most such heads end soon, and who sends
/// without end is cut off.
const MAX_DRAINED_HEAD: u64 = 512 << 10;

/// Length that the line with a chunk's size, or of a trailer field, may always have, in bytes.
const MAX_LINE: usize = 256;

/// Bytes that are neither a chunk's size, nor a trailer field, nor the end of a chunked body.
const NO_CHUNK: &[u8] = b"\rx";

/// Faults of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The target is invalid; the rest of the head can be parsed.
    Target,
    /// The head cannot be parsed, or its framing is ambiguous.
    Head,
    /// The head exceeds the maximum size, or has too many fields.
    TooLarge,
}

impl Fault {
    /// Returns the status of the answer, if it does not depend on the caller.
    pub(super) fn status(self) -> Option<StatusCode> {
        match self {
            Self::Target => None,
            Self::Head => Some(StatusCode::BAD_REQUEST),
            Self::TooLarge => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        }
    }
}

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

/// Place of the next byte in the stream of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In the head of a request.
    Head,
    /// In a body with this number of bytes left.
    Body(u64),
    /// In a chunked body.
    Chunk(Chunk),
    /// After a request for another protocol, or after the last byte: all bytes pass.
    Beyond,
    /// After a fault: no bytes pass.
    Faulty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size,
    /// In a chunk's data, and the end of its line.
    Data(u64),
    Trailer,
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

/// Returns the length of the head at the beginning of `bytes`, including empty lines before it (RFC 9112 section 2.2). The
/// first `scanned` bytes are known to contain no end.
fn head_length(bytes: &[u8], scanned: usize) -> Option<usize> {
    let begin = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    // An end may begin in the scanned bytes.
    let from = begin.max(scanned.saturating_sub(3));
    let mut ends =
        bytes[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| from + at);
    ends.find_map(|end| match &bytes[end + 1..] {
        [b'\n', ..] => Some(end + 2),
        [b'\r', b'\n', ..] => Some(end + 3),
        _ => None,
    })
}

/// Returns the range of the target in a head: between the first and the last space of its first line.
fn target(head: &[u8]) -> Option<std::ops::Range<usize>> {
    let begin = head.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line = &head[begin..begin + head[begin..].iter().position(|&byte| byte == b'\n')?];
    let first = line.iter().position(|&byte| byte == b' ')?;
    let last = line.iter().rposition(|&byte| byte == b' ')?;
    (first + 1 < last).then(|| begin + first + 1..begin + last)
}

/// Returns the place in the stream after a head (RFC 9112 section 6).
fn framing(head: &[u8]) -> Result<Place, Fault> {
    let (mut few, mut many) = ([httparse::EMPTY_HEADER; FEW_FIELDS], Vec::new());
    let mut request = httparse::Request::new(&mut few);
    let mut parsed = request.parse(head);
    if parsed == Err(httparse::Error::TooManyHeaders) {
        many.resize(MAX_FIELDS, httparse::EMPTY_HEADER);
        request = httparse::Request::new(&mut many);
        parsed = request.parse(head);
    }
    match parsed {
        Ok(parsed) if parsed.is_complete() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::TooLarge),
        Ok(_) | Err(_) => return Err(Fault::Head),
    }
    let (mut coding, mut length, mut upgrade) = (None, None, false);
    for field in request.headers.iter() {
        let is = |name: &str| field.name.eq_ignore_ascii_case(name);
        let place = match () {
            () if is("transfer-encoding") => &mut coding,
            () if is("content-length") => &mut length,
            () => {
                upgrade |= is("upgrade");
                continue;
            }
        };
        if place.replace(field.value).is_some() {
            return Err(Fault::Head);
        }
    }
    // Only without a body can another protocol follow.
    let none = if upgrade { Place::Beyond } else { Place::Body(0) };
    let length = match length {
        None => None,
        Some(digits) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
            Some(number.ok_or(Fault::Head)?)
        }
        Some(_) => return Err(Fault::Head),
    };
    match (coding, length) {
        (Some(coding), _) if coding.eq_ignore_ascii_case(b"chunked") && request.version == Some(1) => {
            Ok(Place::Chunk(Chunk::Size))
        }
        (Some(_), _) => Err(Fault::Head),
        (None, None | Some(0)) => Ok(none),
        (None, Some(length)) => Ok(Place::Body(length)),
    }
}

/// Parses the size of a chunk (RFC 9112 section 7.1). Extensions after a semicolon are ignored.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|&byte| byte == b';').next()?.trim_ascii_end();
    let plain = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()).flatten()
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
            // Part of a head may have arrived together with the request before it. Its rest is awaited only if the connection
            // asks for it in vain: one whose client takes no answer asks for nothing.
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
