"""Statements of an outage (log.md, "Statement of an outage")."""

from __future__ import annotations

from typing import Any

import forms
from refusal import Malformed, Refusal, refuse_malformed
from text import parse_object

ALARM_TABLE = {
    "time": forms.Member(forms.time),
    "kind": forms.Member(forms.text),
    "what": forms.Member(forms.text),
    "times": forms.Member(forms.u64),
}
STATEMENT_TABLE = {
    # The form is checked below, because a text that is no id has an answer of its own.
    "id": forms.Member(forms.text),
    "beganAt": forms.Member(forms.time),
    "endedAt": forms.Member(forms.time),
    "lastContactAt": forms.optional(forms.time),
    # The default is the empty text, so `null` is refused.
    "cause": forms.Member(forms.text, required=False, default=""),
    "firstSequence": forms.Member(forms.u64),
    "lastSequence": forms.Member(forms.u64),
    "alarms": forms.optional_array(forms.array(forms.nested(ALARM_TABLE, closed=False))),
}


def read_statement(content: str) -> dict[str, Any]:
    """Reads a statement and cuts what is too long: cutting is the receiver's work, and no reason to refuse."""
    try:
        statement = forms.read_object(parse_object(content), STATEMENT_TABLE, closed=False)
    except Malformed as error:
        raise refuse_malformed("malformed", error) from None
    if not statement["id"].startswith("out_") or forms.IDENTIFIER.fullmatch(statement["id"]) is None:
        raise Refusal("refused", "id is an id that begins with out_")
    if statement["endedAt"] < statement["beganAt"]:
        raise Refusal("refused", "endedAt is not before beganAt")
    statement["cause"] = statement["cause"][:500]
    statement["alarms"] = [
        {**alarm, "kind": alarm["kind"][:500], "what": alarm["what"][:500]} for alarm in (statement["alarms"] or [])[:32]
    ]
    return statement
