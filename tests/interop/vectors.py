"""Runs every case of every vector file, and those of DIRECTORY/further, against this reader: `python vectors.py DIRECTORY`.

Prints each disagreement with the rule that the reader went by. Ends with `N cases agree` and exit code 0, or with exit code 1.
The answers come from the rules alone; `expected` is only compared.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import decision
import forms
import intake
import introspection
import jose
from deploys import admit_host_deploy, choose, read_archive, verify_deploy
from digest import digest_records
from environment import open_environment, verify_encryption_key
from glass import judge_glass
from head import verify_head
from keyset import Keyset, judge_chain, read_keyset
from log import Block, LogCopy, Row, first_fault
from nodes import Members, members_of, verify_enrolment, verify_proof
from outage import read_statement
from peers import Call, compare_heads, read_list, verify_answer
from records import Reader, Record, load_catalogue, role_digest
from refusal import Malformed, Refusal
from revocation import admit_revocation
from text import parse_json
from tokens import verify_token
from uploads import judge_uploads

Case = dict[str, Any]


def again(value: Any) -> Any:
    """Parses a JSON value of a case with this reader's own parser."""
    return parse_json(json.dumps(value, ensure_ascii=False))


def record(value: Case) -> Record:
    """Reads a record of a case."""
    return Record(value["kind"], value["key"], value["body"])


class Suite:
    """One function for each file: a case in, an answer out. A refusal is an answer."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reader = Reader(load_catalogue(directory / "roles.json"))

    def gives(self, case: Case, member: str, value: Any) -> bool:
        """Tells whether a case expects this value besides its answer."""
        return bool(case[member] == value)

    def members(self, common: Case) -> Members:
        """Reads the node records that the cases of a file have in common."""
        return members_of(
            self.reader.read(Record("node", node["id"], json.dumps(node, ensure_ascii=False))) for node in common["nodes"]
        )

    @staticmethod
    def keyset(common: Case) -> Keyset:
        """Reads the keyset of a file, which is given as believed."""
        return read_keyset(common["keyset"])

    def tokens(self, common: Case, case: Case) -> str:
        verify_token(case["token"], self.keyset(common).token_keys)
        return "ok"

    def decisions(self, common: Case, case: Case) -> str:
        records = {r.identity: r for r in map(record, case["records"])}
        replica = decision.Replica(common["issuer"], records, self.reader, self.keyset(common).token_keys)
        if case["revoked_here"]:
            # A refused token has no claims that the list could hold.
            with suppress(Refusal):
                replica.revoked_here.add(verify_token(case["token"], replica.token_keys).claims["sub"])
        question = decision.Question(
            case["deployment"], common["needs"], None, case["client"], case["clock"], case["floor"]
        )
        decision.decide(case["token"], question, replica)
        return "ok"

    def introspection(self, common: Case, case: Case) -> str:
        token = verify_token(common["token"], self.keyset(common).token_keys)
        introspection.judge_answer(
            case["answer"], token, common["deployment"], common["needs"], "etl", [], common["now"], self.reader
        )
        return "ok"

    def glass(self, common: Case, case: Case) -> str:
        return judge_glass(
            case["mode"] or "always", now=case["now"], broken_until=case["broken_until"], outage=case["outage"]
        )

    def records(self, common: Case, case: Case) -> str:
        try:
            said = self.reader.read(record(case))
        except Malformed as error:
            raise Refusal("unreadable", str(error)) from None
        if case["kind"] == "node" and said.key is None:
            raise Refusal("signs_nothing", "with a key that is refused the node signs nothing")
        return "ok"

    def roles(self, common: Case, case: Case) -> str:
        if role_digest(case["body"]) != case["digest"]:
            raise Refusal(f"digest {role_digest(case['body'])}", "SHA-256 over the bytes of the body")
        return "ok"

    def digests(self, common: Case, case: Case) -> str:
        total = digest_records(map(record, case["records"]))
        for gone in map(record, case["removed"]):
            total.remove(gone)
        if total.lanes[:8] != case["first_lanes"] or total.checksum() != case["checksum"]:
            raise Refusal(f"{total.lanes[:8]} {total.checksum()}", "LtHash")
        return "ok"

    def keysets(self, common: Case, case: Case) -> str:
        pinned = case.get("pinned", common.get("pinned"))
        threshold = case.get("threshold", common.get("threshold"))
        judge_chain(case["chain"], [jose.read_jwk(again(root)) for root in pinned], threshold)
        return "ok"

    def heads(self, common: Case, case: Case) -> str:
        verify_head(case["head"], self.keyset(common), common["data_plane"])
        return "ok"

    def environments(self, common: Case, case: Case) -> str:
        place = common["data_plane"], common["node"], forms.decode_base64url(common["private"])
        variables = open_environment(case["environment"], self.keyset(common), *place)
        return "ok" if self.gives(case, "variables", variables) else "other variables"

    def encryption_keys(self, common: Case, case: Case) -> str:
        x = verify_encryption_key(case["statement"], common["node"], jose.read_jwk(again(common["key"])))
        return "ok" if self.gives(case, "x", x) else "another key"

    def deploys(self, common: Case, case: Case) -> str:
        verify_deploy(case["deploy"], self.keyset(common), common["data_plane"])
        return "ok"

    def host_deploys(self, common: Case, case: Case) -> str:
        admit_host_deploy(case["host_deploy"], self.members(common), common["data_plane"])
        return "ok"

    def deploy_orders(self, common: Case, case: Case) -> str:
        found = choose(again(case["signed"]), again(case["hosts"]))
        return "ok" if found == case["in_force"] else found

    def archives(self, common: Case, case: Case) -> str:
        found = read_archive(forms.decode_base64url(case["archive"]))
        return "ok" if self.gives(case, "entries", found) else "other entries"

    def bundles(self, common: Case, case: Case) -> str:
        pinned = tuple(jose.read_jwk(again(root)) for root in common["pinned"])
        state = intake.new_state(common["data_plane"], pinned, common["threshold"], self.reader)
        if not case["empty"]:
            # The file names neither source nor time of the held bundle: it is taken from a file, at a time that no rule
            # refuses.
            state.take(forms.decode_base64url(common["held"]), source="file", now=1_800_000_000)
        answer, rule = "ok", ""
        try:
            state.take(forms.decode_base64url(case["bundle"]), source=case["from"], now=case["now"])
        except Refusal as refusal:
            answer, rule = refusal.answer, refusal.rule
        signed = state.head.issued_at if state.head else None
        if not self.gives(case, "version_after", state.version) or not self.gives(case, "signed_after", signed):
            raise Refusal(f"{answer}, held {state.version}, signed at {signed}, afterwards", rule)
        for token, (start, end) in case.get("valid_after", {}).items():
            window = state.ledger.windows[token]
            if window != intake.Window(state.ledger.generations[token], start, end):
                raise Refusal(f"{answer}, afterwards {token} is valid as {window}", rule)
        if answer != "ok":
            raise Refusal(answer, rule)
        return answer

    def proofs(self, common: Case, case: Case) -> str:
        verify_proof(case["proof"], common["audience"], common["now"], self.members(common))
        return "ok"

    def enrolments(self, common: Case, case: Case) -> str:
        verify_enrolment(again(case["key"]), case["proof"], common["now"])
        return "ok"

    def peer_answers(self, common: Case, case: Case) -> str:
        sent = common["call"]
        call = Call(sent["method"], sent["path"], sent["body"].encode(), sent["jti"])
        verify_answer(
            case["status"],
            case["body"].encode(),
            case["proof"],
            call,
            asks=common["asks"],
            asked=common["asked"],
            members=self.members(common),
            now=common["now"],
        )
        return "ok"

    def peer_lists(self, common: Case, case: Case) -> str:
        after, answer, rule = common["after"], "ok", ""
        try:
            after = read_list(case["body"].encode(), known_list=common["list"], after=common["after"])
        except Refusal as refusal:
            answer, rule = refusal.answer, refusal.rule
        if not self.gives(case, "reads_after", after):
            raise Refusal(f"{answer}, reads after {after}", rule)
        if answer != "ok":
            raise Refusal(answer, rule)
        return answer

    def peer_heads(self, common: Case, case: Case) -> str:
        keyset = self.keyset(common)
        own = verify_head(common["own"], keyset, common["data_plane"])
        compare_heads(case["body"].encode(), own, keyset, common["data_plane"])
        return "ok"

    def revocations(self, common: Case, case: Case) -> str:
        admit_revocation(case["revocation"], self.members(common))
        return "ok"

    def outages(self, common: Case, case: Case) -> str:
        read_statement(case["statement"])
        return "ok"

    def uploads(self, common: Case, case: Case) -> str:
        return judge_uploads([(body["lines"], body["oldest"]) for body in case["bodies"]], "nod_a")

    def logs(self, common: Case, case: Case) -> str:
        uploaded = case["uploaded"]
        fault = first_fault(
            LogCopy(
                common["node"],
                jose.read_jwk(again(common["key"])),
                [Block(b["first"], b["last"], forms.decode_base64url(b["lines"])) for b in case["blocks"]],
                [Row(row["sequence"], row["text"]) for row in case["checkpoints"]],
                case["anchor"],
                (uploaded["sequence"], uploaded["hash"]) if uploaded else None,
            )
        )
        return "ok" if fault is None else f"fault at {fault}"


def run_case(answer: Callable[[Case, Case], str], common: Case, case: Case) -> tuple[str, str]:
    """Returns the answer of this reader, and the rule it went by."""
    try:
        return answer(common, case), ""
    except Refusal as refusal:
        return refusal.answer, refusal.rule


def main(directory: Path) -> int:
    """Runs all files of a directory."""
    suite, agreed, disagreed = Suite(directory), 0, 0
    for file in sorted(directory.glob("*.json")) + sorted(directory.glob("further/*.json")):
        answer = getattr(suite, file.stem, None)
        if answer is None:
            print(f"{file.name}: this reader knows no such question")
            disagreed += 1
            continue
        # A further file without a common member uses that of the file that it extends.
        common = json.loads((directory / file.name).read_text("utf-8")) | json.loads(file.read_text("utf-8"))
        for case in common.pop("cases"):
            got, rule = run_case(answer, common, case)
            if got == case["expected"]:
                agreed += 1
            else:
                disagreed += 1
                print(f"{file.relative_to(directory)}: {case['name']!r}: expected {case['expected']!r}, got {got!r} by the rule {rule!r}")
    print(f"{agreed} cases agree" if not disagreed else f"{disagreed} cases disagree, {agreed} agree")
    return 1 if disagreed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
