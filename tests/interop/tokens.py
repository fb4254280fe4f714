"""Tokens, decisions and introspection, as docs/protocol/tokens.md says; glass, as docs/glass.md says."""

import ipaddress

import replica
from jose import compact
from text import Refused, Table, array, boolean, digest, identifier, role_name, text, time, u32

_CLAIMS = Table(
    False,
    iss=(text, "required"),
    sub=(identifier, "required"),
    aud=(text, "required"),
    iat=(time, "required"),
    nbf=(time, "required"),
    exp=(time, "optional"),
    gen=(u32, "required"),
    role=(Table(True, id=(role_name, "required"), digest=(digest, "required")), "optional"),
)
_KINDS = ("direct-access+jwt", "standard+jwt")


def verify(token, keyset):
    """The typ and the claims of a token."""
    try:
        typ, _, payload = compact(token, _KINDS, keyset.keys["token"], 4096)
        claims = _CLAIMS.read(payload)
        if typ == "direct-access+jwt" and not {"exp", "role"} <= set(claims):
            raise Refused("malformed", "no exp or no role")
    except Refused as error:
        if error.code in ("malformed", "too_large"):
            raise Refused(f"token_{error.code}", str(error)) from None
        raise
    return typ, claims


def glass(mode, broken_until, outage, now):
    """How a deployment's glass stands."""
    if mode == "always":
        return "always"
    if broken_until is not None and now < broken_until:
        return "broken"
    return "outage" if mode == "outage" and outage else "sealed"


def _found(records, kind, key):
    source = records.get((kind, key))
    return replica.body(kind, key, source) if source is not None else None


def _permissions(records, role):
    """What a role allows, or none when it is not what its digest says."""
    found = _found(records, "role", role["id"])
    if not found or replica.role_digest(records["role", role["id"]]) != role["digest"]:
        raise Refused("role_mismatch")
    return set(found["permissions"])


def decide(token, keyset, issuer, records, *, revoked_here, deployment, client, clock, floor, needs):
    """Allows the use of a direct-access token on a route that names no Dag, or refuses it with a reason code."""
    _, claims = verify(token, keyset)
    record = _found(records, "token", claims["sub"])
    if claims["iss"] != issuer or not record:
        raise Refused("token_unknown")
    if "revokedAt" in record or revoked_here:
        raise Refused("token_revoked")
    generation = max(record["generation"], 1)
    if claims["gen"] != generation:
        raise Refused("token_rotated" if claims["gen"] < generation else "token_unknown")
    if clock + 300 < floor:
        raise Refused("clock_untrusted")
    now = max(clock, floor)
    if now >= record["expiresAt"] or now >= claims["exp"]:
        raise Refused("token_expired")
    if clock < record["notBefore"] or clock < claims["nbf"]:
        raise Refused("token_not_yet_valid")
    place = _found(records, "deployment", deployment)
    if not place or claims["aud"] != deployment or record["deployment"] != deployment:
        raise Refused("wrong_deployment")
    _source(record, client)
    if glass(place.get("glass", "always"), None, False, now) == "sealed":
        raise Refused("glass_sealed")
    if claims["role"] != record["role"]:
        raise Refused("role_mismatch")
    for dag_role in record.get("dagRoles", []):
        _permissions(records, dag_role["role"])
    if needs not in _permissions(records, record["role"]):
        raise Refused("permission_denied")


def _source(record, client):
    sources = record.get("sources", [])
    if not sources:
        return
    networks = replica.networks(sources)
    address = ipaddress.ip_address(client) if client else None
    if address and address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not networks or not address or not any(address in network for network in networks):
        raise Refused("source_not_allowed")


_ON_DAGS = Table(
    False,
    dag=(text, "optional"),
    tag=(text, "optional"),
    permissions=(array(replica.permission), "required"),
)


def _on_dags(value):
    found = _ON_DAGS(value)
    if ("dag" in found) == ("tag" in found):
        raise ValueError("exactly one of dag and tag")
    return found


_ALIVE = Table(
    False,
    active=(boolean, "required"),
    sub=(identifier, "required"),
    gen=(u32, "required"),
    deployment=(identifier, "required"),
    permissions=(array(replica.permission), "required"),
    dags=(array(_on_dags), "default"),
)
_ACTIVE = Table(False, active=(boolean, "required"))


def introspected(token, keyset, answer, deployment, dag, needs):
    """Allows the use of a standard token on a route of a Dag without tags, by the answer of the control plane."""
    _, claims = verify(token, keyset)
    if not _ACTIVE.read(answer, "needs_control_plane")["active"]:
        raise Refused("token_revoked")
    said = _ALIVE.read(answer, "needs_control_plane")
    if (said["sub"], said["gen"], said["deployment"]) != (claims["sub"], claims["gen"], deployment):
        raise Refused("needs_control_plane")
    allowed = set(said["permissions"])
    for entry in said.get("dags", []):
        if entry.get("dag") == dag:
            allowed |= set(entry["permissions"])
    if needs not in allowed:
        raise Refused("permission_denied")
