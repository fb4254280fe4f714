"""Heads (replica.md, "Head")."""

from __future__ import annotations

from dataclasses import dataclass

import forms
from keyset import Keyset
from statement import verify_statement

BOUND = 4096
TYP = "replica-head+jwt"

CLAIMS_TABLE = {
    "iss": forms.Member(forms.text),
    "aud": forms.Member(forms.identifier),
    "version": forms.Member(forms.version),
    "digest": forms.Member(forms.hash_text),
    "count": forms.Member(forms.version_or_zero),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "keyset": forms.Member(forms.version),
    "nonce": forms.optional(forms.text),
}


@dataclass(frozen=True)
class Head:
    """A head whose signature held under a replica key, with the `kid` of that key."""

    text: str
    kid: str
    issuer: str
    data_plane: str
    version: int
    digest: str
    count: int
    issued_at: int
    expires_at: int
    keyset: int
    nonce: str | None

    def says_the_same_as(self, other: "Head") -> bool:
        """Returns whether two heads of one version agree on the content."""
        return (self.digest, self.count) == (other.digest, other.count)


def verify_head(content: str, keyset: Keyset, data_plane: str) -> Head:
    """Verifies signature, `typ`, key, claims, `iss` and `aud`. No clock, and nothing that is held, plays a part."""
    signed, claims = verify_statement(content, keyset, data_plane, TYP, BOUND, CLAIMS_TABLE, closed=False)
    return Head(
        content,
        signed.kid,
        claims["iss"],
        claims["aud"],
        claims["version"],
        claims["digest"],
        claims["count"],
        claims["iat"],
        claims["exp"],
        claims["keyset"],
        claims["nonce"],
    )
