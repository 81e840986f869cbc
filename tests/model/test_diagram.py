"""The pictures of a structure show the model that is trained, and can be read."""

import re
from dataclasses import replace
from html import unescape

import pytest
from click.testing import CliRunner
from PIL import Image

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.storage.output_files import RECORD_FILE
from huetune.model.checkpoint import read_checkpoint
from huetune.model.diagram import FORMATS, PICTURES, draw, missing_graphviz
from huetune.model.network import build
from huetune.model.presets import PRESETS
from huetune.model.recipes import with_recipe
from huetune.model.weights import parameter_counts
from huetune.results.cli.structure_command import structure
from huetune.results.export.best_model import find_model
from tests.allowed_skips import needs

graphviz = needs("graphviz")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The pictures of model-2, and of model-1 as whole photos train it."""
    folder = tmp_path_factory.mktemp("structure")
    channels = replace(with_recipe(PRESETS["model-1"], "photos"), dropout=0.45, dropout_of="channels")
    configs = {"loose": PRESETS["model-2"], "whole": channels}
    for name, config in configs.items():
        (folder / name).mkdir()
        for file, content in draw(build(config)).items():
            (folder / name / file).write_bytes(content)
    return configs, folder


def words(path) -> str:
    return unescape(re.sub("<[^>]+>", " ", path.read_text(encoding="utf-8")))


@graphviz
@pytest.mark.parametrize("kind", ["loose", "whole"])
def test_all_parameters_are_in_the_pictures(kind, drawn):
    configs, folder = drawn
    for name, count in zip(PICTURES, parameter_counts(configs[kind]).values(), strict=True):
        title, *nodes = (
            int(number.replace(",", ""))
            for number in re.findall(r"([\d,]+) parameters", words(folder / kind / f"{name}.svg"))
        )
        assert title == sum(nodes) == count


@graphviz
def test_the_pictures_can_be_read_on_a_page(drawn):
    """Keras's own would be 6,000 pixels wide."""
    _, folder = drawn
    assert {path.name for path in (folder / "loose").iterdir()} == {f"{a}.{b}" for a in PICTURES for b in FORMATS}
    for path in folder.rglob("*.png"):
        width, height = Image.open(path).size
        assert 700 < width < 1200 and 400 < height < 1400
    for path in folder.rglob("*.svg"):
        text = path.read_text(encoding="utf-8")
        (size,) = re.findall(r'viewBox="0.00 0.00 ([\d.]+) ([\d.]+)"', text)
        assert 'transform="scale(1 1)' in text, "Graphviz scales what it draws, but not the viewBox: it is cut off"
        assert [float(side) > 400 for side in size] == [True, True]


@graphviz
def test_the_pictures_say_what_becomes_of_one_box(drawn):
    _, folder = drawn
    loose, whole = (words(folder / kind / "encoder.svg") for kind in ("loose", "whole"))
    for text in (loose, whole):
        assert re.search(r"encoder_112_conv_0\s+conv 3x3, silu → 12 x 12 x 16\s+160 parameters", text)
        assert re.search(r"encoder_112_conv_4\s+conv 3x3, silu → 4 x 4 x 48", text)
        assert text.count("layers as in encoder_112") == 3 and "None" not in text
    assert "encoder_112_with_view" in loose and "encoder_112_with_view" not in whole
    assert loose.count("dropout 0.45") == 6 and "dropped" not in loose
    assert whole.count("dropout 0.45") == 1 and whole.count("50% of channels dropped") == 5
    assert re.search(r"chroma\s+dense, tanh → 2\s", words(folder / "loose" / "decoder.svg"))


def test_without_graphviz_nothing_is_drawn_and_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = missing_graphviz()
    assert line and "apt-get install graphviz" in line and "\n" not in line
    with pytest.raises(UserError, match="apt-get install graphviz"):
        draw(build(PRESETS["model-1"]))
    done = CliRunner().invoke(structure, ["model-1", "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError) and not (tmp_path / "out").exists()


@graphviz
def test_the_verb_draws_what_it_is_given(searched, tmp_path):
    done = CliRunner().invoke(structure, ["tiny", "--storage", str(searched[0]), "--out", str(tmp_path / "of-run")])
    assert done.exit_code == 0, done.output
    assert "of the log" not in done.output
    config = read_checkpoint(find_model("tiny", searched[0])[0]).config
    for name, content in draw(build(config), ["svg"]).items():
        (tmp_path / name).write_bytes(content)
        # Graphviz also writes the nodes' own names, which are addresses in memory.
        seen, expected = (re.sub(r"\d{9,}", "", words(path / name)).split() for path in (tmp_path / "of-run", tmp_path))
        assert sorted(seen) == sorted(expected) and len(seen) > 50


@graphviz
def test_the_pictures_note_no_dropout_of_layers_that_drop_nothing(tmp_path):
    """Of 16 channels a tenth is none, for a multiple of 8 is kept."""
    config = replace(PRESETS["model-1"], dropout=0.1, dropout_of="channels")
    (tmp_path / "encoder.svg").write_bytes(draw(build(config), ["svg"])["encoder.svg"])
    text = words(tmp_path / "encoder.svg")
    assert text.count("17% of channels dropped") == 2 == text.count("channels dropped")


@graphviz
def test_structure_replaces_its_own_pictures_and_no_others(tmp_path):
    """A picture of the user's has the name of one that is drawn, and one that was drawn is changed by the user."""
    (tmp_path / "encoder.png").write_bytes(b"mine")
    for preset in ("model-1", "model-2"):
        done = CliRunner().invoke(structure, [preset, "--out", str(tmp_path)])
        assert done.exit_code == 0 and f"{tmp_path / 'encoder_2.png'}\n" in done.output
        assert "dropout as in the experiment log; each recipe has its own" in " ".join(done.output.split())
    assert (tmp_path / "encoder.png").read_bytes() == b"mine"
    names = {f"{part}.{form}" for part in PICTURES for form in FORMATS}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "encoder_2.png", RECORD_FILE}
    assert "602,082 parameters" in words(tmp_path / "decoder.svg")
