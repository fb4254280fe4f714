"""The lines of a bundle (replica.md, "Bundle"): their forms and their bounds, without any judgement of what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator

import forms
import frame
from keyset import BOUND as KEYSET_BOUND
from records import KINDS, Record
from refusal import Malformed
from text import Object, Value, decode_utf8, parse_object

LINE_BOUND = 4 * 1024 * 1024
TOTAL_BOUND = 1024 * 1024 * 1024
KEYSETS_BOUND = 1000


@dataclass(frozen=True)
class KeysetLine:
    """`{"keyset": {…}}`, not parsed further."""

    keyset: Object


@dataclass(frozen=True)
class HeadLine:
    """`{"head": "…", "base": 0}`."""

    head: str
    base: int


@dataclass(frozen=True)
class Change:
    """A `put`, or a `remove` (then `body` is None)."""

    kind: str
    key: str
    body: str | None

    @property
    def identity(self) -> tuple[str, str]:
        """What a line names."""
        return self.kind, self.key

    @property
    def record(self) -> Record:
        """The record of a `put`."""
        assert self.body is not None
        return Record(self.kind, self.key, self.body)


def _object(value: Value) -> Object:
    if not isinstance(value, Object):
        raise Malformed("not an object")
    return value


KEYSET_TABLE = {"keyset": forms.Member(_object)}
HEAD_TABLE = {"head": forms.Member(forms.text), "base": forms.Member(forms.version_or_zero)}
REMOVE_TABLE = {
    "op": forms.Member(forms.one_of("put", "remove")),
    "kind": forms.Member(forms.one_of(*KINDS)),
    "key": forms.Member(forms.text),
}
PUT_TABLE = {**REMOVE_TABLE, "body": forms.Member(forms.text)}


def split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yields lines without their LF. Nothing may stand behind the last one."""
    rest, total = b"", 0
    for piece in pieces:
        total += len(piece)
        if total > TOTAL_BOUND:
            raise Malformed("lines above 1 GiB")
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield _checked(line)
        if len(rest) >= LINE_BOUND:
            raise Malformed("a line above 4 MiB")
    if rest:
        raise Malformed("something stands behind the last line")


def _checked(line: bytes) -> bytes:
    if len(line) + 1 > LINE_BOUND:
        raise Malformed("a line above 4 MiB")
    if line.endswith(b"\r"):
        raise Malformed("a line ends with CR LF")
    return line


def _members(line: Object) -> set[str]:
    return {name for name, _ in line.pairs}


def _read_front(line: bytes) -> KeysetLine | HeadLine:
    value = parse_object(line)
    if "keyset" in _members(value):
        keyset = forms.read_object(value, KEYSET_TABLE, closed=True)["keyset"]
        # The limit is for the text of the keyset as it is in the line.
        if len(decode_utf8(line)[keyset.start : keyset.end].encode()) > KEYSET_BOUND:
            raise Malformed("a keyset is longer than 65536 bytes")
        return KeysetLine(keyset)
    members = forms.read_object(value, HEAD_TABLE, closed=True)
    return HeadLine(members["head"], members["base"])


def _read_change(line: bytes) -> Change:
    value = parse_object(line)
    is_put = dict(value.pairs).get("op") == "put"
    members: dict[str, Any] = forms.read_object(value, PUT_TABLE if is_put else REMOVE_TABLE, closed=True)
    return Change(members["kind"], members["key"], members["body"] if is_put else None)


class Bundle:
    """A bundle that is read from its beginning on: first keysets and head, then the changes one by one."""

    def __init__(self, data: bytes) -> None:
        self.lines = split_lines(frame.decompress(data))
        self.keysets: list[Object] = []
        while True:
            line = next(self.lines, None)
            if line is None:
                raise Malformed("a bundle without a head")
            front = _read_front(line)
            if isinstance(front, HeadLine):
                self.head, self.base = front.head, front.base
                return
            self.keysets.append(front.keyset)
            if len(self.keysets) > KEYSETS_BOUND:
                raise Malformed("more than 1000 keysets")

    def changes(self) -> Iterator[Change]:
        """Yields the changes. A line that is broken raises `Malformed` when it is reached."""
        for line in self.lines:
            yield _read_change(line)
