"""Strict JSON (RFC 8259) as protocol.md reads it.

Python's `json` loses three things that the protocol judges: members that stand twice, how a number was written, and the bytes
of a nested object. This parser keeps all three: an object is a list of pairs with its span, a number is its text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from refusal import Malformed


class Number(str):
    """A JSON number, as it was written."""


@dataclass(frozen=True)
class Object:
    """A JSON object: its members in order, repeated ones included, and where it stands in the text."""

    pairs: tuple[tuple[str, "Value"], ...]
    start: int
    end: int


Value = Union[None, bool, Number, str, list, Object]

# Largest number of nested objects and arrays.
MAX_NESTING = 64

SPACE = re.compile(r"[ \t\n\r]*")
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
# The possessive quantifier prevents backtracking, which would be exponential for a string without an end.
STRING = re.compile(r'"((?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"')
ESCAPE = re.compile(r"\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\(.)")
SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
WORDS = {"true": True, "false": False, "null": None}


def decode_utf8(data: bytes) -> str:
    """Decodes UTF-8 strictly and rejects a byte order mark, which RFC 8259 section 8.1 forbids senders to write."""
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise Malformed(f"text is not UTF-8: {error}") from None
    if text.startswith("\ufeff"):
        raise Malformed("text begins with a byte order mark")
    return text


def parse_json(data: bytes | str) -> Value:
    """Parses one JSON text; anything but white space behind it is refused."""
    try:
        text = decode_utf8(data if isinstance(data, bytes) else data.encode("utf-8", "strict"))
    except UnicodeEncodeError as error:
        raise Malformed(f"text is not UTF-8: {error}") from None
    value, end = _Parser(text).value(_skip(text, 0), 0)
    if _skip(text, end) != len(text):
        raise Malformed("something stands behind the JSON value")
    return value


def parse_object(data: bytes | str) -> Object:
    """Parses a JSON text that has to be an object."""
    value = parse_json(data)
    if not isinstance(value, Object):
        raise Malformed("the JSON value is not an object")
    return value


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    assert match is not None
    return match.end()


def _unescape(body: str) -> str:
    if "\\" not in body:
        return body

    def replace(match: re.Match[str]) -> str:
        high, low, single, short = match.groups()
        if high is not None:
            return chr(0x10000 + ((int(high, 16) - 0xD800) << 10) + (int(low, 16) - 0xDC00))
        if single is not None:
            code = int(single, 16)
            # A lone surrogate is no Unicode scalar value, so no UTF-8 text can hold it.
            if 0xD800 <= code <= 0xDFFF:
                raise Malformed("an escape names half of a surrogate pair")
            return chr(code)
        return SHORT[short]

    return ESCAPE.sub(replace, body)


class _Parser:
    """Recursive descent over one text. `depth` is the number of objects and arrays that are open around a value."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, at: int, depth: int) -> tuple[Value, int]:
        text = self.text
        head = text[at : at + 1]
        if head in ("{", "[") and depth == MAX_NESTING:
            raise Malformed("JSON values are nested too deeply")
        if head == "{":
            return self.object(at, depth)
        if head == "[":
            return self.array(at, depth)
        if head == '"':
            return self.string(at)
        for word, value in WORDS.items():
            if text.startswith(word, at):
                return value, at + len(word)
        match = NUMBER.match(text, at)
        if match is None:
            raise Malformed(f"no JSON value at character {at}")
        return Number(match.group()), match.end()

    def string(self, at: int) -> tuple[str, int]:
        match = STRING.match(self.text, at)
        if match is None:
            raise Malformed(f"no JSON string at character {at}")
        return _unescape(match.group(1)), match.end()

    def array(self, at: int, depth: int) -> tuple[list[Value], int]:
        items: list[Value] = []
        at = _skip(self.text, at + 1)
        if self.text[at : at + 1] == "]":
            return items, at + 1
        while True:
            value, at = self.value(at, depth + 1)
            items.append(value)
            at = _skip(self.text, at)
            mark = self.text[at : at + 1]
            if mark == "]":
                return items, at + 1
            if mark != ",":
                raise Malformed(f"no comma or bracket at character {at}")
            at = _skip(self.text, at + 1)

    def object(self, start: int, depth: int) -> tuple[Object, int]:
        pairs: list[tuple[str, Value]] = []
        at = _skip(self.text, start + 1)
        if self.text[at : at + 1] == "}":
            return Object((), start, at + 1), at + 1
        while True:
            name, at = self.string(at)
            at = _skip(self.text, at)
            if self.text[at : at + 1] != ":":
                raise Malformed(f"no colon at character {at}")
            value, at = self.value(_skip(self.text, at + 1), depth + 1)
            pairs.append((name, value))
            at = _skip(self.text, at)
            mark = self.text[at : at + 1]
            if mark == "}":
                return Object(tuple(pairs), start, at + 1), at + 1
            if mark != ",":
                raise Malformed(f"no comma or brace at character {at}")
            at = _skip(self.text, at + 1)
