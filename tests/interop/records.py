"""Record bodies (replica.md, "Record"): whether one can be read, and what it then says."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import forms
import jose
from refusal import Malformed
from text import Object, Value, parse_object

KINDS = ("token", "role", "deployment", "dag-tags", "node", "standard-tokens")
ROUTES = re.compile(r"[a-z0-9_-]{1,64}")

# The document names this file as the catalogue of permissions.
CATALOGUE_FILE = Path(__file__).resolve().parent.parent / "vectors" / "roles.json"


def load_catalogue(file: Path = CATALOGUE_FILE) -> frozenset[str]:
    """Reads the catalogue of permissions."""
    return frozenset(json.loads(file.read_text("utf-8"))["catalogue"])


@dataclass(frozen=True)
class Record:
    """Three texts. The body is stored and hashed as those very bytes."""

    kind: str
    key: str
    body: str

    @property
    def identity(self) -> tuple[str, str]:
        """What stands once in a replica."""
        return self.kind, self.key


ROLE_REFERENCE = forms.nested(
    {"id": forms.Member(forms.role_name), "digest": forms.Member(forms.hash_text)}, closed=True
)


def _dag_role(value: Value) -> dict[str, Any]:
    table = {
        "role": forms.Member(ROLE_REFERENCE),
        # A Dag id is not an `id` of the protocol: Airflow allows dots and 250 characters.
        "dag": forms.optional(forms.text),
        "tag": forms.optional(forms.text),
    }
    entry = forms.read_object(value, table, closed=True)
    if (entry["dag"] is None) == (entry["tag"] is None):
        raise Malformed("exactly one of dag and tag")
    return entry


def _routes(value: Value) -> str:
    content = forms.text(value)
    if ROUTES.fullmatch(content) is None:
        raise Malformed("not the name of a route map")
    return content


def _tags(value: Value) -> dict[str, list[str]]:
    if not isinstance(value, Object):
        raise Malformed("tags is not an object")
    read = forms.array(forms.text)
    # The last entry of a repeated Dag counts, and `dict` keeps the last one.
    return {dag: read(tags) for dag, tags in value.pairs}


TOKEN_TABLE = {
    "id": forms.Member(forms.identifier),
    "deployment": forms.Member(forms.identifier),
    "generation": forms.Member(forms.u32),
    "role": forms.Member(ROLE_REFERENCE),
    "dagRoles": forms.optional_array(forms.array(_dag_role)),
    "notBefore": forms.Member(forms.time),
    "expiresAt": forms.Member(forms.time),
    # An entry that is no CIDR leaves the record readable; the decision then refuses with `source_not_allowed`.
    "sources": forms.optional_array(forms.array(forms.text)),
    "rateLimitPerMinute": forms.optional(forms.u32),
    "revokedAt": forms.optional(forms.time),
}
DEPLOYMENT_TABLE = {
    "id": forms.Member(forms.identifier),
    "workspace": forms.Member(forms.text),
    "name": forms.Member(forms.text),
    "hosts": forms.optional_array(forms.array(forms.text)),
    "routes": forms.Member(_routes, required=False, default="airflow-v2"),
    "glass": forms.Member(forms.one_of("always", "outage", "sealed"), required=False, default="always"),
}
DAG_TAGS_TABLE = {"deployment": forms.Member(forms.identifier), "tags": forms.Member(_tags)}
NODE_TABLE = {
    "id": forms.Member(forms.identifier),
    "name": forms.Member(forms.text),
    "key": forms.Member(forms.anything),
    "retiredAt": forms.optional(forms.time),
}
STANDARD_TABLE = {"changes": forms.Member(forms.u64)}


@dataclass(frozen=True)
class Node:
    """A readable node record. `key` is None when its JWK is refused: then it signs nothing that counts."""

    id: str
    key: jose.PublicKey | None
    retired_at: int | None


class Reader:
    """Reads bodies. It holds the catalogue, since a permission outside of it makes a role unreadable."""

    def __init__(self, catalogue: frozenset[str]) -> None:
        self.catalogue = catalogue
        self.readers: dict[str, Callable[[str, Object], Any]] = {
            "token": lambda key, body: self._keyed(key, body, TOKEN_TABLE, "id"),
            "role": self._role,
            "deployment": lambda key, body: self._keyed(key, body, DEPLOYMENT_TABLE, "id"),
            "dag-tags": lambda key, body: self._keyed(key, body, DAG_TAGS_TABLE, "deployment"),
            "node": self._node,
            "standard-tokens": lambda key, body: forms.read_object(body, STANDARD_TABLE, closed=True),
        }

    def read(self, record: Record) -> Any:
        """Returns what a body says, or raises `Malformed` for one that is not readable."""
        if record.kind not in self.readers:
            raise Malformed("no such kind of record")
        return self.readers[record.kind](record.key, parse_object(record.body))

    def read_or_none(self, record: Record | None) -> Any:
        """Returns what a body says; a record that is missing or not readable says nothing."""
        if record is None:
            return None
        try:
            return self.read(record)
        except Malformed:
            return None

    def _keyed(self, key: str, body: Object, table: dict[str, forms.Member], name: str) -> dict[str, Any]:
        members = forms.read_object(body, table, closed=True)
        if members[name] != key:
            raise Malformed(f"{name} is not the key of the record")
        return members

    def _permission(self, value: Value) -> str:
        name = forms.text(value)
        if name not in self.catalogue:
            raise Malformed("a permission that is not in the catalogue")
        return name

    def permissions(self, value: Value) -> list[str]:
        """Reads an array of permission names."""
        return forms.array(self._permission)(value)

    def _role(self, key: str, body: Object) -> dict[str, Any]:
        table = {
            "name": forms.Member(forms.identifier),
            "version": forms.Member(forms.u32_from_one),
            "scope": forms.Member(forms.one_of("ORGANIZATION", "WORKSPACE", "DEPLOYMENT", "DAG")),
            "permissions": forms.Member(self.permissions),
        }
        members = forms.read_object(body, table, closed=True)
        if f"{members['name']}@{members['version']}" != key:
            raise Malformed("name and version are not the key of the record")
        return members

    def _node(self, key: str, body: Object) -> Node:
        members = self._keyed(key, body, NODE_TABLE, "id")
        # A value that is no JWK makes the record unreadable; a JWK that is refused verifies no signature.
        forms.read_object(members["key"], jose.JWK_TABLE, closed=False)
        try:
            jwk = jose.read_jwk(members["key"])
        except Malformed:
            jwk = None
        return Node(members["id"], jwk, members["retiredAt"])


def role_digest(body: str) -> str:
    """SHA-256 over the bytes of a role's body, as they stand."""
    return forms.encode_base64url(hashlib.sha256(body.encode()).digest())
