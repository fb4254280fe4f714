"""JWK (RFC 7517, RFC 8037), its thumbprint (RFC 7638), and compact JWS (RFC 7515), as protocol.md narrows them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable, Mapping

import curve
import forms
from refusal import Malformed
from text import Value, parse_object

HEADER_BOUND = 512
ALGORITHMS = ("EdDSA", "Ed25519")

JWK_TABLE = {
    "kty": forms.Member(forms.text),
    "crv": forms.Member(forms.text),
    "x": forms.Member(forms.text),
    "kid": forms.optional(forms.text),
}
HEADER_TABLE = {"alg": forms.Member(forms.text), "typ": forms.Member(forms.text), "kid": forms.Member(forms.text)}


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key that may verify: canonical, and not of small order."""

    raw: bytes
    kid: str


def thumbprint(raw: bytes) -> str:
    """Computes the RFC 7638 thumbprint: SHA-256 over the required members in order of their names, without white space."""
    x = forms.encode_base64url(raw)
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    return forms.encode_base64url(hashlib.sha256(canonical.encode()).digest())


def read_jwk(value: Value) -> PublicKey:
    """Reads a JWK, an open object, and rejects every key that must not verify."""
    members = forms.read_object(value, JWK_TABLE, closed=False)
    if members["kty"] != "OKP" or members["crv"] != "Ed25519":
        raise Malformed("the key is not Ed25519")
    raw = forms.decode_base64url(members["x"])
    if len(raw) != 32 or not curve.is_acceptable(raw):
        raise Malformed("x is not a canonical encoding of a point that is not of small order")
    kid = thumbprint(raw)
    if members["kid"] is not None and members["kid"] != kid:
        raise Malformed("kid is not the thumbprint of the key")
    return PublicKey(raw, kid)


@dataclass(frozen=True)
class Signed:
    """A JWS whose signature was not verified yet."""

    typ: str
    kid: str
    payload: str
    signing_input: bytes
    signature: bytes

    def holds_under(self, key: PublicKey) -> bool:
        """Verifies the signature."""
        return curve.signature_holds(key.raw, self.signing_input, self.signature)

    def claims(self) -> Value:
        """Decodes the payload, which has to be a JSON object. To be called once the signature held."""
        return parse_object(forms.decode_base64url(self.payload))


def read_signed(protected: str, payload: str, signature: str, typs: Iterable[str]) -> Signed:
    """Reads the three parts of a JWS. The payload stays encoded until the signature has held."""
    header_bytes = forms.decode_base64url(protected)
    if len(header_bytes) > HEADER_BOUND:
        raise Malformed("the JOSE header is longer than 512 bytes")
    header = forms.read_object(parse_object(header_bytes), HEADER_TABLE, closed=True)
    if header["alg"] not in ALGORITHMS:
        raise Malformed("alg is neither EdDSA nor Ed25519")
    if header["typ"] not in typs:
        raise Malformed(f"typ {header['typ']!r} is of another kind")
    raw = forms.decode_base64url(signature)
    if len(raw) != 64:
        raise Malformed("the signature is not 64 bytes")
    return Signed(header["typ"], header["kid"], payload, encode_text(f"{protected}.{payload}"), raw)


def encode_text(content: str) -> bytes:
    """Returns the bytes of a text. Bytes that are no UTF-8 come as surrogates (PEP 383), and go back to what they were."""
    return content.encode("utf-8", "surrogateescape")


def is_longer_than(content: str, bound: int) -> bool:
    """Compares the length of a text in bytes with its bound, before anything is decoded."""
    return len(encode_text(content)) > bound


def read_compact(content: str, typs: Iterable[str]) -> Signed:
    """Reads a compact JWS: exactly two dots."""
    parts = content.split(".")
    if len(parts) != 3:
        raise Malformed("a compact JWS has exactly two dots")
    return read_signed(parts[0], parts[1], parts[2], typs)


def verify(signed: Signed, keys: Mapping[str, PublicKey]) -> str | None:
    """Looks the key up by `kid` and verifies. Returns None, or which of the two failed."""
    key = keys.get(signed.kid)
    if key is None:
        return "key_unknown"
    return None if signed.holds_under(key) else "signature_invalid"
