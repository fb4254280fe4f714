"""Types of members, and tables of members (protocol.md, "JSON").

A table is a dict from member name to `Member`. `read_object` applies the rules that hold for every table: unknown members,
repeated members, and what `null` means.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from refusal import Malformed
from text import Number, Object, Value

INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,64}")
BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
VERSION_MAX = 2**53 - 1


@dataclass(frozen=True)
class Member:
    """One row of a members table.

    `default` None means that the row has no default: then `null` is the same as leaving it out, except for arrays.
    """

    read: Callable[[Value], Any]
    required: bool = True
    default: Any = None
    is_array: bool = False


def optional(read: Callable[[Value], Any]) -> Member:
    """A member that is not required; `null` means the same as leaving it out."""
    return Member(read, required=False)


def optional_array(read: Callable[[Value], Any]) -> Member:
    """An array that is not required; `null` is refused."""
    return Member(read, required=False, is_array=True)


def read_object(value: Value, table: Mapping[str, Member], *, closed: bool) -> dict[str, Any]:
    """Reads an object by its table. Members that were left out are None, or their default."""
    if not isinstance(value, Object):
        raise Malformed("not a JSON object")
    found: dict[str, Value] = {}
    for name, member in value.pairs:
        if name not in table:
            if closed:
                raise Malformed(f"unknown member {name!r} in a closed object")
            continue
        if name in found:
            raise Malformed(f"member {name!r} stands twice")
        found[name] = member
    result: dict[str, Any] = {}
    for name, row in table.items():
        if name not in found:
            if row.required:
                raise Malformed(f"member {name!r} is missing")
            result[name] = row.default
        elif found[name] is None and not row.required and not row.is_array and row.default is None:
            result[name] = None
        else:
            try:
                result[name] = row.read(found[name])
            except Malformed as error:
                raise Malformed(f"member {name!r}: {error}") from None
    return result


def integer(low: int, high: int) -> Callable[[Value], int]:
    """Returns a reader of integers without fraction, exponent, sign `+` or leading zero."""

    def read(value: Value) -> int:
        if not isinstance(value, Number) or INTEGER.fullmatch(value) is None or value == "-0":
            raise Malformed("not an integer in its one form")
        # The number of digits is limited first, because Python converts numbers of any length, and slowly.
        if len(value) > 21 or not low <= int(value) <= high:
            raise Malformed("integer beyond the bounds of its type")
        return int(value)

    return read


time = integer(-(2**63), 2**63 - 1)
u32 = integer(0, 2**32 - 1)
u32_from_one = integer(1, 2**32 - 1)
u64 = integer(0, 2**64 - 1)
u64_from_one = integer(1, 2**64 - 1)
version = integer(1, VERSION_MAX)
version_or_zero = integer(0, VERSION_MAX)


def text(value: Value) -> str:
    """A JSON string. `Number` is a `str` in this reader, and is no text."""
    if not isinstance(value, str) or isinstance(value, Number):
        raise Malformed("not a text")
    return str(value)


def boolean(value: Value) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise Malformed("not a boolean")
    return value


def identifier(value: Value) -> str:
    """1 to 64 of the ASCII letters, digits, `_` and `-`."""
    content = text(value)
    if IDENTIFIER.fullmatch(content) is None:
        raise Malformed("not an id")
    return content


def role_name(value: Value) -> str:
    """`NAME@VERSION`: an id, and a decimal from 1 to 2^32 - 1 without leading zero."""
    content = text(value)
    name, mark, number = content.partition("@")
    if not mark or IDENTIFIER.fullmatch(name) is None or re.fullmatch(r"[1-9][0-9]{0,9}", number) is None:
        raise Malformed("not a role name")
    if int(number) > 2**32 - 1:
        raise Malformed("version of a role name beyond its bound")
    return content


def ip_address(value: Value) -> str:
    """An IP address. The library takes zones, too."""
    content = text(value)
    try:
        ipaddress.ip_address(content)
    except ValueError as error:
        raise Malformed(f"not an IP address: {error}") from None
    if "%" in content:
        raise Malformed("an IP address with a zone")
    return content


def decode_base64url(content: str) -> bytes:
    """Decodes RFC 4648 section 5 without padding; trailing bits have to be zero."""
    if BASE64URL.fullmatch(content) is None or len(content) % 4 == 1:
        raise Malformed("not base64url")
    try:
        data = base64.urlsafe_b64decode(content + "=" * (-len(content) % 4))
    except (binascii.Error, ValueError):
        raise Malformed("not base64url") from None
    # The last character may have bits that belong to no byte. Those must be zero, so that no two texts encode the same
    # bytes.
    if encode_base64url(data) != content:
        raise Malformed("trailing bits of base64url are not zero")
    return data


def encode_base64url(data: bytes) -> str:
    """Encodes RFC 4648 section 5 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def hash_text(value: Value) -> str:
    """A hash: 32 bytes in base64url. Returned as its text; hashes have one text, so texts can be compared."""
    content = text(value)
    if len(content) != 43 or len(decode_base64url(content)) != 32:
        raise Malformed("not a hash")
    return content


def array(read: Callable[[Value], Any], most: int | None = None) -> Callable[[Value], list[Any]]:
    """Returns a reader of arrays."""

    def read_array(value: Value) -> list[Any]:
        if not isinstance(value, list):
            raise Malformed("not an array")
        if most is not None and len(value) > most:
            raise Malformed(f"more than {most} entries")
        return [read(item) for item in value]

    return read_array


def one_of(*choices: str) -> Callable[[Value], str]:
    """Returns a reader of texts out of a list."""

    def read(value: Value) -> str:
        content = text(value)
        if content not in choices:
            raise Malformed(f"not one of {', '.join(choices)}")
        return content

    return read


def nested(table: Mapping[str, Member], *, closed: bool) -> Callable[[Value], dict[str, Any]]:
    """Returns a reader of objects inside of objects."""
    return lambda value: read_object(value, table, closed=closed)


def anything(value: Value) -> Value:
    """A member whose form is judged elsewhere; a repeated one is refused all the same."""
    return value
