"""The LZ4 block format, decoding only. A block on a node's disk stands behind its length (log.md, "Block")."""

from __future__ import annotations

from refusal import Malformed

# A row holds lines that were written together, far below this limit. The limit keeps a forged length from filling the
# memory.
LENGTH_BOUND = 1 << 30


def decode_block(data: bytes) -> bytes:
    """Decodes 4 bytes of length, little-endian, then one LZ4 block of exactly that length."""
    if len(data) < 4:
        raise Malformed("a block without its length")
    length = int.from_bytes(data[:4], "little")
    if length > LENGTH_BOUND:
        raise Malformed("a block above 1 GiB")
    content = _decode(data[4:], length)
    if len(content) != length:
        raise Malformed("a block of another length than it says")
    return content


def _decode(data: bytes, length: int) -> bytes:
    out, at = bytearray(), 0
    try:
        while True:
            token = data[at]
            at += 1
            count, at = _extended(data, at, token >> 4)
            if at + count > len(data):
                raise Malformed("an LZ4 block that is cut off")
            out += data[at : at + count]
            at += count
            if at == len(data):
                # The last sequence ends after its literals (LZ4 block format).
                return bytes(out)
            offset = int.from_bytes(data[at : at + 2], "little")
            at += 2
            count, at = _extended(data, at, token & 15)
            if not 0 < offset <= len(out):
                raise Malformed("an LZ4 match that begins before the block")
            for _ in range(count + 4):
                out.append(out[-offset])
            if len(out) > length:
                raise Malformed("an LZ4 block that is longer than it says")
    except IndexError:
        raise Malformed("an LZ4 block that is cut off") from None


def _extended(data: bytes, at: int, count: int) -> tuple[int, int]:
    """Reads the bytes by which a length of 15 goes on."""
    if count == 15:
        while True:
            more = data[at]
            at += 1
            count += more
            if more != 255:
                break
    return count, at


def encode_block(content: bytes) -> bytes:
    """Encodes a block of literals alone, which every decoder takes."""
    size = len(content)
    head = bytes([min(size, 15) << 4])
    rest = size - 15
    if rest >= 0:
        head += b"\xff" * (rest // 255) + bytes([rest % 255])
    return size.to_bytes(4, "little") + head + content
