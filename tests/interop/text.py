"""JSON and its types, as docs/protocol.md says under "JSON": objects that are open or closed, members once, integers only."""

import base64
import json
import re


class Refused(Exception):
    """An object that is not taken, with the name of the rule."""

    def __init__(self, code, why=""):
        super().__init__(f"{code}: {why}" if why else code)
        self.code = code


class NotInteger:
    """A number that is no integer. It may stand where a member is ignored."""


class Object(dict):
    """A JSON object that remembers which of its members stand twice."""

    repeated = frozenset()


def _object(pairs):
    found = Object(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        found.repeated = frozenset(name for name in names if names.count(name) > 1)
    return found


def _integer(text):
    return NotInteger() if text == "-0" else int(text)


def _no_constant(text):
    raise ValueError(f"{text} is no JSON")


def parse(text, code="malformed"):
    """Reads bytes or a text, which must be one JSON object in UTF-8."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=lambda _: NotInteger(),
            parse_constant=_no_constant,
        )
    except (ValueError, RecursionError) as error:
        raise Refused(code, str(error)) from None
    if not isinstance(value, Object):
        raise Refused(code, "not a JSON object")
    return value


_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")


def base64url(text, code="malformed"):
    """Decodes base64url without padding, whose trailing bits are zero."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise Refused(code, "not base64url")
    decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(decoded) != text:
        raise Refused(code, "trailing bits are not zero")
    return decoded


def encode(data):
    """Encodes base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# Types. Each is a function from a value to what it means; it raises ValueError for another value.


def _bounded(low, high):
    def read(value):
        if type(value) is not int or not low <= value <= high:
            raise ValueError("not an integer within its bounds")
        return value

    return read


u32 = _bounded(0, 2**32 - 1)
u64 = _bounded(0, 2**64 - 1)
version = _bounded(1, 2**53 - 1)
count = _bounded(0, 2**53 - 1)
time = _bounded(-(2**63), 2**63 - 1)


def text(value):
    if not isinstance(value, str):
        raise ValueError("not a text")
    value.encode("utf-8")  # A lone surrogate is no text.
    return value


def boolean(value):
    if not isinstance(value, bool):
        raise ValueError("not true or false")
    return value


def identifier(value):
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("not an id")
    return value


def role_name(value):
    name, at, version = text(value).partition("@")
    identifier(name)
    if not at or not re.fullmatch(r"[1-9][0-9]{0,9}", version) or int(version) >= 2**32:
        raise ValueError("not NAME@VERSION")
    return value


def digest(value):
    try:
        if len(base64url(text(value))) != 32:
            raise ValueError("not 32 bytes")
    except Refused as error:
        raise ValueError(str(error)) from None
    return value


def one_of(*values):
    def read(value):
        if value not in values or not isinstance(value, str):
            raise ValueError(f"none of {values}")
        return value

    return read


def array(kind):
    def read(value):
        if not isinstance(value, list):
            raise ValueError("not an array")
        return [kind(entry) for entry in value]

    return read


def record_of(kind):
    """An object of any names, whose values are of one kind."""

    def read(value):
        if not isinstance(value, Object):
            raise ValueError("not an object")
        return {name: kind(entry) for name, entry in value.items()}

    return read


class Table:
    """The members of an object: name to (type, how). How: `required`, `optional` (null is the same as none), `default` (no null)."""

    def __init__(self, closed, **members):
        self.closed = closed
        self.members = {name.rstrip("_"): member for name, member in members.items()}

    def __call__(self, value):
        if not isinstance(value, Object):
            raise ValueError("not an object")
        if self.closed and set(value) - set(self.members):
            raise ValueError(f"unknown members {sorted(set(value) - set(self.members))}")
        if value.repeated & set(self.members):
            raise ValueError(f"members stand twice: {sorted(value.repeated)}")
        found = {}
        for name, (kind, how) in self.members.items():
            if name not in value or (value[name] is None and how == "optional"):
                if how == "required":
                    raise ValueError(f"{name} is missing")
                continue
            try:
                found[name] = kind(value[name])
            except (ValueError, UnicodeError) as error:
                raise ValueError(f"{name}: {error}") from None
        return found

    def read(self, source, code="malformed"):
        """Reads bytes or a text as this object."""
        try:
            return self(parse(source, code))
        except ValueError as error:
            raise Refused(code, str(error)) from None
