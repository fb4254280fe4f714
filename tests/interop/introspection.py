"""The control plane's answer about a standard token (tokens.md, "Standard token"; RFC 7662)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import forms
from records import Reader
from refusal import Malformed, Refusal
from text import Object, Value, parse_object
from tokens import Token


def read_answer(content: str, reader: Reader) -> dict[str, Any] | None:
    """Reads an answer. Returns None for `active` false; raises `Malformed` for one that is unreadable."""
    value, table = parse_object(content), _table(reader)
    if forms.read_object(value, {"active": table["active"]}, closed=False)["active"]:
        return forms.read_object(value, table, closed=False)
    # An inactive token needs no other member, but a member that is present must have its type.
    forms.read_object(value, {name: replace(member, required=False) for name, member in table.items()}, closed=False)
    return None


def _table(reader: Reader) -> dict[str, forms.Member]:
    def dag_entry(value: Value) -> dict[str, Any]:
        table = {
            "dag": forms.optional(forms.text),
            "tag": forms.optional(forms.text),
            "permissions": forms.Member(reader.permissions),
        }
        if not isinstance(value, Object):
            raise Malformed("an entry of dags is not an object")
        entry = forms.read_object(value, table, closed=False)
        if (entry["dag"] is None) == (entry["tag"] is None):
            raise Malformed("exactly one of dag and tag")
        return entry

    return {
        "active": forms.Member(forms.boolean),
        "token_type": forms.optional(forms.text),
        "iss": forms.optional(forms.text),
        "aud": forms.optional(forms.text),
        "sub": forms.Member(forms.identifier),
        "gen": forms.Member(forms.u32),
        "iat": forms.optional(forms.time),
        "nbf": forms.optional(forms.time),
        "exp": forms.optional(forms.time),
        "deployment": forms.Member(forms.identifier),
        "permissions": forms.Member(reader.permissions),
        "dags": forms.optional_array(forms.array(dag_entry)),
    }


def judge_answer(
    content: str, token: Token, deployment: str, needs: str, dag: str | None, tags: list[str], now: int, reader: Reader
) -> None:
    """Refuses, unless the answer is about the token that was asked about and lets it do what is needed."""
    try:
        answer = read_answer(content, reader)
    except Malformed as error:
        raise Refusal("needs_control_plane", str(error)) from None
    if answer is None:
        raise Refusal("token_revoked", "active is false: it does not live")
    claims = token.claims
    for name in ("iss", "aud"):
        if answer[name] is not None and answer[name] != claims[name]:
            raise Refusal("needs_control_plane", f"{name} is that of the value asked about")
    if (answer["sub"], answer["gen"], answer["deployment"]) != (claims["sub"], claims["gen"], deployment):
        raise Refusal("needs_control_plane", "the answer is about something else than was asked")
    if answer["exp"] is not None and now >= answer["exp"]:
        raise Refusal("token_expired", "now >= exp of the answer")
    if answer["nbf"] is not None and now < answer["nbf"]:
        raise Refusal("token_not_yet_valid", "a wall clock before nbf of the answer")
    permissions = set(answer["permissions"])
    for entry in answer["dags"] or []:
        if dag is not None and (entry["dag"] == dag or entry["tag"] in tags):
            permissions |= set(entry["permissions"])
    if needs not in permissions:
        raise Refusal("permission_denied", "the answer does not name the permission that the route needs")
