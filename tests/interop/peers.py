"""What nodes of a data plane ask each other (peers.md)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import forms
from head import Head, verify_head
from keyset import Keyset
from nodes import Members, check_lifetime, instance, verify_signed_by_node
from refusal import Malformed, Refusal, refuse_malformed
from text import parse_object

ANSWER_BOUND = 2048
ANSWER_TYP = "peer-answer+jwt"
MESSAGE_BOUND = 5 * 1024 * 1024
REVOCATIONS_BOUND = 500
HEADS_BOUND = 8

ANSWER_TABLE = {
    "iss": forms.Member(forms.identifier),
    "aud": forms.Member(forms.identifier),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "jti": forms.Member(forms.text),
    "instance": forms.Member(instance),
    # These hashes are compared as texts, so they are not decoded.
    "question": forms.Member(forms.text),
    "status": forms.Member(forms.u32),
    "answer": forms.Member(forms.text),
}


@dataclass(frozen=True)
class Call:
    """A call as it was sent."""

    method: str
    path: str
    body: bytes
    jti: str

    @property
    def question(self) -> str:
        """SHA-256 of the method, LF, the path with its query, LF, the body."""
        return sha256(f"{self.method}\n{self.path}\n".encode() + self.body)


def sha256(data: bytes) -> str:
    """SHA-256 in base64url."""
    return forms.encode_base64url(hashlib.sha256(data).digest())


def verify_answer(
    status: int, body: bytes, proof: str, call: Call, *, asks: str, asked: str, members: Members, now: int
) -> None:
    """Refuses an answer that is not the answer of the node that was asked, in the order of the page."""
    if status not in (200, 204):
        raise Refusal("status", "an answer has the status 200 or 204")
    signed, claims = verify_signed_by_node(proof, ANSWER_TYP, ANSWER_BOUND, ANSWER_TABLE, members)
    node = members.with_key(claims["iss"], signed.kid)
    if node is None:
        raise Refusal("issuer", "iss has this key")
    if node.retired_at is not None:
        raise Refusal("retired", "iss was not retired, whatever its iat")
    if claims["aud"] != asks:
        raise Refusal("audience", "aud is the node that asked")
    if claims["iss"] != asked:
        raise Refusal("another", "iss was asked")
    check_lifetime(claims["iat"], claims["exp"], now)
    if claims["jti"] != call.jti:
        raise Refusal("call", "jti is that of the call")
    if (claims["question"], claims["status"], claims["answer"]) != (call.question, status, sha256(body)):
        raise Refusal("altered", "question, status and answer are those of this call")


LIST_TABLE = {
    "list": forms.Member(forms.text),
    "next": forms.Member(forms.u64),
    "revocations": forms.Member(forms.array(forms.text)),
}


def read_list(body: bytes, *, known_list: str, after: int) -> int:
    """Reads a peer's list of revocations. Returns the number from which the node reads on."""
    try:
        if len(body) > MESSAGE_BOUND:
            raise Malformed("a message above 5 MiB")
        members = forms.read_object(parse_object(body), LIST_TABLE, closed=True)
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    count = len(members["revocations"])
    if count > REVOCATIONS_BOUND:
        raise Refusal("too_many", "at most 500 revocations")
    if members["list"] != known_list:
        # The peer lost its list, so it is read again from the beginning.
        return 0
    return max(after, min(members["next"], after + count))


def compare_heads(body: bytes, own: Head, keyset: Keyset, data_plane: str) -> None:
    """Refuses as `fork` when a head that a peer shows says something else of the version that the node holds."""
    try:
        if len(body) > MESSAGE_BOUND:
            raise Malformed("a message above 5 MiB")
        table = {"heads": forms.Member(forms.array(forms.text))}
        heads = forms.read_object(parse_object(body), table, closed=False)["heads"]
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    for content in heads[:HEADS_BOUND]:
        try:
            head = verify_head(content, keyset, data_plane)
        except Refusal:
            continue
        if head.version == own.version and not head.says_the_same_as(own):
            raise Refusal("fork", "another digest or count at the same version is a split view")
