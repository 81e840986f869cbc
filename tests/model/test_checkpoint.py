"""What is saved comes back, and what is damaged is refused in one line."""

import json
from dataclasses import replace

import numpy as np
import pytest

from huetune.data_tools.common.errors import CheckpointError, StorageError
from huetune.data_tools.photos.context_windows import extract_windows, positions
from huetune.data_tools.storage.atomic import atomic_folder, require_new
from huetune.data_tools.storage.checksums import SUMS_FILE
from huetune.model.checkpoint import load_colorizer, read_checkpoint, save_checkpoint
from huetune.model.checkpoint_format import EPOCH_LOG_FILE, SETTINGS_FILE, WEIGHTS_FILE, Checkpoint
from huetune.model.colorizer import CHUNK, Colorizer
from huetune.model.network import LATENT, build
from huetune.model.presets import PRESETS
from huetune.results.export.best_model import find_model

CONFIG = PRESETS["model-1"]


@pytest.fixture(scope="module")
def network():
    return build(CONFIG)


@pytest.fixture
def saved(tmp_path, network):
    folder = tmp_path / "runs" / "epoch-001"
    checkpoint = Checkpoint(CONFIG, 7, {"epoch": 1, "skill": 0.25}, (0.1, -0.2), {"training": 3}, {"preset": "model-1"})
    save_checkpoint(folder, checkpoint, network.vae)
    return folder, checkpoint


def test_a_loaded_model_draws_what_the_saved_one_drew(saved, network, scenes):
    folder, checkpoint = saved
    loaded, colorizer = load_colorizer(folder)
    assert loaded == checkpoint
    before = Colorizer(network, CONFIG).draw(scenes.gray[:3], samples=2, seed=5)
    np.testing.assert_array_equal(colorizer.draw(scenes.gray[:3], samples=2, seed=5), before)
    assert before.std() > 0


def test_models_of_one_structure_built_once_draw_the_same(saved, scenes, tmp_path):
    """A report shows several models: it builds and traces those of one structure once."""
    other = replace(CONFIG, mse_weight=1.0, dropout_of="channels")
    save_checkpoint(tmp_path / "other", replace(saved[1], config=other), build(other).vae)
    built: dict = {}
    for folder in (saved[0], tmp_path / "other", saved[0]):
        shared = load_colorizer(folder, built)[1].draw(scenes.gray[:2], samples=1, seed=5)
        np.testing.assert_array_equal(shared, load_colorizer(folder)[1].draw(scenes.gray[:2], samples=1, seed=5))
    assert len(built) == 1


def test_saving_leaves_nothing_else_and_replaces_the_old(saved, network):
    folder, checkpoint = saved
    save_checkpoint(folder, checkpoint, network.vae)
    assert {path.name for path in folder.iterdir()} == {SETTINGS_FILE, WEIGHTS_FILE, SUMS_FILE}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_find_model_after_an_interrupted_save_finds_the_old(saved):
    """Whoever opens a model after `huetune train` was killed between two renames has the one before."""
    folder, checkpoint = saved
    aside = folder.with_name(f".{folder.name}.old")
    folder.rename(aside)
    assert find_model(str(folder))[0] == folder
    folder.rename(aside)
    assert read_checkpoint(folder) == checkpoint
    folder.rename(aside)
    with pytest.raises(StorageError, match="is not empty"):
        require_new(folder)


def test_the_log_of_train_may_lie_beside_a_model(saved):
    folder, checkpoint = saved
    (folder / EPOCH_LOG_FILE).write_text("[]", encoding="utf-8")
    assert read_checkpoint(folder) == checkpoint


def test_a_save_that_fails_leaves_the_old_checkpoint(saved, network, monkeypatch):
    folder, checkpoint = saved
    bad = Checkpoint(CONFIG, 7, {"skill": {1, 2}}, (0.0, 0.0), {}, {})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        save_checkpoint(folder, bad, network.vae)
    assert read_checkpoint(folder) == checkpoint
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def _rewrite(folder, **changes):
    """As somebody would who knows of the sums."""
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    weights = (folder / WEIGHTS_FILE).read_bytes()
    with atomic_folder(folder) as draft:
        (draft / SETTINGS_FILE).write_text(json.dumps({**settings, **changes}), encoding="utf-8")
        (draft / WEIGHTS_FILE).write_bytes(weights)


def _first_schema(folder, cut):
    """A checkpoint of the first huetune, which had no sums."""
    _rewrite(folder, schema=1)
    (folder / SUMS_FILE).unlink()
    weights = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).unlink()
    if cut is not None:
        (folder / WEIGHTS_FILE).write_bytes(weights[:cut])


def test_a_checkpoint_of_the_first_schema_still_opens(saved):
    folder, checkpoint = saved
    _first_schema(folder, cut=10**9)
    assert load_colorizer(folder)[0] == checkpoint


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / SETTINGS_FILE).unlink(), "not a checkpoint or export"),
        (lambda folder: (folder / SETTINGS_FILE).write_text("{", encoding="utf-8"), "damaged"),
        (lambda folder: (folder / SETTINGS_FILE).write_text("[]", encoding="utf-8"), "damaged"),
        (lambda folder: _rewrite(folder, schema=4), "has schema '4', but this huetune reads schemas 1 to 3"),
        (lambda folder: _rewrite(folder, config={"activation": "sigh"}), "activation must be one of"),
        (lambda folder: (folder / WEIGHTS_FILE).unlink(), "holds other files than its SHA256SUMS lists"),
        (lambda folder: _first_schema(folder, cut=None), "is not there"),
        (lambda folder: _first_schema(folder, cut=5000), "damaged"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:5000]), "damaged"),
        (lambda folder: _rewrite(folder, config={"skip": True}), "holds the weights of another model"),
    ],
    ids=[
        "no settings",
        "cut settings",
        "a list",
        "newer schema",
        "bad config",
        "no weights",
        "no weights, first schema",
        "cut weights, first schema",
        "cut weights",
        "other model",
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(damage, message, saved):
    folder, _ = saved
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        load_colorizer(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_gray_copy_gets_the_same_colors(saved, scenes):
    """The model must not peek at the colors that it is to guess."""
    from huetune.data_tools.datasets.synthetic_garden import garden
    from huetune.data_tools.photos.dataset import prepare

    _, colorizer = load_colorizer(saved[0])
    photo = garden(1)
    copy = np.repeat(prepare(photo, ["color"]).gray[..., None], 3, axis=-1)
    sets = prepare(photo, ["color"]), prepare(copy, ["gray"])
    color, gray = (colorizer.draw(photos.gray, samples=2, seed=0) for photos in sets)
    np.testing.assert_array_equal(color, gray)


def test_a_draw_is_what_the_decoder_makes_of_each_box(network, scenes):
    count = CHUNK + 2
    drawn = Colorizer(network, CONFIG).draw(scenes.gray[:count], samples=1, seed=3)
    windows = extract_windows(scenes.luma[:count], np.arange(count * 196))
    views = [windows[:, view, :, :, None] for view in range(4)]
    place = np.tile(positions(CONFIG.positions), (count, 1))
    latent = np.random.default_rng(3).standard_normal((count, LATENT), np.float32)
    boxes = network.decoder([*views, place, np.repeat(latent, 196, axis=0)])
    np.testing.assert_allclose(drawn.reshape(-1, 2), np.asarray(boxes), atol=1e-5)


def test_draws_follow_the_seed_and_differ_between_samples(saved, scenes):
    _, colorizer = load_colorizer(saved[0])
    drawn = colorizer.draw(scenes.gray[:2], samples=3, seed=0)
    np.testing.assert_array_equal(drawn, colorizer.draw(scenes.gray[:2], samples=3, seed=0))
    assert (drawn != colorizer.draw(scenes.gray[:2], samples=3, seed=1)).any()
    assert (drawn[:, 0] != drawn[:, 1]).any()


def test_chunks_do_not_show(saved, scenes):
    """More photos than are colorized at once: each gets what it would get in a smaller set."""
    _, colorizer = load_colorizer(saved[0])
    drawn = colorizer.draw(scenes.gray[:11], samples=1, seed=0)
    np.testing.assert_allclose(colorizer.draw(scenes.gray[:3], samples=1, seed=0), drawn[:3], atol=1e-6)
