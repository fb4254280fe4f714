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


def _jwk_form(value: Value) -> Value:
    """Refuses what is no JWK. Whether a JWK is refused is asked when its keyset is signed by enough roots."""
    forms.read_object(value, jose.JWK_TABLE, closed=False)
    return value


SIGNATURE_TABLE = {"protected": forms.Member(forms.text), "signature": forms.Member(forms.text)}
OUTER_TABLE = {
    "payload": forms.Member(forms.text),
    "signatures": forms.Member(forms.array(forms.nested(SIGNATURE_TABLE, closed=True))),
}
KEY_TABLE = {"use": forms.Member(forms.one_of("token", "replica")), "jwk": forms.Member(_jwk_form)}
PAYLOAD_TABLE = {
    "iss": forms.optional(forms.text),
    "version": forms.Member(forms.version),
    "iat": forms.Member(forms.time),
    "exp": forms.Member(forms.time),
    "keys": forms.Member(forms.array(forms.nested(KEY_TABLE, closed=True))),
    "roots": forms.Member(forms.array(_jwk_form)),
    "threshold": forms.Member(forms.u32),
}


@dataclass(frozen=True)
class SignedKeyset:
    """A keyset of the right form. Who signed it is a question of `signers`; its keys are read when enough roots have."""

    payload: str
    signatures: tuple[tuple[str, str], ...]
    members: dict[str, Any]

    @property
    def version(self) -> int:
        """The version that it says."""
        version: int = self.members["version"]
        return version

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


@dataclass(frozen=True)
class Keyset:
    """A keyset whose keys are read."""

    payload: str
    issuer: str | None
    version: int
    expires_at: int
    token_keys: dict[str, jose.PublicKey]
    replica_keys: dict[str, jose.PublicKey]
    roots: tuple[jose.PublicKey, ...]
    threshold: int


def parse_keyset(content: str) -> SignedKeyset:
    """Parses the text of a keyset. The length is compared with its bound first."""
    if jose.is_longer_than(content, BOUND):
        raise Malformed("a keyset is longer than 65536 bytes")
    return parse_keyset_object(parse_object(content))


def parse_keyset_object(outer: Object) -> SignedKeyset:
    """Parses a keyset that stands inside of a line."""
    form = forms.read_object(outer, OUTER_TABLE, closed=True)
    members: dict[str, Any] = forms.read_object(
        parse_object(forms.decode_base64url(form["payload"])), PAYLOAD_TABLE, closed=True
    )
    signatures = tuple((entry["protected"], entry["signature"]) for entry in form["signatures"])
    return SignedKeyset(form["payload"], signatures, members)


def read_keys(signed: SignedKeyset) -> Keyset:
    """Reads the keys of a keyset."""
    members = signed.members
    token_keys: dict[str, jose.PublicKey] = {}
    replica_keys: dict[str, jose.PublicKey] = {}
    for entry in members["keys"]:
        key = _jwk(entry["jwk"])
        (token_keys if entry["use"] == "token" else replica_keys)[key.kid] = key
    roots = tuple(_jwk(root) for root in members["roots"])
    if len({root.kid for root in roots}) != len(roots):
        raise RootsRefused("roots are not all different")
    if not 1 <= members["threshold"] <= len(roots):
        raise RootsRefused("threshold is not from 1 to the number of roots")
    return Keyset(
        signed.payload,
        members["iss"],
        members["version"],
        members["exp"],
        token_keys,
        replica_keys,
        roots,
        members["threshold"],
    )


def read_keyset(content: str) -> Keyset:
    """Reads a keyset that is believed already."""
    return read_keys(parse_keyset(content))


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

    def follow(self, signed: SignedKeyset, held_before: int = 0) -> bool:
        """Takes one keyset, or refuses it when it does not follow. Returns whether it is held: one that is skipped is not.

        `held_before` is the version of the first keyset that was held before the chain of this one came.
        """
        if not self.held:
            if signed.is_signed_by(self.pinned, self.threshold):
                self.held.append(read_keys(signed))
                return True
            return False
        if any(signed.payload == known.payload for known in self.held):
            return True
        if signed.version < held_before:
            return False
        last = self.held[-1]
        if not signed.is_signed_by(last.roots, last.threshold):
            raise Refusal("threshold", "a threshold of the roots which the one before names signed it")
        keyset = read_keys(signed)
        if not signed.is_signed_by(keyset.roots, keyset.threshold):
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
            signed = parse_keyset(content)
            if any(signed.payload == known.payload for known in chain.held):
                raise Refusal("version", "inside one chain each version is exactly one higher")
            believed = chain.follow(signed)
        except KeyRefused as error:
            raise Refusal("key", str(error)) from None
        except RootsRefused as error:
            raise Refusal("unreachable", str(error)) from None
        except Malformed as error:
            raise Refusal("malformed", str(error)) from None
    if not believed:
        raise Refusal("threshold", "a chain begins at the earliest keyset that enough pinned roots signed")
