"""Secrets that somebody put into a URL, which would be written down with it."""

import re

from sqlalchemy.engine import URL

# Not passfile and sslkey, which name files.
_NAMES = re.compile(r"pass(?!file)|pwd|secret|token|credential|(api|access)_?key", re.IGNORECASE)


def has_secret(url: URL) -> bool:
    """Whether a URL has a password, in its place or after the "?" under any of the names that drivers have for one."""
    return bool(url.password) or any(_NAMES.search(name) for name in url.query)
