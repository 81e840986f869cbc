"""What `huetune train` will train: a new training, or the remaining epochs of the training in a folder."""

import contextlib
import datetime
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huetune.data_tools.cli.data_commands import read_photos
from huetune.data_tools.common.errors import CheckpointError, PhotoError, UserError
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import DEFAULT_SCENES, Source
from huetune.data_tools.storage.object_store import SCHEME
from huetune.model.checkpoint_format import Checkpoint, package_versions
from huetune.model.config import Config
from huetune.model.presets import PRESETS, with_preset
from huetune.model.recipes import with_recipe
from huetune.model.training_folder import (
    SavedTraining,
    load_training,
    lock_training,
    require_no_training,
    require_training,
    resume_command,
    save_training,
)

if TYPE_CHECKING:  # SciPy, which splits import, takes longer than a refusal of bad input
    from huetune.data_tools.photos.dataset import PhotoSet
    from huetune.data_tools.photos.split import Split


@dataclass(frozen=True)
class TrainingRequest:
    """What a command line requests.

    Attributes:
        preset: name of the preset.
        config: all settings.
        changes: the settings that --set or --batching change, with their values.
        source: where the photos are.
        train_first: number of leading photos to train on; None for a split by the seed.
        epochs: number of epochs in all.
        seed: seed of the training.
        given: names of the command's parameters that were passed and are not defaults.
    """

    preset: str
    config: Config
    changes: dict[str, Any]
    source: Source
    train_first: int | None
    epochs: int
    seed: int
    given: set[str]


@dataclass(frozen=True)
class TrainingPlan:
    """A training before its next epoch.

    Attributes:
        folder: of the model.
        photos: the split photos.
        config: settings.
        seed: seed of the training.
        origin: see `Checkpoint`.
        saved: the epochs that are already trained; None for a new training.
    """

    folder: Path
    photos: "Split"
    config: Config
    seed: int
    origin: dict[str, Any]
    saved: SavedTraining | None = None


def plan_new_training(
    folder: Path, request: TrainingRequest, strict: bool, locks: contextlib.ExitStack
) -> TrainingPlan:
    """Plan a new training, and lock its folder.

    Args:
        folder: for the model.
        request: what to train.
        strict: whether to stop at the first photo that cannot be used.
        locks: releases the folder's lock.
    """
    require_no_training(folder, request.source)
    photos = read_photos(request.source, strict)
    train_first = request.train_first
    if train_first and train_first >= len(photos):
        say(
            f"--train-first {train_first}: leaves none of {len(photos)} photos to hold out; holding out a fifth of "
            f"them",
            "yellow",
            stderr,
        )
        train_first = None
    split = _split(photos, train_first, request.seed)
    config, preset = request.config, request.preset
    changed = ", ".join(setting_differences(with_recipe(PRESETS[preset], config.batching), config, " "))
    say(
        f"{preset}{changed and f' with {changed}'}: "
        f"{len(split.training)} photos from {request.source}, {len(split.validation)} held out"
    )
    locks.enter_context(lock_training(folder))
    # Another process may have started a training in the folder while the photos were read.
    require_no_training(folder, request.source)
    origin = {
        # A changed model is not the preset that the experiment log names.
        "preset" if with_preset(config, preset) == config else "based_on": preset,
        "objective": "chroma_mse",
        "epochs": request.epochs,
        "begun": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "source": request.source.record,
        "first": train_first,
    }
    return TrainingPlan(folder, split, config, request.seed, origin)


def plan_resumed_training(
    folder: Path, request: TrainingRequest, strict: bool, locks: contextlib.ExitStack
) -> TrainingPlan | None:
    """Plan the remaining epochs of the training in a folder, and lock the folder.

    Args:
        folder: of the model.
        request: what was passed with --resume.
        strict: whether to stop at the first photo that cannot be used.
        locks: releases the folder's lock.

    Returns:
        None if all epochs are trained.
    """
    # Each epoch replaces the folder itself, which must not be a link.
    folder = Path(os.path.realpath(folder)) if os.path.islink(folder) else folder
    require_training(folder)
    locks.enter_context(lock_training(folder, "wait for it, or stop that process"))
    saved = load_training(folder)
    best, done = saved.best, len(saved.epochs)
    _require_same_training(folder, best, request)
    epochs = request.epochs if "epochs" in request.given else best.origin["epochs"]
    if epochs < done:
        raise UserError(
            f"--epochs {epochs}: the training in {str(folder)!r} has {done} epochs already; give {done + 1} or more"
        )
    origin = {**best.origin, "epochs": epochs}
    split = None
    if epochs > done:
        split, source = _reread_photos(best, request.source.folder, strict)
        origin |= {"source": source.record} if request.source.folder else {}
    if origin != best.origin:
        # Saved before the first epoch, so that the options need not be repeated after a crash.
        save_training(folder, replace(saved, best=replace(best, origin=origin)))
    if split is None:
        command = resume_command(folder, request.source)
        say(f"{str(folder)!r}: all {done} epochs are trained; train on with: {command} --epochs N")
        return None
    current, saved_with = package_versions(), best.versions
    changed = [
        f"{name} {saved_with.get(name)}, now {version}"
        for name, version in current.items()
        if version != saved_with.get(name)
    ]
    if changed:
        say(f"trained so far with {'; '.join(changed)}: the numbers may differ from here on", "yellow", stderr)
    counts = f"{len(split.training)} photos from {source}, {len(split.validation)} held out"
    say(f"{str(folder)!r}: resumed after epoch {done} of {epochs}: {counts}")
    return TrainingPlan(folder, split, best.config, best.seed, origin, saved)


def _require_same_training(folder: Path, best: Checkpoint, request: TrainingRequest) -> None:
    """Check that the options passed with --resume are those that the training was started with.

    Raises:
        UserError: an option differs.
    """
    given, config, origin, photos = request.given, best.config, best.origin, best.photos
    original_source, source, first = Source.of(origin["source"]), request.source, origin["first"]
    if original_source.folder:
        source_option = f"--photos {original_source}"
    else:
        source_option = f"--garden {original_source.scenes or DEFAULT_SCENES}"
    original_classes = f"--classes {','.join(sorted(original_source.classes))}"
    # With as many photos as there are, or more, --train-first has no effect: a fifth of them is held out.
    limits = first or (request.train_first or 0) < photos["training"] + photos["validation"]
    preset = origin.get("preset", origin.get("based_on"))
    pairs = [
        ("preset" in given and f"--preset {request.preset}", f"--preset {preset}"),
        *(
            (f"{name}={setting_text(value)}", f"{name}={setting_text(getattr(config, name))}")
            for name, value in request.changes.items()
        ),
        (source.scenes and f"--garden {source.scenes}", source_option),
        (source.folder and not original_source.folder and f"--photos {source}", source_option),
        (source.classes and f"--classes {','.join(sorted(source.classes))}", original_classes),
        (request.train_first and limits and f"--train-first {request.train_first}", f"--train-first {first}"),
        ("seed" in given and f"--seed {request.seed}", f"--seed {best.seed}"),
    ]
    for requested, original in pairs:
        if requested and requested != original:
            option, *value = original.split(" ")
            started = f"without {option}" if value in ([""], ["None"]) else f"with {original}"
            raise UserError(
                f"{requested}: the training in {str(folder)!r} was started {started}; omit this option, or start a new "
                f"training in another --out"
            )


def _reread_photos(best: Checkpoint, moved: Path | None, strict: bool) -> "tuple[Split, Source]":
    """Return the photos of a training, which must be in their original order, and where they are now.

    Raises:
        PhotoError: the photos are missing, or others, or in another order.
    """
    try:
        split, source = photos_of_checkpoint(best, moved, strict, quiet=False)
    except PhotoError as error:
        in_folder = best.origin["source"]["folder"]
        remedy = "; if they were moved, name their folder with --photos" if in_folder else ""
        raise PhotoError(f"{error}{remedy}") from None
    if best.photos.get("order", split.order) != split.order:
        raise PhotoError(
            f"{str(source)!r}: the photos of the training, but in another order, in which the same seed gives other "
            f"numbers; restore the names of the files"
        )
    return split, source


def photos_of_checkpoint(
    checkpoint: Checkpoint, moved: Path | None = None, strict: bool = False, quiet: bool = True
) -> "tuple[Split, Source]":
    """Read the photos of a checkpoint of `huetune train` again, and return them split, with their source.

    Args:
        checkpoint: as `huetune train` saved it.
        moved: the folder of the photos now; None for the one that the checkpoint names.
        strict: whether to stop at the first photo that cannot be used.
        quiet: whether to show no progress and no skipped photos.

    Raises:
        PhotoError: the photos have changed, or are in a bucket that only the checkpoint names.
        CheckpointError: the checkpoint does not name its photos.
    """
    origin = checkpoint.origin
    if "source" not in origin:
        raise CheckpointError("the model does not name the source of its photos")
    if moved is None and str(origin["source"]["folder"]).startswith(SCHEME):
        # Otherwise the author of a model could choose the server to which this machine sends its credentials.
        raise PhotoError("its photos are in a bucket; a bucket that only the model names is not read")
    source = Source.of(origin["source"])
    if moved is not None:
        source = replace(source, folder=moved.absolute(), scenes=None)
    split = _split(read_photos(source, strict, quiet), origin["first"], checkpoint.seed)
    if split.fingerprint != checkpoint.photos["fingerprint"]:
        raise PhotoError(f"{str(source)!r}: no longer the photos that the model was trained with")
    return split, source


def _split(photos: "PhotoSet", train_first: int | None, seed: int) -> "Split":
    """Split photos into training and validation: by the number of leading photos, or at random by the seed."""
    from huetune.data_tools.photos.split import split, split_first

    return split_first(photos, train_first) if train_first else split(photos, seed, test=0)


def setting_text(value: Any) -> str:
    """Return the value of a setting as --set takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def setting_differences(base: Config, config: Config, separator: str) -> list[str]:
    """Return the settings in which a configuration differs from another, as names and values.

    Args:
        base: the other configuration.
        config: whose values are returned.
        separator: between a name and its value.
    """
    values = ((field.name, getattr(base, field.name), getattr(config, field.name)) for field in fields(config))
    return [f"{name}{separator}{setting_text(value)}" for name, usual, value in values if value != usual]
