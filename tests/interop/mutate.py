"""Changes samples at random and answers them: `python mutate.py DIRECTORY NAME SEED COUNT`.

Prints a JSON list of COUNT changed cases of DIRECTORY/NAME.json, whose `expected` is the answer of this reader and whose `why` is its
rule. The other implementation answers them too; a difference is a fault of one of the two, or of the document.

What is signed is signed anew with the key of the same `kid`, where that is a key of a public seed: a change that breaks nothing
but the signature shows little.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
import zlib
from pathlib import Path
from typing import Any

import zstandard

import forms
import sign
from events import line_hash
from frame import decompress
from lz4 import decode_block
from refusal import Malformed
from text import Number, Object, parse_json
from vectors import Case, Suite, run_case

# Members of each file that are changed. The other members of a case must keep a meaning for both implementations.
CHANGED = {
    "archives": ["archive"],
    "bundles": ["bundle"],
    "decisions": ["token", "records"],
    "deploys": ["deploy"],
    "encryption_keys": ["statement"],
    "enrolments": ["proof"],
    "environments": ["environment"],
    "glass": ["now", "broken_until"],
    "heads": ["head"],
    "host_deploys": ["host_deploy"],
    "introspection": ["answer"],
    "keysets": ["chain"],
    "logs": ["blocks", "checkpoints"],
    "outages": ["statement"],
    "peer_answers": ["body", "proof"],
    "peer_heads": ["body"],
    "peer_lists": ["body"],
    "proofs": ["proof"],
    "records": ["body"],
    "revocations": ["revocation"],
    "tokens": ["token"],
    "uploads": ["bodies"],
}

# Members of a case that are given as facts and not judged, at any depth.
KEPT = {"kind", "key", "first", "last", "sequence", "oldest"}

SIGNERS = {signer.public.kid: signer for signer in map(sign.from_seed, range(1, 120))}

NUMBERS = ["0", "1", "-1", "-0", "1.0", "1e3", "01", "65", "4294967296", "9007199254740991", "9007199254740992"]
NUMBERS += ["9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "1" + "0" * 40]
TEXTS = ["", " ", "a", "x@1", "OP@0", "OP@01", "é", "\u0000", "10.0.0.0/8", "2001:db8::/32", "tok_x", "A" * 65, "a.b.c", "[]"]
NAMES = ["x", "exp", "iat", "sub", "aud", "typ", "alg", "kid", "crit", "id", "version", "generation"]

Pick = random.Random


class Raw(str):
    """JSON text that is written as it stands."""


def write(value: Any) -> str:
    """Writes a value of the parser as JSON, numbers as they were written."""
    if isinstance(value, (Raw, Number)):
        return str(value)
    if isinstance(value, Object):
        return "{" + ",".join(f"{json.dumps(name)}:{write(member)}" for name, member in value.pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def other_value(pick: Pick) -> Any:
    """Returns a value that may be of any type."""
    depth = pick.choice([1, 62, 63, 64, 65, 200])
    choices: list[Any] = [None, True, False, [], Object((), 0, 0), Number(pick.choice(NUMBERS)), pick.choice(TEXTS)]
    choices.append(Raw("[" * depth + "]" * depth))
    return pick.choice(choices)


def change_value(pick: Pick, value: Any) -> Any:
    """Returns a value with one change somewhere in it."""
    if isinstance(value, Object) and value.pairs and pick.random() < 0.85:
        return change_object(pick, value)
    if isinstance(value, list) and value and pick.random() < 0.8:
        return change_list(pick, value)
    if isinstance(value, Number) and pick.random() < 0.5:
        if value.lstrip("-").isdigit():
            return Number(int(value) + pick.choice([-1, 1, -300, 300, 10**6]))
        return Number(value + pick.choice(["0", ".0", "e0"]))
    if isinstance(value, str) and not isinstance(value, (Number, Raw)) and pick.random() < 0.8:
        return change_text(pick, value)
    return other_value(pick)


def change_object(pick: Pick, value: Object) -> Object:
    """Returns an object with one member changed, added, repeated, renamed, moved or taken away."""
    pairs = list(value.pairs)
    at = pick.randrange(len(pairs))
    name, member = pairs[at]
    match pick.choice(["inside"] * 6 + ["leave out", "repeat", "rename", "move", "add", "add"]):
        case "inside":
            pairs[at] = (name, change_value(pick, member))
        case "leave out":
            del pairs[at]
        case "repeat":
            pairs.insert(pick.randrange(len(pairs) + 1), (name, member if pick.random() < 0.5 else other_value(pick)))
        case "rename":
            pairs[at] = (pick.choice([*NAMES, name.upper(), name + "_"]), member)
        case "move":
            pairs.insert(pick.randrange(len(pairs)), pairs.pop(at))
        case "add":
            pairs.insert(pick.randrange(len(pairs) + 1), (pick.choice(NAMES), other_value(pick)))
    return Object(tuple(pairs), 0, 0)


def change_list(pick: Pick, value: list[Any]) -> list[Any]:
    """Returns a list with one item changed, added, repeated, moved or taken away."""
    items = list(value)
    at = pick.randrange(len(items))
    match pick.choice(["inside", "inside", "inside", "leave out", "repeat", "move", "add"]):
        case "inside":
            items[at] = change_value(pick, items[at])
        case "leave out":
            del items[at]
        case "repeat":
            items.insert(pick.randrange(len(items) + 1), items[at])
        case "move":
            items.insert(pick.randrange(len(items)), items.pop(at))
        case "add":
            items.append(other_value(pick))
    return items


def change_characters(pick: Pick, text: str) -> str:
    """Returns a text with one character changed, added or taken away."""
    at = pick.randrange(len(text) + 1)
    return text[:at] + pick.choice(["", "A", "_", "=", ".", "/", " ", "\n", "é"]) + text[at + pick.choice([0, 1]) :]


def change_json(pick: Pick, text: str) -> str:
    """Returns JSON text with a change of its value, or of how it is written."""
    if pick.random() < 0.1:
        return change_characters(pick, text)
    try:
        value = parse_json(text)
    except Malformed:
        return change_characters(pick, text)
    if pick.random() < 0.05:
        return pick.choice([f" {text}\r\n", f"[{text}]", f"\ufeff{text}", f"{text}{text}", f"\f{text}", f"{text}\u0000"])
    return write(change_value(pick, value))


def is_compact(text: str) -> bool:
    """Tells whether a text has the parts of a compact JWS."""
    parts = text.split(".")
    return len(parts) == 3 and len(text) > 80 and text.startswith("ey")


def sign_again(header: str, payload: str, before: str) -> str:
    """Signs header and payload with the key that the header before named, or keeps the signature."""
    protected, content = (forms.encode_base64url(part.encode("utf-8")) for part in (header, payload))
    old_protected, _, signature = before.split(".")
    try:
        kid = json.loads(forms.decode_base64url(old_protected)).get("kid")
    except (Malformed, ValueError, AttributeError):
        kid = None
    if isinstance(kid, str) and kid in SIGNERS:
        made = SIGNERS[kid].private.sign(f"{protected}.{content}".encode())
        signature = forms.encode_base64url(made)
    return f"{protected}.{content}.{signature}"


def change_compact(pick: Pick, text: str) -> str:
    """Returns a compact JWS with a change of one part."""
    if pick.random() < 0.1:
        return change_characters(pick, text)
    header, payload, _ = text.split(".")
    try:
        header, payload = (forms.decode_base64url(part).decode("utf-8") for part in (header, payload))
    except (Malformed, UnicodeDecodeError):
        return change_characters(pick, text)
    if pick.random() < 0.2:
        return sign_again(change_json(pick, header), payload, text)
    return sign_again(header, change_json(pick, payload), text)


def change_keyset(pick: Pick, text: str) -> str:
    """Returns a JWS in general JSON form with a change of its payload, which all signers sign anew, or of its JSON."""
    if pick.random() < 0.4:
        return change_json(pick, text)
    try:
        general = json.loads(text)
        parts = [(part["protected"], general["payload"], part["signature"]) for part in general["signatures"]]
        headers = [forms.decode_base64url(protected).decode("utf-8") for protected, _, _ in parts]
        payload = change_json(pick, forms.decode_base64url(general["payload"]).decode("utf-8"))
        signed = [sign_again(header, payload, ".".join(part)).split(".") for header, part in zip(headers, parts, strict=True)]
    except (Malformed, ValueError, LookupError, TypeError, AttributeError):
        return change_json(pick, text)
    signatures = [{"protected": protected, "signature": signature} for protected, _, signature in signed]
    return sign.compact_json({"payload": forms.encode_base64url(payload.encode("utf-8")), "signatures": signatures})


def change_text(pick: Pick, text: str) -> str:
    """Returns a text with a change that keeps most of its form, whatever that is."""
    if is_compact(text):
        return change_compact(pick, text)
    if '"signatures"' in text:
        return change_keyset(pick, text)
    if text.lstrip().startswith(("{", "[")):
        return change_json(pick, text)
    return change_characters(pick, text) if pick.random() < 0.7 else pick.choice(TEXTS)


def change_bytes(pick: Pick, data: bytes) -> bytes:
    """Returns bytes with one of them changed, or cut, or with one more."""
    at = pick.randrange(len(data)) if data else 0
    return pick.choice([data[:at] + bytes([pick.randrange(256)]) + data[at + 1 :], data[:at], data + b"\0"])


def change_lines(pick: Pick, data: bytes) -> bytes:
    """Returns lines with one of them changed, left out, repeated or moved."""
    lines = data.decode("utf-8").split("\n")
    at = pick.randrange(len(lines))
    if lines[at] and pick.random() < 0.7:
        lines[at] = change_text(pick, lines[at])
    else:
        lines = [str(line) for line in change_list(pick, lines)]
    return "\n".join(lines).encode("utf-8")


def change_bundle(pick: Pick, text: str) -> str:
    """Returns a bundle with a change of a line in it, or of its bytes."""
    data = forms.decode_base64url(text)
    try:
        lines = b"".join(decompress(data)) if pick.random() < 0.9 else None
        packed = zstandard.ZstdCompressor(write_checksum=True).compress(change_lines(pick, lines)) if lines else None
    except (Malformed, UnicodeDecodeError):
        packed = None
    return forms.encode_base64url(packed or change_bytes(pick, data))


def chain(lines: list[str]) -> list[str]:
    """Gives each line but the first the hash of the one before, where it has one: a broken chain hides what else is broken."""
    chained = lines[:1]
    for line in lines[1:]:
        chained.append(re.sub(r'"prev":"[^"]*"', f'"prev":"{line_hash(chained[-1])}"', line, count=1))
    return chained


def change_log(pick: Pick, lines: list[str]) -> list[str]:
    """Returns the lines of a log with a change of one, which the later ones follow or not."""
    at = pick.randrange(len(lines))
    changed = [*lines[:at], change_text(pick, lines[at]), *lines[at + 1 :]] if pick.random() < 0.7 else change_list(pick, lines)
    changed = [str(line) for line in changed]
    return chain(changed) if pick.random() < 0.6 else changed


def change_block(pick: Pick, text: str) -> str:
    """Returns a block of a log with a change of a line in it, or of its bytes."""
    data = forms.decode_base64url(text)
    try:
        lines = decode_block(data).decode("utf-8").split("\n") if pick.random() < 0.9 else None
    except (Malformed, UnicodeDecodeError):
        lines = None
    if lines is None or len(lines) < 2:
        return forms.encode_base64url(change_bytes(pick, data))
    content = "".join(f"{line}\n" for line in change_log(pick, lines[:-1])).encode("utf-8")
    # The block is one sequence of literals. A length of 15 or more continues in bytes of up to 255.
    count = len(content) - 15
    if count < 0:
        return forms.encode_base64url(change_bytes(pick, data))
    head = len(content).to_bytes(4, "little") + b"\xf0" + b"\xff" * (count // 255) + bytes([count % 255])
    return forms.encode_base64url(head + content)


def change_archive(pick: Pick, text: str) -> str:
    """Returns an archive with a changed byte under its compression, or in it."""
    data = forms.decode_base64url(text)
    try:
        packed = gzip.compress(change_bytes(pick, gzip.decompress(data)), mtime=0) if pick.random() < 0.9 else None
    except (OSError, EOFError, ValueError, zlib.error):
        packed = None
    return forms.encode_base64url(packed or change_bytes(pick, data))


def change_member(pick: Pick, name: str, value: Any) -> Any:
    """Returns a member of a case, changed in one place. Members that are given are kept."""
    if name == "bundle":
        return change_bundle(pick, value)
    if name == "archive":
        return change_archive(pick, value)
    if name == "lines" and value:
        return change_block(pick, value) if isinstance(value, str) else change_log(pick, value)
    if isinstance(value, dict):
        inner = pick.choice([member for member in value if member not in KEPT])
        return value | {inner: change_member(pick, inner, value[inner])}
    if isinstance(value, list) and value:
        at = pick.randrange(len(value))
        return [*value[:at], change_member(pick, name, value[at]), *value[at + 1 :]]
    if isinstance(value, int):
        return value + pick.choice([-1, 1, -3600, 3600])
    return change_text(pick, value) if isinstance(value, str) else value


class Answers(Suite):
    """Writes into a changed case what this reader finds besides its answer."""

    def gives(self, case: Case, member: str, value: Any) -> bool:
        case[member] = value
        return True


def mutate(directory: Path, stem: str, seed: int, count: int) -> list[Case]:
    """Returns `count` changed cases of a file, answered."""
    suite, pick = Answers(directory), random.Random(seed)
    common = json.loads((directory / f"{stem}.json").read_text("utf-8"))
    cases, further = common.pop("cases"), directory / "further" / f"{stem}.json"
    if further.is_file():
        more = json.loads(further.read_text("utf-8"))
        # A further file with common members of its own is left out, because its cases have no meaning with these
        # members.
        cases += more["cases"] if more.keys() == {"cases"} else []
    whole = [case for case in cases if case["expected"] == "ok"] or cases
    found = []
    for at in range(count):
        # A change of a valid case reaches more checks than a change of a case that is already invalid.
        case = change_case(pick, CHANGED[stem], pick.choice(whole if pick.random() < 0.7 else cases))
        case["expected"], rule = run_case(getattr(suite, stem), common, case)
        found.append(case | {"name": f"{case['name']}, change {at} of seed {seed}", "why": rule or "nothing is broken"})
    return found


def change_case(pick: Pick, members: list[str], case: Case) -> Case:
    """Returns a case with one to three changes."""
    # `valid_after` belongs to the unchanged bundle, so a changed case goes without it.
    made = {name: value for name, value in case.items() if name != "valid_after"}
    for _ in range(pick.choice([1, 1, 1, 2, 3])):
        member = pick.choice(members)
        made[member] = change_member(pick, member, made[member])
    return made


if __name__ == "__main__":
    json.dump(mutate(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), sys.stdout)
