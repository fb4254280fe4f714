"""The decision on a token (tokens.md, "Decision on a direct-access token" and "Standard token")."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any, Iterable, Union

import jose
from glass import judge_glass
from intake import Window
from records import Reader, Record, role_digest
from refusal import Refusal
from tokens import DIRECT, Token, verify_token

CLOCK_TOLERANCE = 300
Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


@dataclass
class Replica:
    """The records a node decides by, under the issuer of its head."""

    issuer: str
    records: dict[tuple[str, str], Record]
    reader: Reader
    token_keys: dict[str, jose.PublicKey]
    # Tokens that a local revocation names.
    revoked_here: set[str] = field(default_factory=set)
    # State of the ledger: revoked tokens, the highest generation of each token, and the times between which a token is
    # valid.
    ledger_revoked: set[str] = field(default_factory=set)
    ledger_generations: dict[str, int] = field(default_factory=dict)
    ledger_windows: dict[str, Window] = field(default_factory=dict)

    def find(self, kind: str, key: str) -> Any:
        """Returns what a readable record says, or None."""
        return self.reader.read_or_none(self.records.get((kind, key)))


@dataclass(frozen=True)
class Question:
    """A request as far as the decision goes: the deployment, the permission its route needs, the Dag its path names."""

    deployment: str
    needs: str
    dag: str | None
    client: str | None
    clock: int
    floor: int
    outage: bool = False
    broken_until: int | None = None

    @property
    def now(self) -> int:
        """The later of the clock and the time floor."""
        return max(self.clock, self.floor)


def decide(content: str, question: Question, replica: Replica) -> None:
    """Refuses a direct-access token by the first condition of the table that applies."""
    token = verify_token(content, replica.token_keys)
    if token.typ != DIRECT:
        decide_standard(token, question, replica)
    record = _living_record(token, question, replica)
    deployment = replica.find("deployment", question.deployment)
    if deployment is None:
        raise Refusal("wrong_deployment", "the replica holds no readable record of the deployment")
    _check_place(token, record, question)
    mode = deployment["glass"]
    if judge_glass(mode, now=question.now, broken_until=question.broken_until, outage=question.outage) == "sealed":
        raise Refusal("glass_sealed", "the deployment's glass is sealed")
    if deployment["routes"] != "airflow-v2":
        raise Refusal("route_unknown", "no route of the deployment's map matches")
    permissions = _permissions(token, record, question, replica)
    if question.needs not in permissions:
        raise Refusal("permission_denied", "neither the role nor a Dag role bound to that Dag holds the permission")


def decide_standard(token: Token, question: Question, replica: Replica) -> None:
    """Decides as far as a node can without its control plane; that one then has to be asked."""
    claims = token.claims
    if claims["iss"] != replica.issuer or claims["aud"] != replica.issuer:
        raise Refusal("token_unknown", "iss and aud of a standard token are the head's iss")
    if claims["sub"] in replica.revoked_here:
        raise Refusal("token_revoked", "a local revocation names it")
    check_times(question, [claims["exp"]], [claims["nbf"]])
    raise Refusal("needs_control_plane", "what a standard token may do is the answer of its control plane")


def check_times(question: Question, ends: Iterable[int | None], begins: Iterable[int | None]) -> None:
    """Judges the ends by the later of clock and floor, the beginnings by the clock itself."""
    if question.clock < question.floor - CLOCK_TOLERANCE:
        raise Refusal("clock_untrusted", "the clock is more than 300 s behind the time floor")
    if any(end is not None and question.now >= end for end in ends):
        raise Refusal("token_expired", "now >= the record's expiresAt, the end that the ledger holds, or exp")
    if any(begin is not None and question.clock < begin for begin in begins):
        raise Refusal("token_not_yet_valid", "the clock is before notBefore, the start that the ledger holds, or nbf")


def _living_record(token: Token, question: Question, replica: Replica) -> dict[str, Any]:
    claims = token.claims
    subject = claims["sub"]
    record = replica.find("token", subject)
    if claims["iss"] != replica.issuer or record is None:
        raise Refusal("token_unknown", "iss is not the head's iss, or no readable record of sub")
    if record["revokedAt"] is not None or subject in replica.revoked_here or subject in replica.ledger_revoked:
        raise Refusal("token_revoked", "the record has revokedAt, or a revocation is held")
    # A record of generation 0 counts as generation 1.
    generation = max(1, record["generation"])
    if claims["gen"] < max(generation, replica.ledger_generations.get(subject, 1)):
        raise Refusal("token_rotated", "gen below the record's generation, or the ledger's")
    if claims["gen"] > generation:
        raise Refusal("token_unknown", "gen above the record's generation")
    window = replica.ledger_windows.get(subject)
    ends, begins = [record["expiresAt"], claims["exp"]], [record["notBefore"], claims["nbf"]]
    if window is not None:
        begins.append(window.start)
        if window.generation == generation:
            ends.append(window.end)
    check_times(question, ends, begins)
    return record


def _check_place(token: Token, record: dict[str, Any], question: Question) -> None:
    if token.claims["aud"] != question.deployment or record["deployment"] != question.deployment:
        raise Refusal("wrong_deployment", "aud or the record's deployment is not the deployment asked for")
    if record["sources"] and not is_allowed_source(record["sources"], question.client):
        raise Refusal("source_not_allowed", "the client's address is in none of the sources")


def parse_network(content: str) -> Network | None:
    """Parses `ADDRESS/LENGTH`; returns None for any other text."""
    address, mark, length = content.partition("/")
    if not mark or re.fullmatch(r"0|[1-9][0-9]{0,2}", length) is None or "%" in address:
        return None
    try:
        network = ipaddress.ip_network(content, strict=False)
    except ValueError:
        return None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - 96))
    return network


def is_allowed_source(sources: Iterable[str], client: str | None) -> bool:
    """Returns whether a client is in one of the networks. One that is no CIDR refuses every client."""
    networks = [parse_network(source) for source in sources]
    if client is None or None in networks:
        return False
    try:
        address: Address = ipaddress.ip_address(client)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(network is not None and address.version == network.version and address in network for network in networks)


def _role_permissions(reference: dict[str, Any], scope: str, replica: Replica) -> set[str]:
    role = replica.find("role", reference["id"])
    if role is None or role["scope"] != scope:
        raise Refusal("role_mismatch", f"no readable role record of scope {scope}")
    if role_digest(replica.records[("role", reference["id"])].body) != reference["digest"]:
        raise Refusal("role_mismatch", "the role record has another digest")
    return set(role["permissions"])


def _permissions(token: Token, record: dict[str, Any], question: Question, replica: Replica) -> set[str]:
    """Returns what a token may do on the Dag of the question. Every role it names has to be there, bound to it or not."""
    if token.claims["role"] != record["role"]:
        raise Refusal("role_mismatch", "role is not the record's role")
    permissions = _role_permissions(record["role"], "DEPLOYMENT", replica)
    tags = replica.find("dag-tags", question.deployment)
    dag_tags = tags["tags"].get(question.dag, []) if tags and question.dag is not None else []
    for entry in record["dagRoles"] or []:
        held = _role_permissions(entry["role"], "DAG", replica)
        if question.dag is not None and (entry["dag"] == question.dag or entry["tag"] in dag_tags):
            permissions |= held
    return permissions
