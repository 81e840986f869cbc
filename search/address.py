"""Where a Ray cluster is, and whether it is one to go to."""

import ipaddress
import os
import socket
import subprocess

from ray._private.services import canonicalize_bootstrap_address_or_die, find_bootstrap_address
from ray.util import get_node_ip_address

from data_tools.errors import UserError, in_a_line
from search.enclosure import PYTHON


def given(address: str | None) -> str | None:
    """Return the host:port of the cluster that is asked for, or that RAY_ADDRESS names; None for this machine alone.

    Raises:
        UserError: it is no such address, or none runs here.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address == "auto":
        # Not by the list of processes, where Ray would look too: what else runs there is somebody's own search.
        if not (recorded := find_bootstrap_address(None)):
            raise UserError(
                "--address auto: `ray start` has started no cluster on this machine; start one, or say HOST:PORT"
            )
        return canonicalize_bootstrap_address_or_die(recorded)
    if address and "://" in address:
        raise UserError(
            f"--address {address!r}: say the HOST:PORT of the cluster's head, as `ray start --head` shows it"
        )
    return address


def check(address: str) -> None:
    """Say at once what Ray would say only after minutes of trying, or never.

    Raises:
        UserError: nobody listens there, or a cluster that others can reach asks for no token.
    """
    if reason := unreachable(address):
        raise UserError(f"--address {address!r}: cannot be reached ({reason}); is a Ray head running there?")
    _check_guarded(address)


_KNOCK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1])
except AuthenticationError:
    sys.exit(9)
"""
GUARDED = 9


def _check_guarded(address: str) -> None:
    """Refuse a cluster that others can reach and that asks for no token: it runs whatever anyone sends it."""
    host, _, port = address.rpartition(":")
    try:
        found = {ipaddress.ip_address(entry[4][0]) for entry in socket.getaddrinfo(host.strip("[]"), int(port))}
    except (OSError, ValueError) as error:
        raise UserError(f"--address {address!r}: is no HOST:PORT ({error})") from None
    # By its loopback address a cluster is reached that others reach by another.
    if all(ip.is_loopback for ip in found) and unreachable(f"{get_node_ip_address()}:{port}", 2.0):
        return
    # In a process of its own: Ray reads once whether there is a token.
    told = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    command = [*PYTHON, "-c", _KNOCK, address]
    try:
        answer = subprocess.run(command, env=told, capture_output=True, check=False, timeout=60).returncode
    except subprocess.TimeoutExpired:
        answer = -1
    if answer not in (0, GUARDED):
        raise UserError(f"--address {address!r}: does not say whether it asks for a token; is it a Ray head?")
    if answer == 0:
        raise UserError(
            f"--address {address!r}: that cluster asks for no token, so anyone who reaches it can run code there; make "
            f"one with `ray get-auth-token --generate`, copy ~/.ray/auth_token to all nodes and start them with "
            f"RAY_AUTH_MODE=token"
        )
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise UserError(
            f"--address {address!r}: that cluster asks for a token; set RAY_AUTH_MODE=token, and have its token in "
            f"~/.ray/auth_token or where RAY_AUTH_TOKEN_PATH says"
        )


def unreachable(address: str, patience: float = 10.0) -> str | None:
    """Return why nobody answers at host:port; None where somebody does, or where it is no such address."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit()):
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
    except OSError as error:
        return error.strerror or f"no answer within {patience:g} s"
    except ValueError as error:  # a name that no host can have
        return in_a_line(error)
    return None
