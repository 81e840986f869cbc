"""Saved checkpoints are loaded unchanged, and damaged ones are refused in one line."""

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
from huetune.model.colorizer import PHOTOS_PER_CHUNK, Colorizer
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


def test_loaded_model_draws_the_same_as_the_saved_one(saved, network, scenes):
    folder, checkpoint = saved
    loaded, colorizer = load_colorizer(folder)
    assert loaded == checkpoint
    before = Colorizer(network, CONFIG).draw(scenes.gray[:3], samples=2, seed=5)
    np.testing.assert_array_equal(colorizer.draw(scenes.gray[:3], samples=2, seed=5), before)
    assert before.std() > 0


def test_load_colorizer_with_cache_builds_a_structure_once(saved, scenes, tmp_path):
    """A report shows several models, and building one takes seconds. All draw the same as without the cache."""
    other = replace(CONFIG, mse_weight=1.0, dropout_of="channels")
    save_checkpoint(tmp_path / "other", replace(saved[1], config=other), build(other).vae)
    cache: dict = {}
    for folder in (saved[0], tmp_path / "other", saved[0]):
        shared = load_colorizer(folder, cache)[1].draw(scenes.gray[:2], samples=1, seed=5)
        np.testing.assert_array_equal(shared, load_colorizer(folder)[1].draw(scenes.gray[:2], samples=1, seed=5))
    assert len(cache) == 1


def test_save_checkpoint_twice_replaces_and_leaves_no_other_file(saved, network):
    folder, checkpoint = saved
    save_checkpoint(folder, checkpoint, network.vae)
    assert {path.name for path in folder.iterdir()} == {SETTINGS_FILE, WEIGHTS_FILE, SUMS_FILE}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_checkpoint_after_interrupted_save_is_the_old_one(saved):
    """`huetune train` was killed between the two renames that replace a checkpoint."""
    folder, checkpoint = saved
    aside = folder.with_name(f".{folder.name}.old")
    folder.rename(aside)
    assert find_model(str(folder))[0] == folder
    folder.rename(aside)
    assert read_checkpoint(folder) == checkpoint
    folder.rename(aside)
    with pytest.raises(StorageError, match="is not empty"):
        require_new(folder)


def test_checkpoint_with_training_log_is_read(saved):
    folder, checkpoint = saved
    (folder / EPOCH_LOG_FILE).write_text("[]", encoding="utf-8")
    assert read_checkpoint(folder) == checkpoint


def test_save_checkpoint_that_fails_keeps_the_old_one(saved, network, monkeypatch):
    folder, checkpoint = saved
    unserializable = Checkpoint(CONFIG, 7, {"skill": {1, 2}}, (0.0, 0.0), {}, {})  # type: ignore[dict-item]
    with pytest.raises(TypeError):
        save_checkpoint(folder, unserializable, network.vae)
    assert read_checkpoint(folder) == checkpoint
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def _rewrite(folder, **changes):
    """Change settings and write matching sums, so that only the settings are wrong."""
    settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    weights = (folder / WEIGHTS_FILE).read_bytes()
    with atomic_folder(folder) as draft:
        (draft / SETTINGS_FILE).write_text(json.dumps({**settings, **changes}), encoding="utf-8")
        (draft / WEIGHTS_FILE).write_bytes(weights)


def _downgrade_to_schema_1(folder, weight_bytes):
    """Make a checkpoint of schema 1, which had no sums, with the first bytes of its weights; None removes them."""
    _rewrite(folder, schema=1)
    (folder / SUMS_FILE).unlink()
    weights = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).unlink()
    if weight_bytes is not None:
        (folder / WEIGHTS_FILE).write_bytes(weights[:weight_bytes])


def test_checkpoint_of_schema_1_is_read(saved):
    folder, checkpoint = saved
    _downgrade_to_schema_1(folder, weight_bytes=10**9)
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
        (lambda folder: _downgrade_to_schema_1(folder, weight_bytes=None), "does not exist"),
        (lambda folder: _downgrade_to_schema_1(folder, weight_bytes=5000), "damaged"),
        (lambda folder: (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:5000]), "damaged"),
        (lambda folder: _rewrite(folder, config={"skip": True}), "holds the weights of another model"),
    ],
    ids=[
        "no settings",
        "truncated settings",
        "a list",
        "newer schema",
        "invalid config",
        "no weights",
        "no weights, schema 1",
        "truncated weights, schema 1",
        "truncated weights",
        "other model",
    ],
)
def test_damaged_checkpoint_is_refused_in_one_line(damage, message, saved):
    folder, _ = saved
    damage(folder)
    with pytest.raises(CheckpointError) as refused:
        load_colorizer(folder)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_draw_of_a_gray_copy_gives_the_same_colors(saved, scenes):
    """The model must not use the colors that it predicts."""
    from huetune.data_tools.datasets.synthetic_garden import garden
    from huetune.data_tools.photos.dataset import prepare

    _, colorizer = load_colorizer(saved[0])
    photo = garden(1)
    copy = np.repeat(prepare(photo, ["color"]).gray[..., None], 3, axis=-1)
    photo_sets = prepare(photo, ["color"]), prepare(copy, ["gray"])
    color, gray = (colorizer.draw(photos.gray, samples=2, seed=0) for photos in photo_sets)
    np.testing.assert_array_equal(color, gray)


def test_draw_equals_the_decoder_on_each_patch(network, scenes):
    count = PHOTOS_PER_CHUNK + 2
    drawn = Colorizer(network, CONFIG).draw(scenes.gray[:count], samples=1, seed=3)
    windows = extract_windows(scenes.luma[:count], np.arange(count * 196))
    inputs = [windows[:, scale, :, :, None] for scale in range(4)]
    position = np.tile(positions(CONFIG.positions), (count, 1))
    latent = np.random.default_rng(3).standard_normal((count, LATENT), np.float32)
    expected = network.decoder([*inputs, position, np.repeat(latent, 196, axis=0)])
    np.testing.assert_allclose(drawn.reshape(-1, 2), np.asarray(expected), atol=1e-5)


def test_draw_depends_on_the_seed_and_differs_between_samples(saved, scenes):
    _, colorizer = load_colorizer(saved[0])
    drawn = colorizer.draw(scenes.gray[:2], samples=3, seed=0)
    np.testing.assert_array_equal(drawn, colorizer.draw(scenes.gray[:2], samples=3, seed=0))
    assert (drawn != colorizer.draw(scenes.gray[:2], samples=3, seed=1)).any()
    assert (drawn[:, 0] != drawn[:, 1]).any()


def test_draw_of_several_chunks_equals_that_of_a_small_set(saved, scenes):
    """The first photos of more than one chunk are colorized as in a set of their own."""
    _, colorizer = load_colorizer(saved[0])
    drawn = colorizer.draw(scenes.gray[:11], samples=1, seed=0)
    np.testing.assert_allclose(colorizer.draw(scenes.gray[:3], samples=1, seed=0), drawn[:3], atol=1e-6)
