"""Keysets and their chain (replica.md, "Keyset"; RFC 7515 section 7.2.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable

import forms
import jose
from refusal import Malformed, Refusal
from text import Object, Value, parse_object

BOUND = 65536
TYP = "keyset+jwt"


class RootsRefused(Malformed):
    """`roots` or `threshold` break their rules: nobody could sign a successor, or one root would count twice."""


class KeyRefused(Malformed):
    """A JWK in a keyset is refused. A class of its own: the vectors tell it from a broken form."""


def _jwk(value: Value) -> jose.PublicKey:
    try:
        return jose.read_jwk(value)
    except Malformed as error:
        raise KeyRefused(str(error)) from None


SIGNATURE_TABLE = {"protected": forms.Member(forms.text), "signature": forms.Member(forms.text)}
OUTER_TABLE = {
    "payload": forms.Member(forms.text),
    "signatures": forms.Member(forms.array(forms.nested(SIGNATURE_TABLE, closed=True))),
}
KEY_TABLE = {"use": forms.Member(forms.one_of("token", "replica")), "jwk": forms.Member(forms.anything)}
PAYLOAD_TABLE = {
    "iss": forms.optional(forms.text),
    "version": forms.Member(forms.version),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "keys": forms.Member(forms.array(forms.nested(KEY_TABLE, closed=True))),
    "roots": forms.Member(forms.array(forms.anything)),
    "threshold": forms.Member(forms.u32),
}


@dataclass(frozen=True)
class Keyset:
    """A keyset that was parsed. Who signed it is a question of `signers`."""

    payload: str
    signatures: tuple[tuple[str, str], ...]
    issuer: str | None
    version: int
    expires_at: int
    token_keys: dict[str, jose.PublicKey]
    replica_keys: dict[str, jose.PublicKey]
    roots: tuple[jose.PublicKey, ...]
    threshold: int

    def signers(self, roots: Iterable[jose.PublicKey]) -> set[str]:
        """Returns the roots whose signature holds. Any other signature is ignored; roots count, not signatures."""
        keys = {root.kid: root for root in roots}
        found: set[str] = set()
        for protected, signature in self.signatures:
            try:
                signed = jose.read_signed(protected, self.payload, signature, (TYP,))
            except Malformed:
                continue
            if signed.kid not in found and jose.verify(signed, keys) is None:
                found.add(signed.kid)
        return found

    def is_signed_by(self, roots: Iterable[jose.PublicKey], threshold: int) -> bool:
        """Returns whether `threshold` different roots signed."""
        return len(self.signers(roots)) >= threshold


def read_keyset(content: str) -> Keyset:
    """Parses the text of a keyset. The length is compared with its bound first."""
    if jose.is_longer_than(content, BOUND):
        raise Malformed("a keyset is longer than 65536 bytes")
    return read_keyset_object(parse_object(content))


def read_keyset_object(outer: Object) -> Keyset:
    """Parses a keyset that stands inside of a line."""
    form = forms.read_object(outer, OUTER_TABLE, closed=True)
    payload: dict[str, Any] = forms.read_object(
        parse_object(forms.decode_base64url(form["payload"])), PAYLOAD_TABLE, closed=True
    )
    token_keys: dict[str, jose.PublicKey] = {}
    replica_keys: dict[str, jose.PublicKey] = {}
    for entry in payload["keys"]:
        key = _jwk(entry["jwk"])
        (token_keys if entry["use"] == "token" else replica_keys)[key.kid] = key
    roots = tuple(_jwk(root) for root in payload["roots"])
    if len({root.kid for root in roots}) != len(roots):
        raise RootsRefused("roots are not all different")
    if not 1 <= payload["threshold"] <= len(roots):
        raise RootsRefused("threshold is not from 1 to the number of roots")
    return Keyset(
        form["payload"],
        tuple((entry["protected"], entry["signature"]) for entry in form["signatures"]),
        payload["iss"],
        payload["version"],
        payload["exp"],
        token_keys,
        replica_keys,
        roots,
        payload["threshold"],
    )


@dataclass
class Chain:
    """The keysets that a host has proved, oldest first, from the roots it pins."""

    pinned: tuple[jose.PublicKey, ...]
    threshold: int
    held: list[Keyset] = field(default_factory=list)

    @property
    def newest(self) -> Keyset | None:
        """The newest keyset: the only one whose keys count."""
        return self.held[-1] if self.held else None

    def follow(self, keyset: Keyset) -> bool:
        """Takes one keyset, or refuses it when it does not follow. Returns whether it is held: one that is skipped is not."""
        if not self.held:
            if keyset.is_signed_by(self.pinned, self.threshold):
                self.held.append(keyset)
                return True
            return False
        if any(keyset.payload == known.payload for known in self.held):
            return True
        if keyset.version < self.held[0].version:
            return False
        last = self.held[-1]
        if not keyset.is_signed_by(last.roots, last.threshold):
            raise Refusal("threshold", "a threshold of the roots which the one before names signed it")
        if not keyset.is_signed_by(keyset.roots, keyset.threshold):
            raise Refusal("threshold", "a threshold of the roots which it names itself signed it")
        if keyset.version != last.version + 1:
            raise Refusal("version", "its version is exactly one higher")
        self.held.append(keyset)
        return True


def judge_chain(texts: list[str], pinned: Iterable[jose.PublicKey], threshold: int) -> None:
    """Refuses, unless the last keyset of a chain is believed.

    A keyset that stands twice in one chain is refused: only a keyset that was held before the chain came is known.
    """
    if not texts:
        raise Refusal("malformed", "a chain has a first keyset")
    chain = Chain(tuple(pinned), threshold)
    believed = False
    for content in texts:
        try:
            keyset = read_keyset(content)
        except KeyRefused as error:
            raise Refusal("key", str(error)) from None
        except RootsRefused as error:
            raise Refusal("unreachable", str(error)) from None
        except Malformed as error:
            raise Refusal("malformed", str(error)) from None
        if any(keyset.payload == known.payload for known in chain.held):
            raise Refusal("version", "inside one chain each version is exactly one higher")
        believed = chain.follow(keyset)
    if not believed:
        raise Refusal("threshold", "a chain begins at the earliest keyset that enough pinned roots signed")
