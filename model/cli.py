"""The command `huetune train`, which trains one model without a search."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.progress import Progress

from huetune.data_tools.cli.data_commands import photo_options
from huetune.data_tools.cli.options import FOLDER, TEXT, count_from, seed_option, split_list
from huetune.data_tools.common.errors import CheckpointError, Interrupted, NoTrialError, UserError, first_line
from huetune.data_tools.common.tensorflow_import import import_tensorflow
from huetune.data_tools.common.terminal import say, stderr
from huetune.data_tools.photos.source import Source

if TYPE_CHECKING:  # importing NumPy would slow down --help
    from huetune.model.training_folder import SavedTraining
    from huetune.model.training_plan import TrainingPlan


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
@click.option(
    "--preset", type=TEXT, default="model-2", show_default=True, help="Preset to train; `huetune presets` lists them."
)
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
    "--train-first",
    type=count_from(1),
    help="Train on the first N photos and hold out the rest, as in the experiment log.",
)
@click.option("--limit", type=count_from(1), hidden=True)  # the older name of --train-first
@click.option(
    "--epochs", type=count_from(1), default=5, show_default=True, help="Epochs in all, those before --resume included."
)
@recipe_option
@seed_option
@click.option("--out", type=FOLDER, help="New folder for the model.  [default: trained/PRESET, and what --set changes]")
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

    The model is trained on whole photos, or with --batching patches as in the experiment log. Each epoch is saved, so
    --resume can continue an interrupted training, or train a finished one for more --epochs. It needs no other options.

    Example: huetune train --preset model-2 --set activation=relu --photos flowers --epochs 10
    """
    from huetune.model.presets import PRESETS
    from huetune.model.recipes import with_recipe
    from huetune.model.training_plan import (
        TrainingRequest,
        plan_new_training,
        plan_resumed_training,
        setting_differences,
    )

    if preset not in PRESETS:
        raise UserError(f"--preset {preset!r}: choose one of {', '.join(PRESETS)}")
    if train_first and limit:
        raise UserError("--train-first and --limit: choose one of them; they mean the same")
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    changes = _parse_settings(settings)
    if "batching" in given and changes.setdefault("batching", batching) != batching:
        raise UserError(f"--batching {batching} and --set batching={changes['batching']}: choose one of them")
    base = with_recipe(PRESETS[preset], changes.get("batching", batching))
    config = replace(base, **changes)
    out = out or Path("trained") / "-".join([preset, *setting_differences(base, config, "-")])
    source = Source(photos, garden, split_list(classes))
    if limit:
        say("--limit is deprecated: this option is --train-first now", "yellow", stderr)
    request = TrainingRequest(preset, config, changes, source, train_first or limit, epochs, seed, given)
    with _resume_command_on_interruption(out, source), contextlib.ExitStack() as locks:
        plan_training = plan_resumed_training if resume else plan_new_training
        if plan := plan_training(out, request, strict, locks):
            _train(plan, source)


def _parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the settings that --set changes, with their values.

    Raises:
        UserError: a text is not NAME=VALUE, a name is unknown, or a setting has an invalid value or two values.
    """
    from huetune.model.config import Config
    from huetune.model.training_plan import setting_text

    kinds = {field.name: type(field.default) for field in fields(Config)}
    changes: dict[str, Any] = {}
    for word in settings:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not name or not equals:
            raise UserError(f"--set {word!r}: must be NAME=VALUE, as in activation=relu")
        value = _parse_value(text, kinds.get(name, str))
        try:
            value = getattr(Config.of({name: value}), name)
        except UserError as error:
            raise UserError(f"--set {word!r}: {error}") from None
        if changes.setdefault(name, value) != value:
            both = f"{setting_text(changes[name])} and {setting_text(value)}"
            raise UserError(f"--set {name}: received both {both}; choose one of them")
    return changes


def _parse_value(text: str, kind: type) -> Any:
    """Return a text converted to the type of a setting, or the text itself, which `Config` then refuses."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return kind(text)
    except ValueError:
        return text


def _train(plan: "TrainingPlan", source: Source) -> None:
    """Train the remaining epochs, and save the training after each of them."""
    import_tensorflow()
    from huetune.model.checkpoint_format import Checkpoint
    from huetune.model.metrics import baseline_scores, better
    from huetune.model.trainer import DivergedError, Trainer
    from huetune.model.training_folder import SavedTraining, resume_command, save_training

    photos, saved, epochs = plan.photos, plan.saved, plan.origin["epochs"]
    trainer = Trainer(photos.training, photos.validation)
    mean_chroma = tuple(map(float, trainer.mean_chroma))
    about_photos = {**photos.summary, "seen": photos.seen, "order": photos.order}
    if saved:
        _resume(trainer, saved, plan.folder)
        log, best = [*saved.epochs], replace(saved.best, origin=plan.origin)
    else:
        trainer.start(plan.config, plan.seed)
        log, best = [], None
    while len(log) < epochs:
        try:
            with _epoch_progress(f"epoch {len(log) + 1}/{epochs}") as on_step:
                metrics = trainer.epoch(on_step)
        except DivergedError as error:
            last = f"epoch {len(log)} is the last" if log else "no epoch"
            raise NoTrialError(f"{error}; {last} kept") from None
        say(epoch_line(metrics, epochs))
        log.append(metrics)
        vae = None
        if best is None or better("chroma_mse", metrics["chroma_mse"], best.metrics["chroma_mse"]):
            best = Checkpoint(plan.config, plan.seed, metrics, mean_chroma, about_photos, plan.origin)
            vae = trainer.vae
        save_training(plan.folder, SavedTraining(best, log, trainer.state), vae)
    baseline = baseline_scores(photos.validation.chroma, trainer.mean_chroma)["chroma_mse"]
    say(f"mean-color baseline: chroma_mse {baseline:.4f}. The best epoch is in {plan.folder}")
    say(f"train on with: {resume_command(plan.folder, source)} --epochs N")


def _resume(trainer: Any, saved: "SavedTraining", folder: Path) -> None:
    best = saved.best
    try:
        trainer.resume(best.config, best.seed, saved.state)
        if trainer.epochs != len(saved.epochs):
            raise ValueError(f"it is of epoch {trainer.epochs}, not {len(saved.epochs)}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{str(folder)!r}: this huetune cannot continue its training state ({first_line(error)}); use the one that "
            f"wrote it, {best.versions.get('huetune')}, or train from the start again"
        ) from None


@contextlib.contextmanager
def _resume_command_on_interruption(out: Path, source: Source) -> Iterator[None]:
    """Add to the message of an interruption how to resume the training."""
    try:
        yield
    except Interrupted as error:
        from huetune.model.training_folder import has_training_state, resume_command

        if has_training_state(out):
            remedy = f"continue it with: {resume_command(out, source)}"
        else:
            remedy = "no epoch has ended, so nothing is saved"
        raise Interrupted(error.number, remedy) from None


@contextlib.contextmanager
def _epoch_progress(label: str) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        task = progress.add_task(label)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def epoch_line(metrics: dict[str, float], epochs: int) -> str:
    """Return the line that is printed after an epoch.

    Args:
        metrics: as `Trainer.epoch` returns them.
        epochs: number of epochs in all.
    """
    from huetune.model.metrics import METRICS

    parts = ", ".join(f"{name} {metrics['train_' + name]:.4f}" for name in ("mse", "norm", "kl", "l2"))
    scores = ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS.shown)
    head = f"epoch {metrics['epoch']}/{epochs}  {metrics['boxes']} patches  {metrics['seconds']:.0f} s"
    return f"{head}  loss {metrics['train_loss']:.4f} ({parts})  held out: {scores}"
