"""A client of a control plane, as a node is one (feed.md, log.md)."""

from __future__ import annotations

import secrets
import time
import urllib.error
import urllib.request
from dataclasses import dataclass

import forms
from head import Head
from refusal import Refusal
from sign import Signer

MEDIA_TYPE = "application/vnd.halligan.bundle"


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP."""

    status: int
    body: bytes
    media_type: str


@dataclass(frozen=True)
class Client:
    """Calls one control plane in the name of a node."""

    url: str
    data_plane: str
    node: str
    issuer: str
    signer: Signer

    def proof(self, **changes: object) -> str:
        """Makes a node proof for one call; `changes` replace claims, for calls that have to be refused."""
        now = int(time.time())
        claims = {
            "iss": self.node,
            "sub": self.node,
            "aud": self.issuer,
            "iat": now,
            "exp": now + 300,
            "jti": secrets.token_urlsafe(16),
            **changes,
        }
        return self.signer.compact("node-auth+jwt", claims)

    def call(self, method: str, path: str, body: bytes | None = None, *, proof: str | None = None) -> Answer:
        """Sends one call below `/v1/data-planes/{id}`, with a proof of its own."""
        headers = {"Authorization": f"Bearer {proof or self.proof()}"}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        address = f"{self.url}/v1/data-planes/{self.data_plane}/{path}"
        request = urllib.request.Request(address, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Answer(answer.status, answer.read(), answer.headers.get_content_type())
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read(), error.headers.get_content_type())

    def feed(self, since: int, keyset: int, nonce: str | None = None) -> Answer:
        """Asks the feed, without waiting."""
        path = f"feed?since={since}&keyset={keyset}&wait=0"
        return self.call("GET", f"{path}&nonce={nonce}" if nonce else path)


def judge_freshness(before: Head | None, answered: Head, nonce: str) -> None:
    """Refuses an answer that was played back to a node that sent a nonce (feed.md, "Feed")."""
    if answered.nonce == nonce:
        return
    held = (before.version, before.issued_at) if before else (0, 0)
    if answered.nonce is None and (answered.version, answered.issued_at) > held:
        return
    raise Refusal("frozen", "the head holds the nonce of the request, or holds none and is later than the head held")


def new_nonce() -> str:
    """1 to 128 letters, digits, `-` and `_` that were never used before."""
    return forms.encode_base64url(secrets.token_bytes(16))
