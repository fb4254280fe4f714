"""Peers and enrolment, as docs/protocol/peers.md and docs/protocol/feed.md say."""

import hashlib

import keyset
from jose import compact, jwk_key, thumbprint
from log import timely
from text import Refused, Table, array, encode, identifier, text, time, u32, u64

_ANSWER = Table(
    False,
    iss=(identifier, "required"),
    aud=(identifier, "required"),
    iat=(time, "required"),
    exp=(time, "required"),
    jti=(text, "required"),
    instance=(text, "required"),
    question=(text, "required"),
    status=(u32, "required"),
    answer=(text, "required"),
)
_LIST = Table(
    True, list=(text, "required"), next=(u64, "required"), revocations=(array(text), "required")
)
_HEADS = Table(False, heads=(array(text), "required"))
_ENROLMENT = Table(False, aud=(text, "required"), iat=(time, "required"), exp=(time, "required"))

MOST_REVOCATIONS, MOST_HEADS = 500, 8


def _hash(data):
    return encode(hashlib.sha256(data).digest())


def answer(proof, status, body, call, nodes, asks, asked, now):
    """Proves a peer's answer; `nodes` is id to (key, retiredAt)."""
    if status not in (200, 204):
        raise Refused("status")
    keys = {thumbprint(key): key for key, _ in nodes.values()}
    try:
        _, kid, payload = compact(proof, ("peer-answer+jwt",), keys, 2048)
    except Refused as error:
        raise Refused("malformed" if error.code == "too_large" else error.code) from None
    claims = _ANSWER.read(payload)
    key, retired_at = nodes.get(claims["iss"], (b"", None))
    if not key or thumbprint(key) != kid:
        raise Refused("issuer")
    if retired_at is not None:
        raise Refused("retired")
    if claims["aud"] != asks:
        raise Refused("audience")
    if claims["iss"] != asked:
        raise Refused("another")
    timely(claims, now)
    if claims["jti"] != call["jti"]:
        raise Refused("call")
    question = "\n".join([call["method"], call["path"], call["body"]]).encode()
    if (claims["question"], claims["status"], claims["answer"]) != (
        _hash(question),
        status,
        _hash(body.encode()),
    ):
        raise Refused("altered")


def reads_after(body, name, after):
    """Reads a message of revocations; gives the number from which the next question reads on."""
    message = _LIST.read(body)
    came = len(message["revocations"])
    if came > MOST_REVOCATIONS:
        raise Refused("too_many")
    if message["list"] != name:
        return 0
    return max(after, min(message["next"], after + came))


def heads(body, own, shared, data_plane):
    """Compares the heads that a peer shows with the own head; whether they are evidence of a split view."""
    ours = keyset.head(own, shared, data_plane)
    for shown in _HEADS.read(body)["heads"][:MOST_HEADS]:
        try:
            theirs = keyset.head(shown, shared, data_plane)
        except Refused:
            continue
        same = [theirs[name] == ours[name] for name in ("version", "digest", "count")]
        if same[0] and not all(same):
            return "fork"
    return "ok"


def enrolment(proof, jwk, now):
    """Proves that a host which enrols has a key."""
    key = jwk_key(jwk)
    try:
        _, _, payload = compact(proof, ("node-auth+jwt",), {thumbprint(key): key}, 2048)
        claims = _ENROLMENT.read(payload)
    except Refused:
        raise Refused("proof") from None
    if claims["aud"] != "halligan-control":
        raise Refused("audience")
    timely(claims, now)
