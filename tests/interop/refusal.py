"""The one error of this reader.

A rule that an input breaks raises `Refusal`. It carries the answer that a vector file names (for example `token_malformed`) and
the rule in words, so that a disagreement can be traced to the sentence of the document it rests on.
"""

from __future__ import annotations


class Refusal(Exception):
    """An input breaks a rule of the protocol."""

    def __init__(self, answer: str, rule: str) -> None:
        super().__init__(f"{answer}: {rule}")
        self.answer = answer
        self.rule = rule


class Malformed(Exception):
    """A text or a JSON value does not have its form.

    Modules that name answers convert it to a `Refusal`: the same broken form is `token_malformed` in a token, `unreadable` in a
    record and `malformed` elsewhere.
    """


def refuse_malformed(answer: str, error: Malformed) -> Refusal:
    """Converts a broken form to the answer that the caller's page gives it."""
    return Refusal(answer, str(error))
