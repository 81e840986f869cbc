"""The verb that trains one model."""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.progress import Progress

from huetune.data_tools.cli.data_commands import photo_options, read_photos
from huetune.data_tools.cli.options import FOLDER, TEXT, count_from, seed_option, split_list
from huetune.data_tools.common.errors import (
    CheckpointError,
    Interrupted,
    NoTrialError,
    PhotoError,
    UserError,
    first_line,
)
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import DEFAULT_SCENES, Source
from huetune.data_tools.storage.object_store import SCHEME

if TYPE_CHECKING:  # NumPy takes longer than a verb's help
    from huetune.data_tools.photos.dataset import PhotoSet
    from huetune.data_tools.photos.split import Split
    from huetune.model.checkpoint_format import Checkpoint
    from huetune.model.config import Config
    from huetune.model.training_folder import Training


class _RecipeChoice(click.Choice):
    """A choice of recipes that also accepts their older names."""

    def __init__(self) -> None:
        super().__init__(["photos", "patches"])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from huetune.model.config import OLD_RECIPES

        return super().convert(OLD_RECIPES.get(value, value), param, ctx)


recipe_option = click.option(
    "--batching",
    type=_RecipeChoice(),
    default="photos",
    show_default=True,
    help="Recipe: train on whole photos, or on single patches as in the experiment log.",
)


@click.command()
@click.option("--preset", type=TEXT, default="model-2", show_default=True, help="See `huetune presets`.")
@click.option(
    "--set",
    "settings",
    type=TEXT,
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting of the preset, as in activation=relu; repeat it to change more.",
)
@photo_options
@click.option(
    "--train-first", type=count_from(1), help="Train on the first N photos, hold out the rest, as the log did."
)
@click.option("--limit", type=count_from(1), hidden=True)  # as --train-first was called once
@click.option(
    "--epochs", type=count_from(1), default=5, show_default=True, help="Epochs in all, those before --resume included."
)
@recipe_option
@seed_option
@click.option(
    "--out", type=FOLDER, help="New folder for model and log.  [default: trained/PRESET, and what --set changes]"
)
@click.option("--resume", is_flag=True, help="Continue the training in --out after its last epoch.")
def train(
    preset: str,
    settings: tuple[str, ...],
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
    resume: bool,
) -> None:
    """Train one model: a preset, or with --set any configuration.

    It is trained on whole photos, or with --batching patches as in the experiment log. Each epoch is saved: --resume
    continues a training that was interrupted, or trains on to more --epochs, without the options that it was started
    with.

    Example: huetune train --preset model-2 --set activation=relu --photos flowers --epochs 10
    """
    from huetune.model.presets import PRESETS
    from huetune.model.recipes import with_recipe

    if preset not in PRESETS:
        raise UserError(f"--preset {preset!r}: choose one of {', '.join(PRESETS)}")
    if train_first and limit:
        raise UserError("--train-first and --limit: choose one of them; they mean the same")
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    changes = _changes(settings)
    if "batching" in given and changes.setdefault("batching", batching) != batching:
        raise UserError(f"--batching {batching} and --set batching={changes['batching']}: choose one of them")
    base = with_recipe(PRESETS[preset], changes.get("batching", batching))
    config = replace(base, **changes)
    out = out or Path("trained") / "-".join([preset, *_differences(base, config, "-")])
    source = Source(photos, garden, split_list(classes))
    if limit:
        say("--limit is deprecated: this option is --train-first now", "yellow", stderr)
    wanted = _Wanted(preset, config, changes, source, train_first or limit, epochs, seed, given)
    with _interruption_told(out, source):
        plan = _resumed(out, wanted, strict) if resume else _started(out, wanted, strict)
        if plan:
            _train(plan, source)


@dataclass(frozen=True)
class _Wanted:
    """What a command line asks for.

    Attributes:
        preset: name of the preset.
        config: all settings.
        changes: values of settings, by --set or --batching.
        source: of the photos.
        first: how many of them to train on; None for the seed's choice.
        epochs: in all.
        seed: of the training.
        given: parameters of the command that were typed, not taken from a default.
    """

    preset: str
    config: "Config"
    changes: dict[str, Any]
    source: Source
    first: int | None
    epochs: int
    seed: int
    given: set[str]


@dataclass(frozen=True)
class _Plan:
    """A training before its next epoch: what it needs, and what is kept of the epochs before."""

    folder: Path
    parts: "Split"
    config: "Config"
    seed: int
    origin: dict[str, Any]
    kept: "Training | None" = None


def _changes(settings: Sequence[str]) -> dict[str, Any]:
    """Return the values that --set gives to settings.

    Raises:
        UserError: no NAME=VALUE, an unknown name, a value that the setting cannot have, or two values.
    """
    from huetune.model.config import Config

    kinds = {field.name: type(field.default) for field in fields(Config)}
    changes: dict[str, Any] = {}
    for word in settings:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not name or not equals:
            raise UserError(f"--set {word!r}: must be NAME=VALUE, as in activation=relu")
        value = _value(text, kinds.get(name, str))
        try:
            value = getattr(Config.of({name: value}), name)
        except UserError as error:
            raise UserError(f"--set {word!r}: {error}") from None
        if changes.setdefault(name, value) != value:
            raise UserError(
                f"--set {name}: received both {_text(changes[name])} and {_text(value)}; choose one of them"
            )
    return changes


def _value(text: str, kind: type) -> Any:
    """What a text means for a setting of a kind; the text itself where it means nothing, for `Config` to refuse."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


def _text(value: Any) -> str:
    """A setting's value as --set takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _differences(base: "Config", config: "Config", sign: str) -> list[str]:
    """Name and value of each setting in which a configuration differs from another, with a sign between the two."""
    both = ((field.name, getattr(base, field.name), getattr(config, field.name)) for field in fields(config))
    return [f"{name}{sign}{_text(value)}" for name, usual, value in both if value != usual]


def _started(out: Path, wanted: _Wanted, strict: bool) -> _Plan:
    """Begin a training in a new folder."""
    from huetune.model.presets import PRESETS, with_preset
    from huetune.model.recipes import with_recipe
    from huetune.model.training_folder import check_new, held

    check_new(out, wanted.source)
    read = read_photos(wanted.source, strict)
    first = wanted.first
    if first and first >= len(read):
        say(
            f"--train-first {first}: leaves none of {len(read)} photos to hold out; holding out a fifth of them",
            "yellow",
            stderr,
        )
    learned = first if first and first < len(read) else None
    parts = _parts(read, learned, wanted.seed)
    config, preset = wanted.config, wanted.preset
    changed = ", ".join(_differences(with_recipe(PRESETS[preset], config.batching), config, " "))
    say(
        f"{preset}{changed and f' with {changed}'}: "
        f"{len(parts.training)} photos from {wanted.source}, {len(parts.validation)} held out"
    )
    click.get_current_context().with_resource(held(out))
    # Another process may have made it while the photos were read.
    check_new(out, wanted.source)
    origin = {
        # With another model it is not the preset that the log tells of.
        "preset" if with_preset(config, preset) == config else "based_on": preset,
        "objective": "chroma_mse",
        "epochs": wanted.epochs,
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": wanted.source.record,
        "first": learned,
    }
    return _Plan(out, parts, config, wanted.seed, origin)


def _resumed(out: Path, wanted: _Wanted, strict: bool) -> _Plan | None:
    """Continue the training in a folder; None where all of its epochs are trained."""
    from huetune.model.checkpoint_format import package_versions
    from huetune.model.training_folder import check_begun, held, load, resumed_by, save

    # The folder itself is replaced after each epoch, not a link to it.
    out = Path(os.path.realpath(out)) if os.path.islink(out) else out
    check_begun(out)
    click.get_current_context().with_resource(held(out, "wait for it, or stop that process"))
    kept = load(out)
    best, done = kept.best, len(kept.epochs)
    _refuse_contradictions(out, best, wanted)
    epochs = wanted.epochs if "epochs" in wanted.given else best.origin["epochs"]
    if epochs < done:
        raise UserError(
            f"--epochs {epochs}: the training in {str(out)!r} has {done} epochs already; give {done + 1} or more"
        )
    origin = {**best.origin, "epochs": epochs}
    parts = None
    if epochs > done:
        parts, source = _photos_again(best, wanted.source.folder, strict)
        origin |= {"source": source.record} if wanted.source.folder else {}
    if origin != best.origin:
        # Now, not after the first epoch: whoever continues after a crash need not say it again.
        save(out, replace(kept, best=replace(best, origin=origin)))
    if parts is None:
        more = resumed_by(out, wanted.source)
        say(f"{str(out)!r}: all {done} epochs are trained, nothing is left to do; train on with: {more} --epochs N")
        return None
    now, then = package_versions(), best.versions
    if others := [f"{part} {then.get(part)}, now {now[part]}" for part in now if now[part] != then.get(part)]:
        say(f"trained so far with {'; '.join(others)}: its numbers may differ from here on", "yellow", stderr)
    counts = f"{len(parts.training)} photos from {source}, {len(parts.validation)} held out"
    say(f"{str(out)!r}: resumed after epoch {done} of {epochs}: {counts}")
    return _Plan(out, parts, best.config, best.seed, origin, kept)


def _refuse_contradictions(out: Path, best: "Checkpoint", wanted: _Wanted) -> None:
    """Make sure that a command line asks for nothing else than a training was started with.

    Raises:
        UserError: it does.
    """
    given, config, origin, photos = wanted.given, best.config, best.origin, best.photos
    then, now, first = Source.of(origin["source"]), wanted.source, origin["first"]
    place = f"--photos {then}" if then.folder else f"--garden {then.scenes or DEFAULT_SCENES}"
    # To train on all of the photos or more holds out a fifth of them, as without --train-first.
    counts = first or (wanted.first or 0) < photos["training"] + photos["validation"]
    pairs = [
        ("preset" in given and f"--preset {wanted.preset}", f"--preset {origin.get('preset', origin.get('based_on'))}"),
        *(
            (f"{name}={_text(value)}", f"{name}={_text(getattr(config, name))}")
            for name, value in wanted.changes.items()
        ),
        (now.scenes and f"--garden {now.scenes}", place),
        (now.folder and not then.folder and f"--photos {now}", place),
        (now.classes and f"--classes {','.join(sorted(now.classes))}", f"--classes {','.join(sorted(then.classes))}"),
        (wanted.first and counts and f"--train-first {wanted.first}", f"--train-first {first}"),
        ("seed" in given and f"--seed {wanted.seed}", f"--seed {best.seed}"),
    ]
    for asked, had in pairs:
        if asked and asked != had:
            option, *value = had.split(" ")
            started = f"without {option}" if value in ([""], ["None"]) else f"with {had}"
            raise UserError(
                f"{asked}: the training in {str(out)!r} was started {started}; leave it out, or train anew in another "
                f"--out"
            )


def _photos_again(best: "Checkpoint", moved: Path | None, strict: bool) -> "tuple[Split, Source]":
    """The photos of a training, in the order that they had, and where they are now.

    Raises:
        PhotoError: they are not there, or others.
    """
    try:
        parts, source = parts_of(best, moved, strict, quiet=False)
    except PhotoError as error:
        where = best.origin["source"]["folder"]
        remedy = "; if they were moved, name their folder with --photos" if where else ""
        raise PhotoError(f"{error}{remedy}") from None
    if best.photos.get("order", parts.order) != parts.order:
        raise PhotoError(
            f"{str(source)!r}: the photos of the training, but in another order, in which a seed gives other numbers; "
            f"name the files as they were"
        )
    return parts, source


def _train(plan: _Plan, source: Source) -> None:
    """Train the epochs that are left, and keep each."""
    import_tensorflow()
    from huetune.model.checkpoint_format import Checkpoint
    from huetune.model.metrics import better, zero_line
    from huetune.model.trainer import DivergedError, Trainer
    from huetune.model.training_folder import Training, resumed_by, save

    parts, kept, epochs = plan.parts, plan.kept, plan.origin["epochs"]
    trainer = Trainer(parts.training, parts.validation)
    mean_chroma = tuple(map(float, trainer.mean_chroma))
    photos = {**parts.summary, "seen": parts.seen, "order": parts.order}
    if kept:
        _go_on(trainer, kept, plan.folder)
        lines, best = [*kept.epochs], replace(kept.best, origin=plan.origin)
    else:
        trainer.start(plan.config, plan.seed)
        lines, best = [], None
    while len(lines) < epochs:
        try:
            with _epochbar(f"epoch {len(lines) + 1}/{epochs}") as on_step:
                figures = trainer.epoch(on_step)
        except DivergedError as error:
            last = f"epoch {len(lines)} is the last" if lines else "no epoch"
            raise NoTrialError(f"{error}; {last} kept") from None
        say(epoch_line(figures, epochs))
        lines.append(figures)
        vae = None
        if best is None or better("chroma_mse", figures["chroma_mse"], best.metrics["chroma_mse"]):
            best = Checkpoint(plan.config, plan.seed, figures, mean_chroma, photos, plan.origin)
            vae = trainer.vae
        save(plan.folder, Training(best, lines, trainer.state), vae)
    zero = zero_line(parts.validation.chroma, trainer.mean_chroma)["chroma_mse"]
    say(f"one color for everything: chroma_mse {zero:.4f}. The best epoch is in {plan.folder}")
    say(f"train on with: {resumed_by(plan.folder, source)} --epochs N")


def _go_on(trainer: Any, kept: "Training", folder: Path) -> None:
    best = kept.best
    try:
        trainer.go_on(best.config, best.seed, kept.state)
        if trainer.epochs != len(kept.epochs):
            raise ValueError(f"it is of epoch {trainer.epochs}, not {len(kept.epochs)}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{str(folder)!r}: this huetune cannot continue its training state ({first_line(error)}); use the one that "
            f"wrote it, {best.versions.get('huetune')}, or train from the start again"
        ) from None


@contextlib.contextmanager
def _interruption_told(out: Path, source: Source) -> Iterator[None]:
    """Have an interruption say how the training continues."""
    try:
        yield
    except Interrupted as error:
        from huetune.model.training_folder import is_begun, resumed_by

        begun = is_begun(out)
        remedy = f"continue it with: {resumed_by(out, source)}" if begun else "no epoch has ended, so nothing is kept"
        raise Interrupted(error.number, remedy) from None


def _parts(photos: "PhotoSet", learned: int | None, seed: int) -> "Split":
    from huetune.data_tools.photos.split import split, split_first

    return split_first(photos, learned) if learned else split(photos, seed, test=0)


def parts_of(
    checkpoint: Any, moved: Path | None = None, strict: bool = False, quiet: bool = True
) -> "tuple[Split, Source]":
    """The photos that `train` had for a checkpoint, split as there, and where they are from.

    Args:
        checkpoint: as `train` kept it.
        moved: the folder that they are in now; None for the one that the checkpoint names.
        strict: stop at the first photo that cannot be used.
        quiet: show no progress, and do not tell which files are skipped.

    Raises:
        PhotoError: they are others now.
        CheckpointError: it does not say which.
    """
    origin = checkpoint.origin
    if "source" not in origin:
        raise CheckpointError("the model does not say how to read its photos again")
    if moved is None and str(origin["source"]["folder"]).startswith(SCHEME):
        # Whoever made the model would choose whom this machine connects to, and shows its keys.
        raise PhotoError("its photos are in a bucket, which is not read because a model says so")
    source = Source.of(origin["source"])
    if moved is not None:
        source = replace(source, folder=moved.absolute(), scenes=None)
    parts = _parts(read_photos(source, strict, quiet), origin["first"], checkpoint.seed)
    if parts.fingerprint != checkpoint.photos["fingerprint"]:
        raise PhotoError(f"{str(source)!r}: not the photos any more that the model was trained with")
    return parts, source


@contextlib.contextmanager
def _epochbar(label: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(label)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def epoch_line(figures: dict[str, float], epochs: int) -> str:
    """Return a line of the training log."""
    from huetune.model.metrics import METRICS

    parts = ", ".join(f"{name} {figures['train_' + name]:.4f}" for name in ("mse", "norm", "kl", "l2"))
    scores = ", ".join(f"{name} {figures[name]:.4f}" for name in METRICS.shown)
    head = f"epoch {figures['epoch']}/{epochs}  {figures['boxes']} patches  {figures['seconds']:.0f} s"
    return f"{head}  loss {figures['train_loss']:.4f} ({parts})  held out: {scores}"
