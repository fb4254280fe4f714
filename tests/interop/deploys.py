"""Code of deployments (deploys.md): the signed objects that choose it, their order, and what an archive holds."""

from __future__ import annotations

import re
import zlib
from typing import Any

import forms
from keyset import Keyset
from nodes import Members, verify_signed_by_node
from refusal import Refusal
from statement import verify_statement
from text import Value

BOUND = 4096
TYP = "deployment-code+jwt"
HOST_TYP = "host-code+jwt"
SIZE_BOUND = 1 << 30

CLAIMS_TABLE = {
    "iss": forms.Member(forms.text),
    "aud": forms.Member(forms.identifier),
    "sub": forms.Member(forms.identifier),
    "deploy": forms.Member(forms.identifier),
    "version": forms.Member(forms.version),
    "iat": forms.Member(forms.time),
    "digest": forms.Member(forms.hash_text),
    "size": forms.Member(forms.version_or_zero),
}
HOST_TABLE = {
    "iss": forms.Member(forms.identifier),
    "aud": forms.Member(forms.identifier),
    "sub": forms.Member(forms.identifier),
    "deploy": forms.Member(forms.identifier),
    "base": forms.Member(forms.version_or_zero),
    "seq": forms.Member(forms.version),
    "iat": forms.Member(forms.time),
    "digest": forms.Member(forms.hash_text),
    "size": forms.Member(forms.version_or_zero),
    "token": forms.Member(forms.identifier),
    "event": forms.Member(forms.identifier),
}


def verify_deploy(content: str, keyset: Keyset, data_plane: str) -> dict[str, Any]:
    """Verifies a signed deploy. A version that is held plays no part."""
    _, claims = verify_statement(content, keyset, data_plane, TYP, BOUND, CLAIMS_TABLE, closed=True)
    if claims["size"] > SIZE_BOUND:
        raise Refusal("size", "an archive has at most 1 GiB")
    return claims


def admit_host_deploy(content: str, members: Members, data_plane: str) -> dict[str, Any]:
    """Verifies a host's deploy as a holder does that did not admit it before."""
    signed, claims = verify_signed_by_node(content, HOST_TYP, BOUND, HOST_TABLE, members, closed=True)
    node = members.with_key(claims["iss"], signed.kid)
    if node is None:
        raise Refusal("issuer", "the key of the node iss signed it")
    if claims["aud"] != data_plane:
        raise Refusal("audience", "aud is the data plane")
    if claims["size"] > SIZE_BOUND:
        raise Refusal("size", "an archive has at most 1 GiB")
    if node.retired_at is not None and claims["iat"] >= node.retired_at:
        raise Refusal("retired", "the node was not retired, or iat is before retiredAt")
    return claims


def choose(signed: Value, hosts: Value) -> str:
    """Returns the deploy in force, and `base` and `seq` of the next host's deploy, in words."""
    held = forms.read_object(signed, CLAIMS_TABLE, closed=True) if signed is not None else None
    base = held["version"] if held else 0
    on_top = [host for host in (forms.read_object(host, HOST_TABLE, closed=True) for host in hosts) if host["base"] == base]
    if on_top:
        newest = max(on_top, key=lambda host: (host["seq"], host["iat"], host["deploy"].encode()))
        return f"{newest['deploy']}, then {base} {newest['seq'] + 1}"
    return f"{held['deploy'] if held else 'none'}, then {base} 1"


BLOCK = 512
EXTENSION_BOUND = 65536
ENTRIES_BOUND = 100_000
UNPACKED_BOUND = 4 << 30
RECORD = re.compile(rb"([0-9]{1,7}) ")


class Tree:
    """Paths that were named: True for a file, False for a directory, None for one that only longer paths have named."""

    def __init__(self) -> None:
        self.places: dict[str, bool | None] = {}
        self.made: list[list[str | None]] = []
        self.size = 0

    def hold(self, size: int) -> None:
        """Counts bytes that the archive holds."""
        self.size += size
        if self.size > UNPACKED_BOUND:
            raise Refusal("too_much", "files have at most 4 GiB together")

    def take(self, path: str, place: bool | None) -> None:
        """Takes a place."""
        self.places[path] = place
        if len(self.places) > ENTRIES_BOUND:
            raise Refusal("too_much", "at most 100000 files and directories")

    def parents(self, path: str) -> None:
        """Takes the places of the directories that a path lies in."""
        parts = path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in self.places:
                self.take(parent, None)
                self.made.append([parent, None])
            elif self.places[parent]:
                raise Refusal("twice", "a file is no directory")

    def file(self, name: bytes) -> str:
        """Adds a file."""
        path = read_path(name)
        if path == "":
            raise Refusal("path", "a file is not the root")
        self.parents(path)
        if path in self.places:
            raise Refusal("twice", "each path stands once")
        self.take(path, True)
        return path

    def directory(self, name: bytes) -> None:
        """Adds a directory."""
        path = read_path(name.removesuffix(b"/"))
        if path:
            self.parents(path)
        known = path in self.places
        if known and self.places[path] is not None:
            raise Refusal("twice", "each path stands once")
        self.take(path, False)
        if path and not known:
            self.made.append([path, None])


def read_path(name: bytes) -> str:
    """Reads a path, and returns it without one leading `./`; that of the root is empty."""
    if len(name) > 1024:
        raise Refusal("path", "at most 1024 bytes")
    try:
        path = name.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("path", "UTF-8") from None
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in path):
        raise Refusal("path", "no control character")
    if path.startswith("/"):
        raise Refusal("path", "not absolute")
    if path == ".":
        return ""
    parts = path.removeprefix("./").split("/")
    if any(part in ("", ".", "..") or len(part.encode()) > 255 for part in parts) or len(parts) > 32:
        raise Refusal("path", "parts below the root, at most 32, each of at most 255 bytes")
    return "/".join(parts)


def octal(field: bytes) -> int:
    """Reads a number of a header."""
    digits = field.rstrip(b"\0 ").lstrip(b" ")
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    if re.fullmatch(rb"[0-7]*", digits) is None or not digits:
        raise Refusal("tar", "numbers of a header are octal")
    return int(digits, 8)


def pax_path(content: bytes, is_global: bool) -> bytes | None:
    """Returns the path of a pax header."""
    path = None
    while content:
        start = RECORD.match(content)
        length = int(start[1]) if start else 0
        if start is None or length <= start.end() or length > len(content) or content[length - 1 : length] != b"\n":
            raise Refusal("tar", "a record is LENGTH KEY=VALUE and a line feed")
        key, mark, value = content[start.end() : length - 1].partition(b"=")
        if not mark:
            raise Refusal("tar", "a record has a key")
        if key == b"path" and not is_global and path is None:
            path = value
        elif key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.sparse."):
            raise Refusal("tar", "a pax header changes the next path alone")
        content = content[length:]
    return path


def decompress_gzip(archive: bytes) -> tuple[bytes, Any, bool]:
    """Returns what stands before the first damage, the reader, and whether there is damage: a fault of an entry before it is told first."""
    content, reader = bytearray(), zlib.decompressobj(wbits=31)
    for at in range(len(archive)):
        try:
            content += reader.decompress(archive[at : at + 1], (1 << 26) - len(content))
        except zlib.error:
            return bytes(content), reader, True
    return bytes(content), reader, False


def read_archive(archive: bytes) -> list[list[str | None]]:
    """Reads an archive, and returns its directories, and its files with their text, in the order in which they are made."""
    content, reader, damaged = decompress_gzip(archive)
    tree, at, extension = Tree(), 0, None
    early = Refusal("gzip", "a gzip member whose checksum and length hold") if damaged else Refusal("truncated", "the archive ends early")

    def piece(size: int) -> bytes:
        nonlocal at
        if at + size > len(content):
            raise early
        at += size
        return content[at - size : at]

    while any(header := piece(BLOCK)):
        if octal(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * 32:
            raise Refusal("tar", "the checksum of a header holds")
        size, kind = octal(header[124:136]), header[156:157]
        if kind in b"xgL":
            if size > EXTENSION_BOUND:
                raise Refusal("tar", "a header that extends another has at most 65536 bytes")
            tree.hold(size)
            text = piece(size)
            piece(-size % BLOCK)
            name = text.removesuffix(b"\0") if kind == b"L" else pax_path(text, kind == b"g")
            if extension is not None:
                raise Refusal("tar", "one header extends an entry, and stands before it")
            if kind != b"g":
                extension = (name,)
            continue
        own = header[:100].split(b"\0")[0]
        if header[257:263] == b"ustar\0" and (prefix := header[345:500].split(b"\0")[0]):
            own = prefix + b"/" + own
        name = extension[0] if extension is not None and extension[0] is not None else own
        extension = None
        if kind == b"5" and size == 0:
            tree.directory(name)
        elif kind in (b"0", b"\0"):
            tree.hold(size)
            path = tree.file(name)
            tree.made.append([path, piece(size).decode("utf-8", "replace")])
            piece(-size % BLOCK)
        else:
            raise Refusal("kind", "regular files and directories only")
    if extension is not None:
        raise Refusal("tar", "a header extends the one behind it")
    if any(piece(BLOCK)) or any(rest := content[at:]) or len(rest) > (1 << 20) - BLOCK:
        raise Refusal("trailing", "only zeros follow the end")
    if not reader.eof:
        raise early
    if reader.unused_data:
        raise Refusal("trailing", "one gzip member and nothing behind it")
    return tree.made
