"""Events and checkpoints of a node's log (log.md)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import forms
import jose
from refusal import Malformed
from text import parse_object

ZERO_HASH = forms.encode_base64url(bytes(32))
CHECKPOINT_BOUND = 4096
CHECKPOINT_TYP = "audit-checkpoint+jwt"
KINDS = ("decision", "glass-broken", "glass-sealed", "revocation", "clock-accepted", "loss-accepted", "session-ended")

REQUIRED_TABLE = {
    "sequence": forms.Member(forms.u64_from_one),
    "prev": forms.Member(forms.hash_text),
    "id": forms.Member(forms.text),
    "time": forms.Member(forms.time),
    "node": forms.Member(forms.identifier),
    "kind": forms.Member(forms.text),
    "connectivity": forms.Member(forms.text),
}
# Members of an event that the node reads: closed, each with its type.
EVENT_TABLE = {
    **REQUIRED_TABLE,
    "kind": forms.Member(forms.one_of(*KINDS)),
    "decision": forms.optional(forms.text),
    "reason": forms.optional(forms.text),
    "token": forms.optional(forms.identifier),
    "generation": forms.optional(forms.u32),
    "session": forms.optional(forms.identifier),
    "role": forms.optional(forms.role_name),
    "deployment": forms.optional(forms.identifier),
    "method": forms.optional(forms.text),
    "route": forms.optional(forms.text),
    "path": forms.optional(forms.text),
    "permission": forms.optional(forms.text),
    "client": forms.optional(forms.ip_address),
    "glass": forms.optional(forms.text),
    "operator": forms.optional(forms.text),
    "because": forms.optional(forms.text),
    "until": forms.optional(forms.time),
    "connectivity": forms.Member(forms.one_of("connecting", "online", "offline")),
}
CHECKPOINT_TABLE = {
    "iss": forms.Member(forms.identifier),
    "iat": forms.Member(forms.time),
    "number": forms.Member(forms.u64_from_one),
    "sequence": forms.Member(forms.u64),
    "hash": forms.Member(forms.hash_text),
    "dropped": forms.Member(forms.boolean, required=False, default=False),
}


def line_hash(line: str | bytes) -> str:
    """SHA-256 of a line, byte for byte and without its LF."""
    data = line.encode() if isinstance(line, str) else line
    return forms.encode_base64url(hashlib.sha256(data).digest())


def read_own_event(line: bytes) -> dict[str, Any]:
    """Reads an event as the node does: a closed object."""
    return forms.read_object(parse_object(line), EVENT_TABLE, closed=True)


# Members of an event that the control plane reads: open, of any kind. Of the optional members it checks the types of
# those that it uses; it stores the others unread.
ARRIVED_TABLE = {
    **REQUIRED_TABLE,
    "decision": forms.optional(forms.text),
    "reason": forms.optional(forms.text),
    "token": forms.optional(forms.identifier),
    "generation": forms.optional(forms.u32),
    "deployment": forms.optional(forms.text),
    "method": forms.optional(forms.text),
    "path": forms.optional(forms.text),
    "client": forms.optional(forms.text),
}


def read_arrived_event(line: str | bytes) -> dict[str, Any]:
    """Reads an event as the control plane does: an open object, of which some members have to be there."""
    return forms.read_object(parse_object(line), ARRIVED_TABLE, closed=False)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose signature held."""

    issued_at: int
    number: int
    sequence: int
    hash: str
    dropped: bool


def verify_checkpoint(content: str, node: str, key: jose.PublicKey) -> Checkpoint:
    """Verifies a checkpoint of this node; raises `Malformed` for anything else."""
    if jose.is_longer_than(content, CHECKPOINT_BOUND):
        raise Malformed("a checkpoint is longer than 4096 bytes")
    signed = jose.read_compact(content, (CHECKPOINT_TYP,))
    if jose.verify(signed, {key.kid: key}) is not None:
        raise Malformed("a checkpoint that the node's key did not sign")
    claims = forms.read_object(signed.claims(), CHECKPOINT_TABLE, closed=False)
    if claims["iss"] != node:
        raise Malformed("a checkpoint of another node")
    return Checkpoint(claims["iat"], claims["number"], claims["sequence"], claims["hash"], claims["dropped"])
