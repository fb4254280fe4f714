"""A signer that goes by the document: keys, compact JWS, keysets, heads, bundles.

It makes the proofs with which `produced.py` calls a control plane, the forgeries that `tamper.py` plants, and proposed vectors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

import forms
import jose


def compact_json(value: Any) -> str:
    """Writes JSON without white space, members in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Signer:
    """A private key."""

    private: Ed25519PrivateKey

    @property
    def public(self) -> jose.PublicKey:
        """The public half."""
        raw = self.private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return jose.PublicKey(raw, jose.thumbprint(raw))

    @property
    def jwk(self) -> dict[str, str]:
        """The public half as a JWK with its `kid`."""
        return {"kty": "OKP", "crv": "Ed25519", "x": forms.encode_base64url(self.public.raw), "kid": self.public.kid}

    def parts(self, typ: str, payload: str, header: dict[str, Any] | None = None) -> tuple[str, str]:
        """Returns protected header and signature over an encoded payload."""
        fields = {"alg": "EdDSA", "typ": typ, "kid": self.public.kid, **(header or {})}
        protected = forms.encode_base64url(compact_json(fields).encode())
        signature = self.private.sign(f"{protected}.{payload}".encode())
        return protected, forms.encode_base64url(signature)

    def compact(self, typ: str, claims: Any, header: dict[str, Any] | None = None) -> str:
        """Signs claims, a JSON value or a text as it stands."""
        content = claims if isinstance(claims, str) else compact_json(claims)
        payload = forms.encode_base64url(content.encode())
        protected, signature = self.parts(typ, payload, header)
        return f"{protected}.{payload}.{signature}"


def from_seed(number: int) -> Signer:
    """Returns the key of a public seed: one byte, repeated 32 times. It signs nothing outside of samples."""
    return Signer(Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32))


def load_private(file: Path) -> Signer:
    """Reads a private key in PEM (RFC 7468, RFC 8410)."""
    key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return Signer(key)


def load_public(file: Path) -> jose.PublicKey:
    """Reads a public key in PEM."""
    key = serialization.load_pem_public_key(file.read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return jose.PublicKey(raw, jose.thumbprint(raw))


def sign_keyset(payload: Any, signers: Sequence[Signer], typ: str = "keyset+jwt") -> str:
    """Signs a keyset in general JSON form."""
    content = payload if isinstance(payload, str) else compact_json(payload)
    encoded = forms.encode_base64url(content.encode())
    parts = [signer.parts(typ, encoded) for signer in signers]
    signatures = [{"protected": protected, "signature": signature} for protected, signature in parts]
    return compact_json({"payload": encoded, "signatures": signatures})
