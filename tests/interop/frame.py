"""The zstd frame of a bundle (RFC 8878 section 3.1.1).

The library takes frames without a checksum, skippable frames and frames one behind the other. So the header is read here, and
the library is stopped at the end of the first frame.
"""

from __future__ import annotations

from typing import Iterator

import zstandard

from refusal import Malformed

MAGIC = b"\x28\xb5\x2f\xfd"
WINDOW_BOUND = 8 * 1024 * 1024
PIECE = 4096


def check_header(data: bytes) -> None:
    """Refuses a frame that is not a zstd frame with a checksum and a window of at most 8 MiB."""
    if data[:4] != MAGIC or len(data) < 6:
        raise Malformed("does not begin with a zstd frame")
    descriptor = data[4]
    if not descriptor & 0b100:
        raise Malformed("a frame without a checksum")
    if descriptor & 0b100000:
        window = _content_size(data, descriptor)
    else:
        exponent, mantissa = data[5] >> 3, data[5] & 7
        base = 1 << (10 + exponent)
        window = base + base // 8 * mantissa
    if window > WINDOW_BOUND:
        raise Malformed("a window above 8 MiB")


def _content_size(data: bytes, descriptor: int) -> int:
    """Reads the content size of a single-segment frame, which is its window too (RFC 8878 section 3.1.1.1.2)."""
    at = 5 + (0, 1, 2, 4)[descriptor & 3]
    size = (1, 2, 4, 8)[descriptor >> 6]
    field = data[at : at + size]
    if len(field) < size:
        raise Malformed("a zstd frame that ends in its header")
    number = int.from_bytes(field, "little")
    return number + 256 if size == 2 else number


def decompress(data: bytes) -> Iterator[bytes]:
    """Yields the content of exactly one frame, piece by piece, and refuses any byte behind it.

    Piece by piece, since a rule about the head is judged before a fault that only shows at the end of the frame.
    """
    check_header(data)
    stream = zstandard.ZstdDecompressor(max_window_size=WINDOW_BOUND).decompressobj()
    for start in range(0, len(data), PIECE):
        if stream.eof:
            raise Malformed("bytes behind the frame")
        try:
            piece = stream.decompress(data[start : start + PIECE])
        except zstandard.ZstdError as error:
            raise Malformed(f"zstd: {error}") from None
        if piece:
            yield piece
    if not stream.eof:
        raise Malformed("a frame that is cut off")
    if stream.unused_data:
        raise Malformed("bytes behind the frame")


def compress(content: bytes, level: int = 3, *, checksum: bool = True) -> bytes:
    """Writes one frame, as a control plane does."""
    return zstandard.ZstdCompressor(level=level, write_checksum=checksum).compress(content)


