"""Experiment log: texts in two languages, pictures, comparisons and verdicts, and the command `huetune log`."""

import json
import re
import shutil
import socket
import string
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from PIL import Image

from huetune.data_tools.common.errors import CheckpointError, PhotoError, UserError
from huetune.data_tools.datasets.synthetic_garden import garden
from huetune.data_tools.photos.color import gray_to_luma, luma, paint, upsample_chroma
from huetune.data_tools.photos.dataset import prepare
from huetune.data_tools.storage.checksums import SUMS_FILE, sha256_of
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.model.checkpoint import load_colorizer, read_checkpoint, read_epoch_log
from huetune.model.checkpoint_format import EPOCH_LOG_FILE, SETTINGS_FILE
from huetune.model.cli import train
from huetune.model.presets import PRESETS
from huetune.results.cli.best_command import best
from huetune.results.cli.log_command import log
from huetune.results.cli.report_command import report
from huetune.results.experiment_log.document import SAMPLES_PER_PHOTO, write
from huetune.results.experiment_log.entry import (
    Entry,
    entries_of_run,
    entry_of_checkpoint,
    newest_first,
    with_unique_names,
)
from huetune.results.experiment_log.messages import MESSAGES, SETTING_NAMES, Language
from huetune.results.experiment_log.verdict import verdict
from huetune.results.records.run import find_run
from tests.allowed_skips import needs

NO_SOURCE: dict[str, object] = {"folder": None, "scenes": None, "limit": None, "classes": []}
graphviz = needs("graphviz")


def call(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words])


@pytest.fixture(scope="module")
def written(searched, tmp_path_factory):
    """Folder with the experiment log of a search in both languages."""
    out = tmp_path_factory.mktemp("log")
    for language in ("en", "ko"):
        done = call(log, "tiny", "--storage", searched[0], "--trials", "0,1", "--out", out, "--lang", language)
        assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with two presets, trained one after the other."""
    folder = tmp_path_factory.mktemp("trained")
    # --limit is the former name of --train-first.
    for preset, first in (("model-1", "--train-first"), ("model-3", "--limit")):
        done = call(train, "--preset", preset, "--garden", 6, first, 4, "--epochs", 2, "--out", folder / preset)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def no_graphviz(tmp_path, monkeypatch):
    """Hide Graphviz, so that tests do not wait for pictures of structures."""
    monkeypatch.setenv("PATH", str(tmp_path))


def hand_kept_log() -> list[Entry]:
    """The three models of the hand-kept experiment log, with its dates and losses."""
    hours = {"model-1": (20, 0.1634), "model-2": (21, 0.0821), "model-3": (22, 0.1190)}
    return [
        Entry(
            key=name,
            name=name,
            started=datetime(2024, 3, 27, hour).astimezone(),
            config=PRESETS[name],
            seed=0,
            state="complete",
            target=1,
            epochs=[line := {"epoch": 1, "boxes": 19584, "seconds": 150.0, "train_loss": loss, **SCORES}],
            best=line,
            objective="chroma_mse",
            checkpoint=Path("nowhere"),
            photos={"training": 100, "validation": 20, "test": 0, "fingerprint": "flowers"},
            source="flowers",
            took_first_photos=True,
        )
        for name, (hour, loss) in hours.items()
    ]


SCORES = {"chroma_mse": 0.02, "skill": 0.2}


def text_of(entries, out, language="en") -> dict[str, str]:
    """Write a log without test photos, and return the text of each entry by its key."""
    text = write([(entry, None) for entry in entries], out, language).read_text(encoding="utf-8")
    return {part.split('"')[0]: part for part in text.split('<a id="')[1:]}


def test_log_has_metrics_of_every_epoch(written, searched):
    text = (written / "log.md").read_text(encoding="utf-8")
    entries = entries_of_run(find_run("tiny", searched[0]), numbers=(0, 1))
    assert len(entries) == 2
    for entry in entries:
        part = text.split(f'<a id="{entry.key}">')[1].split("<a id=")[0]
        lines = re.findall(
            r"^Epoch (\d)/3 - (\d+)/\d+ patches - ([\d.]+) s - loss: ([\d.]+) .* chroma_mse ([\d.]+)", part, re.M
        )
        logged = [tuple(map(float, line)) for line in lines]
        names = ("epoch", "boxes", "seconds", "train_loss", "chroma_mse")
        assert len(logged) == len(entry.epochs)
        np.testing.assert_allclose(logged, [[line[name] for name in names] for line in entry.epochs], atol=0.051)
        assert f"Final loss: **{entry.epochs[-1]['train_loss']:.4f}**" in part
        assert f"Best epoch on validation photos: **{entry.best['epoch']}**, chroma_mse **{entry.score:.4f}**" in part
        assert "**601,776**" in part and "**602,082**" in part and "**1,203,858**" in part
        assert f"MSE weight: **{entry.config.mse_weight:.1f}**" in part and f"seed={entry.seed}`" in part
    numbers = sorted((int(entry.key.rpartition("-")[2]) for entry in entries), reverse=True)
    assert re.findall(r'<a id="(.*)"></a>', text) == [f"tiny-trial-{number}" for number in numbers], "the newest first"


def test_log_links_existing_pictures(written):
    html = MarkdownIt().enable("table").render((written / "log.md").read_text(encoding="utf-8"))
    sources = re.findall(r'src="([^"]+)"', html) + re.findall(r'href="([^#"]+)"', html)
    assert all((written / source).is_file() for source in sources)
    scenes = garden(12)
    for truth in (written / "photos").glob("*-truth.png"):
        pixels = np.asarray(Image.open(truth))
        assert any((scene == pixels).all() for scene in scenes)
        digest = truth.name.removesuffix("-truth.png")
        gray = np.asarray(Image.open(truth.with_name(f"{digest}-gray.png"))) / 255
        samples = list(written.glob(f"tiny-trial-*/{digest}-*.png"))
        assert len(samples) == 2 * 3
        for sample in samples:
            np.testing.assert_allclose(luma(np.asarray(Image.open(sample))), gray, atol=1.5 / 255)
    assert len(re.findall(r"<img [^>]*photos/[^>]*-truth", html)) == 2


@graphviz
def test_log_draws_each_structure_once(written):
    text = (written / "log.md").read_text(encoding="utf-8")
    assert [text.count(f"/{part}.png") for part in ("encoder", "decoder", "whole")] == [1, 1, 1]
    first, last = text.split("<a id=")[1:]
    key = last.split('"')[1]
    assert f"(#{key}), see its pictures." in first and f"{key}/whole.svg" in last


def test_korean_log_has_same_numbers_as_english(written):
    english, korean = ((written / name).read_text(encoding="utf-8") for name in ("log.md", "log.ko.md"))
    assert re.findall(r"\d+\.\d{3,4}\b", english) == re.findall(r"\d+\.\d{3,4}\b", korean)
    for word in (
        "## 학습 로그",
        "* 최종 Loss : **",
        "* Encoder 파라미터 개수 **601,776 개**",
        "## 테스트 결과 및 총평",
        "| 원본 | 흑백 |",
    ):
        assert korean.count(word) == 2, word
    assert not re.search(r"Training|weight:|better|\bphotos(?![=/,])", korean)


def test_messages_have_same_keys_and_placeholders():
    def placeholders(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert MESSAGES["en"].keys() == MESSAGES["ko"].keys()
    assert SETTING_NAMES["en"].keys() == SETTING_NAMES["ko"].keys()
    for key, text in MESSAGES["en"].items():
        assert placeholders(text) == placeholders(MESSAGES["ko"][key]), key


def test_entries_compare_as_in_hand_kept_log(tmp_path, no_graphviz):
    one, two, three = entries = hand_kept_log()
    assert (
        one.most_similar_earlier(entries),
        two.most_similar_earlier(entries),
        three.most_similar_earlier(entries),
    ) == (None, one, two)
    assert three.latest_with_comparable_loss(entries) is one and two.latest_with_comparable_loss(entries) is None
    texts = text_of(entries, tmp_path)
    assert list(texts) == ["model-3", "model-2", "model-1"]
    assert "# Model-3: MSE weight 4.0 (2024.03.27 22:00)" in texts["model-3"]
    assert "0.1190** (**27.2%** lower than that of [model-1]" in texts["model-3"]
    assert "the MSE weight changed from **2.5** to **4.0**" in texts["model-3"]
    assert "the **skip connection** was added" in texts["model-2"] and " %** " not in texts["model-2"]
    assert "Changes from" not in texts["model-1"] and "only the first **100** from flowers;" in texts["model-1"]
    korean = text_of(entries, tmp_path, "ko")["model-3"]
    assert "* 최종 Loss : **0.1190** (MSE Loss 가중치가 같은 [model-1](#model-1) 대비 **27.2%** 감소)" in korean
    assert "# Model-3 : MSE Loss 가중치 4.0 적용 (2024.03.27 22:00)" in korean
    assert "* flowers 의 처음 **100장** 의 이미지만 이용하여 학습" in korean


def test_entry_ignores_incomparable_entries():
    _, two, three = hand_kept_log()
    for other in (
        {"photos": {**two.photos, "fingerprint": "another"}},
        {"state": "pruned"},
        {"objective": "skill"},
        {"started": datetime(2025, 1, 1).astimezone()},
        {"started": None},
    ):
        assert three.most_similar_earlier([replace(two, **other)]) is None, other
    near, far = (replace(two, config=replace(two.config, mse_weight=weight)) for weight in (3.9, 1.0))
    assert three.most_similar_earlier([far, near]) is three.most_similar_earlier([near, far]) is near
    again = [replace(two, started=datetime(2024, 3, 27, hour).astimezone()) for hour in (3, 5)]
    assert three.most_similar_earlier(again) is again[1], "of equals the newest"


AGAIN = {"replicate_scores": (0.010, 0.011, 0.0105)}, {"replicate_scores": (0.020, 0.021, 0.0205)}


@pytest.mark.parametrize(
    "mine, others, words",
    [
        (AGAIN[0], AGAIN[1], "-48.8% (95% CI -54.3 to -43.3%): **it is better"),
        (AGAIN[1], AGAIN[0], "+95.2% (95% CI +84.4 to +106%): **it is worse"),
        (
            {"replicate_scores": (0.010, 0.030)},
            {"replicate_scores": (0.011, 0.028)},
            "**there is no significant difference from [model-2]",
        ),
        ({"score": 0.018}, {}, "(-10%): in this single training **it is better than [model-2]"),
        (
            {"score": 0.022},
            {"replicate_scores": (0.01, 0.02)},
            "(+10%): in this single training **it is worse than [model-2]",
        ),
        ({}, {}, "the same as that of [model-2](#model-2): **there is no significant difference"),
        (
            {"skill": -0.1},
            {},
            "is -0.1000, while that of the mean-color baseline is 0.0000: in a single training **it is worse than the "
            "mean-color",
        ),
        ({"state": "pruned", "target": 5}, {}, "stopped after 1 of 5 epochs, so **its final score is unknown**"),
        ({"state": "failed"}, {}, "**It failed**"),
        ({"state": "running", "target": 5}, {}, "**there is no verdict yet**"),
        (
            {"objective": "skill", "skill": 0.3},
            {"objective": "skill"},
            "(+0.1): in this single training **it is better",
        ),
    ],
)
def test_verdict_claims_no_more_than_numbers_show(mine, others, words):
    _, two, three = hand_kept_log()

    def changed(entry, changes):
        best = {**entry.best, "chroma_mse": changes.get("score", 0.02), "skill": changes.get("skill", 0.2)}
        rest = {name: value for name, value in changes.items() if name not in ("score", "skill")}
        return replace(entry, best=best, epochs=[best], **rest)

    text = verdict(changed(three, mine), changed(two, others), Language("en"))
    assert words in text
    assert ("in this single training" in text) == ("was trained only once" in text)
    korean = verdict(changed(three, mine), changed(two, others), Language("ko"))
    assert ("성능이 좋다** 고" in korean) == ("it is better than [" in text)
    assert re.findall(r"[+-]\d+", korean) == re.findall(r"[+-]\d+", text)


MSE = {"chroma_mse": 0.01, "skill": 0.5}


@pytest.mark.parametrize(
    ("changes", "tested", "words", "korean"),
    [
        (
            {"baseline": 0.02},
            None,
            "in a single training **it is better than the mean-color baseline**.",
            "보다 성능이 좋다** 고",
        ),
        ({"baseline": 0.005}, None, "in a single training **it is worse than", "보다 성능이 좋지 않다** 고"),
        (
            {"baseline": 0.02, "replicate_scores": (0.005, 0.035)},
            None,
            "(95% CI 0.0000 to 0.2106), while that of the mean-color baseline is 0.0200: "
            "**there is no significant difference",
            "차이가 있다고 할 수 없다**.",
        ),
        (
            {"baseline": 0.02, "replicate_scores": (0.01, 0.0101)},
            None,
            "With 2 fresh seeds, its mean chroma_mse on validation photos is 0.0100 (95% CI 0.0094 to 0.0107), "
            "while that of the",
            "보다 성능이 좋다** 고",
        ),
        (
            {"baseline": 0.02},
            -0.078,
            "On the test photos, **this single training is no better than the baseline**: skill -0.078.",
            "이번 학습의 skill 은 -0.078 이므로, **baseline 보다 성능이 좋다고 할 수 없다**.",
        ),
        (
            {"baseline": 0.005},
            0.1,
            "On the test photos, **this single training is better than the baseline**: skill 0.100.",
            "이번 학습의 skill 은 0.100 이므로, **baseline 보다 성능이 좋다** 고",
        ),
        (
            {"baseline": 0.02, "is_winner": True},
            0.1,
            "It is the winner of the search, represented by this checkpoint.",
            "탐색에서 최종 선정된 모델이며, 이 학습의",
        ),
        (
            {"baseline": 0.02, "is_winner": True, "checkpoint_replicate": (1000003, 0.0099)},
            None,
            "represented by the checkpoint of a replicate (seed 1000003, chroma_mse 0.0099).",
            "새로운 seed 로 다시 학습한 결과 (seed 1000003, chroma_mse 0.0099) 의 checkpoint 를",
        ),
    ],
)
def test_verdict_on_baseline_follows_interval_or_score(changes, tested, words, korean):
    """The interval of replicates decides, else the score; a contradicting skill on the test photos is mentioned."""
    entry = replace(hand_kept_log()[0], best={**hand_kept_log()[0].best, **MSE}, **changes)
    text = verdict(entry, None, Language("en"), tested)
    assert words in text and ("single training" in text) == ("replicate_scores" not in changes)
    assert ("On the test photos" in text) == (
        tested is not None and (tested > 0) != ("it is better than the mean" in text)
    )
    assert korean in verdict(entry, None, Language("ko"), tested)


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({"state": "complete"}, True),
        ({"state": "pruned", "target": 8}, True),
        ({"state": "running", "target": 8}, False),
        ({"state": "interrupted", "target": 7}, True),
        ({"state": "failed"}, False),
        ({"has_all_epochs": False}, True),
        ({"has_all_epochs": False, "objective": "chroma_ratio_error"}, False),
    ],
)
def test_verdict_mentions_training_at_baseline(changes, noted):
    """The sentence is also there for a compared model: otherwise the difference would be put down to the settings."""
    line = {**hand_kept_log()[0].best, "chroma_ratio_error": 0.8, "skill": 0.004}
    one, good = replace(hand_kept_log()[0], epochs=[line], best=line, **changes), hand_kept_log()[1]
    text = verdict(one, None, Language("en"))
    words = "The best skill of [model-1](#model-1) is 0.004: **its training stayed at the mean-color baseline**"
    assert (words in text) == noted
    korean = verdict(one, None, Language("ko"))
    assert (
        "[model-1](#model-1) 모델은 가장 높은 skill 이 0.004 에 그쳐 **mean-color baseline 수준에" in korean
    ) == noted
    assert "stayed" not in verdict(good, None, Language("en"))
    if one.state == "complete" and one.objective == good.objective:
        assert words in verdict(good, one, Language("en"))


def test_verdict_on_trials_of_one_run_names_compare_command():
    _, two, three = (replace(entry, trial_reference=("roses", entry.name[-1])) for entry in hand_kept_log())
    three = replace(three, best={**three.best, "chroma_mse": 0.01})
    assert "due to chance; find out with `huetune compare roses 3 2`." in verdict(three, two, Language("en"))
    assert "find out" not in verdict(three, replace(two, trial_reference=("tulips", "2")), Language("en"))


def test_log_of_failed_trial_escapes_its_error(tmp_path, no_graphviz):
    failed = replace(hand_kept_log()[0], state="failed", target=5, error="diverged in epoch 2: a*b")
    assert "* Epochs: **1** of 5, then failed: diverged in epoch 2: a\\*b" in text_of([failed], tmp_path)["model-1"]


def test_train_saves_best_weights_and_all_epochs(trained):
    """The folder has the weights of the best epoch and the metrics of all epochs, and loads as a checkpoint."""
    checkpoint, _ = load_colorizer(trained / "model-3")
    epochs = read_epoch_log(trained / "model-3")
    assert [line["epoch"] for line in epochs] == [1, 2] and checkpoint.metrics in epochs
    assert checkpoint.metrics["chroma_mse"] == min(line["chroma_mse"] for line in epochs)


def test_log_shows_local_time(trained, tmp_path, in_zone, no_graphviz):
    checkpoint, _ = load_colorizer(trained / "model-1")
    assert checkpoint.origin["begun"].endswith("+00:00")
    in_zone("EAST-13")
    begun = datetime.fromisoformat(checkpoint.origin["begun"]) + timedelta(hours=13)
    texts = text_of([entry_of_checkpoint(trained / "model-1")], tmp_path)
    assert f"({begun:%Y.%m.%d %H:%M})" in texts["model-1"]


def test_log_of_trained_models_compares_them(trained, tmp_path, no_graphviz):
    done = call(log, trained / "model-1", trained / "model-3", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "log.md").read_text(encoding="utf-8")
    newer, older = text.split("<a id=")[1:]
    assert "# Model-3: skip connection (" in newer and "# Model-1: activation silu, no skip connection and MSE" in older
    assert (
        newer.count("\nEpoch ") == 2
        and "only the first **4** from the built-in synthetic garden; validation photos: 2" in newer
    )
    assert "Test photos (2): chroma_mse" in newer and "in this single training" in newer
    assert len(list((tmp_path / "photos").glob("*-truth.png"))) == 2
    scenes = prepare(garden(6)[4:], ["a", "b"])
    drawn = load_colorizer(trained / "model-3")[1].draw(scenes.gray, SAMPLES_PER_PHOTO, seed=0)
    for digest, gray, maps in zip(scenes.digests, scenes.gray, drawn, strict=True):
        for number, sample in enumerate(paint(gray_to_luma(gray), upsample_chroma(maps[:3])), 1):
            shown = np.asarray(Image.open(tmp_path / "model-3" / f"{digest[:12]}-{number}.png"))
            np.testing.assert_array_equal(shown, sample)
    assert {path.name for path in trained.iterdir()} == {"model-1", "model-3"}
    assert read_checkpoint(trained / "model-3"), "nothing was written into the folder of the checkpoint"


def test_log_without_graphviz_or_photos_warns(trained, tmp_path, no_graphviz, monkeypatch):
    """Without Graphviz and with other photos than in training, the experiment log is written without pictures."""
    monkeypatch.setattr(
        "huetune.data_tools.datasets.synthetic_garden.garden", lambda count, seed=0: garden(count, seed=9)
    )
    done = call(log, trained / "model-1", "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "no test photos in the experiment log",
        "no pictures of the structure",
    ]
    assert "choose some with --photos" in done.stderr and "apt-get install graphviz" in done.stderr
    text = (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    assert "No pictures: Graphviz or pydot is not installed." in text and "**526,512**" in text and "![" not in text
    assert [path.name for path in (tmp_path / "log").rglob("*") if path.name != RECORD_FILE] == ["log.md"]


def test_log_photos_option_tests_on_chosen_photos(trained, tmp_path, no_graphviz):
    (tmp_path / "mine").mkdir()
    Image.fromarray(garden(1, seed=5)[0]).save(tmp_path / "mine" / "a [b] | c.png")
    done = call(log, trained / "model-1", "--photos", tmp_path / "mine", "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    html = MarkdownIt().enable("table").render((tmp_path / "log" / "log.md").read_text(encoding="utf-8"))
    assert "* Test photos (1): " in (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    assert html.count('alt="a [b] | c"') == 5


def test_log_keeps_files_of_others(trained, tmp_path, no_graphviz):
    """Pictures of the replaced log are removed; those of the user and of the log in the other language stay."""
    (tmp_path / "log" / "photos").mkdir(parents=True)
    (tmp_path / "log" / "log.md").write_text("my diary", encoding="utf-8")
    (tmp_path / "log" / "photos" / "me.png").write_bytes(b"mine")
    for model, language in (("model-1", "en"), ("model-1", "ko"), ("model-3", "en")):
        done = call(log, trained / model, "--out", tmp_path / "log", "--lang", language)
        assert done.exit_code == 0 and ("log_2.md" in done.output) == (language == "en"), done.output
    assert (tmp_path / "log" / "log.md").read_text(encoding="utf-8") == "my diary"
    assert (tmp_path / "log" / "photos" / "me.png").read_bytes() == b"mine"
    for name, model in (("log_2.md", "model-3"), ("log.ko.md", "model-1")):
        links = re.findall(r"!\[.*?\]\((.*?)\)", (tmp_path / "log" / name).read_text(encoding="utf-8"))
        assert any(link.startswith(f"{model}/") for link in links)
        assert all((tmp_path / "log" / link).is_file() for link in links)
    call(log, trained / "model-3", "--out", tmp_path / "log", "--lang", "ko")
    assert {path.name for path in (tmp_path / "log").iterdir()} == {
        *("log.md", "log_2.md", "log.ko.md", "photos", "model-3", RECORD_FILE)
    }


@pytest.mark.parametrize("photos, out", [("mine", "mine/log"), ("photos", ".")])
def test_log_refuses_to_write_among_photos(photos, out, trained, tmp_path):
    (tmp_path / photos).mkdir()
    Image.fromarray(garden(1, seed=5)[0]).save(tmp_path / photos / "a.png")
    done = call(log, trained / "model-1", "--photos", tmp_path / photos, "--out", tmp_path / out)
    assert isinstance(done.exception, UserError) and "choose another --out" in str(done.exception)
    assert [path.name for path in tmp_path.rglob("*")] == [photos, "a.png"]


def test_log_with_seen_photos_only_is_refused(trained, searched, tmp_path, no_graphviz):
    (tmp_path / "seen").mkdir()
    for number, scene in enumerate(garden(4)):
        Image.fromarray(scene).save(tmp_path / "seen" / f"{number}.png")
    for words in ((trained / "model-1",), ("tiny", "--storage", searched[0], "--trials", "0")):
        done = call(log, *words, "--photos", tmp_path / "seen", "--out", tmp_path / "log")
        assert isinstance(done.exception, PhotoError) and "the model was trained or ranked with all" in str(
            done.exception
        )
    done = call(report, "tiny", "--storage", searched[0], "--photos", tmp_path / "seen", "--out", tmp_path / "r.html")
    assert isinstance(done.exception, PhotoError) and "the model was trained or ranked with all" in str(done.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"seen"}


def test_log_of_export_shows_best_epoch_only(searched, tmp_path, no_graphviz):
    done = call(best, "tiny", "--storage", searched[0], "--export", tmp_path / "left")
    assert done.exit_code == 0, done.output
    done = call(log, tmp_path / "left", "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    assert "Epochs: **3** or more" in text and "epochs=3" in text and "Final loss" not in text
    assert len(re.findall(r"^Epoch \d/3 ", text, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / EPOCH_LOG_FILE).write_text("5", encoding="utf-8"),
        lambda folder: (folder / EPOCH_LOG_FILE).write_text('[{"epoch": 1}, {"epoch": 3}]', encoding="utf-8"),
        lambda folder: (folder / EPOCH_LOG_FILE).write_text('[{"epoch": 1}]', encoding="utf-8"),
        lambda folder: _change_record(folder, begun="yesterday"),
        lambda folder: _change_record(folder, begun="0001-01-01T00:00:00+23:00"),
        lambda folder: _change_record(folder, epochs="two"),
        lambda folder: _change_record(folder, objective="train_loss"),
        lambda folder: _change_record(folder, source={**NO_SOURCE, "scenes": 10**9}),
        lambda folder: _change_record(folder, source={**NO_SOURCE, "scenes": -5}),
        lambda folder: _change_record(folder, source={**NO_SOURCE, "scenes": 5, "limit": -1}),
        lambda folder: _change_record(folder, first="x"),
        lambda folder: _change_record(folder, part="photos", training=None),
        lambda folder: _change_record(folder, part="figures", skill=None),
        lambda folder: _change_record(folder, part="figures", epoch=None),
    ],
)
def test_log_of_invalid_training_record_is_refused(harm, trained, tmp_path):
    shutil.copytree(trained / "model-1", tmp_path / "model")
    harm(tmp_path / "model")
    files = [path for path in sorted((tmp_path / "model").iterdir()) if path.name != SUMS_FILE]
    (tmp_path / "model" / SUMS_FILE).write_text(
        "".join(f"{sha256_of(path)}  {path.name}\n" for path in files), encoding="utf-8"
    )
    done = call(log, tmp_path / "model", "--out", tmp_path / "log")
    assert isinstance(done.exception, CheckpointError), done.exception
    assert not (tmp_path / "log").exists()


def test_log_never_reads_bucket_named_by_a_model(trained, tmp_path, no_graphviz):
    with socket.create_server(("127.0.0.1", 0)) as store:
        shutil.copytree(trained / "model-1", tmp_path / "model")
        place = f"s3://x/y?endpoint_override=127.0.0.1:{store.getsockname()[1]}&scheme=http"
        _change_record(tmp_path / "model", source={**NO_SOURCE, "folder": place})
        files = [path for path in sorted((tmp_path / "model").iterdir()) if path.name != SUMS_FILE]
        (tmp_path / "model" / SUMS_FILE).write_text(
            "".join(f"{sha256_of(path)}  {path.name}\n" for path in files), encoding="utf-8"
        )
        done = call(log, tmp_path / "model", "--out", tmp_path / "log")
        assert done.exit_code == 0 and "in a bucket; a bucket that only the model names is not read" in done.stderr, (
            done.output
        )
        store.settimeout(0)
        with pytest.raises(BlockingIOError):
            store.accept()


def _change_record(folder: Path, part: str = "origin", **values: object) -> None:
    record = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    record[part] |= values
    if part == "figures":
        (folder / EPOCH_LOG_FILE).unlink()
    (folder / SETTINGS_FILE).write_text(json.dumps(record), encoding="utf-8")


def test_with_unique_names_numbers_repeated_keys():
    one, two, _ = hand_kept_log()
    runs = [replace(entry, trial_reference=(run, "0")) for entry, run in ((one, "roses"), (two, "tulips"))]
    assert [entry.name for entry in with_unique_names(runs)] == ["roses, model-1", "tulips, model-2"]
    twice = with_unique_names([one, one])
    assert [entry.key for entry in twice] == ["model-1", "model-1-of-2"] and twice[1].name == "model-1 (2)"
    assert newest_first([one, two, replace(one, started=None)])[:2] == [two, one]


@pytest.mark.parametrize(
    "words, code, message",
    [
        (("tiny", "--trials", "0,x"), 2, "'x' is not a trial number"),
        (("tiny", "--trials", "0", "--top", "2"), 2, "choose one of them"),
        (("tiny", "--trials", "99"), 5, "no trial 99 with a finished epoch"),
        (("tinny",), 4, "no run 'tinny'"),
        (("tiny", "--classes", "rose"), 2, "goes with --photos"),
    ],
)
def test_log_with_bad_arguments_fails_in_one_line(words, code, message, searched, tmp_path):
    done = call(log, *words, "--storage", searched[0], "--out", tmp_path / "log")
    assert getattr(done.exception, "exit_code", None) == code and message in str(done.exception)
    assert not (tmp_path / "log").exists()
