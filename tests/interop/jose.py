"""Keys and signatures, as docs/protocol.md says under "Signatures"."""

import hashlib
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from text import Object, Refused, Table, base64url, encode, parse, text

P = 2**255 - 19
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def _point(encoded):
    """The point that 32 bytes encode (RFC 8032 section 5.1.3), or none when they are no canonical encoding."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT % P
    if x * x % P != square or (x == 0 and sign):
        return None
    return (P - x if x % 2 != sign else x), y


def _add(a, b):
    (x1, y1), (x2, y2) = a, b
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, P - 2, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, P - 2, P)
    return x % P, y % P


def _small_order(point):
    for _ in range(3):
        point = _add(point, point)
    return point == (0, 1)


def public_key(x):
    """The key of 32 bytes. One that is no canonical encoding, or of small order, is refused."""
    point = _point(x) if len(x) == 32 else None
    if point is None or _small_order(point):
        raise Refused("key", "not a canonical point of full order")
    return x


def thumbprint(x):
    """RFC 7638."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": encode(x)}
    return encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


_JWK = Table(
    False, kty=(text, "required"), crv=(text, "required"), x=(text, "required"), kid=(text, "optional")
)


def jwk_shape(value):
    """A JWK whose members are there; whether its key is taken is another question."""
    return _JWK(value)


def jwk_key(jwk):
    """The key of a JWK."""
    if jwk["kty"] != "OKP" or jwk["crv"] != "Ed25519":
        raise Refused("key", "another kind of key")
    key = public_key(base64url(jwk["x"], "key"))
    if jwk.get("kid", thumbprint(key)) != thumbprint(key):
        raise Refused("key", "kid is not the thumbprint")
    return key


def holds(key, message, signature):
    """Whether a signature is the key's, by the strict rules."""
    r = _point(signature[:32])
    if r is None or _small_order(r):
        return False
    try:
        # S below the order, the equation without cofactor, R byte for byte.
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


_HEADER = Table(True, alg=(text, "required"), typ=(text, "required"), kid=(text, "required"))


def header(encoded):
    """The header of a JWS: its typ and its kid."""
    decoded = base64url(encoded)
    if len(decoded) > 512:
        raise Refused("malformed", "a header of more than 512 bytes")
    found = _HEADER.read(decoded)
    if found["alg"] not in ("EdDSA", "Ed25519"):
        raise Refused("malformed", "another alg")
    return found["typ"], found["kid"]


def _signature(encoded):
    signature = base64url(encoded)
    if len(signature) != 64:
        raise Refused("malformed", "a signature has 64 bytes")
    return signature


def compact(jws, typ, keys, bound):
    """Proves a compact JWS of one of the kinds `typ`; `keys` are those that may sign it, by thumbprint. Gives its typ, its kid
    and its payload."""
    if len(jws.encode()) > bound:
        raise Refused("too_large")
    parts = jws.split(".")
    if len(parts) != 3:
        raise Refused("malformed", "not three parts")
    named, kid = header(parts[0])
    signature = _signature(parts[2])
    if named not in typ:
        raise Refused("malformed", "another typ")
    if kid not in keys:
        raise Refused("key_unknown")
    if not holds(keys[kid], f"{parts[0]}.{parts[1]}".encode(), signature):
        raise Refused("signature_invalid")
    return named, kid, base64url(parts[1])


def signers(general, typ, keys):
    """The thumbprints of the keys whose signature on a JWS in general JSON form counts."""
    found = set()
    for one in general["signatures"]:
        try:
            named, kid = header(one["protected"])
            signature = _signature(one["signature"])
        except Refused:
            continue
        message = f"{one['protected']}.{general['payload']}".encode()
        if named == typ and kid in keys and holds(keys[kid], message, signature):
            found.add(kid)
    return found


__all__ = ["Object", "compact", "header", "holds", "jwk_key", "jwk_shape", "parse", "public_key", "signers", "thumbprint"]
