"""How nodes prove themselves: node proofs and enrolment (feed.md; RFC 7523)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable

import forms
import jose
from records import Node
from refusal import Malformed, Refusal, refuse_malformed
from signed import verify_signed
from text import Value

PROOF_BOUND = 2048
PROOF_TYP = "node-auth+jwt"
LIFETIME = 300
ENROLMENT_AUDIENCE = "halligan-control"


def instance(value: Value) -> str:
    """Names one start of the daemon: at most 64 bytes."""
    content = forms.text(value)
    if len(content.encode()) > 64:
        raise Malformed("instance is longer than 64 bytes")
    return content


def _not_empty(value: Value) -> str:
    content = forms.text(value)
    if not content:
        raise Malformed("empty")
    return content


PROOF_TABLE = {
    "iss": forms.Member(forms.identifier),
    "sub": forms.Member(forms.identifier),
    "aud": forms.Member(forms.text),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "jti": forms.Member(_not_empty),
    "instance": forms.optional(instance),
}
# The other claims are neither required nor compared, but they must be texts if they are present (feed.md).
ENROLMENT_TABLE = {
    "aud": forms.Member(forms.text),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "iss": forms.Member(forms.text, required=False, default=""),
    "sub": forms.Member(forms.text, required=False, default=""),
    "jti": forms.Member(forms.text, required=False, default=""),
    "instance": forms.optional(forms.text),
}


@dataclass(frozen=True)
class Members:
    """The node records of a replica."""

    nodes: tuple[Node, ...]

    def keys(self) -> dict[str, jose.PublicKey]:
        """Returns every key by its thumbprint. Two nodes may have one key: `iss` then says which."""
        return {node.key.kid: node.key for node in self.nodes if node.key is not None}

    def with_key(self, identifier: str, kid: str) -> Node | None:
        """Returns the node of this id, if it has this key."""
        for node in self.nodes:
            if node.id == identifier and node.key is not None and node.key.kid == kid:
                return node
        return None


def members_of(nodes: Iterable[Node]) -> Members:
    """Collects node records."""
    return Members(tuple(nodes))


def check_lifetime(iat: int, exp: int, now: int) -> None:
    """Judges the times of a proof or an answer by the receiver's clock."""
    if iat - now >= LIFETIME:
        raise Refusal("time", "iat is less than 300 s ahead of the receiver's clock")
    if not 0 < exp - iat <= LIFETIME:
        raise Refusal("time", "exp is after iat, at most 300 s")
    if exp <= now:
        raise Refusal("time", "exp is ahead of the receiver's clock, without leeway")


def verify_signed_by_node(
    content: str, typ: str, bound: int, table: dict[str, forms.Member], members: Members, *, closed: bool = False
) -> tuple[jose.Signed, dict[str, Any]]:
    """Verifies a compact JWS under the key of some node, and reads its claims. Whose key it is, the caller judges."""
    rule = "the key is found by kid among the node records"
    return verify_signed(content, typ, bound, table, members.keys(), rule, closed=closed)


def verify_proof(content: str, audience: str, now: int, members: Members) -> str:
    """Verifies a node proof and returns the id of the node."""
    signed, claims = verify_signed_by_node(content, PROOF_TYP, PROOF_BOUND, PROOF_TABLE, members)
    node = members.with_key(claims["iss"], signed.kid)
    if node is None or claims["sub"] != claims["iss"]:
        raise Refusal("issuer", "iss and sub are both the id of the node that has this key")
    if claims["aud"] != audience:
        raise Refusal("audience", "aud is the receiver")
    check_lifetime(claims["iat"], claims["exp"], now)
    # Only a valid proof of a retired node is answered with 403 (feed.md), so this is checked last.
    if node.retired_at is not None:
        raise Refusal("retired", "a node's key ends when the node is retired")
    return node.id


def verify_enrolment(key: Value, proof: str, now: int) -> jose.PublicKey:
    """Verifies that a host which enrols has the key it names."""
    try:
        public = jose.read_jwk(key)
    except Malformed as error:
        raise refuse_malformed("key", error) from None
    try:
        if jose.is_longer_than(proof, PROOF_BOUND):
            raise Malformed("longer than 2048 bytes")
        signed = jose.read_compact(proof, (PROOF_TYP,))
        failed = jose.verify(signed, {public.kid: public})
        if failed is not None:
            raise Malformed(failed)
        claims = forms.read_object(signed.claims(), ENROLMENT_TABLE, closed=False)
    except Malformed as error:
        raise refuse_malformed("proof", error) from None
    if claims["aud"] != ENROLMENT_AUDIENCE:
        raise Refusal("audience", "aud is halligan-control")
    check_lifetime(claims["iat"], claims["exp"], now)
    return public
