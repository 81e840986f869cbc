"""Resolves the address of a Ray cluster, and checks that it answers and requires a token."""

import ipaddress
import os
import socket
import subprocess

from ray.util import get_node_ip_address

from huetune.data_tools.common.errors import UserError, first_line
from huetune.search.process.environment import SAFE_PYTHON
from huetune.search.ray_runtime.ray_compat import ASK_FOR_TOKEN, TOKEN_WANTED_EXIT_CODE, recorded_cluster

LOCAL = "local"
"""Ray's name for a new Ray on this machine."""


def resolve(address: str | None) -> str | None:
    """Return the HOST:PORT of a cluster; None for a new Ray on this machine.

    Args:
        address: the value of `--address`: HOST:PORT, `auto` for a cluster that `ray start` started on this machine, or
            `local` for a new Ray on this machine; None for the value of RAY_ADDRESS, if it is set.

    Raises:
        UserError: the address is invalid, or `auto` finds no cluster.
    """
    found = address or os.environ.get("RAY_ADDRESS")
    if found == LOCAL:
        return None
    if found == "auto":
        # Ray would search the list of processes, too, and find the private Ray of another search.
        if not (recorded := recorded_cluster()):
            reason = "`ray start` has started no cluster on this machine; start one, or pass HOST:PORT"
            raise _refused(address, found, reason)
        return recorded
    if found and "://" in found:
        raise _refused(address, found, "pass the HOST:PORT of the cluster's head, as `ray start --head` prints it")
    return found or None


def check(address: str | None) -> None:
    """Find problems of an address at once that Ray would report after minutes, or never.

    Args:
        address: see `resolve`.

    Raises:
        UserError: the address is invalid or does not answer, or a cluster that others can reach requires no token.
    """
    if not (found := resolve(address)):
        return
    if reason := connection_error(found):
        raise _refused(address, found, f"cannot be reached ({reason}); is a Ray head running there?")
    if reason := _unprotected(found):
        raise _refused(address, found, reason)


def _refused(address: str | None, found: str, reason: str) -> UserError:
    if address:
        return UserError(f"--address {found!r}: {reason}")
    return UserError(f"RAY_ADDRESS={found!r}: {reason}; `--address {LOCAL}` searches on this machine")


def _unprotected(address: str) -> str | None:
    """Return why a cluster must not be used: others can reach it and run code on it. None if it is safe."""
    host, _, port = address.rpartition(":")
    try:
        found = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), int(port))}
    except (OSError, ValueError) as error:
        return f"is not a HOST:PORT ({error})"
    # A cluster that answers at a loopback address may also listen at an address that others can reach.
    if all(ip.is_loopback for ip in found) and connection_error(f"{get_node_ip_address()}:{port}", 2.0):
        return None
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [*SAFE_PYTHON, "-c", ASK_FOR_TOKEN, address]
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60).returncode
    except subprocess.TimeoutExpired:
        answer = -1
    if answer not in (0, TOKEN_WANTED_EXIT_CODE):
        return "does not answer whether it requires a token; is it a Ray head?"
    if answer == 0:
        return (
            "the cluster requires no token, so anyone who can reach it can run code on it; make a token with `ray "
            "get-auth-token --generate`, copy ~/.ray/auth_token to all nodes and start them with RAY_AUTH_MODE=token"
        )
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            "the cluster requires a token; set RAY_AUTH_MODE=token, and copy the cluster's token to "
            "~/.ray/auth_token or to the path in RAY_AUTH_TOKEN_PATH"
        )
    return None


def connection_error(address: str, timeout: float = 10.0) -> str | None:
    """Return why HOST:PORT does not accept connections; None if it does, or if the address has another form.

    Args:
        address: HOST:PORT.
        timeout: seconds.
    """
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=timeout).close()
    except OSError as error:
        return error.strerror or f"no answer within {timeout:g} s"
    except ValueError as error:  # an invalid host name
        return first_line(error)
    return None
