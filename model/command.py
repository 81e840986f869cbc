"""The verb that trains one preset."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.progress import Progress

from data_tools.bucket import SCHEME
from data_tools.command import photo_options, read_photos
from data_tools.console import FOLDER, TEXT, count_from, import_tensorflow, say, seed_option, stderr, words
from data_tools.errors import CheckpointError, NoTrialError, PhotoError, UserError
from data_tools.source import Source


@click.command()
@click.option("--preset", type=TEXT, default="model-2", show_default=True, help="See `huetune presets`.")
@photo_options
@click.option(
    "--train-first", type=count_from(1), help="Train on the first N photos, hold out the rest, as the log did."
)
@click.option("--limit", type=count_from(1), hidden=True)  # as --train-first was called once
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
    train_first: int | None,
    limit: int | None,
    epochs: int,
    batching: Any,
    seed: int,
    out: Path | None,
) -> None:
    """Train one preset: on whole photos, or with --batching boxes as the log did.

    Example: huetune train --preset model-2 --photos flowers --train-first 100 --batching boxes
    """
    from data_tools.folder import alone, require_new
    from model.config import PRESETS, batched

    if preset not in PRESETS:
        raise UserError(f"--preset {preset!r}: choose one of {', '.join(PRESETS)}")
    if train_first and limit:
        raise UserError("--train-first and --limit: choose one of them; they mean the same")
    out = out or Path("trained") / preset
    require_new(out)
    source = Source(photos, garden, words(classes))
    read = read_photos(source, strict)
    if limit:
        say("--limit is deprecated: this option is --train-first now", "yellow", stderr)
    first = train_first or limit
    if first and first >= len(read):
        say(
            f"--train-first {first}: leaves none of {len(read)} photos to hold out; holding out a fifth of them",
            "yellow",
            stderr,
        )
    learnt = first if first and first < len(read) else None
    parts = _parts(read, learnt, seed)
    say(f"{preset}: {len(parts.training)} photos from {source}, {len(parts.validation)} held out")

    click.get_current_context().with_resource(alone(out))
    # Another process may have made it while the photos were read.
    require_new(out)
    import_tensorflow()
    from model.checkpoint import Checkpoint, keep_log, save
    from model.score import better, zero_line
    from model.training import DivergedError, Trainer

    photos_of = {**parts.summary, "seen": parts.seen}
    trainer = Trainer(parts.training, parts.validation)
    trainer.start(batched(PRESETS[preset], batching), seed)
    origin = {
        "preset": preset,
        "objective": "chroma_mse",
        "epochs": epochs,
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": source.record,
        "first": learnt,
    }
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
            save(out, Checkpoint(trainer.config, seed, figures, mean_chroma, photos_of, origin), trainer.vae)
        keep_log(out, lines)
    zero = zero_line(parts.validation.chroma, trainer.mean_chroma)["chroma_mse"]
    say(f"one colour for everything: chroma_mse {zero:.4f}. The best epoch is in {out}")


def _parts(photos: Any, learnt: int | None, seed: int) -> Any:
    from data_tools.split import first, split

    return first(photos, learnt) if learnt else split(photos, seed, test=0)


def parts_of(checkpoint: Any) -> tuple[Any, Source]:
    """The photos that `train` had for a checkpoint, split as there, and where they are from.

    Raises:
        PhotoError: they are others now.
        CheckpointError: it does not say which.
    """
    origin = checkpoint.origin
    if "source" not in origin:
        raise CheckpointError("the model does not say how to read its photos again")
    if str(origin["source"]["folder"]).startswith(SCHEME):
        # Whoever made the model would choose whom this machine connects to, and shows its keys.
        raise PhotoError("its photos are in a bucket, which is not read because a model says so")
    source = Source.of(origin["source"])
    parts = _parts(read_photos(source, quiet=True), origin["first"], checkpoint.seed)
    if parts.fingerprint != checkpoint.photos["fingerprint"]:
        raise PhotoError(f"{str(source)!r}: not the photos any more that the model was trained with")
    return parts, source


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
