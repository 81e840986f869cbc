"""Search the hyperparameters of a photo-colorizing VAE, and look at what a search found.

import huetune

run = huetune.open_run("roses")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huetune.results.notebook import open_run

__all__ = ["open_run"]


def __getattr__(name: str) -> Any:
    # Every part of the package imports this file first: what a notebook needs is imported when it is asked for.
    if name in __all__:
        from huetune.results import notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
