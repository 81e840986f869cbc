"""The recorded table: real learning curves of a whole grid, with which searches are replayed without training.

    python -m tests.benchmarks table

trains the part of the grid that `table.csv` does not have: 8 loss weights x 4 activations x skip on and off x 4 seeds,
9 epochs each, on 16 garden scenes, like a search: with whole photos and two workers of one thread each. The weights go
far below and above those of the experiment log, because on the garden, whose colors follow from luma, the error falls
with the weight up to the largest.
"""

import csv
import itertools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_type_hints

from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.dataset import prepare
from huetune.data_tools.photos.split import Split, split_first
from huetune.model.config import Config
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from tests.benchmarks.processes import one_thread

TABLE = Path(__file__).with_name("table.csv")
GRID: dict[str, list[Any]] = {
    "mse_weight": [2.0**power for power in range(-3, 5)],
    "activation": ["relu", "silu", "gelu", "elu"],
    "skip": [True, False],
}
SEEDS, EPOCHS = 4, 9
TRAINING, VALIDATION = 16, 12
METRICS = ("seconds", "train_loss", "chroma_mse", "chroma_ratio_error")

Row = dict[str, Any]
_trainer: Any = None


def read_table() -> list[Row]:
    """Return the rows of the table, one for each epoch: the parameters of the grid, `seed`, `epoch` and METRICS."""
    types = {**get_type_hints(Config), "seed": int, "epoch": int}
    with TABLE.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: _value(types.get(name, float), text) for name, text in row.items()} for row in rows]


def _value(value_type: Any, text: str) -> Any:
    if value_type is bool:
        return text == "True"
    return value_type(text) if value_type in (int, float) else text


def record() -> dict[str, Any]:
    """Train the runs that the table does not have, and record each when it ends. The whole table takes an hour."""
    rows = read_table() if TABLE.exists() else []
    recorded = {_run(row) for row in rows}
    # One structure after another, because a worker caches the traced steps of few structures.
    runs = itertools.product(GRID["activation"], GRID["skip"], GRID["mse_weight"], range(SEEDS))
    missing = [
        {"mse_weight": weight, "activation": activation, "skip": skip, "seed": seed}
        for activation, skip, weight, seed in runs
        if (weight, activation, skip, seed) not in recorded
    ]
    scenes = prepare(garden(TRAINING + VALIDATION), [str(index) for index in range(TRAINING + VALIDATION)])
    with ProcessPoolExecutor(2, get_context("spawn"), _start, (split_first(scenes, TRAINING),)) as pool:
        for number, curve in enumerate(pool.map(_curve, missing), 1):
            rows += curve
            rows.sort(key=lambda row: (*_run(row), row["epoch"]))
            with TABLE.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, [*GRID, "seed", "epoch", *METRICS], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
            print(f"{number}/{len(missing)}: {_run(curve[0])} {curve[-1]['chroma_mse']}", flush=True)
    return {"recorded": len(missing)}


def _run(row: Row) -> tuple:
    return tuple(row[name] for name in (*GRID, "seed"))


def _start(parts: Split) -> None:
    global _trainer
    one_thread()
    from huetune.model.trainer import Trainer

    _trainer = Trainer(parts.training, parts.validation)


def _curve(run: Row) -> list[Row]:
    base = with_recipe(PRESETS["model-2"], "photos")
    _trainer.start(replace(base, **{name: run[name] for name in GRID}), run["seed"])
    curve = []
    for epoch in range(1, EPOCHS + 1):
        metrics = _trainer.epoch()
        curve.append({**run, "epoch": epoch, **{name: float(f"{metrics[name]:.5g}") for name in METRICS}})
    return curve
