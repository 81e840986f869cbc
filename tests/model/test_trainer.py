"""Training learns, repeats to the last bit with the same seed, and ends when a number is not finite."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest

from huetune.data_tools.datasets.synthetic_garden import garden, scene_name
from huetune.data_tools.photos.dataset import prepare
from huetune.model import trainer as training
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.step import Step
from huetune.model.trainer import DivergedError, Trainer
from huetune.search.spec.space_parser import DEFAULT_SPACE, parse_space

PHOTOS = replace(
    with_recipe(PRESETS["model-2"], "photos"),
    batch_size=1,
    optimizer="muon",
    learning_rate=0.002,
    decay=0.002,
    weight_decay=0.5,
    clip=1.0,
    flips=True,
    dropout=0.3,
    dropout_of="dense",
    l2=0.0001,
    initial="he",
    centered=True,
    encoder_side=7,
    averaging=0.9,
)
"""A configuration in which all training settings differ from those of the experiment log."""
PATCHES = replace(PRESETS["model-2"], batch_size=128)


def _epochs(trainer, config, seed, count=1):
    """Train from the start, and return the metrics of each epoch without times."""
    trainer.start(config, seed)
    metrics = [trainer.epoch() for _ in range(count)]
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in metrics]


@pytest.fixture(scope="module")
def photos(parts):
    """Three training photos and one validation photo, so that the tests are fast."""
    return parts.training.take(range(3)), parts.validation.take([0])


@pytest.fixture(scope="module")
def trainer(photos):
    """A trainer that has trained other configurations before; it is shared because making one takes seconds."""
    trainer = Trainer(*photos)
    for config in (replace(PHOTOS, mse_weight=7.0, learning_rate=0.01, clip=0.0), PATCHES):
        trainer.start(config, 99)
        trainer.epoch()
    return trainer


@pytest.mark.parametrize("config", [PHOTOS, PATCHES], ids=["photos", "patches"])
def test_reused_trainer_gives_the_numbers_of_a_fresh_one(config, trainer, photos):
    fresh = Trainer(*photos)
    expected = _epochs(fresh, config, 3, count=2)
    assert _epochs(trainer, config, 3, count=2) == expected
    for used, new in zip(trainer.vae.trainable_weights, fresh.vae.trainable_weights, strict=True):
        np.testing.assert_array_equal(used.numpy(), new.numpy())
    assert _epochs(trainer, config, 4, count=2) != expected


def test_reused_trainer_does_not_trace_again(trainer):
    trainer.start(replace(PHOTOS, mse_weight=1.5), 0)
    before = trainer._step.run.experimental_get_tracing_count()
    trainer.epoch()
    assert trainer._step.run.experimental_get_tracing_count() == before == 1


@pytest.mark.parametrize(
    "change",
    [
        {"mse_weight": 8.0},
        {"learning_rate": 0.0005},
        {"decay": 0.5},
        {"weight_decay": 5.0},
        {"clip": 0.1},
        {"flips": False},
        {"dropout": 0.4},
        {"l2": 0.001},
        {"initial": "glorot"},
        {"centered": False},
        {"averaging": 0.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_setting_that_is_a_variable_needs_no_new_trace(change, trainer):
    """A new value changes the numbers without another trace."""
    # With this seed some of the three photos are mirrored.
    before = _epochs(trainer, PHOTOS, 4)
    step = trainer._step
    assert _epochs(trainer, replace(PHOTOS, **change), 4) != before
    assert trainer._step is step and step.run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("of", ["dense", "channels"])
def test_dropout_rates_above_0_share_one_trace(of, trainer):
    """Each rate gives other numbers, and a rate that drops no channel needs no other trace."""
    steps, losses = set(), set()
    for rate in (0.02, 0.1, 0.3, 0.6):
        (metrics,) = _epochs(trainer, replace(PHOTOS, dropout=rate, dropout_of=of), 4)
        steps.add(trainer._step)
        losses.add(metrics["train_loss"])
    assert len(steps) == 1 and len(losses) == 4
    assert trainer._step.run.experimental_get_tracing_count() == 1


def test_averaging_changes_the_metrics_but_not_the_training(trainer):
    (averaged,), (last,) = (_epochs(trainer, replace(PHOTOS, averaging=share), 4) for share in (0.9, 0.0))
    assert averaged["train_loss"] == last["train_loss"] and averaged["chroma_mse"] != last["chroma_mse"]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_model_has_the_average_of_the_weights(averaging, trainer):
    """Without averaging it has the last weights, to the bit."""
    _epochs(trainer, replace(PHOTOS, averaging=averaging, centered=False), 4)
    optimizer = trainer._step._optimizer
    last, averages = optimizer.unpack()[2]["merge/kernel"].numpy(), optimizer.averages["merge/kernel"]
    (shown,) = (one.numpy() for one in trainer.vae.trainable_weights if one.path == "encoder_112_merge/kernel")
    np.testing.assert_array_equal(shown, averages[0])
    assert np.array_equal(shown, last[0]) == (averaging == 0)


def test_centered_training_moves_the_center_into_biases(trainer):
    """Before any step the center changes only the biases of a first layer, so that its sums stay the same."""
    kernels, biases = {}, {}
    for centered in (False, True):
        trainer.start(replace(PHOTOS, centered=centered), 4)
        weights = {weight.path: weight.numpy() for weight in trainer.vae.trainable_weights}
        kernels[centered], biases[centered] = (weights[f"decoder_56_conv_0/{kind}"] for kind in ("kernel", "bias"))
    np.testing.assert_array_equal(kernels[True], kernels[False])
    np.testing.assert_allclose(biases[True] - biases[False], -0.45 * kernels[True].sum(axis=(0, 1, 2)), rtol=1e-5)


def test_step_of_the_default_recipe_has_few_operations(trainer):
    """Each operation costs some microseconds in each step, and a millisecond of tracing."""
    trainer.start(with_recipe(PRESETS["model-2"], "photos"), 0)
    operations = trainer._step.run.get_concrete_function().graph.get_operations()
    assert 500 < len(operations) <= 2500


def test_optimizers_give_different_repeatable_numbers(trainer):
    """Each optimizer has a graph of its own, and the trainer does not confuse the two."""
    adam = replace(PHOTOS, optimizer="adam")
    assert _epochs(trainer, adam, 3) == _epochs(trainer, adam, 3) != _epochs(trainer, PHOTOS, 3)


@pytest.mark.parametrize(
    "change",
    [{"dropout_of": "units"}, {"dropout_of": "channels"}, {"dropout_of": "channels", "skip": False}, {"dropout": 0.0}],
)
def test_kinds_of_dropout_give_different_repeatable_numbers(change, trainer):
    """Each kind has a graph of its own, and the trainer does not confuse them."""
    other = replace(PHOTOS, **change)
    assert _epochs(trainer, other, 3) == _epochs(trainer, other, 3) != _epochs(trainer, PHOTOS, 3)


@pytest.fixture
def single(trainer, monkeypatch):
    """The trainer with one training photo."""
    monkeypatch.setattr(trainer, "training", trainer.training.take([0]))
    return trainer


def test_steps_drop_different_units(single):
    """Without any learning, the outputs of the encoder for one photo differ only by what is dropped."""
    single.start(replace(PHOTOS, learning_rate=1e-30, flips=False, encoder_side=14, initial="glorot"), 0)
    assert len({single.epoch()["train_kl"] for _ in range(3)}) == 3


@pytest.mark.parametrize("config", [PHOTOS, PATCHES], ids=["photos", "patches"])
def test_loss_contains_l2_of_the_convolution_kernels(config, single):
    single.start(replace(config, learning_rate=1e-30), 0)
    kernels = [weight.numpy() for weight in single.vae.trainable_weights if len(weight.shape) == 4]
    expected = config.l2 * sum(np.square(kernel).sum() for kernel in kernels)
    assert len(kernels) == 40
    assert single.epoch()["train_l2"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("config", [PHOTOS, PATCHES], ids=["photos", "patches"])
def test_mirrored_photo_has_mirrored_windows_and_chroma(config, single):
    """Each patch of a mirrored photo has the inputs and the chroma of the opposite patch of the photo."""
    single.start(replace(config, flips=True, batch_size=1 if config is PHOTOS else 196), 0)
    missing = [False, True]
    plain = single.training
    mirror = replace(plain, gray=plain.gray[:, :, ::-1], chroma=plain.chroma[:, :, ::-1])
    while missing:
        (batch,) = single._batches()
        windows, position, chroma = single._tensors(batch)
        for photos in (plain, mirror):
            single.training, single.config = photos, replace(single.config, flips=False)
            expected = single._tensors(batch)
            if all(map(np.array_equal, windows, expected[0])):
                np.testing.assert_array_equal(position, expected[1])
                np.testing.assert_array_equal(chroma, expected[2])
                if (photos is plain) in missing:
                    missing.remove(photos is plain)
                break
        else:
            pytest.fail("the batch is neither the photo nor its mirror image")
        single.training, single.config = plain, replace(single.config, flips=True)


def test_epoch_skips_patches_that_fill_no_batch(trainer):
    """The experiment log did so too: of the 19,600 patches of 100 photos 19,584 fill batches of 32."""
    count = len(trainer.training) * 196
    assert _epochs(trainer, PATCHES, 0)[0]["boxes"] == count // 128 * 128 < count
    assert _epochs(trainer, PHOTOS, 0)[0]["boxes"] == count


def test_epoch_reports_progress_after_every_step(trainer):
    trainer.start(PHOTOS, 0)
    reports = []
    metrics = trainer.epoch(lambda done, total: reports.append((done, total)))
    assert reports[-1] == (metrics["boxes"], metrics["boxes"])
    assert [done for done, _ in reports] == [196 * step for step in range(1, len(reports) + 1)]


def test_epoch_with_a_loss_that_is_not_finite_raises(trainer):
    trainer.start(replace(PHOTOS, learning_rate=1e30, clip=0.0), 0)
    with pytest.raises(DivergedError, match=r"diverged in epoch \d: train_\w+ is (nan|inf)"):
        for _ in range(5):
            trainer.epoch()


def test_epoch_with_a_weight_that_is_not_finite_raises(trainer):
    """The weight becomes infinite after the last step, in a kernel of the encoder, which the metrics do not use."""
    muon_weights = 1  # They begin with the kernels of the convolutions.

    def make_infinite(done: int, total: int) -> None:
        if done == total:
            weights = trainer._step._optimizer.weights[muon_weights]
            weights.assign(np.concatenate([[np.inf], weights.numpy()[1:]]))

    trainer.start(PHOTOS, 0)
    with pytest.raises(DivergedError, match="diverged in epoch 1: a weight is not finite"):
        trainer.epoch(make_infinite)
    trainer.start(PHOTOS, 0)
    trainer.epoch()


def test_training_does_not_depend_on_validation_photos(trainer, photos, parts):
    """With other validation photos the loss is the same, and only the metrics differ."""
    other = Trainer(photos[0], parts.test.take([0]))
    ours, theirs = _epochs(trainer, PHOTOS, 1)[0], _epochs(other, PHOTOS, 1)[0]
    assert ours["train_loss"] == theirs["train_loss"] and ours["chroma_mse"] != theirs["chroma_mse"]


def test_training_on_the_garden_is_far_above_the_baseline():
    """After at most 5 epochs on 40 scenes, model-2 has a skill of 0.65 on 10 other scenes."""
    scenes = prepare(garden(50), [scene_name(k) for k in range(50)])
    trainer = Trainer(scenes.take(range(40)), scenes.take(range(40, 50)))
    trainer.start(PHOTOS, 0)
    first = last = trainer.epoch()
    while last["skill"] < 0.65 and trainer.epochs < 5:
        last = trainer.epoch()
    assert last["skill"] >= 0.65
    assert last["train_loss"] < first["train_loss"] / 2 and last["chroma_mse"] < first["chroma_mse"]


def test_trainer_of_many_structures_releases_old_graphs(photos, monkeypatch):
    """A graph has some 10 MB, and TensorFlow never releases functions with a custom gradient, such as its own silu."""
    monkeypatch.setattr(training, "MAX_CACHED_STRUCTURES", 2)
    trainer = Trainer(*photos)
    _epochs(trainer, PHOTOS, 0)
    graphs = [
        weakref.ref(function.get_concrete_function().graph)
        for function in (trainer._step.run, trainer._step.colorizer._features, trainer._step.colorizer._paint)
    ]
    trainer.start(replace(PHOTOS, merge_units=1), 0)
    recent = trainer._step
    trainer.start(PHOTOS, 0)
    assert graphs[0]() is trainer._step.run.get_concrete_function().graph
    for units in (1, 2):
        trainer.start(replace(PHOTOS, merge_units=units), 0)
    assert len(trainer._steps) == 2 and recent in trainer._steps.values()
    gc.collect()
    assert [graph() for graph in graphs] == [None] * 3


def test_trainer_caches_all_structures_of_the_default_space():
    grid = parse_space(DEFAULT_SPACE, PHOTOS).grid_points()
    kinds = {Step.cache_key(replace(PHOTOS, **point), compiled=False) for point in grid}
    assert len(kinds) == 8 <= training.MAX_CACHED_STRUCTURES


def test_batch_size_above_the_number_of_photos_is_capped(trainer):
    steps = []
    for size in (50, 3):
        trainer.start(replace(PHOTOS, batch_size=size), 0)
        steps.append(trainer._step)
        assert [len(batch) for batch in trainer._batches()] == [3]
    assert steps[0] is steps[1] and steps[0].run.input_signature[2].shape == [3 * 196, 2]


@pytest.mark.long
def test_compiled_step_learns_as_the_traced_and_is_repeatable(photos):
    """Its random numbers differ from those of the traced step; without dropout only the latent noise is random."""
    config = replace(PHOTOS, dropout=0.0)
    compiled, traced = (Trainer(photos[0], photos[1], compiled=compiles) for compiles in (True, False))
    first = _epochs(compiled, config, 3, count=4)
    for ours, theirs in zip(first, _epochs(traced, config, 3, count=4), strict=True):
        assert ours["train_loss"] != theirs["train_loss"]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.1)
    assert _epochs(compiled, config, 3, count=4) == first


@pytest.mark.parametrize("config", [PHOTOS, replace(PHOTOS, dropout_of="channels")], ids=["dense", "channels"])
def test_compiled_step_is_one_program_for_all_steps(config):
    """If a shape depended on random numbers of the step, XLA would compile each step again."""
    step = Step(config, True, "float32")
    step.reset(config, np.random.SeedSequence(0))
    windows, position, chroma = step.run.input_signature
    batch = [np.zeros(one.shape, np.float32) for one in windows], np.zeros(position.shape), np.zeros(chroma.shape)
    programs = []
    for steps in (0.0, 5.0):
        step._optimizer.steps.assign(steps)
        programs.append(step.run.experimental_get_compiler_ir(*batch)(stage="hlo"))
    assert programs[0] == programs[1]


def test_step_has_no_int32_variable(trainer):
    """TensorFlow keeps int32 variables in host memory, where XLA on a GPU cannot use them; seen on an H100."""
    trainer.start(PHOTOS, 0)
    trainer.epoch()
    variables = trainer._step.run.get_concrete_function().graph.variables
    assert len(variables) > 5 and not [variable.name for variable in variables if variable.dtype.name == "int32"]


@pytest.mark.long
def test_training_in_bfloat16_gives_almost_the_same_loss(photos):
    """The benchmark `packing` uses it. Weights and metrics stay float32."""
    (bfloat16,) = _epochs(Trainer(photos[0], photos[1], dtype_policy="mixed_bfloat16"), PHOTOS, 3)
    (float32,) = _epochs(Trainer(*photos), PHOTOS, 3)
    assert 0 < abs(bfloat16["train_loss"] - float32["train_loss"]) < 0.01 * float32["train_loss"]
