"""Objects that a replica key of the keyset signs for a data plane (protocol.md, "Signatures"): head, environment, deploy."""

from __future__ import annotations

from typing import Any, Mapping

import forms
import jose
from keyset import Keyset
from refusal import Refusal
from signed import verify_signed


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
    signed, claims = verify_signed(
        content, typ, bound, table, keyset.replica_keys, "signature under a replica key", closed=closed
    )
    if keyset.issuer is not None and claims["iss"] != keyset.issuer:
        raise Refusal("issuer", "iss is the iss of the newest keyset, where that names one")
    if claims["aud"] != data_plane:
        raise Refusal("audience", "aud is the node's data plane")
    return signed, claims
