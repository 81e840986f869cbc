"""The command as a user types it."""

import csv
import io
import json
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.datasets.synthetic_garden import garden, write_garden
from huetune.model.presets import PRESETS
from huetune.model.recipes import RECIPES, with_recipe
from huetune.results.records.run import MANIFEST, Run, open_storage
from huetune.search.cli.search_end import print_next_commands


def test_presets_as_json_have_the_logs_figures(in_process):
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


def test_presets_command_describes_the_recipes_apart(in_process):
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


def test_a_trial_that_finds_no_room_leaves_nothing(huetune, tmp_path):
    done = huetune("search", "--cpus-per-trial", 1000, "--quiet", cwd=tmp_path)
    assert done.returncode == 2
    assert "no room for a trial of 1000 CPUs" in done.stderr and "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.name != "runs"] == []


def test_trials_in_every_format(searched, in_process):
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
    assert "one color" in trials() and "| zero | one color |" in trials("--format", "markdown")
    assert in_process("trials", "tiny", "--storage", searched[0], "--sort", "scor").returncode == 2
    assert "tiny" in in_process("list", "--storage", searched[0]).stdout


def assert_measured_against(scenes, folder):
    """Each photo of an evaluation was compared with the scene of its name, and no other."""
    rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["photos"]
    assert rows
    for row in rows:
        name = Path(row["photo"]).stem
        truth = rgb2lab(scenes[int(name.removeprefix("garden-"))])
        written = [np.asarray(Image.open(path)) for path in (folder / "colorized").glob(f"{name}-*.png")]
        expected = np.mean([deltaE_ciede2000(truth, rgb2lab(sample)).mean() for sample in written])
        assert row["delta_e"] == pytest.approx(expected, rel=1e-6)


def test_a_search_measures_its_best_on_its_own_test_photos(searched):
    assert_measured_against(garden(12), searched[0] / "tiny" / "evaluation")


def test_from_a_run_to_colored_photos(searched, huetune, in_process, tmp_path):
    """best, evaluate and colorize, on an export that left its run."""
    scenes = tmp_path / "scenes"
    assert in_process("data", "garden", "--count", 4, "--out", scenes, "--seed", 9).returncode == 0
    Image.fromarray(garden(1)[0]).convert("L").resize((200, 150)).save(scenes / "gray.png")
    (scenes / "garden-0001 is no picture.png").write_text("it comes before garden-0001.png", encoding="utf-8")
    exported = tmp_path / "model"
    done = in_process("best", "tiny", "--storage", searched[0], "--export", exported)
    assert done.returncode == 0 and "exported to" in done.stdout
    assert in_process("best", "tiny", "--storage", searched[0], "--export", exported).returncode == 4

    done = in_process("evaluate", exported, "--photos", scenes, "--samples", 2, "--out", tmp_path / "evaluation")
    assert done.returncode == 0, done.stderr
    assert "gray.png': gray, there is no color" in done.stderr
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert len(metrics["photos"]) == 4 and metrics["all"]["delta_e"] > 0
    assert (tmp_path / "evaluation" / "contact-sheet.png").is_file()
    assert_measured_against(garden(4, seed=9), tmp_path / "evaluation")

    done = huetune("colorize", exported, scenes / "gray.png", "--out", tmp_path / "colored")
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / "colored" / "gray.png").size == (200, 150)
    before = (tmp_path / "colored" / "gray.png").read_bytes()
    done = in_process("colorize", exported, tmp_path / "colored" / "gray.png", "--out", tmp_path / "colored")
    assert done.returncode == 0 and done.stdout == f"{tmp_path / 'colored' / 'gray-colorized.png'}\n"
    assert (tmp_path / "colored" / "gray.png").read_bytes() == before
    done = in_process("colorize", exported, scenes / "gray.png", scenes / "no.png", "--out", tmp_path / "other")
    assert done.returncode == 3 and not (tmp_path / "other").exists()


@pytest.mark.parametrize("objectives", [["chroma_mse"], ["chroma_mse", "chroma_ratio_error"]])
def test_show_next_prints_commands_that_work(objectives, searched, in_process, tmp_path, monkeypatch, capsys):
    """In another storage, whose name has a space; after a search by several objectives, too, which need --by."""
    shutil.copytree(searched[0] / "tiny", tmp_path / "all runs" / "tiny")
    run = Run(tmp_path / "all runs" / "tiny")
    asked = {**run.manifest["search"], "objectives": objectives}
    (run.folder / MANIFEST).write_text(json.dumps({**run.manifest, "search": asked}), encoding="utf-8")
    study = optuna.load_study(study_name="tiny", storage=open_storage(run.database))
    study.set_user_attr("objectives", objectives)
    write_garden(1, tmp_path / "new", seed=9)
    monkeypatch.chdir(tmp_path)
    print_next_commands(run, True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert len(lines) == 6
    for line in lines:
        filled = line.replace("--photos DIR", "--photos new").replace("PHOTO --out DIR", "new/garden-0000.png --out o")
        if len(objectives) > 1 or " report " not in line:
            done = in_process(*shlex.split(filled)[1:])
            assert done.returncode == 0, (line, done.stderr)
    assert in_process("best", run.place).returncode == (2 if len(objectives) > 1 else 0)


def test_train_prints_the_log_and_keeps_the_best_epoch(huetune, in_process, tmp_path):
    out = tmp_path / "trained"
    words = ["train", "--preset", "model-1", "--garden", 4, "--train-first", 3, "--epochs", 2, "--out", out]
    done = huetune(*words, "--batching", "boxes")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 2 and lines[0].startswith("epoch 1/2  576 patches")
    log = json.loads((out / "log.json").read_text(encoding="utf-8"))
    settings = json.loads((out / "settings.json").read_text(encoding="utf-8"))
    assert settings["figures"] == min(log, key=lambda epoch: epoch["chroma_mse"])
    assert settings["config"]["batching"] == "patches" and settings["photos"]["training"] == 3
    assert in_process(*words).returncode == 4


def test_data_check_says_what_it_would_use_and_why_not_the_rest(in_process, tmp_path):
    Image.fromarray(garden(1)[0]).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("no picture", encoding="utf-8")
    done = in_process("data", "check", tmp_path)
    assert done.returncode == 0
    assert "bad.jpg': not a picture" in done.stdout and "2 files: 1 usable photo (" in done.stdout


def test_a_checked_folder_is_prepared_once_and_an_empty_word_keeps_nothing(in_process, tmp_path, monkeypatch):
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    photos.mkdir()
    Image.fromarray(garden(1)[0]).save(photos / "good.png")
    (photos / "bad.jpg").write_text("no picture", encoding="utf-8")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HUETUNE_CACHE", "")
    plain = in_process("data", "check", photos)
    assert plain.returncode == 0 and not cache.exists()
    monkeypatch.delenv("HUETUNE_CACHE")
    assert [in_process("data", "check", photos).stdout for _ in range(2)] == [plain.stdout] * 2
    assert len(list((cache / "huetune" / "prepared").iterdir())) == 1


@pytest.mark.parametrize("on_disk", [True, False])
def test_the_colors_of_any_photos_are_at_hand(on_disk, tmp_path):
    from huetune.data_tools.photos.source import Source

    write_garden(4, tmp_path / "photos")
    (tmp_path / "photos" / "garden-0000 is no picture.png").write_text(
        "it comes before garden-0000.png", encoding="utf-8"
    )
    source = Source(tmp_path / "photos") if on_disk else Source(scenes=4)
    photos, _ = source.read()
    scenes = garden(4)
    np.testing.assert_array_equal(source.colors(photos), scenes)
    np.testing.assert_array_equal(source.colors(photos.take([3, 1, 1])), scenes[[3, 1, 1]])
    assert source.colors(photos.take([])).shape == (0, 112, 112, 3)


def test_the_garden_on_disk_is_the_garden_of_a_search(in_process, tmp_path):
    from huetune.data_tools.photos.dataset import find_photos, load, prepare

    assert in_process("data", "garden", "--count", 3, "--out", tmp_path / "g").returncode == 0
    photos, left_out = load(find_photos(tmp_path / "g"))
    assert photos.digests == prepare(garden(3), ["a", "b", "c"]).digests and not left_out
