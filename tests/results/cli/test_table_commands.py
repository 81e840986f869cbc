"""The commands `presets`, `trials` and `list`."""

import csv
import io
import json
from dataclasses import asdict

from huetune.model.presets import PRESETS
from huetune.model.recipes import RECIPES, with_recipe


def test_presets_as_json_have_numbers_of_the_experiment_log(in_process):
    rows = json.loads(in_process("presets", "--format", "json").stdout)
    assert [row["name"] for row in rows] == ["model-1", "model-2", "model-3", "model-4", "model-6"]
    assert rows[4] == {
        "name": "model-6",
        "mse_weight": 2.5,
        "activation": "silu",
        "skip": True,
        "merge_units": 128,
        "positions": 7,
        "encoder_parameters": 729_712,
        "decoder_parameters": 730_178,
        "parameters": 1_459_890,
    }


def test_presets_command_describes_recipes_below_the_table(in_process):
    """In numbers of the recipes themselves, below the table and not in what a program reads."""
    said = " ".join(in_process("presets").stdout.split())
    line = "presets are the models of the experiment log; dropout, optimizer and learning rate belong to the recipe"
    assert f"{line} (--batching)" in said
    dropped = {"patches": "units", "photos": "units of Dense layers only"}
    for name, recipe in RECIPES.items():
        config = with_recipe(PRESETS["model-2"], name)
        assert recipe.items() <= asdict(config).items()
        words = f"dropout {config.dropout:g} of {dropped[name]}, {config.optimizer}, {config.learning_rate:g}"
        assert f"{name}: {words}" in said
    done = in_process("presets", "--format", "json")
    assert done.returncode == 0 and "batching" not in done.stdout


def test_trials_command_prints_every_format(searched, in_process):
    def trials(*words):
        done = in_process("trials", "tiny", "--storage", searched[0], *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    rows = json.loads(trials("--format", "json"))
    wanted = (
        "trial state score learning_rate mse_weight epochs seconds train_loss chroma_mse skill chroma_ratio host error"
    )
    assert set(wanted.split()) <= set(rows[0])
    read = list(csv.DictReader(io.StringIO(trials("--format", "csv", "--sort", "trial"))))
    assert [int(row["trial"]) for row in read] == list(range(6))
    chosen = trials("--where", "state == 'failed'", "--columns", "trial,error", "--format", "json")
    assert [set(row) for row in json.loads(chosen)] == [{"trial", "error"}] * 2
    assert "mean color" in trials() and "| baseline | mean color |" in trials("--format", "markdown")
    assert in_process("trials", "tiny", "--storage", searched[0], "--sort", "scor").returncode == 2
    assert "tiny" in in_process("list", "--storage", searched[0]).stdout
