//! Framing of HTTP/1.1 messages: where a head ends, where its target stands, and what body follows it (RFC 9112).

use hyper::StatusCode;

/// Maximum number of header fields of a request, in addition to the limit of bytes.
pub(in crate::dataplane::faces) const MAX_FIELDS: usize = 1024;

/// Number of fields that are parsed without an allocation. Few heads have more.
pub(super) const FEW_FIELDS: usize = 64;

/// Faults of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane::faces) enum Fault {
    /// The target is invalid; the rest of the head can be parsed.
    Target,
    /// The head cannot be parsed, or its framing is ambiguous.
    Head,
    /// The head exceeds the maximum size, or has too many fields.
    TooLarge,
}

impl Fault {
    /// Returns the status of the answer, if it does not depend on the caller.
    pub(in crate::dataplane::faces) fn status(self) -> Option<StatusCode> {
        match self {
            Self::Target => None,
            Self::Head => Some(StatusCode::BAD_REQUEST),
            Self::TooLarge => Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        }
    }
}

/// Place of the next byte in the stream of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
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

/// Part of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    /// In a chunk's data, and the end of its line.
    Data(u64),
    Trailer,
}

/// Returns the length of the head at the beginning of `bytes`, including empty lines before it (RFC 9112 section 2.2). The
/// first `scanned` bytes are known to contain no end.
pub(super) fn head_length(bytes: &[u8], scanned: usize) -> Option<usize> {
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
pub(super) fn target(head: &[u8]) -> Option<std::ops::Range<usize>> {
    let begin = head.iter().position(|byte| !b"\r\n".contains(byte))?;
    let line = &head[begin..begin + head[begin..].iter().position(|&byte| byte == b'\n')?];
    let first = line.iter().position(|&byte| byte == b' ')?;
    let last = line.iter().rposition(|&byte| byte == b' ')?;
    (first + 1 < last).then(|| begin + first + 1..begin + last)
}

/// Returns the place in the stream after a head (RFC 9112 section 6).
pub(super) fn framing(head: &[u8]) -> Result<Place, Fault> {
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
pub(super) fn chunk_size(line: &[u8]) -> Option<u64> {
    let size = line.split(|&byte| byte == b';').next()?.trim_ascii_end();
    let plain = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
    plain.then(|| u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()).flatten()
}
