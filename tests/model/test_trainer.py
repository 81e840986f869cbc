"""Training learns, follows its seed to the last bit, and stops where numbers end."""

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
"""All that is trained otherwise than the log did, whatever the recipe's own numbers are today."""
BOXES = replace(PRESETS["model-2"], batch_size=128)


def _epochs(trainer, config, seed, count=1):
    trainer.start(config, seed)
    figures = [trainer.epoch() for _ in range(count)]
    return [{name: value for name, value in epoch.items() if "seconds" not in name} for epoch in figures]


@pytest.fixture(scope="module")
def photos(parts):
    """Three to learn from, one to rank by: the promises are the same for any number, the seconds are not."""
    return parts.training.take(range(3)), parts.validation.take([0])


@pytest.fixture(scope="module")
def trainer(photos):
    """A worker that has trained something else before; it is shared, for each new one takes seconds to get ready."""
    trainer = Trainer(*photos)
    for config in (replace(PHOTOS, mse_weight=7.0, learning_rate=0.01, clip=0.0), BOXES):
        trainer.start(config, 99)
        trainer.epoch()
    return trainer


@pytest.mark.parametrize("config", [PHOTOS, BOXES], ids=["photos", "patches"])
def test_a_used_worker_gives_the_numbers_of_a_fresh_one(config, trainer, photos):
    fresh = Trainer(*photos)
    expected = _epochs(fresh, config, 3, count=2)
    assert _epochs(trainer, config, 3, count=2) == expected
    for used, new in zip(trainer.vae.trainable_weights, fresh.vae.trainable_weights, strict=True):
        np.testing.assert_array_equal(used.numpy(), new.numpy())
    assert _epochs(trainer, config, 4, count=2) != expected


def test_a_used_worker_is_ready_without_tracing_again(trainer):
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
def test_every_setting_that_is_a_variable_reaches_the_step(change, trainer):
    """Without another trace."""
    # A seed by which not all of the three photos stay as they are.
    before = _epochs(trainer, PHOTOS, 4)
    step = trainer._step
    assert _epochs(trainer, replace(PHOTOS, **change), 4) != before
    assert trainer._step is step and step.run.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("of", ["dense", "channels"])
def test_a_range_of_dropout_needs_one_trace(of, trainer):
    """Of rates above 0, however few channels they drop; and each gives numbers of its own."""
    steps, losses = set(), set()
    for rate in (0.02, 0.1, 0.3, 0.6):
        (figures,) = _epochs(trainer, replace(PHOTOS, dropout=rate, dropout_of=of), 4)
        steps.add(trainer._step)
        losses.add(figures["train_loss"])
    assert len(steps) == 1 and len(losses) == 4
    assert trainer._step.run.experimental_get_tracing_count() == 1


def test_averaging_changes_what_is_scored_and_not_what_is_learned(trainer):
    (averaged,), (last,) = (_epochs(trainer, replace(PHOTOS, averaging=share), 4) for share in (0.9, 0.0))
    assert averaged["train_loss"] == last["train_loss"] and averaged["chroma_mse"] != last["chroma_mse"]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_the_model_has_the_average_of_the_weights(averaging, trainer):
    """Without one the last weights, to the bit."""
    _epochs(trainer, replace(PHOTOS, averaging=averaging, centered=False), 4)
    optimizer = trainer._step._optimizer
    last, averages = optimizer.unpack()[2]["merge/kernel"].numpy(), optimizer.averages["merge/kernel"]
    (shown,) = (one.numpy() for one in trainer.vae.trainable_weights if one.path == "encoder_112_merge/kernel")
    np.testing.assert_array_equal(shown, averages[0])
    assert np.array_equal(shown, last[0]) == (averaging == 0)


def test_centered_training_scores_the_model_as_it_is_used(trainer):
    """Before any learning, the views' center is no more than other biases: the sums of a first layer stay the same."""
    kernels, biases = {}, {}
    for centered in (False, True):
        trainer.start(replace(PHOTOS, centered=centered), 4)
        weights = {weight.path: weight.numpy() for weight in trainer.vae.trainable_weights}
        kernels[centered], biases[centered] = (weights[f"decoder_56_conv_0/{kind}"] for kind in ("kernel", "bias"))
    np.testing.assert_array_equal(kernels[True], kernels[False])
    np.testing.assert_allclose(biases[True] - biases[False], -0.45 * kernels[True].sum(axis=(0, 1, 2)), rtol=1e-5)


def test_the_step_of_the_default_recipe_is_a_small_graph(trainer):
    """Each operation costs some microseconds a step, and its trace a millisecond."""
    trainer.start(with_recipe(PRESETS["model-2"], "photos"), 0)
    operations = trainer._step.run.get_concrete_function().graph.get_operations()
    assert 500 < len(operations) <= 2500


def test_both_optimizers_are_there(trainer):
    """Muon is another graph: each is traced, and neither is taken for the other."""
    adam = replace(PHOTOS, optimizer="adam")
    assert _epochs(trainer, adam, 3) == _epochs(trainer, adam, 3) != _epochs(trainer, PHOTOS, 3)


@pytest.mark.parametrize(
    "change",
    [{"dropout_of": "units"}, {"dropout_of": "channels"}, {"dropout_of": "channels", "skip": False}, {"dropout": 0.0}],
)
def test_all_kinds_of_dropout_are_there(change, trainer):
    """Each is a graph of its own, and none is taken for another."""
    other = replace(PHOTOS, **change)
    assert _epochs(trainer, other, 3) == _epochs(trainer, other, 3) != _epochs(trainer, PHOTOS, 3)


@pytest.fixture
def single(trainer, monkeypatch):
    """The worker with one photo to learn from."""
    monkeypatch.setattr(trainer, "training", trainer.training.take([0]))
    return trainer


def test_each_step_drops_others(single):
    """Without any learning, the encoder's answers to one photo differ by what is dropped alone."""
    single.start(replace(PHOTOS, learning_rate=1e-30, flips=False, encoder_side=14, initial="glorot"), 0)
    assert len({single.epoch()["train_kl"] for _ in range(3)}) == 3


@pytest.mark.parametrize("config", [PHOTOS, BOXES], ids=["photos", "patches"])
def test_the_loss_holds_the_squared_kernels(config, single):
    single.start(replace(config, learning_rate=1e-30), 0)
    kernels = [weight.numpy() for weight in single.vae.trainable_weights if len(weight.shape) == 4]
    expected = config.l2 * sum(np.square(kernel).sum() for kernel in kernels)
    assert len(kernels) == 40
    assert single.epoch()["train_l2"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("config", [PHOTOS, BOXES], ids=["photos", "patches"])
def test_a_mirrored_photo_comes_with_its_colors(config, single):
    """Each box of a mirrored photo has the view and the color that the box across has in the photo itself."""
    single.start(replace(config, flips=True, batch_size=1 if config is PHOTOS else 196), 0)
    straight = [False, True]
    plain = single.training
    mirror = replace(plain, gray=plain.gray[:, :, ::-1], chroma=plain.chroma[:, :, ::-1])
    while straight:
        (batch,) = single._batches()
        views, place, chroma = single._tensors(batch)
        for photos in (plain, mirror):
            single.training, single.config = photos, replace(single.config, flips=False)
            expected = single._tensors(batch)
            if all(map(np.array_equal, views, expected[0])):
                np.testing.assert_array_equal(place, expected[1])
                np.testing.assert_array_equal(chroma, expected[2])
                if (photos is plain) in straight:
                    straight.remove(photos is plain)
                break
        else:
            pytest.fail("neither the photo nor its mirror image")
        single.training, single.config = plain, replace(single.config, flips=True)


def test_boxes_that_fill_no_batch_sit_the_epoch_out(trainer):
    """As in the log: of 100 photos' 19,600 boxes, 19,584 fill batches of 32."""
    count = len(trainer.training) * 196
    assert _epochs(trainer, BOXES, 0)[0]["boxes"] == count // 128 * 128 < count
    assert _epochs(trainer, PHOTOS, 0)[0]["boxes"] == count


def test_the_bar_hears_of_every_step(trainer):
    trainer.start(PHOTOS, 0)
    heard = []
    figures = trainer.epoch(lambda done, boxes: heard.append((done, boxes)))
    assert heard[-1] == (figures["boxes"], figures["boxes"])
    assert [done for done, _ in heard] == [196 * step for step in range(1, len(heard) + 1)]


def test_a_diverging_run_says_so(trainer):
    trainer.start(replace(PHOTOS, learning_rate=1e30, clip=0.0), 0)
    with pytest.raises(DivergedError, match=r"diverged in epoch \d: train_\w+ is (nan|inf)"):
        for _ in range(5):
            trainer.epoch()


def test_a_weight_that_no_loss_has_seen_yet_ends_the_run_too(trainer):
    """Broken after the last step of an epoch, in a first kernel of the encoder, which no score goes through."""
    first = 1  # Muon's weights begin with the convolutions' kernels.

    def spoil(done: int, boxes: int) -> None:
        if done == boxes:
            weights = trainer._step._optimizer.weights[first]
            weights.assign(np.concatenate([[np.inf], weights.numpy()[1:]]))

    trainer.start(PHOTOS, 0)
    with pytest.raises(DivergedError, match="diverged in epoch 1: a weight is no finite number"):
        trainer.epoch(spoil)
    trainer.start(PHOTOS, 0)
    trainer.epoch()


def test_validation_photos_never_teach(trainer, photos, parts):
    """Other validation photos, the same weights."""
    other = Trainer(photos[0], parts.test.take([0]))
    mine, yours = _epochs(trainer, PHOTOS, 1)[0], _epochs(other, PHOTOS, 1)[0]
    assert mine["train_loss"] == yours["train_loss"] and mine["chroma_mse"] != yours["chroma_mse"]


def test_the_garden_can_be_learned():
    """40 scenes, at most 5 epochs: model-2 does far better on 10 others than one color for everything."""
    scenes = prepare(garden(50), [scene_name(k) for k in range(50)])
    trainer = Trainer(scenes.take(range(40)), scenes.take(range(40, 50)))
    trainer.start(PHOTOS, 0)
    first = last = trainer.epoch()
    while last["skill"] < 0.65 and trainer.epochs < 5:
        last = trainer.epoch()
    assert last["skill"] >= 0.65
    assert last["train_loss"] < first["train_loss"] / 2 and last["chroma_mse"] < first["chroma_mse"]


def test_a_worker_that_met_many_structures_does_not_keep_them_all(photos, monkeypatch):
    """Nor their graphs, some 10 MB each: TensorFlow keeps for ever what has a gradient of its own, as its own silu."""
    monkeypatch.setattr(training, "MAX_CACHED_STRUCTURES", 2)
    trainer = Trainer(*photos)
    _epochs(trainer, PHOTOS, 0)
    graphs = [
        weakref.ref(function.get_concrete_function().graph)
        for function in (trainer._step.run, trainer._step.colorizer._features, trainer._step.colorizer._paint)
    ]
    trainer.start(replace(PHOTOS, merge_units=1), 0)
    kept = trainer._step
    trainer.start(PHOTOS, 0)
    assert graphs[0]() is trainer._step.run.get_concrete_function().graph
    for units in (1, 2):
        trainer.start(replace(PHOTOS, merge_units=units), 0)
    assert len(trainer._steps) == 2 and kept in trainer._steps.values()
    gc.collect()
    assert [graph() for graph in graphs] == [None] * 3


def test_a_worker_keeps_all_structures_of_the_default_space():
    grid = parse_space(DEFAULT_SPACE, PHOTOS).grid_points()
    kinds = {Step.kind(replace(PHOTOS, **point), compiled=False) for point in grid}
    assert len(kinds) == 8 <= training.MAX_CACHED_STRUCTURES


def test_a_batch_larger_than_the_set_is_the_set(trainer):
    steps = []
    for size in (50, 3):
        trainer.start(replace(PHOTOS, batch_size=size), 0)
        steps.append(trainer._step)
        assert [len(batch) for batch in trainer._batches()] == [3]
    assert steps[0] is steps[1] and steps[0].run.input_signature[2].shape == [3 * 196, 2]


@pytest.mark.long
def test_a_compiled_step_learns_as_the_traced_one_does_and_starts_anew_to_the_last_bit(photos):
    """Its dice fall otherwise, so no number is the same; without dropout what is left is the latent noise."""
    config = replace(PHOTOS, dropout=0.0)
    compiled, traced = (Trainer(photos[0], photos[1], compiled=compiles) for compiles in (True, False))
    first = _epochs(compiled, config, 3, count=4)
    for ours, others in zip(first, _epochs(traced, config, 3, count=4), strict=True):
        assert ours["train_loss"] != others["train_loss"]
        assert ours["train_loss"] == pytest.approx(others["train_loss"], rel=0.1)
    assert _epochs(compiled, config, 3, count=4) == first


@pytest.mark.parametrize("config", [PHOTOS, replace(PHOTOS, dropout_of="channels")], ids=["dense", "channels"])
def test_a_compiled_step_is_one_program_for_all_steps(config):
    """What XLA must know when it compiles may not depend on the step's dice, or each step is compiled anew."""
    step = Step(config, True, "float32")
    step.reset(config, np.random.SeedSequence(0))
    views, place, chroma = step.run.input_signature
    batch = [np.zeros(view.shape, np.float32) for view in views], np.zeros(place.shape), np.zeros(chroma.shape)
    programs = []
    for done in (0.0, 5.0):
        step._optimizer.steps.assign(done)
        programs.append(step.run.experimental_get_compiler_ir(*batch)(stage="hlo"))
    assert programs[0] == programs[1]


def test_a_step_has_no_variable_that_a_card_leaves_with_the_host(trainer):
    """TensorFlow keeps int32 there, and XLA refuses a step that reaches for it; seen on an H100."""
    trainer.start(PHOTOS, 0)
    trainer.epoch()
    variables = trainer._step.run.get_concrete_function().graph.variables
    assert len(variables) > 5 and not [one.name for one in variables if one.dtype.name == "int32"]


@pytest.mark.long
def test_layers_may_compute_in_bfloat16(photos):
    """As the benchmark of a card asks for; what is learned and scored stays float32."""
    (halved,) = _epochs(Trainer(photos[0], photos[1], dtype_policy="mixed_bfloat16"), PHOTOS, 3)
    (whole,) = _epochs(Trainer(*photos), PHOTOS, 3)
    assert 0 < abs(halved["train_loss"] - whole["train_loss"]) < 0.01 * whole["train_loss"]
