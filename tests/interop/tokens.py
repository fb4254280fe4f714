"""Tokens and their claims (tokens.md, "Claims" and "Verification"; RFC 7519)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping

import forms
import jose
from refusal import Malformed, Refusal, refuse_malformed

BOUND = 4096
DIRECT = "direct-access+jwt"
STANDARD = "standard+jwt"

ROLE_TABLE = {"id": forms.Member(forms.role_name), "digest": forms.Member(forms.hash_text)}


def _claims_table(direct: bool) -> dict[str, forms.Member]:
    return {
        "iss": forms.Member(forms.text),
        "sub": forms.Member(forms.identifier),
        "aud": forms.Member(forms.text),
        "iat": forms.Member(forms.time),
        "nbf": forms.Member(forms.time),
        "exp": forms.Member(forms.time, required=direct),
        "gen": forms.Member(forms.u32_from_one),
        "role": forms.Member(forms.nested(ROLE_TABLE, closed=True), required=direct),
        # `permissions` is not here: verifiers ignore it, whatever it holds.
    }


@dataclass(frozen=True)
class Token:
    """A token whose signature held, with its claims."""

    typ: str
    claims: dict[str, Any]


def verify_token(content: str, keys: Mapping[str, jose.PublicKey]) -> Token:
    """Verifies a token in the order of the page's table. The keyset's `exp` plays no part."""
    if jose.is_longer_than(content, BOUND):
        raise Refusal("token_too_large", "longer than 4096 bytes")
    try:
        signed = jose.read_compact(content, (DIRECT, STANDARD))
    except Malformed as error:
        raise refuse_malformed("token_malformed", error) from None
    failed = jose.verify(signed, keys)
    if failed is not None:
        raise Refusal(failed, "signature of a token")
    try:
        claims = forms.read_object(signed.claims(), _claims_table(signed.typ == DIRECT), closed=False)
    except Malformed as error:
        raise refuse_malformed("token_malformed", error) from None
    return Token(signed.typ, claims)
