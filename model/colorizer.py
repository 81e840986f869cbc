"""Predicting chroma maps for gray photos with the decoder of a model."""

import numpy as np
from numpy.typing import NDArray

from huetune.data_tools.common.keras_backend import keras, tf
from huetune.data_tools.photos.color import PATCHES_PER_SIDE, gray_to_luma
from huetune.data_tools.photos.context_windows import CONTEXT_WINDOWS, positions, shrink
from huetune.model.config import Config
from huetune.model.network import CONTEXT, LATENT, Network

PHOTOS_PER_CHUNK = 8
"""Number of photos that are colorized at once: enough to keep all cores busy, and few enough to stay under 1 GB."""


class Colorizer:
    """Predicts chroma maps for gray photos with a network's decoder.

    The towers, which are nearly all of the work, run once for each photo; only the small head runs for each sample. The
    current weights of the network are used in each call, so a colorizer can be kept while the network is trained.

    Args:
        network: as `network.build` returns it.
        config: configuration of the network.
    """

    def __init__(self, network: Network, config: Config):
        self._positions = tf.constant(positions(config.positions))
        images = [tf.TensorSpec([None, window.side, window.side, 1]) for window in CONTEXT_WINDOWS]
        features, latent = tf.TensorSpec([None, len(CONTEXT_WINDOWS) * CONTEXT]), tf.TensorSpec([None, LATENT])
        # AutoGraph would leave a temporary file for each function until the process ends.
        self._features = tf.function(self._run_towers, input_signature=[images], autograph=False)
        self._paint = tf.function(self._run_head, input_signature=[features, latent], autograph=False)
        self._towers, self._head = network.towers, network.head

    def _run_towers(self, images):
        """Return the context features of photos: float32 [photos x 196, 128]."""
        features = self._towers([*images, tf.tile(self._positions, [tf.shape(images[0])[0], 1])], training=False)
        return tf.cast(features, tf.float32)

    def _run_head(self, features, latent):
        """Return the chroma [photos x 196, 2] for context features and one latent vector for each photo."""
        photos = tf.shape(latent)[0]
        patch_latent = tf.repeat(latent, len(self._positions), axis=0)
        return self._head([features, patch_latent, tf.tile(self._positions, [photos, 1])], training=False)

    def draw(self, gray: NDArray[np.uint8], samples: int, seed: int) -> NDArray[np.float32]:
        """Predict chroma maps for random latent vectors.

        Each sample uses one latent vector from N(0, 1) for the whole photo, so that its patches match each other. The
        latent vectors depend only on the seed and the photo's index in `gray`, so models are compared with equal ones.

        Args:
            gray: uint8 [n, 112, 112], 0..255, the luma.
            samples: number of chroma maps for each photo, 1 or more.
            seed: seed of the latent vectors, 0 or more.

        Returns:
            float32 [n, samples, 14, 14, 2], -1..1.
        """
        return self.paint(gray, np.random.default_rng(seed).standard_normal((len(gray), samples, LATENT), np.float32))

    def paint(self, gray: NDArray[np.uint8], latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predict the chroma maps for given latent vectors.

        Args:
            gray: uint8 [n, 112, 112], 0..255, the luma.
            latent: float32 [n, samples, 120], one latent vector for each sample.

        Returns:
            float32 [n, samples, 14, 14, 2], -1..1.
        """
        samples = latent.shape[1]
        drawn = np.empty((len(gray), samples, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2), np.float32)
        for start in range(0, len(gray), PHOTOS_PER_CHUNK):
            chunk = slice(start, start + PHOTOS_PER_CHUNK)
            features = self._features([image[..., None] for image in shrink(gray_to_luma(gray[chunk]))])
            for sample in range(samples):
                chroma = self._paint(features, latent[chunk, sample])
                drawn[chunk, sample] = keras.ops.convert_to_numpy(chroma).reshape(
                    -1, PATCHES_PER_SIDE, PATCHES_PER_SIDE, 2
                )
        return drawn
