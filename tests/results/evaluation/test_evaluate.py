"""Tests that the metrics of an evaluation match its pictures, and that pictures keep the luma of the photos."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from huetune.data_tools.datasets.synthetic_garden import garden, write_garden
from huetune.data_tools.photos.color import luma
from huetune.data_tools.photos.color_profile import SRGB, profile_bytes
from huetune.data_tools.photos.dataset import prepare, read_photo
from huetune.results.evaluation import colorization, evaluate
from huetune.results.evaluation.contact_sheet import contact_sheet
from huetune.results.export.best_model import find_model


@pytest.fixture(scope="module")
def evaluated(searched, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    photos = garden(30)[26:]
    names = ["a/one.png", "b/one.png", "two.png", "three.png"]
    checkpoint, _ = find_model("tiny", searched[0])
    return photos, out, evaluate.evaluate(checkpoint, prepare(photos, names), photos, out, samples=3, seed=1)


def test_evaluate_metrics_match_the_written_pictures(evaluated):
    photos, out, report = evaluated
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8")) == report
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["photo"] for line in lines] == ["a/one.png", "b/one.png", "two.png", "three.png", "all"]
    assert set(evaluate.metrics()) == set(report["all"])
    written = [np.asarray(Image.open(out / "colorized" / f"two-{sample}.png")) for sample in (1, 2, 3)]
    expected = np.mean([deltaE_ciede2000(rgb2lab(photos[2]), rgb2lab(sample)).mean() for sample in written])
    assert report["photos"][2]["delta_e"] == pytest.approx(expected, rel=1e-6)
    assert float(lines[-1]["delta_e"]) == pytest.approx(np.mean([row["delta_e"] for row in report["photos"]]))
    assert len({sample.tobytes() for sample in written}) == 3


def test_evaluate_pictures_keep_the_luma(evaluated):
    photos, out, _ = evaluated
    for name, photo in zip(["one", "one-of-2", "two", "three"], photos, strict=True):
        for sample in (1, 2, 3):
            written = np.asarray(Image.open(out / "colorized" / f"{name}-{sample}.png"))
            assert np.abs(luma(written) - luma(photo)).max() < 1.5 / 255  # half a step of gray, and three channels'


def test_evaluate_photos_of_one_name_get_separate_files(evaluated):
    _, out, _ = evaluated
    assert len(list((out / "colorized").iterdir())) == 4 * 3


def test_contact_sheet_shows_truth_gray_and_samples(evaluated):
    photos, out, _ = evaluated
    sheet = np.asarray(Image.open(out / "contact-sheet.png").convert("RGB"))
    tile, gap, text = 160, 6, 22
    assert sheet.shape[1] == 5 * (tile + gap) + gap
    top, left = text + text, gap
    truth = np.asarray(Image.fromarray(photos[0]).resize((tile, tile), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(sheet[top : top + tile, left : left + tile], truth)
    gray = sheet[top : top + tile, left + tile + gap : left + 2 * tile + gap]
    assert (gray[..., 0] == gray[..., 1]).all() and (gray[..., 1] == gray[..., 2]).all() and gray.std() > 5


def test_contact_sheet_of_many_photos_shows_some_evenly(searched, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "MAX_CONTACT_SHEET_PHOTOS", 2)
    checkpoint, _ = find_model("tiny", searched[0])
    photos = garden(3)
    report = evaluate.evaluate(checkpoint, prepare(photos, ["1.png", "2.png", "3.png"]), photos, tmp_path, samples=1)
    assert report["shown"] == 2
    sheet = np.asarray(Image.open(tmp_path / "contact-sheet.png").convert("RGB"))
    tile, gap, text = 160, 6, 22
    for photo, top in zip(photos[[0, 2]], (3 * text, 4 * text + tile + gap), strict=True):
        truth = np.asarray(Image.fromarray(photo).resize((tile, tile), Image.Resampling.LANCZOS))
        np.testing.assert_array_equal(sheet[top : top + tile, gap : gap + tile], truth)
    assert len(sheet) < 3 * (tile + text)
    assert (sheet[:text] < 128).any(), "the note has the number of shown photos"


def test_evaluate_prints_how_many_photos_the_sheet_shows(searched, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "MAX_CONTACT_SHEET_PHOTOS", 2)
    write_garden(3, tmp_path / "photos", seed=9)
    words = ("evaluate", "tiny", "--storage", searched[0], "--photos", tmp_path / "photos", "--samples", 1, "--out")
    done = in_process(*words, tmp_path / "out")
    assert done.returncode == 0 and "contact-sheet.png (2 of the 3 photos, spread evenly), " in done.stdout
    monkeypatch.setattr(evaluate, "MAX_CONTACT_SHEET_PHOTOS", 3)
    done = in_process(*words, tmp_path / "out")
    assert done.returncode == 0 and "contact-sheet.png" in done.stdout and "spread evenly" not in done.stdout


def test_contact_sheet_draws_its_note():
    """Sheets with different notes differ only in the line of the note."""
    row = [np.zeros((112, 112, 3), np.uint8)] * 3
    sheets = [contact_sheet([row], ["a", "b", "c"], ["d"], note) for note in ("60 of 725", "60 of 726")]
    first, second = (np.asarray(sheet) for sheet in sheets)
    assert (first[:22] != second[:22]).any() and (first[22:] == second[22:]).all()


@pytest.mark.parametrize(("size", "linear"), [((300, 200), False), ((1, 1), False), ((90, 1500), True)])
def test_colorize_files_keeps_size_and_luma(size, linear, searched, tmp_path):
    """Luma follows the color profile: the gray values of a linear scan are not its stored numbers."""
    photo = Image.fromarray(garden(1)[0]).resize(size).convert("L")
    photo.save(tmp_path / "old.png", icc_profile=profile_bytes(SRGB, (1.0,), gray=True) if linear else None)
    looks = np.asarray(photo) / 255
    if linear:
        looks = np.where(looks <= 0.0031308, looks * 12.92, 1.055 * np.maximum(looks, 0.003) ** (1 / 2.4) - 0.055)
    checkpoint, _ = find_model("tiny", searched[0])
    (written,) = colorization.colorize_files(checkpoint, [tmp_path / "old.png"], tmp_path / "out")
    colored = read_photo(written)
    assert colored.shape[:2] == size[::-1]
    assert np.abs(luma(colored) - looks).max() < (1.5 if linear else 1) / 255
    assert colored.std(axis=-1).max() > 0
    with Image.open(written) as image:
        assert image.info["srgb"] == 0


def test_colorize_files_of_a_large_photo_has_no_seams(searched, tmp_path):
    """Rows are colorized in strips, whose borders must not be visible in an even gray."""
    Image.new("L", (40, 1300), 128).save(tmp_path / "even.png")
    checkpoint, _ = find_model("tiny", searched[0])
    (written,) = colorization.colorize_files(checkpoint, [tmp_path / "even.png"], tmp_path / "out")
    steps = np.abs(np.diff(read_photo(written).astype(int), axis=0)).max(axis=(1, 2))
    seams = [row - 1 for row in range(colorization.STRIP_ROWS, 1300, colorization.STRIP_ROWS)]
    assert steps[seams].max() <= max(2, steps.max() // 4)
