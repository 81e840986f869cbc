"""Writes the model card of an export: how the model was trained, how good it is, and how to use it."""

from collections.abc import Mapping
from typing import Any

from huetune.model.checkpoint_format import Checkpoint
from huetune.results.records.value_text import format_value


def model_card(model: Checkpoint, metric: Mapping[str, Any]) -> str:
    """Return the card of a model, as Markdown.

    Args:
        model: description of the model, as its checkpoint holds it.
        metric: the record that `results.export.best_model.metric_record` returns, also one of an older version; empty
            if it is not known how good the model is.
    """
    settings = "\n".join(f"| {name} | {format_value(value)} |" for name, value in vars(model.config).items())
    photos, versions = model.photos, model.versions
    return f"""\
# A model that colorizes photos

A small VAE predicts the colors of a grayscale photo. The photo is resized to 112 x 112; the decoder predicts a color
for each of its 14 x 14 patches, and these colors are combined with the luma of the photo. The model was made by
huetune {versions.get("huetune", "")}.

## How it was trained

- Origin: {_origin(model.origin)}
- Training photos: {photos.get("training", "not recorded")}
- Validation photos, from which the model did not learn: {photos.get("validation", "not recorded")}
- Epochs: {model.metrics.get("epoch", "not recorded")}
- Seed: {model.seed}
- Fingerprint of the photos, computed from their pixels: `{photos.get("fingerprint", "not recorded")}`
- Software: {", ".join(f"{part} {version}" for part, version in versions.items())}

| setting | value |
| --- | --- |
{settings}

## How good it is

{_quality(metric)}

## How to use it

    huetune colorize FOLDER old-photo.jpg --out colored
    huetune evaluate FOLDER --photos TEST_DIR

FOLDER is the folder that contains this file. It contains no code: `settings.json` describes the network, `weights.npz`
has its weights, and `probe.npz` is a self-test, a grayscale picture and the colors that the model must predict for it.
`sha256sum --check SHA256SUMS` checks that all files are unchanged. huetune refuses a folder that fails any of these
checks.

## Limits

- The model has learned the colors of its training photos. Other subjects get the colors of what looks most like them.
- Colors are a guess: samples for the same photo differ, and none of them has to be the true one.
- A photo has 14 x 14 patches of color. Smaller details get the color of their surroundings.
- Checksums and self-test detect damage and mistakes, not manipulation: who changes a model on purpose can renew both.
  Use models only from people whom you trust.
"""


def _origin(origin: Mapping[str, Any]) -> str:
    if "run" in origin:
        training = f"trial {origin['trial']}" if "trial" in origin else f"a replicate of {origin.get('of')}"
        return f"{training} of the search `{origin['run']}`"
    return f"preset {origin['preset']}" if "preset" in origin else "not recorded"


def _quality(metric: Mapping[str, Any]) -> str:
    if not metric:
        return "No score is recorded."
    better = "lower" if metric["direction"] == "minimize" else "higher"
    name = f"`{metric['objective']}` ({better} is better) on held-out photos"
    # The score of this very checkpoint comes first, then that of its configuration: one training may be a lucky one.
    checkpoint = (
        f"This checkpoint ({metric['checkpoint']}) has {format_value(metric['checkpoint_score'])}. "
        if "checkpoint" in metric
        else ""
    )
    baseline = (
        "The mean-color baseline, which gives every patch the mean color of the training photos, has "
        f"{format_value(metric['zero_line'])}."
    )
    if "baseline" in metric:
        baseline += f" The configuration compared with the baseline: {metric['baseline']}."
    if metric.get("plus_minus") is None:
        caveat = "**not confirmed**: the best of many noisy scores is too optimistic"
        return f"{name}: {format_value(metric['score'])} in the search, {caveat}. {checkpoint}{baseline}"
    value, half = metric["confirmed"], metric["plus_minus"]
    interval = f"95% interval {metric.get('low', value - half):.4g} to {metric.get('high', value + half):.4g}"
    how = f"confirmed by training this configuration again from {metric['seeds']} fresh seeds"
    return f"{name}: **{value:.4g}**, {interval}, {how}. {checkpoint}{baseline}"
