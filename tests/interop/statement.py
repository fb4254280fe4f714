"""Objects that a replica key of the keyset signs for a data plane (protocol.md, "Signatures"): head, environment, deploy."""

from __future__ import annotations

from typing import Any, Mapping

import forms
import jose
from keyset import Keyset
from refusal import Malformed, Refusal, refuse_malformed


def verify_statement(
    content: str,
    keyset: Keyset,
    data_plane: str,
    typ: str,
    bound: int,
    table: Mapping[str, forms.Member],
    *,
    closed: bool,
) -> tuple[jose.Signed, dict[str, Any]]:
    """Verifies length, form, `typ`, key, signature, claims, `iss` and `aud`, in this order."""
    if jose.is_longer_than(content, bound):
        raise Refusal("malformed", f"longer than {bound} bytes")
    try:
        signed = jose.read_compact(content, (typ,))
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    failed = jose.verify(signed, keyset.replica_keys)
    if failed is not None:
        raise Refusal(failed, "signature under a replica key")
    try:
        claims = forms.read_object(signed.claims(), table, closed=closed)
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    if keyset.issuer is not None and claims["iss"] != keyset.issuer:
        raise Refusal("issuer", "iss is the iss of the newest keyset, where that names one")
    if claims["aud"] != data_plane:
        raise Refusal("audience", "aud is the node's data plane")
    return signed, claims
