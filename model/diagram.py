"""Diagrams of a model's structure: the encoder, the decoder and the whole model, drawn by Keras and Graphviz.

A plain `keras.utils.plot_model` shows each layer of the graph that computes whole photos: the picture is 5,000 pixels
wide, and most sizes in it are unknown. A reader wants to know how one patch is computed. So the model's layers are
called again on the input of a single patch, and the new graph is simplified:

- Layers that do not change a single patch are omitted. Dropout is noted on the layer before it.
- The four towers have the same layers. One is shown with its layers, and each of the others as a single node.
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
"""Names of the diagrams of a model."""
FORMAT_DPI = {"png": 96, "svg": 72}
"""File formats and their resolution in dots per inch. At 96 the text of a PNG has the size of the text on a page around
it. An SVG needs 72, because Graphviz would cut off a part of it at other resolutions."""
GRAPH_STYLE = {"splines": "spline", "concentrate": False, "ranksep": 0.28, "nodesep": 0.25, "pad": 0.1}
TITLE_STYLE = {"labelloc": "t", "fontname": "Helvetica", "fontsize": 14}
NODE_STYLE = {"shape": "box", "style": "filled,rounded", "color": "#777777", "margin": "0.1,0.04", "fontsize": 12}
EDGE_STYLE = {"penwidth": 1, "color": "#777777", "arrowsize": 0.6}
LAYER_COLORS = {
    keras.layers.InputLayer: "#ececec",
    Convolution: "#d6e6f7",
    keras.layers.Dense: "#dcefd8",
    keras.Model: "#f6e7cb",
}
"""Fill colors of nodes by the class of the layer. Nodes of other layers are white."""
LAYER_LABELS = {keras.layers.InputLayer: "input", Convolution: "conv 3x3", keras.Model: "model"}
"""Labels of layers by their class. Other layers are labeled with the name of their class."""
OPERATION_LABELS = {"Exp": "exp", "TrueDivide": "÷ 2", "Multiply": "x", "Add": "+"}
"""Labels of the operations between encoder and decoder, by the name of their class."""


def missing_graphviz() -> str | None:
    """Return in one line how to install Graphviz or the Python package pydot; None if both are installed.

    Keras draws diagrams with Graphviz through pydot.
    """
    try:
        import_extra("pydot", "structure")
    except UserError as error:
        return f"no pictures of the structure: {error}"
    if shutil.which("dot"):
        return None
    command = "`apt-get install graphviz` on Debian and Ubuntu, `brew install graphviz` on a Mac"
    return f"no pictures of the structure: Graphviz, which draws them, is not installed; install it with {command}"


@own_settings()
def draw(network: Network, formats: Iterable[str] = tuple(FORMAT_DPI)) -> dict[str, bytes]:
    """Return diagrams of a model's encoder, decoder and whole, by file name, as `encoder.png`.

    Args:
        network: as `network.build` returns it.
        formats: keys of `FORMAT_DPI`.

    Raises:
        UserError: Graphviz or pydot is not installed.
    """
    if line := missing_graphviz():
        raise UserError(line)
    files = {}
    for name, model in zip(PICTURES, (network.encoder, network.decoder, network.vae), strict=True):
        dot = _Diagram(model).dot()
        for format_name in formats:
            dot.set("dpi", FORMAT_DPI[format_name])
            # Graphviz reads UTF-8. Without an encoding, pydot would write in that of the locale.
            files[f"{name}.{format_name}"] = dot.create(format=format_name, encoding="utf-8")
    return files


class _Diagram:
    """A model's graph on the input of a single patch, with the output shapes and notes of its nodes."""

    def __init__(self, model: keras.Model):
        self._name, self._parameters = model.name, model.count_params()
        self._shapes: dict[Any, str] = {}
        self._notes: dict[Any, str] = {}
        # The layer that returned each tensor, by the tensor's id, and the last outputs of each layer.
        self._producers: dict[int, Any] = {}
        self._outputs: dict[Any, Any] = {}
        patch = [
            keras.Input((WINDOW_SIDE, WINDOW_SIDE, 1) if len(tensor.shape) == 4 else tensor.shape[1:], name=tensor.name)
            for tensor in model.inputs
        ]
        if model.name == "decoder":
            # It consists of two models, towers and head. The diagram shows their layers instead.
            model = _call_again(model, patch, _call_inner_layers)
        self._graph = _call_again(model, patch, self._call)
        shown, *others = (f"{model.name}_{window.covers}" for window in CONTEXT_WINDOWS)
        self._towers = {name: self._tower(name, shown) for name in others if model.name != "vae"}
        if self._towers:
            self._graph = _call_again(self._graph, patch, self._call_collapsed)

    def dot(self) -> Any:
        """Return the diagram as a `pydot.Dot`."""
        dot = keras.utils.model_to_dot(self._graph)
        title = f"<<b>{self._name}: {self._parameters:,} parameters</b>>"
        _set_attributes(dot, {**GRAPH_STYLE, **TITLE_STYLE, "label": title})
        nodes = {node.get_name(): node for node in dot.get_nodes()}
        for operation in self._graph.operations:
            attributes = {**NODE_STYLE, "label": self._label(operation), "fillcolor": _fill_color(operation)}
            _set_attributes(nodes[str(id(operation))], attributes)
        for edge in dot.get_edges():
            _set_attributes(edge, EDGE_STYLE)
        return dot

    def _call(self, layer, *tensors, **options) -> Any:
        """Call a layer and record its output shape; return the input of a layer that does not change a patch."""
        if isinstance(layer, keras.layers.Dropout):
            of_channels = isinstance(layer, keras.layers.SpatialDropout2D)
            note = f"{layer.rate:.0%} of channels dropped" if of_channels else f"dropout {layer.rate:g}"
            self._notes[self._producers[id(tensors[0])]] = note
        if isinstance(layer, (keras.layers.Dropout, Share)) or type(layer).__name__ == "ConvertToTensor":
            return tensors[0]
        outputs = self._outputs[layer] = layer(*tensors, **options)
        flat = keras.tree.flatten(outputs)
        self._producers |= {id(output): layer for output in flat}
        self._shapes[layer] = ", ".join(" x ".join(map(str, output.shape[1:])) for output in flat)
        return outputs

    def _tower(self, name: str, shown: str) -> keras.Model:
        """Return a tower as a model, for a single node.

        Args:
            name: prefix of the tower's layer names.
            shown: that of the tower which is shown with its layers.
        """
        image = next(tensor for tensor in self._graph.inputs if tensor.name == name.replace(self._name, "view"))
        context = self._graph.get_layer(f"{name}_context")
        tower = keras.Model(image, self._outputs[context], name=name)
        self._shapes[tower], self._notes[tower] = self._shapes[context], f"layers as in {shown}"
        return tower

    def _call_collapsed(self, layer, *tensors, **options) -> Any:
        """Call a layer, but a collapsed tower as a whole in place of its last layer, and none of its other layers."""
        name, _, rest = layer.name.rpartition("_context")
        if name in self._towers and not rest:
            return self._towers[name](tensors[0])
        if any(layer.name.startswith(f"{tower}_") for tower in self._towers):
            return tensors[0]
        return layer(*tensors, **options)

    def _label(self, operation) -> str:
        """Return the label of a node: its name, layer class, output shape, number of parameters and note."""
        if not isinstance(operation, keras.layers.Layer):
            return OPERATION_LABELS.get(type(operation).__name__, operation.name)
        label = next(
            (label for layer_class, label in LAYER_LABELS.items() if isinstance(operation, layer_class)),
            type(operation).__name__.lower(),
        )
        activation = getattr(operation, "activation", None)
        if activation and activation is not keras.activations.linear:
            label += f", {activation.__name__}"
        shape = self._shapes.get(operation) or " x ".join(map(str, operation.batch_shape[1:]))
        parameters = operation.count_params()
        lines = [
            f"{label} → {shape}",
            f"{parameters:,} parameters" if parameters else "",
            self._notes.get(operation, ""),
        ]
        return f"<{'<br/>'.join([f'<b>{operation.name}</b>', *(html.escape(line) for line in lines if line)])}>"


def _call_again(model: keras.Model, inputs: list, call: Callable) -> keras.Model:
    """Return the graph of a model's layers on other inputs.

    Args:
        model: its layers are shared, not copied.
        inputs: the new Keras inputs.
        call: is called with each layer and its arguments, and returns the layer's outputs.
    """
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call)


def _call_inner_layers(layer, *tensors, **options) -> Any:
    """Call a layer; of a nested model call its layers, so that they appear in the graph."""
    return layer.call(*tensors, **options) if isinstance(layer, keras.Model) else layer(*tensors, **options)


def _fill_color(operation) -> str:
    return next((color for layer_class, color in LAYER_COLORS.items() if isinstance(operation, layer_class)), "white")


def _set_attributes(part: Any, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        part.set(name, value)
