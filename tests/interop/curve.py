"""Points of Ed25519 (RFC 8032 section 5.1), as far as the strict rules need them.

The library behind `cryptography` checks the equation without cofactor and that S is below the group order. It takes encodings
of A that are not canonical, and points of small order. Both are checked here before it is asked.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)

Point = tuple[int, int]


def decompress(encoding: bytes) -> Point | None:
    """Decodes a canonical encoding (RFC 8032 section 5.1.3); returns None for any other 32 bytes."""
    number = int.from_bytes(encoding, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P == u:
        pass
    elif v * x * x % P == P - u:
        x = x * SQRT_M1 % P
    else:
        return None
    # x = 0 has one encoding, because zero has the sign bit 0.
    if x == 0 and sign:
        return None
    return (P - x if x & 1 != sign else x), y


def add(left: Point, right: Point) -> Point:
    """Adds two points in affine coordinates. Slow, and only used for points of small order."""
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P) % P
    return x, y


def has_small_order(point: Point) -> bool:
    """Returns whether eight times the point is the neutral element."""
    for _ in range(3):
        point = add(point, point)
    return point == (0, 1)


@lru_cache(maxsize=4096)
def is_acceptable(encoding: bytes) -> bool:
    """Returns whether 32 bytes are a canonical encoding of a point that is not of small order."""
    point = decompress(encoding) if len(encoding) == 32 else None
    return point is not None and not has_small_order(point)


def signature_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    """Verifies strictly: S below L, A and R canonical and not of small order, the equation without cofactor."""
    if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= L:
        return False
    if not is_acceptable(key) or not is_acceptable(signature[:32]):
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
