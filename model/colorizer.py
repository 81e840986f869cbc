"""Gray photos become chroma maps: the model as it is used, without its encoder."""

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.keras_backend import keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE, gray_to_luma
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, positions, shrink
from huetune.model.config import Config
from huetune.model.network import CONTEXT, LATENT, Network

CHUNK = 8
"""Photos colorized at once: enough to keep the cores busy, few enough to stay under 1 GB."""


class Colorizer:
    """Draws chroma maps for gray photos from a network's decoder.

    The towers, nearly all of the work, run once a photo; each sample runs only the small head on top. The network's
    weights are read at each call: train it on, and the same colorizer follows.

    Args:
        network: as `model.network.build` returns it.
        config: its configuration.
    """

    def __init__(self, network: Network, config: Config):
        self._place = tf.constant(positions(config.positions))
        views = [tf.TensorSpec([None, view.side, view.side, 1]) for view in CONTEXT_WINDOWS]
        features, latent = tf.TensorSpec([None, len(CONTEXT_WINDOWS) * CONTEXT]), tf.TensorSpec([None, LATENT])
        # Autograph would leave a file for each in the folder of temporary ones until the process ends.
        self._features = tf.function(self._run_towers, input_signature=[views], autograph=False)
        self._paint = tf.function(self._run_head, input_signature=[features, latent], autograph=False)
        self._towers, self._head = network.towers, network.head

    def _run_towers(self, views):
        features = self._towers([*views, tf.tile(self._place, [tf.shape(views[0])[0], 1])], training=False)
        return tf.cast(features, tf.float32)

    def _run_head(self, features, latent):
        photos = tf.shape(latent)[0]
        patches = tf.repeat(latent, len(self._place), axis=0)
        return self._head([features, patches, tf.tile(self._place, [photos, 1])], training=False)

    def draw(self, gray: NDArray[np.uint8], samples: int, seed: int) -> NDArray[np.float32]:
        """Draw chroma maps.

        A sample is one latent vector from N(0, 1) for the whole photo, so that its patches agree with each other. The
        vectors depend on the seed and the photo's place alone, not on the model: models are compared on equal draws.

        Args:
            gray: uint8 [n, 112, 112], 0..255, the luma.
            samples: chroma maps a photo, 1 or more.
            seed: of the latent vectors.

        Returns:
            float32 [n, samples, 14, 14, 2], -1..1.
        """
        return self.paint(gray, np.random.default_rng(seed).standard_normal((len(gray), samples, LATENT), np.float32))

    def paint(self, gray: NDArray[np.uint8], latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the chroma maps that latent vectors stand for.

        Args:
            gray: uint8 [n, 112, 112], 0..255, the luma.
            latent: float32 [n, samples, 120].

        Returns:
            float32 [n, samples, 14, 14, 2], -1..1.
        """
        samples = latent.shape[1]
        drawn = np.empty((len(gray), samples, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
        for start in range(0, len(gray), CHUNK):
            chunk = slice(start, start + CHUNK)
            features = self._features([view[..., None] for view in shrink(gray_to_luma(gray[chunk]))])
            for sample in range(samples):
                chroma = self._paint(features, latent[chunk, sample])
                drawn[chunk, sample] = keras.ops.convert_to_numpy(chroma).reshape(
                    -1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2
                )
        return drawn
