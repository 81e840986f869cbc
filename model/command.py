"""The verb that trains one preset."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from data_tools.command import photo_options, read_photos
from data_tools.console import FOLDER, TEXT, count_from, import_tensorflow, say, seed_option, stderr, words
from data_tools.errors import NoTrialError, UserError
from data_tools.source import Source


@click.command()
@click.option("--preset", type=TEXT, default="model-2", show_default=True, help="See `huetune presets`.")
@photo_options
@click.option("--limit", type=count_from(1), help="Train on the first N photos, hold out the rest, as the log did.")
@click.option("--epochs", type=count_from(1), default=5, show_default=True)
@click.option("--batching", type=click.Choice(["photos", "boxes"]), default="photos", show_default=True)
@seed_option
@click.option("--out", type=FOLDER, help="New folder for model and log.  [default: trained/PRESET]")
def train(
    preset: str,
    photos: Path | None,
    garden: int | None,
    classes: str | None,
    strict: bool,
    limit: int | None,
    epochs: int,
    batching: Any,
    seed: int,
    out: Path | None,
) -> None:
    """Train one preset: on whole photos, or with --batching boxes as the log did.

    Example: huetune train --preset model-2 --photos flowers --limit 100 --batching boxes
    """
    from data_tools.folder import require_empty
    from data_tools.split import first, split
    from model.config import PRESETS, batched

    if preset not in PRESETS:
        raise UserError(f"--preset {preset!r}: choose one of {', '.join(PRESETS)}")
    out = out or Path("trained") / preset
    require_empty(out)
    source = Source(photos, garden, words(classes))
    read = read_photos(source, strict)
    if limit and limit >= len(read):
        say(
            f"--limit {limit}: leaves none of {len(read)} photos to hold out; holding out a fifth of them",
            "yellow",
            stderr,
        )
    parts = first(read, limit) if limit and limit < len(read) else split(read, seed, test=0)
    say(f"{preset}: {len(parts.training)} photos from {source}, {len(parts.validation)} held out")

    import_tensorflow()
    from model.checkpoint import Checkpoint, save
    from model.score import better, zero_line
    from model.training import DivergedError, Trainer

    photos_of = {**parts.summary, "seen": parts.seen}
    trainer = Trainer(parts.training, parts.validation)
    trainer.start(batched(PRESETS[preset], batching), seed)
    lines: list[dict[str, float]] = []
    best: float | None = None
    for epoch in range(1, epochs + 1):
        try:
            with _epochbar(f"epoch {epoch}/{epochs}") as on_step:
                figures = trainer.epoch(on_step)
        except DivergedError as error:
            raise NoTrialError(f"{error}; {f'epoch {epoch - 1} is the last' if lines else 'no epoch'} kept") from None
        say(epoch_line(figures, epochs))
        lines.append(figures)
        if better("chroma_mse", figures["chroma_mse"], best):
            best = figures["chroma_mse"]
            mean_chroma = tuple(map(float, trainer.mean_chroma))
            origin = {"preset": preset, "objective": "chroma_mse"}
            save(out, Checkpoint(trainer.config, seed, figures, mean_chroma, photos_of, origin), trainer.vae)
        (out / "log.json").write_text(json.dumps(lines, indent=2) + "\n")
    zero = zero_line(parts.validation.chroma, trainer.mean_chroma)["chroma_mse"]
    say(f"one colour for everything: chroma_mse {zero:.4f}. The best epoch is in {out}")


@contextlib.contextmanager
def _epochbar(label: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(label)
        yield lambda done, boxes: progress.update(task, completed=done, total=boxes)


def epoch_line(figures: dict[str, float], epochs: int) -> str:
    """Return a line of the training log."""
    parts = ", ".join(f"{name} {figures['train_' + name]:.4f}" for name in ("mse", "norm", "kl", "l2"))
    scores = ", ".join(f"{name} {figures[name]:.4f}" for name in ("chroma_mse", "skill", "chroma_ratio"))
    head = f"epoch {figures['epoch']}/{epochs}  {figures['boxes']} boxes  {figures['seconds']:.0f} s"
    return f"{head}  loss {figures['train_loss']:.4f} ({parts})  held out: {scores}"
