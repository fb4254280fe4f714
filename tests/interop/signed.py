"""Signed objects: a compact JWS of which the claims have a known form (protocol.md, "Signatures")."""

from __future__ import annotations

from typing import Any, Mapping

import forms
import jose
from refusal import Malformed, Refusal, refuse_malformed


def verify_signed(
    content: str,
    typ: str,
    bound: int,
    table: Mapping[str, forms.Member],
    keys: Mapping[str, jose.PublicKey],
    rule: str,
    *,
    closed: bool,
) -> tuple[jose.Signed, dict[str, Any]]:
    """Verifies length, form, `typ`, key, signature and claims, in this order. `rule` says which keys count."""
    if jose.is_longer_than(content, bound):
        raise Refusal("malformed", f"longer than {bound} bytes")
    try:
        signed = jose.read_compact(content, (typ,))
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    failed = jose.verify(signed, keys)
    if failed is not None:
        raise Refusal(failed, rule)
    try:
        return signed, forms.read_object(signed.claims(), table, closed=closed)
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
