//! Tells from the bytes of a connection whether part of a request's head has arrived, in HTTP/1.1 and in HTTP/2.

/// First bytes of an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length of a frame's header (RFC 9113 section 4.1).
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Reader of a connection's bytes that follows the frames of HTTP/2. It checks nothing: the parser behind it does.
#[derive(Debug)]
pub(super) enum Heads {
    /// The first bytes, which may be the preface. Holds the number of equal bytes.
    First(usize),
    /// HTTP/1.1, which is not followed.
    Http1,
    /// HTTP/2.
    Http2(Frames),
}

impl Default for Heads {
    fn default() -> Self {
        Self::First(0)
    }
}

/// Position in the frames of an HTTP/2 connection.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; FRAME_HEADER],
    /// Number of bytes of the frame's header that have arrived.
    have: usize,
    /// Number of bytes of the payload that have not arrived.
    left: usize,
    /// True between HEADERS without END_HEADERS and the last CONTINUATION.
    open: bool,
}

impl Heads {
    /// Takes the next bytes. Returns true if they end within a head. HTTP/1.1 is not followed: between two requests any
    /// bytes begin a head, so the result is true.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        if let Self::First(equal) = self {
            let rest = &PREFACE[*equal..];
            let length = rest.len().min(bytes.len());
            if rest[..length] != bytes[..length] {
                *self = Self::Http1;
            } else if length < rest.len() {
                *equal += length;
            } else {
                bytes = &bytes[length..];
                *self = Self::Http2(Frames::default());
            }
        }
        match self {
            Self::First(_) | Self::Http1 => true,
            Self::Http2(frames) => frames.feed(bytes),
        }
    }

    /// Returns true if the connection is known to speak HTTP/2.
    pub(super) fn http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}

impl Frames {
    /// Takes the next bytes. Returns true if they end within a head: in a frame of it, or between two.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.have < FRAME_HEADER {
                let length = bytes.len().min(FRAME_HEADER - self.have);
                self.header[self.have..][..length].copy_from_slice(&bytes[..length]);
                self.have += length;
                bytes = &bytes[length..];
                if self.have < FRAME_HEADER {
                    break;
                }
                let [a, b, c, ..] = self.header;
                self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            }
            let length = bytes.len().min(self.left);
            self.left -= length;
            bytes = &bytes[length..];
            if self.left == 0 {
                if self.of_head() {
                    self.open = self.header[4] & END_HEADERS == 0;
                }
                self.have = 0;
            }
        }
        self.open || self.of_head()
    }

    /// Returns true if the frame in progress is known to be part of a head.
    fn of_head(&self) -> bool {
        self.have > 3 && matches!(self.header[3], HEADERS | CONTINUATION)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn half_a_head_is_told_from_a_whole_one_however_the_bytes_are_cut() {
        let (settings, ping, data) = (frame(4, 0, b""), frame(6, 0, b"12345678"), frame(0, 0, &[b'x'; 700]));
        let head = frame(HEADERS, END_HEADERS | 1, &[0x82, 0x87, 0x84]);
        let (begun, more) = (frame(HEADERS, 1, &[0x82]), frame(CONTINUATION, 0, &[0x87]));
        let end = frame(CONTINUATION, END_HEADERS, &[0x84]);
        for (frames, within) in [
            (vec![&settings], false),
            (vec![&settings, &head, &ping], false),
            (vec![&settings, &head, &data], false),
            (vec![&settings, &begun], true),
            (vec![&settings, &begun, &more], true),
            (vec![&settings, &begun, &more, &end], false),
            (vec![&settings, &begun, &end, &begun], true),
        ] {
            let bytes =
                [&PREFACE[..], &frames.iter().flat_map(|frame| frame.iter().copied()).collect::<Vec<_>>()];
            let bytes = bytes.concat();
            for piece in 1..=bytes.len() {
                let mut heads = Heads::default();
                let told = bytes.chunks(piece).map(|bytes| heads.feed(bytes)).last();
                assert_eq!((told, heads.http2()), (Some(within), true), "{frames:?} in pieces of {piece}");
            }
        }
        // Half a frame counts once its kind is known, unless it is of another kind: a client can send PINGs for ever.
        for (frame, within) in
            [(&head[..3], false), (&head[..4], true), (&head[..11], true), (&ping[..11], false)]
        {
            let mut heads = Heads::default();
            heads.feed(PREFACE);
            assert_eq!(heads.feed(frame), within, "{frame:?}");
        }
    }

    #[test]
    fn other_first_bytes_are_not_http2() {
        for bytes in ["", "P", "PRI * HTTP/2.0\r\n", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/1.1\r\n\r\n"] {
            let mut heads = Heads::default();
            assert!(heads.feed(bytes.as_bytes()) && !heads.http2(), "{bytes}");
        }
    }
}
