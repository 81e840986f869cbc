"""Imports of optional packages. The error for a missing package names the extra of huetune that installs it."""

import importlib
from importlib.util import find_spec
from typing import Any

from huetune.data_tools.common.errors import UserError


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: Name of the module.
        extra: Extra of huetune that installs the package, from `optional-dependencies` in pyproject.toml.

    Returns:
        The module.

    Raises:
        UserError: The package is not installed; the message has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not (error.name or "").startswith(module.partition(".")[0]):
            raise
        raise _missing(module, extra) from None


def require_extra(module: str, extra: str) -> None:
    """Check that a module of an optional package is installed, without importing it; see `import_extra`."""
    if find_spec(module) is None:
        raise _missing(module, extra)


def _missing(module: str, extra: str) -> UserError:
    package = module.partition(".")[0].replace("_", "-")
    return UserError(f"{package} is not installed; get it with: pip install 'huetune[{extra}]'")
