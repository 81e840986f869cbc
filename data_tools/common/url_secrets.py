"""Detection of passwords in URLs: a URL that is recorded would store its password, too."""

import re

from sqlalchemy.engine import URL

# Without passfile and sslkey, whose values are names of files.
_SECRET_NAMES = re.compile(r"pass(?!file)|pwd|secret|token|credential|(api|access)_?key", re.IGNORECASE)


def has_secret(url: URL) -> bool:
    """Return whether a URL has a password, before the host or in an option after the "?"."""
    return bool(url.password) or any(_SECRET_NAMES.search(name) for name in url.query)
