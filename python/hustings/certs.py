"""Certificates of a cluster over several machines: made here, read by nodes and scripts.

::

    authority (ca.pem, ca.key)  --issues-->  a folder for each node, script and operator:
                                             ca.pem, cert.pem, key.pem   (tls=DIR, --tls DIR)

Whoever has the authority's key can let anybody in: keep it where certificates are issued, and
nowhere else.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from . import _core
from .errors import ConfigError

OK = 0
DAYS = 365
"""How long a certificate lasts unless told otherwise."""
CERT = "cert.pem"
ENVIRONMENT = "HUSTINGS_TLS"

AnyPath: TypeAlias = "str | os.PathLike[str]"


class Holder(NamedTuple):
    """Who a certificate is for."""

    cluster: str
    role: str
    name: str


def check_folder(value: object, field: str = "tls") -> str | None:
    """The folder of a certificate: as given, else HUSTINGS_TLS, else ``None``: no TLS.

    Example:
        >>> from hustings.certs import check_folder
        >>> check_folder("tls/a")
        'tls/a'
    """
    value = os.environ.get(ENVIRONMENT) or None if value is None else value
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        files = f"ca.pem, {CERT}, key.pem"
        raise ConfigError(f"{field}={value!r}: give the path of a folder with {files}")
    return str(os.fspath(value))


def create_authority(folder: AnyPath) -> tuple[str, str]:
    """Makes the authority of a new cluster in ``folder``; returns the cluster's id and the
    authority's fingerprint.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hustings import certs
        >>> with tempfile.TemporaryDirectory() as place:
        ...     cluster, fingerprint = certs.create_authority(Path(place) / "ca")
        >>> len(cluster), len(fingerprint)
        (32, 64)

    Raises:
        TlsConfigError: there is one already, or the folder cannot be written.
    """
    return _core.certs_init(folder)


def issue(
    role: str,
    name: str,
    *,
    ca: AnyPath,
    out: AnyPath,
    hosts: Sequence[str] = (),
    days: int = DAYS,
) -> str:
    """Issues a certificate into the folder ``out``; returns the identity in it. Called again with
    the same ``out`` it renews: whoever uses the folder takes the new one within a second.

    Args:
        role: ``"peer"`` for a node, ``"client"`` for a script, ``"admin"`` for an operator.
        name: A node's name in the cluster; for others, a word for people.
        ca: The authority's folder.
        out: Where ca.pem, cert.pem and key.pem go.
        hosts: A node's addresses, without ports: those under which others reach it.
        days: How long it lasts.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hustings import certs
        >>> with tempfile.TemporaryDirectory() as place:
        ...     ca, out = Path(place) / "ca", Path(place) / "a"
        ...     _ = certs.create_authority(ca)
        ...     _ = certs.issue("peer", "a", ca=ca, out=out, hosts=["10.0.0.1"])
        ...     certs.read(out)[1:]
        ('peer', 'a')

    Raises:
        ConfigError: a name, host or number of days that cannot be.
        TlsConfigError: the authority cannot be used, or the folder not be written.
    """
    return _core.certs_issue(ca, out, role, name, list(hosts), days)


def create_token(name: str, *, ca: AnyPath, at: str, hosts: Sequence[str], days: int = DAYS) -> str:
    """A token by which one node, of that name and at those addresses, gets its certificate: once,
    within 15 minutes, at the node that admits (``hustings node --admit``) at ``at``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from hustings import certs
        >>> with tempfile.TemporaryDirectory() as place:
        ...     ca = Path(place) / "ca"
        ...     _ = certs.create_authority(ca)
        ...     token = certs.create_token("e", ca=ca, at="10.0.0.1:7401", hosts=["10.0.0.5"])
        >>> token.partition("@")[2]
        '10.0.0.1:7401'

    Raises:
        TlsConfigError: the authority cannot be used, or too many tokens wait to be used.
    """
    return f"{_core.certs_token(ca, name, list(hosts), days)}@{at}"


def read(folder: AnyPath) -> Holder:
    """Whose certificate lies in ``folder``; checked as a node would check its own.

    Raises:
        TlsConfigError: a file is missing, broken, or readable by others.
        AuthError: the certificate has expired, or is not valid yet.
    """
    return Holder(*_core.certs_read(folder))


def enrol(token: str, out: AnyPath) -> Holder:
    """Gets a certificate for a token; ``out`` then holds it. The key is made here and stays here.

    Raises:
        ConfigError: not a token.
        AuthError: the token is wrong, was used, has expired, or is for another cluster.
        NoQuorumError: nobody answers.
    """
    secret, _, address = token.strip().partition("@")
    if not address:
        raise ConfigError("token: it lacks its address (TOKEN@HOST:PORT); take it as printed")
    _core.certs_enrol(address, secret, out)
    return read(out)


def holds_certificate(folder: AnyPath) -> bool:
    """Whether there is a certificate in ``folder``."""
    return (Path(folder) / CERT).exists()


def run(arguments: argparse.Namespace) -> int:
    """Performs ``hustings certs ...``."""
    what: str = arguments.what
    if what == "init":
        cluster, fingerprint = create_authority(arguments.folder)
        told = {"cluster": cluster, "fingerprint": fingerprint, "folder": arguments.folder}
        text = (
            f"authority of cluster {cluster} in {arguments.folder}\nfingerprint {fingerprint}\n"
            f"keep {arguments.folder}/ca.key to yourself: whoever has it can let anybody in"
        )
    elif what == "show":
        told = read(arguments.folder)._asdict()
        text = "{role} {name} of cluster {cluster}".format(**told)
    elif what == "token":
        token = create_token(
            arguments.name,
            ca=arguments.ca,
            at=arguments.at,
            hosts=arguments.hosts,
            days=arguments.days,
        )
        told, text = {"token": token}, token
    else:
        role = "peer" if what == "node" else what
        hosts = arguments.hosts if what == "node" else []
        uri = issue(
            role,
            arguments.name,
            ca=arguments.ca,
            out=arguments.out,
            hosts=hosts,
            days=arguments.days,
        )
        told, text = {"identity": uri, "folder": arguments.out}, f"{uri} in {arguments.out}"
    print(json.dumps(told) if arguments.json else text)
    return OK


__all__ = [
    "Holder",
    "check_folder",
    "create_authority",
    "create_token",
    "enrol",
    "issue",
    "read",
]
