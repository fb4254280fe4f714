"""Local revocations (log.md, "Local revocation")."""

from __future__ import annotations

import unicodedata

import forms
import jose
from nodes import Members, verify_signed_by_node
from refusal import Refusal

BOUND = 8192
TYP = "local-revocation+jwt"
REASON_BOUND = 500

# Unicode property White_Space. `str.isspace` differs from it in the control characters U+001C to U+001F.
WHITE_SPACE = frozenset(
    "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(chr(c) for c in range(0x2000, 0x200B))
)

CLAIMS_TABLE = {
    "iss": forms.Member(forms.identifier),
    "sub": forms.Member(forms.identifier),
    "iat": forms.Member(forms.time),
    "jti": forms.Member(forms.text),
    "operator": forms.Member(forms.text),
    "reason": forms.Member(forms.text),
}


def is_reason(content: str) -> bool:
    """Returns whether a text may be the reason of an act."""
    if not 1 <= len(content) <= REASON_BOUND or all(character in WHITE_SPACE for character in content):
        return False
    return all(unicodedata.category(character) != "Cc" for character in content)


def admit_revocation(content: str, members: Members) -> tuple[str, str, int]:
    """Returns node, token and time of a revocation that is admitted by a holder which has not proved it before."""
    if jose.is_longer_than(content, BOUND):
        raise Refusal("too_large", "longer than 8192 bytes")
    signed, claims = verify_signed_by_node(content, TYP, BOUND, CLAIMS_TABLE, members, closed=True)
    if not is_reason(claims["reason"]):
        raise Refusal("reason", "1 to 500 characters, not white space alone, no control character")
    node = members.with_key(claims["iss"], signed.kid)
    if node is None:
        raise Refusal("issuer", "the key of the node iss signed it")
    if node.retired_at is not None and claims["iat"] >= node.retired_at:
        raise Refusal("retired", "the node was not retired, or iat is before retiredAt")
    return claims["iss"], claims["sub"], claims["iat"]
