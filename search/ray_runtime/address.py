"""Where a Ray cluster is, and whether it is one to go to."""

import ipaddress
import os
import socket
import subprocess

from ray.util import get_node_ip_address

from huetune.data_tools.common.errors import UserError, first_line
from huetune.search.ray_runtime.local_ray import SAFE_PYTHON
from huetune.search.ray_runtime.ray_compat import ASK_FOR_TOKEN, TOKEN_WANTED_EXIT_CODE, recorded_cluster

LOCAL = "local"
"""The address of this machine alone, as Ray calls it."""


def resolve(address: str | None) -> str | None:
    """Return the host:port of the cluster that is asked for, or that RAY_ADDRESS names; None for this machine alone.

    Args:
        address: as `--address` has it: HOST:PORT, `auto`, or `local` for this machine, whatever RAY_ADDRESS says.

    Raises:
        UserError: it is no such address, or none runs here.
    """
    found = address or os.environ.get("RAY_ADDRESS")
    if found == LOCAL:
        return None
    if found == "auto":
        # Not by the list of processes, where Ray would look too: what else runs there is somebody's own search.
        if not (recorded := recorded_cluster()):
            reason = "`ray start` has started no cluster on this machine; start one, or say HOST:PORT"
            raise _refused(address, found, reason)
        return recorded
    if found and "://" in found:
        raise _refused(address, found, "say the HOST:PORT of the cluster's head, as `ray start --head` shows it")
    return found or None


def check(address: str | None) -> None:
    """Say at once what Ray would say only after minutes of trying, or never.

    Args:
        address: as for `resolve`.

    Raises:
        UserError: it is no address, nobody listens there, or a cluster that others can reach asks for no token.
    """
    if not (found := resolve(address)):
        return
    if reason := connection_error(found):
        raise _refused(address, found, f"cannot be reached ({reason}); is a Ray head running there?")
    if reason := _unguarded(found):
        raise _refused(address, found, reason)


def _refused(address: str | None, found: str, reason: str) -> UserError:
    if address:
        return UserError(f"--address {found!r}: {reason}")
    return UserError(f"RAY_ADDRESS={found!r}: {reason}; `--address {LOCAL}` searches on this machine")


def _unguarded(address: str) -> str | None:
    """Return why not to go to a cluster: others reach it, and it runs whatever anyone sends it; None if it is fine."""
    host, _, port = address.rpartition(":")
    try:
        found = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), int(port))}
    except (OSError, ValueError) as error:
        return f"is no HOST:PORT ({error})"
    # By its loopback address a cluster is reached that others reach by another.
    if all(ip.is_loopback for ip in found) and connection_error(f"{get_node_ip_address()}:{port}", 2.0):
        return None
    told = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [*SAFE_PYTHON, "-c", ASK_FOR_TOKEN, address]
    try:
        answer = subprocess.run(command, env=told, capture_output=True, check=False, timeout=60).returncode
    except subprocess.TimeoutExpired:
        answer = -1
    if answer not in (0, TOKEN_WANTED_EXIT_CODE):
        return "does not say whether it asks for a token; is it a Ray head?"
    if answer == 0:
        return (
            "that cluster asks for no token, so anyone who reaches it can run code there; make one with `ray "
            "get-auth-token --generate`, copy ~/.ray/auth_token to all nodes and start them with RAY_AUTH_MODE=token"
        )
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            "that cluster asks for a token; set RAY_AUTH_MODE=token, and have its token in ~/.ray/auth_token or where "
            "RAY_AUTH_TOKEN_PATH says"
        )
    return None


def connection_error(address: str, patience: float = 10.0) -> str | None:
    """Return why nobody answers at host:port; None where somebody does, or where it is no such address."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
    except OSError as error:
        return error.strerror or f"no answer within {patience:g} s"
    except ValueError as error:  # a name that no host can have
        return first_line(error)
    return None
