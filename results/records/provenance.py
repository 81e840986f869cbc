"""Records the packages, code and hardware of a run, but no environment variables, which can hold secrets."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huetune.model.checkpoint_format import package_versions


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that a search depends on."""
    return {**package_versions(), **{part: version(part) for part in ("optuna", "ray")}}


def code() -> dict[str, Any]:
    """Return the git commit of this program and whether files differ from it; None if it is not a git checkout."""
    folder = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", folder, *words],
                capture_output=True,
                encoding="utf-8",
                errors="backslashreplace",
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # A repository that merely contains a virtual environment with huetune is not the one of huetune.
    if git("ls-files", "--error-unmatch", "pyproject.toml") is None:
        return {"commit": None, "dirty": None}
    changed = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changed is None else bool(changed)}


def hardware() -> dict[str, Any]:
    """Return the processor, the number of cores and the memory in bytes of this machine, the head of a search."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"machine": platform.machine(), "processor": _processor(), "cores": os.cpu_count(), "memory": memory}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def differences(manifest: Mapping[str, Any]) -> list[str]:
    """Return a line for each package, code version or hardware property that differs between a run and this machine."""
    lines = []
    for part, here in (("versions", versions()), ("code", code()), ("hardware", hardware())):
        for name, value in here.items():
            there = manifest.get(part, {}).get(name)
            if there != value:
                lines.append(f"{name}: {there!r} there, {value!r} here")
    return lines or ["versions, code and hardware are recorded as the same"]
