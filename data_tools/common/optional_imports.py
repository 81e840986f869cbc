"""Packages that only some people want: the message of a missing one names the extra of huetune that brings it."""

import importlib
from importlib.util import find_spec
from typing import Any

from huetune.data_tools.common.errors import UserError


def import_extra(module: str, name: str) -> Any:
    """Import a module of a package that need not be installed.

    Args:
        module: its name in Python.
        name: of huetune's extra that brings the package, see `optional-dependencies` in pyproject.toml.

    Raises:
        UserError: it is not installed; says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not (error.name or "").startswith(module.partition(".")[0]):
            raise
        raise _missing(module, name) from None


def require_extra(module: str, name: str) -> None:
    """Refuse, without importing it, what will need a module that is not installed; see `extra`."""
    if find_spec(module) is None:
        raise _missing(module, name)


def _missing(module: str, name: str) -> UserError:
    package = module.partition(".")[0].replace("_", "-")
    return UserError(f"{package} is not installed; get it with: pip install 'huetune[{name}]'")
