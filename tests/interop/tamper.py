"""Plants tamperings in what the real programs produced.

A tampering is found when the reader refuses what it was planted in. One that changes nothing of what is taken (a bit that a zstd
decoder has to ignore, another order of `put` lines) is harmless, and counted apart.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

import forms
from refusal import Malformed, Refusal
from sign import Signer, compact_json, from_seed

# The private half of this key is public, so no root, control plane or node has it.
STRANGER = from_seed(9)


@dataclass
class Tally:
    """Counts tamperings, and names those that nobody saw."""

    planted: int = 0
    harmless: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    by_place: dict[str, int] = field(default_factory=dict)

    def plant(self, name: str, judge: Callable[[], Any]) -> None:
        """Runs a check over a tampered object. `judge` raises when it finds the tampering, and may return "harmless"."""
        try:
            result = judge()
        except (Refusal, Malformed):
            result = None
        else:
            if result == "harmless":
                self.harmless.append(name)
                return
            self.unseen.append(name)
        self.planted += 1
        place = name.split(":")[0]
        self.by_place[place] = self.by_place.get(place, 0) + 1


def flip_text(content: str, step: int) -> Iterator[tuple[int, str]]:
    """Yields copies of a text with one bit flipped, every `step` bits; the step is odd, so that all eight bits come up."""
    data = content.encode()
    for bit, changed in flip_bytes(data, step):
        yield bit, changed.decode("utf-8", "surrogateescape")


def flip_bytes(data: bytes, step: int) -> Iterator[tuple[int, bytes]]:
    """Yields copies of bytes with one bit flipped."""
    for bit in range(0, len(data) * 8, step):
        copy = bytearray(data)
        copy[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(copy)


def split_claims(content: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Returns header, claims and signature of a compact JWS, without any judgement."""
    header, payload, signature = content.split(".")
    return json.loads(forms.decode_base64url(header)), json.loads(forms.decode_base64url(payload)), signature


def join_claims(header: dict[str, Any], claims: dict[str, Any], signature: str) -> str:
    """Puts the parts of a compact JWS together, keeping a signature that was made over others."""
    parts = (forms.encode_base64url(compact_json(part).encode()) for part in (header, claims))
    return ".".join((*parts, signature))


def changed_value(value: Any) -> Any:
    """Returns another value of the same form, as near as can be."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, dict):
        return {name: changed_value(member) for name, member in value.items()}
    if isinstance(value, str) and value:
        return ("B" if value[0] == "A" else "A") + value[1:]
    return "A"


def plant_in_signed(tally: Tally, name: str, content: str, judge: Callable[[str], Any], step: int = 31) -> None:
    """Plants in a compact JWS: bits, claims, header members, strangers' signatures, parts cut off."""
    header, claims, signature = split_claims(content)
    typ = header["typ"]
    for bit, changed in flip_text(content, step):
        tally.plant(f"{name}: bit {bit}", lambda changed=changed: judge(changed))
    for claim, value in claims.items():
        other = {**claims, claim: changed_value(value)}
        tally.plant(f"{name}: claim {claim} changed", lambda other=other: judge(join_claims(header, other, signature)))
        less = {key: member for key, member in claims.items() if key != claim}
        tally.plant(f"{name}: claim {claim} left out", lambda less=less: judge(join_claims(header, less, signature)))
    tally.plant(f"{name}: claim added", lambda: judge(join_claims(header, {**claims, "x": 1}, signature)))
    headers = {
        "alg none": {**header, "alg": "none"},
        "another typ": {**header, "typ": "x+jwt"},
        "crit": {**header, "crit": []},
        "no kid": {key: value for key, value in header.items() if key != "kid"},
        "kid of a stranger": {**header, "kid": STRANGER.public.kid},
    }
    for what, other in headers.items():
        tally.plant(f"{name}: header, {what}", lambda other=other: judge(join_claims(other, claims, signature)))
    forgeries: dict[str, str] = {
        "by a stranger": STRANGER.compact(typ, claims),
        "by a stranger under the right kid": STRANGER.compact(typ, claims, {"kid": header["kid"]}),
        "with the key in the header": STRANGER.compact(typ, claims, {"jwk": STRANGER.jwk}),
        "without a signature": content.rsplit(".", 1)[0] + ".",
        "with a part more": content + ".",
        "cut off": content[:-1],
        "with a space": content + " ",
        "of the neutral element": content.rsplit(".", 1)[0] + "." + forms.encode_base64url(bytes([1]) + bytes(63)),
    }
    for what, other in forgeries.items():
        tally.plant(f"{name}: signed, {what}", lambda other=other: judge(other))


def resign(signer: Signer, content: str, **changes: Any) -> str:
    """Signs changed claims with a key that the reader knows: the signature holds, and what is said is wrong."""
    header, claims, _ = split_claims(content)
    return signer.compact(header["typ"], {**claims, **changes})
