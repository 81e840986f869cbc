"""The card of an exported model: what a stranger should know before using it."""

from collections.abc import Mapping
from typing import Any

from huetune.model.checkpoint import Checkpoint
from huetune.results.tables.trial_table import shown


def card(known: Checkpoint, metric: Mapping[str, Any]) -> str:
    """Return the card of a model, as Markdown.

    Args:
        known: of the model.
        metric: as `results.export.best_model.claim` returns it, or empty.
    """
    settings = "\n".join(f"| {name} | {shown(value)} |" for name, value in vars(known.config).items())
    photos, figures, versions = known.photos, known.figures, known.versions
    learned, held = photos.get("training", "an unknown number of"), photos.get("validation", "others")
    return f"""\
# A model that colorizes photos

A small VAE gives a gray photo its colors back: the photo is shrunk to 112 x 112, the decoder draws a color for each
of its 14 x 14 boxes, and these are laid on the photo's luma. It was made by huetune {versions.get("huetune", "")}.

## How it was trained

On {learned} photos, held against {held} that it did not learn from, for {figures.get("epoch", "some")} epochs from
seed {known.seed}{_origin(known.origin)}. The photos' fingerprint, over their pixels, is
`{photos.get("fingerprint", "not recorded")}`.

| setting | |
| --- | --- |
{settings}

Made with {", ".join(f"{part} {version}" for part, version in versions.items())}.

## How good it is

{_score(metric)}

## How to use it

    huetune colorize FOLDER old-photo.jpg --out colored
    huetune evaluate FOLDER --photos TEST_DIR

FOLDER is the one that this file is in. There is no code in it: `settings.json` says what to build, `weights.npz` holds
numbers, `probe.npz` a gray picture and the colors that it must get, and `sha256sum --check SHA256SUMS` says whether
all is as it was. huetune refuses the folder where anything of it is not so.

## What it cannot do

- It knows colors like those of its photos. Of anything else it makes what is most like them.
- Colors are a guess: several samples of a photo differ, and none need be the true one.
- There are 14 x 14 boxes of color in a photo: what is smaller gets the color of what is around it.
- Sums and probe tell damage and mistakes. Whoever changes a model on purpose can renew both: take models from those
  whom you trust.
"""


def _origin(origin: Mapping[str, Any]) -> str:
    if "run" in origin:
        what = f"trial {origin['trial']}" if "trial" in origin else f"a replicate of {origin.get('of')}"
        return f", as {what} of the search `{origin['run']}`"
    return f", as the preset {origin['preset']}" if "preset" in origin else ""


def _score(metric: Mapping[str, Any]) -> str:
    if not metric:
        return "Nobody has said."
    better = "lower" if metric["direction"] == "minimize" else "higher"
    name = f"`{metric['objective']}` ({better} is better) on held-out photos"
    # The model itself, then its configuration, of which it may be one lucky training.
    here = (
        f"This checkpoint ({metric['checkpoint']}) has {shown(metric['checkpoint_score'])}. "
        if "checkpoint" in metric
        else ""
    )
    zero = f"The mean color of the training photos for everything has {shown(metric['zero_line'])}."
    if "baseline" in metric:
        zero += f" The configuration against that: {metric['baseline']}."
    if metric.get("plus_minus") is None:
        luck = "**not confirmed**: it is the best of many noisy numbers, and so optimistic"
        return f"{name}: {shown(metric['score'])} in the search, {luck}. {here}{zero}"
    value, half = metric["confirmed"], metric["plus_minus"]
    interval = f"95 % interval {metric.get('low', value - half):.4g} to {metric.get('high', value + half):.4g}"
    how = f"confirmed by training this configuration again from {metric['seeds']} fresh seeds"
    return f"{name}: **{value:.4g}**, {interval}, {how}. {here}{zero}"
