"""The log says what the records say, in two languages, and judges no further than the figures go."""

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
from huetune.model.checkpoint import LOG, load, log_of, read
from huetune.model.checkpoint import SETTINGS as SETTINGS_FILE
from huetune.model.cli import train
from huetune.model.presets import PRESETS
from huetune.results.cli.best_command import best
from huetune.results.cli.log_command import log
from huetune.results.cli.report_command import report
from huetune.results.experiment_log.document import SAMPLES, write
from huetune.results.experiment_log.entry import Entry, newest_first, of_checkpoint, of_run, told_apart
from huetune.results.experiment_log.messages import SETTINGS, WORDS, Language
from huetune.results.experiment_log.verdict import verdict
from huetune.results.records.run import find_run
from tests.allowed_skips import needs

NO_SOURCE: dict[str, object] = {"folder": None, "scenes": None, "limit": None, "classes": []}
graphviz = needs("graphviz")


def call(verb, *words):
    return CliRunner().invoke(verb, [str(word) for word in words])


@pytest.fixture(scope="module")
def written(searched, tmp_path_factory):
    """The log of a search, in both languages."""
    out = tmp_path_factory.mktemp("log")
    for language in ("en", "ko"):
        done = call(log, "tiny", "--storage", searched[0], "--trials", "0,1", "--out", out, "--lang", language)
        assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two presets, trained one after the other."""
    folder = tmp_path_factory.mktemp("trained")
    # The second is what the first was called once.
    for preset, first in (("model-1", "--train-first"), ("model-3", "--limit")):
        done = call(train, "--preset", preset, "--garden", 6, first, 4, "--epochs", 2, "--out", folder / preset)
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def no_graphviz(tmp_path, monkeypatch):
    """A machine without it; what does not test the pictures of structures has none to wait for."""
    monkeypatch.setenv("PATH", str(tmp_path))


def seed_log() -> list[Entry]:
    """The three models of the log that huetune grew from, as it tells them."""
    hours = {"model-1": (20, 0.1634), "model-2": (21, 0.0821), "model-3": (22, 0.1190)}
    return [
        Entry(
            key=name,
            name=name,
            begun=datetime(2024, 3, 27, hour).astimezone(),
            config=PRESETS[name],
            seed=0,
            state="complete",
            target=1,
            epochs=[line := {"epoch": 1, "boxes": 19584, "seconds": 150.0, "train_loss": loss, **SCORES}],
            best=line,
            objective="chroma_mse",
            checkpoint=Path("nowhere"),
            photos={"training": 100, "validation": 20, "test": 0, "fingerprint": "its"},
            source="flowers",
            first=True,
        )
        for name, (hour, loss) in hours.items()
    ]


SCORES = {"chroma_mse": 0.02, "skill": 0.2}


def text_of(entries, out, language="en") -> dict[str, str]:
    """The text of each entry, by its key."""
    text = write([(entry, None) for entry in entries], out, language).read_text(encoding="utf-8")
    return {part.split('"')[0]: part for part in text.split('<a id="')[1:]}


def test_the_log_says_what_the_study_says(written, searched):
    text = (written / "log.md").read_text(encoding="utf-8")
    entries = of_run(find_run("tiny", searched[0]), numbers=(0, 1))
    assert len(entries) == 2
    for entry in entries:
        part = text.split(f'<a id="{entry.key}">')[1].split("<a id=")[0]
        lines = re.findall(
            r"^Epoch (\d)/3 - (\d+)/\d+ boxes - ([\d.]+) s - loss: ([\d.]+) .* chroma_mse ([\d.]+)", part, re.M
        )
        told = [tuple(map(float, line)) for line in lines]
        names = ("epoch", "boxes", "seconds", "train_loss", "chroma_mse")
        assert len(told) == len(entry.epochs)
        np.testing.assert_allclose(told, [[line[name] for name in names] for line in entry.epochs], atol=0.051)
        assert f"Final loss: **{entry.epochs[-1]['train_loss']:.4f}**" in part
        assert f"Best epoch on held-out photos: **{entry.best['epoch']}**, chroma_mse **{entry.score:.4f}**" in part
        assert "**601,776**" in part and "**602,082**" in part and "**1,203,858**" in part
        assert f"MSE weight: **{entry.config.mse_weight:.1f}**" in part and f"seed={entry.seed}`" in part
    numbers = sorted((int(entry.key.rpartition("-")[2]) for entry in entries), reverse=True)
    assert re.findall(r'<a id="(.*)"></a>', text) == [f"tiny-trial-{number}" for number in numbers], "the newest first"


def test_its_pictures_are_beside_it(written):
    html = MarkdownIt().enable("table").render((written / "log.md").read_text(encoding="utf-8"))
    sources = re.findall(r'src="([^"]+)"', html) + re.findall(r'href="([^#"]+)"', html)
    assert all((written / source).is_file() for source in sources)
    scenes = garden(12)
    for truth in (written / "photos").glob("*-truth.png"):
        pixels = np.asarray(Image.open(truth))
        assert any((scene == pixels).all() for scene in scenes)
        mark = truth.name.removesuffix("-truth.png")
        gray = np.asarray(Image.open(truth.with_name(f"{mark}-gray.png"))) / 255
        samples = list(written.glob(f"tiny-trial-*/{mark}-*.png"))
        assert len(samples) == 2 * 3
        for sample in samples:
            np.testing.assert_allclose(luma(np.asarray(Image.open(sample))), gray, atol=1.5 / 255)
    assert len(re.findall(r"<img [^>]*photos/[^>]*-truth", html)) == 2


@graphviz
def test_a_structure_is_pictured_once(written):
    text = (written / "log.md").read_text(encoding="utf-8")
    assert [text.count(f"/{part}.png") for part in ("encoder", "decoder", "whole")] == [1, 1, 1]
    first, last = text.split("<a id=")[1:]
    key = last.split('"')[1]
    assert f"(#{key}), pictured there." in first and f"{key}/whole.svg" in last


def test_the_korean_log_has_the_same_figures(written):
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
    assert not re.search(r"Trained|photos of|weight:|better", korean)


def test_both_languages_have_the_same_words_with_the_same_gaps():
    def gaps(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert WORDS["en"].keys() == WORDS["ko"].keys() and SETTINGS["en"].keys() == SETTINGS["ko"].keys()
    for word, text in WORDS["en"].items():
        assert gaps(text) == gaps(WORDS["ko"][word]), word


def test_models_are_compared_as_in_the_log_that_huetune_grew_from(tmp_path, no_graphviz):
    one, two, three = entries = seed_log()
    assert (one.compared_with(entries), two.compared_with(entries), three.compared_with(entries)) == (None, one, two)
    assert three.of_equal_weight(entries) is one and two.of_equal_weight(entries) is None
    texts = text_of(entries, tmp_path)
    assert list(texts) == ["model-3", "model-2", "model-1"]
    assert "# Model-3: MSE weight 4.0 (2024.03.27 22:00)" in texts["model-3"]
    assert "0.1190** (**27.2 %** lower than that of [model-1]" in texts["model-3"]
    assert "the MSE weight changed from **2.5** to **4.0**" in texts["model-3"]
    assert "the **skip connection** was added" in texts["model-2"] and " %** " not in texts["model-2"]
    assert "What changed" not in texts["model-1"] and "the first **100** photos of flowers only" in texts["model-1"]
    korean = text_of(entries, tmp_path, "ko")["model-3"]
    assert "* 최종 Loss : **0.1190** (MSE Loss 가중치가 같은 [model-1](#model-1) 대비 **27.2%** 감소)" in korean
    assert "# Model-3 : MSE Loss 가중치 4.0 적용 (2024.03.27 22:00)" in korean
    assert "* flowers 의 처음 **100장** 의 이미지만 이용하여 학습" in korean


def test_only_what_is_comparable_is_compared():
    _, two, three = seed_log()
    for other in (
        {"photos": {**two.photos, "fingerprint": "another"}},
        {"state": "pruned"},
        {"objective": "skill"},
        {"begun": datetime(2025, 1, 1).astimezone()},
        {"begun": None},
    ):
        assert three.compared_with([replace(two, **other)]) is None, other
    near, far = (replace(two, config=replace(two.config, mse_weight=weight)) for weight in (3.9, 1.0))
    assert three.compared_with([far, near]) is three.compared_with([near, far]) is near
    again = [replace(two, begun=datetime(2024, 3, 27, hour).astimezone()) for hour in (3, 5)]
    assert three.compared_with(again) is again[1], "of equals the newest"


AGAIN = {"again": (0.010, 0.011, 0.0105)}, {"again": (0.020, 0.021, 0.0205)}


@pytest.mark.parametrize(
    "mine, others, words",
    [
        (AGAIN[0], AGAIN[1], "-48.8 % (95 % CI -54.3 to -43.3 %): **it is better"),
        (AGAIN[1], AGAIN[0], "+95.2 % (95 % CI +84.4 to +106 %): **it is worse"),
        ({"again": (0.010, 0.030)}, {"again": (0.011, 0.028)}, "**there is no significant difference to [model-2]"),
        ({"score": 0.018}, {}, "(-10 %): in this one training **it is better than [model-2]"),
        ({"score": 0.022}, {"again": (0.01, 0.02)}, "(+10 %): in this one training **it is worse than [model-2]"),
        ({}, {}, "just as that of [model-2](#model-2): **there is no significant difference"),
        (
            {"skill": -0.1},
            {},
            "is -0.1000, that of the mean-color baseline 0.0000: in one training **it is worse than the mean-color",
        ),
        ({"state": "pruned", "target": 5}, {}, "stopped after 1 of 5 epochs, so **nobody knows"),
        ({"state": "failed"}, {}, "**It failed**"),
        ({"state": "running", "target": 5}, {}, "**there is no verdict yet**"),
        ({"objective": "skill", "skill": 0.3}, {"objective": "skill"}, "(+0.1): in this one training **it is better"),
    ],
)
def test_a_verdict_goes_as_far_as_the_figures(mine, others, words):
    _, two, three = seed_log()

    def changed(entry, changes):
        best = {**entry.best, "chroma_mse": changes.get("score", 0.02), "skill": changes.get("skill", 0.2)}
        rest = {name: value for name, value in changes.items() if name not in ("score", "skill")}
        return replace(entry, best=best, epochs=[best], **rest)

    text = verdict(changed(three, mine), changed(two, others), Language("en"))
    assert words in text
    assert ("in this one training" in text) == ("was trained once" in text)
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
            "in one training **it is better than the mean-color baseline**.",
            "보다 성능이 좋다** 고",
        ),
        ({"baseline": 0.005}, None, "in one training **it is worse than", "보다 성능이 좋지 않다** 고"),
        (
            {"baseline": 0.02, "again": (0.005, 0.035)},
            None,
            "(95 % CI 0.0000 to 0.2106), that of the mean-color baseline 0.0200: **there is no significant difference",
            "차이가 있다고 할 수 없다**.",
        ),
        (
            {"baseline": 0.02, "again": (0.01, 0.0101)},
            None,
            "From 2 fresh seeds its chroma_mse on held-out photos is 0.0100 (95 % CI 0.0094 to 0.0107), that of the",
            "보다 성능이 좋다** 고",
        ),
        (
            {"baseline": 0.02},
            -0.078,
            "On the test photos **this one training is no better than that baseline**: skill -0.078.",
            "이 baseline 보다 성능이 좋다고 할 수 없다**.",
        ),
        (
            {"baseline": 0.005},
            0.1,
            "On the test photos **this one training is better than that baseline**: skill 0.100.",
            "이 baseline 보다 성능이 좋다** 고",
        ),
        (
            {"baseline": 0.02, "winner": True},
            0.1,
            "It is the winner of the search, whose checkpoint is this one.",
            "탐색의 최종 모델이며, 이 학습의",
        ),
        (
            {"baseline": 0.02, "winner": True, "used": (1000003, 0.0099)},
            None,
            "whose checkpoint is that of a replicate, seed 1000003: chroma_mse 0.0099.",
            "seed 1000003 로 다시 학습한 결과 (chroma_mse 0.0099)",
        ),
    ],
)
def test_log_verdict_on_the_baseline_is_what_its_numbers_say(changes, tested, words, korean):
    """By the interval where there is one, by one training otherwise; and of the test photos where these say another."""
    entry = replace(seed_log()[0], best={**seed_log()[0].best, **MSE}, **changes)
    text = verdict(entry, None, Language("en"), tested)
    assert words in text and ("one training" in text) == ("again" not in changes)
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
        ({"whole": False}, True),
        ({"whole": False, "objective": "chroma_ratio_error"}, False),
    ],
)
def test_log_verdict_says_that_a_training_stayed_at_baseline(changes, noted):
    """Of the model, and of a complete one that it is compared with: otherwise only their settings seem to differ."""
    line = {**seed_log()[0].best, "chroma_ratio_error": 0.8, "skill": 0.004}
    one, good = replace(seed_log()[0], epochs=[line], best=line, **changes), seed_log()[1]
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


def test_two_trials_of_a_run_are_told_apart_by_a_command():
    _, two, three = (replace(entry, known_as=("roses", entry.name[-1])) for entry in seed_log())
    three = replace(three, best={**three.best, "chroma_mse": 0.01})
    assert "luck; `huetune compare roses 3 2` tells." in verdict(three, two, Language("en"))
    assert "tells" not in verdict(three, replace(two, known_as=("tulips", "2")), Language("en"))


def test_a_failed_trial_says_why_whatever_signs_are_in_it(tmp_path, no_graphviz):
    failed = replace(seed_log()[0], state="failed", target=5, error="diverged in epoch 2: a*b")
    assert "* Epochs: **1** of 5, then it failed: diverged in epoch 2: a\\*b" in text_of([failed], tmp_path)["model-1"]


def test_a_trained_model_can_be_used_and_its_log_has_all_epochs(trained):
    """Beside the weights of the best epoch are the figures of all; the folder is still a sealed checkpoint."""
    checkpoint, _ = load(trained / "model-3")
    epochs = log_of(trained / "model-3")
    assert [line["epoch"] for line in epochs] == [1, 2] and checkpoint.figures in epochs
    assert checkpoint.figures["chroma_mse"] == min(line["chroma_mse"] for line in epochs)


def test_a_log_shows_local_times_of_what_is_stored_in_utc(trained, tmp_path, in_zone, no_graphviz):
    checkpoint, _ = load(trained / "model-1")
    assert checkpoint.origin["begun"].endswith("+00:00")
    in_zone("EAST-13")
    begun = datetime.fromisoformat(checkpoint.origin["begun"]) + timedelta(hours=13)
    texts = text_of([of_checkpoint(trained / "model-1")], tmp_path)
    assert f"({begun:%Y.%m.%d %H:%M})" in texts["model-1"]


def test_the_log_of_models_that_were_trained(trained, tmp_path, no_graphviz):
    done = call(log, trained / "model-1", trained / "model-3", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "log.md").read_text(encoding="utf-8")
    newer, older = text.split("<a id=")[1:]
    assert "# Model-3: skip connection (" in newer and "# Model-1: activation silu, no skip connection and MSE" in older
    assert (
        newer.count("\nEpoch ") == 2
        and "Trained on the first **4** photos of the built-in garden only; 2 more" in newer
    )
    assert "2 test photos: chroma_mse" in newer and "in this one training" in newer
    assert len(list((tmp_path / "photos").glob("*-truth.png"))) == 2
    scenes = prepare(garden(6)[4:], ["a", "b"])
    drawn = load(trained / "model-3")[1].draw(scenes.gray, SAMPLES, seed=0)
    for mark, gray, boxes in zip(scenes.digests, scenes.gray, drawn, strict=True):
        for number, sample in enumerate(paint(gray_to_luma(gray), upsample_chroma(boxes[:3])), 1):
            shown = np.asarray(Image.open(tmp_path / "model-3" / f"{mark[:12]}-{number}.png"))
            np.testing.assert_array_equal(shown, sample)
    assert {path.name for path in trained.iterdir()} == {"model-1", "model-3"}
    assert read(trained / "model-3"), "nothing was written into the sealed folder"


def test_what_is_missing_is_left_out_and_said(trained, tmp_path, no_graphviz, monkeypatch):
    """Neither Graphviz nor the photos of then: the log is written, without the pictures."""
    monkeypatch.setattr(
        "huetune.data_tools.datasets.synthetic_garden.garden", lambda count, seed=0: garden(count, seed=9)
    )
    done = call(log, trained / "model-1", "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [
        "no test photos in the log",
        "no pictures of the structure",
    ]
    assert "name some with --photos" in done.stderr and "apt-get install graphviz" in done.stderr
    text = (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    assert "No pictures: Graphviz or pydot was not installed." in text and "**526,512**" in text and "![" not in text
    assert [path.name for path in (tmp_path / "log").rglob("*") if path.name != RECORD_FILE] == ["log.md"]


def test_photos_of_ones_own_choice(trained, tmp_path, no_graphviz):
    (tmp_path / "mine").mkdir()
    Image.fromarray(garden(1, seed=5)[0]).save(tmp_path / "mine" / "a [b] | c.png")
    done = call(log, trained / "model-1", "--photos", tmp_path / "mine", "--out", tmp_path / "log")
    assert done.exit_code == 0, done.output
    html = MarkdownIt().enable("table").render((tmp_path / "log" / "log.md").read_text(encoding="utf-8"))
    assert "* 1 test photos" in (tmp_path / "log" / "log.md").read_text(encoding="utf-8")
    assert html.count('alt="a [b] | c"') == 5


def test_log_keeps_files_that_are_not_its_own(trained, tmp_path, no_graphviz):
    """Pictures of the models before go, those of the user and those of the log in the other language stay."""
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
def test_log_refuses_to_write_among_the_photos(photos, out, trained, tmp_path):
    (tmp_path / photos).mkdir()
    Image.fromarray(garden(1, seed=5)[0]).save(tmp_path / photos / "a.png")
    done = call(log, trained / "model-1", "--photos", tmp_path / photos, "--out", tmp_path / out)
    assert isinstance(done.exception, UserError) and "choose another --out" in str(done.exception)
    assert [path.name for path in tmp_path.rglob("*")] == [photos, "a.png"]


def test_photos_that_a_model_has_seen_are_refused(trained, searched, tmp_path, no_graphviz):
    (tmp_path / "seen").mkdir()
    for number, scene in enumerate(garden(4)):
        Image.fromarray(scene).save(tmp_path / "seen" / f"{number}.png")
    for words in ((trained / "model-1",), ("tiny", "--storage", searched[0], "--trials", "0")):
        done = call(log, *words, "--photos", tmp_path / "seen", "--out", tmp_path / "log")
        assert isinstance(done.exception, PhotoError) and "have trained or ranked the model" in str(done.exception)
    done = call(report, "tiny", "--storage", searched[0], "--photos", tmp_path / "seen", "--out", tmp_path / "r.html")
    assert isinstance(done.exception, PhotoError) and "have trained or ranked the model" in str(done.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"seen"}


def test_of_an_export_the_log_says_what_is_known(searched, tmp_path, no_graphviz):
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
        lambda folder: (folder / LOG).write_text("5", encoding="utf-8"),
        lambda folder: (folder / LOG).write_text('[{"epoch": 1}, {"epoch": 3}]', encoding="utf-8"),
        lambda folder: (folder / LOG).write_text('[{"epoch": 1}]', encoding="utf-8"),
        lambda folder: _say_otherwise(folder, begun="yesterday"),
        lambda folder: _say_otherwise(folder, begun="0001-01-01T00:00:00+23:00"),
        lambda folder: _say_otherwise(folder, epochs="two"),
        lambda folder: _say_otherwise(folder, objective="train_loss"),
        lambda folder: _say_otherwise(folder, source={**NO_SOURCE, "scenes": 10**9}),
        lambda folder: _say_otherwise(folder, source={**NO_SOURCE, "scenes": -5}),
        lambda folder: _say_otherwise(folder, source={**NO_SOURCE, "scenes": 5, "limit": -1}),
        lambda folder: _say_otherwise(folder, first="x"),
        lambda folder: _say_otherwise(folder, part="photos", training=None),
        lambda folder: _say_otherwise(folder, part="figures", skill=None),
        lambda folder: _say_otherwise(folder, part="figures", epoch=None),
    ],
)
def test_a_model_that_says_nonsense_of_its_training_is_refused(harm, trained, tmp_path):
    shutil.copytree(trained / "model-1", tmp_path / "model")
    harm(tmp_path / "model")
    files = [path for path in sorted((tmp_path / "model").iterdir()) if path.name != SUMS_FILE]
    (tmp_path / "model" / SUMS_FILE).write_text(
        "".join(f"{sha256_of(path)}  {path.name}\n" for path in files), encoding="utf-8"
    )
    done = call(log, tmp_path / "model", "--out", tmp_path / "log")
    assert isinstance(done.exception, CheckpointError), done.exception
    assert not (tmp_path / "log").exists()


def test_a_bucket_is_not_asked_because_a_model_says_so(trained, tmp_path, no_graphviz):
    with socket.create_server(("127.0.0.1", 0)) as store:
        shutil.copytree(trained / "model-1", tmp_path / "model")
        place = f"s3://x/y?endpoint_override=127.0.0.1:{store.getsockname()[1]}&scheme=http"
        _say_otherwise(tmp_path / "model", source={**NO_SOURCE, "folder": place})
        files = [path for path in sorted((tmp_path / "model").iterdir()) if path.name != SUMS_FILE]
        (tmp_path / "model" / SUMS_FILE).write_text(
            "".join(f"{sha256_of(path)}  {path.name}\n" for path in files), encoding="utf-8"
        )
        done = call(log, tmp_path / "model", "--out", tmp_path / "log")
        assert done.exit_code == 0 and "in a bucket, which is not read" in done.stderr, done.output
        store.settimeout(0)
        with pytest.raises(BlockingIOError):
            store.accept()


def _say_otherwise(folder: Path, part: str = "origin", **values: object) -> None:
    record = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    record[part] |= values
    if part == "figures":
        (folder / LOG).unlink()
    (folder / SETTINGS_FILE).write_text(json.dumps(record), encoding="utf-8")


def test_models_of_one_name_are_told_apart():
    one, two, _ = seed_log()
    runs = [replace(entry, known_as=(run, "0")) for entry, run in ((one, "roses"), (two, "tulips"))]
    assert [entry.name for entry in told_apart(runs)] == ["roses, model-1", "tulips, model-2"]
    twice = told_apart([one, one])
    assert [entry.key for entry in twice] == ["model-1", "model-1-of-2"] and twice[1].name == "model-1 (2)"
    assert newest_first([one, two, replace(one, begun=None)])[:2] == [two, one]


@pytest.mark.parametrize(
    "words, code, message",
    [
        (("tiny", "--trials", "0,x"), 2, "'x' is not the number of a trial"),
        (("tiny", "--trials", "0", "--top", "2"), 2, "choose one of them"),
        (("tiny", "--trials", "99"), 5, "no trial 99 with a finished epoch"),
        (("tinny",), 4, "no run 'tinny'"),
        (("tiny", "--classes", "rose"), 2, "goes with --photos"),
    ],
)
def test_bad_words(words, code, message, searched, tmp_path):
    done = call(log, *words, "--storage", searched[0], "--out", tmp_path / "log")
    assert getattr(done.exception, "exit_code", None) == code and message in str(done.exception)
    assert not (tmp_path / "log").exists()
