"""Packages that only some people want: each is named where it is missed."""

import importlib
from typing import Any

from huetune.data_tools.errors import UserError


def extra(module: str, package: str) -> Any:
    """Import a module of a package that need not be installed.

    Args:
        module: its name in Python.
        package: its name for pip.

    Raises:
        UserError: it is not installed; says how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not (error.name or "").startswith(module.partition(".")[0]):
            raise
        raise UserError(f"{package} is not installed; get it with: pip install {package}") from None
