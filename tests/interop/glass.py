"""How the glass of a deployment stands (glass.md)."""

from __future__ import annotations


def judge_glass(mode: str, *, now: int, broken_until: int | None, outage: bool) -> str:
    """Returns `always`, `outage`, `broken` or `sealed`; only `sealed` refuses direct access.

    A break changes nothing about a deployment that is open anyway. While a break lasts it is named, also in an outage.
    """
    if mode == "always":
        return "always"
    if broken_until is not None and now < broken_until:
        return "broken"
    if mode == "outage" and outage:
        return "outage"
    return "sealed"
