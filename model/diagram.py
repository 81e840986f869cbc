"""Pictures of a model's structure: encoder, decoder and whole, drawn by Keras and Graphviz so that they can be read.

Keras draws each layer of the graph that computes whole photos: 5,000 pixels wide, and most sizes unknown in it. What a
person wants to know is what becomes of one patch. So the model's own layers are called once more, on a single patch:

- what does nothing to a single patch is passed over, and dropout is noted on the layer after which it comes;
- the four towers have the same layers: one is shown open, the others are each a node.
"""

import html
import shutil
from collections.abc import Callable, Iterable
from typing import Any

from huetune.data_tools.common.errors import UserError
from huetune.data_tools.common.keras_backend import keras, own_settings
from huetune.data_tools.common.optional_imports import import_extra
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, WINDOW_SIDE
from huetune.model.layers import Convolution, Share
from huetune.model.network import Network

PICTURES = ("encoder", "decoder", "whole")
FORMATS = {"png": 96, "svg": 72}
"""And the dots per inch of each. A PNG's letters are then as large as those of the page around it; of an SVG, Graphviz
cuts off what lies beyond its size at 72."""
GRAPH = {"splines": "spline", "concentrate": False, "ranksep": 0.28, "nodesep": 0.25, "pad": 0.1}
TITLE = {"labelloc": "t", "fontname": "Helvetica", "fontsize": 14}
NODE = {"shape": "box", "style": "filled,rounded", "color": "#777777", "margin": "0.1,0.04", "fontsize": 12}
EDGE = {"penwidth": 1, "color": "#777777", "arrowsize": 0.6}
FILLS = {
    keras.layers.InputLayer: "#ececec",
    Convolution: "#d6e6f7",
    keras.layers.Dense: "#dcefd8",
    keras.Model: "#f6e7cb",
}
"""Of nodes by their kind; the others are white."""
KINDS = {keras.layers.InputLayer: "input", Convolution: "conv 3x3", keras.Model: "model"}
"""Words for kinds of layers, where the class's own name says less."""
SIGNS = {"Exp": "exp", "TrueDivide": "÷ 2", "Multiply": "x", "Add": "+"}
"""Of the operations between encoder and decoder."""


def missing_graphviz() -> str | None:
    """Return how to get Graphviz, or pydot, which Keras calls it by, in one line; None where both are installed."""
    try:
        import_extra("pydot", "structure")
    except UserError as error:
        return f"no pictures of the structure: {error}"
    if shutil.which("dot"):
        return None
    how = "`apt-get install graphviz` on Debian and Ubuntu, `brew install graphviz` on a Mac"
    return f"no pictures of the structure: Graphviz, which draws them, is not installed; get it with {how}"


@own_settings()
def draw(network: Network, forms: Iterable[str] = tuple(FORMATS)) -> dict[str, bytes]:
    """Return pictures of a model's encoder, decoder and whole, by their names, as `encoder.png`.

    Args:
        network: as `model.network.build` returns it.
        forms: of FORMATS.

    Raises:
        UserError: Graphviz or pydot is not installed.
    """
    if line := missing_graphviz():
        raise UserError(line)
    files = {}
    for name, model in zip(PICTURES, (network.encoder, network.decoder, network.vae), strict=True):
        dot = _Picture(model).dot()
        for form in forms:
            dot.set("dpi", FORMATS[form])
            # Without an encoding pydot writes for Graphviz, which reads UTF-8, in the locale's.
            files[f"{name}.{form}"] = dot.create(format=form, encoding="utf-8")
    return files


class _Picture:
    """A model's graph on a single patch, and what is known of its nodes."""

    def __init__(self, model: keras.Model):
        self._name, self._parameters = model.name, model.count_params()
        self._shapes: dict[Any, str] = {}
        self._notes: dict[Any, str] = {}
        # What was last called for each tensor, by its address, and what each layer made last.
        self._makers: dict[int, Any] = {}
        self._made: dict[Any, Any] = {}
        box = [
            keras.Input((WINDOW_SIDE, WINDOW_SIDE, 1) if len(view.shape) == 4 else view.shape[1:], name=view.name)
            for view in model.inputs
        ]
        if model.name == "decoder":
            # It is made of two models, which say nothing to who looks at it.
            model = _again(model, box, _opened)
        self._graph = _again(model, box, self._call)
        opened, *others = (f"{model.name}_{view.covers}" for view in CONTEXT_WINDOWS)
        self._towers = {name: self._tower(name, opened) for name in others if model.name != "vae"}
        if self._towers:
            self._graph = _again(self._graph, box, self._closed)

    def dot(self) -> Any:
        """Return the picture as pydot has it."""
        dot = keras.utils.model_to_dot(self._graph)
        _set(dot, {**GRAPH, **TITLE, "label": f"<<b>{self._name}: {self._parameters:,} parameters</b>>"})
        nodes = {node.get_name(): node for node in dot.get_nodes()}
        for operation in self._graph.operations:
            _set(nodes[str(id(operation))], {**NODE, "label": self._label(operation), "fillcolor": _fill(operation)})
        for edge in dot.get_edges():
            _set(edge, EDGE)
        return dot

    def _call(self, layer, *tensors, **options) -> Any:
        """Call a layer if it does something to a single patch, and note what it makes."""
        if isinstance(layer, keras.layers.Dropout):
            whole = isinstance(layer, keras.layers.SpatialDropout2D)
            note = f"{layer.rate:.0%} of channels dropped" if whole else f"dropout {layer.rate:g}"
            self._notes[self._makers[id(tensors[0])]] = note
        if isinstance(layer, (keras.layers.Dropout, Share)) or type(layer).__name__ == "ConvertToTensor":
            return tensors[0]
        outputs = self._made[layer] = layer(*tensors, **options)
        self._makers |= {id(made): layer for made in keras.tree.flatten(outputs)}
        self._shapes[layer] = ", ".join(" x ".join(map(str, made.shape[1:])) for made in keras.tree.flatten(outputs))
        return outputs

    def _tower(self, name: str, like: str) -> keras.Model:
        """A tower as a model of its own."""
        view = next(tensor for tensor in self._graph.inputs if tensor.name == name.replace(self._name, "view"))
        context = self._graph.get_layer(f"{name}_context")
        tower = keras.Model(view, self._made[context], name=name)
        self._shapes[tower], self._notes[tower] = self._shapes[context], f"layers as in {like}"
        return tower

    def _closed(self, layer, *tensors, **options) -> Any:
        """Call a layer; of a closed tower the whole of it in place of its last one, and no other."""
        name, _, rest = layer.name.rpartition("_context")
        if name in self._towers and not rest:
            return self._towers[name](tensors[0])
        if any(layer.name.startswith(f"{tower}_") for tower in self._towers):
            return tensors[0]
        return layer(*tensors, **options)

    def _label(self, operation) -> str:
        if not isinstance(operation, keras.layers.Layer):
            return SIGNS.get(type(operation).__name__, operation.name)
        kind = next(
            (word for kind, word in KINDS.items() if isinstance(operation, kind)), type(operation).__name__.lower()
        )
        activation = getattr(operation, "activation", None)
        if activation and activation is not keras.activations.linear:
            kind += f", {activation.__name__}"
        shape = self._shapes.get(operation) or " x ".join(map(str, operation.batch_shape[1:]))
        parameters = operation.count_params()
        lines = [
            f"{kind} → {shape}",
            f"{parameters:,} parameters" if parameters else "",
            self._notes.get(operation, ""),
        ]
        return f"<{'<br/>'.join([f'<b>{operation.name}</b>', *(html.escape(line) for line in lines if line)])}>"


def _again(model: keras.Model, inputs: list, call: Callable) -> keras.Model:
    """Return the graph of a model's own layers on other inputs, each of them called in another way."""
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call)


def _opened(layer, *tensors, **options) -> Any:
    return layer.call(*tensors, **options) if isinstance(layer, keras.Model) else layer(*tensors, **options)


def _fill(operation) -> str:
    return next((fill for kind, fill in FILLS.items() if isinstance(operation, kind)), "white")


def _set(part: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        part.set(name, value)
