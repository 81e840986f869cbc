"""The training loss of the VAE and its terms."""

from huetune.data_tools.common.keras_backend import tf

LOSS_TERMS = ("loss", "mse", "norm", "kl", "l2")
"""Names of the loss and its terms, in the order in which `loss_terms` returns them."""


def loss_terms(target, predicted, mean, log_variance, mse_weight, l2):
    """Return the loss of a batch and its terms, in the order of `LOSS_TERMS`.

    loss = mse_weight x mse + norm + kl + l2, as in the program of the experiment log. `mse` is the squared error of the
    chroma, `norm` the squared error of its squared length (the saturation), and `kl` the Kullback-Leibler divergence of
    the latent distribution from N(0, 1) (Kingma and Welling, "Auto-Encoding Variational Bayes", 2013, appendix B).

    Args:
        target: float32 [patches, 2], true chroma, inside the unit disc.
        predicted: float32 [patches, 2], predicted chroma, -1..1.
        mean: float32 [patches, 120], means of the latent distribution.
        log_variance: float32 [patches, 120], log-variances of the latent distribution.
        mse_weight: float32 scalar, weight of `mse`, above 0.
        l2: float32 scalar, the weighted L2 penalty of all convolution kernels, 0 or more.

    Returns:
        float32 [5]. `mse`, `norm` and `kl` are means over patches; `mse` is without its weight.
    """
    mse = tf.reduce_mean(tf.square(target - predicted))
    energy = tf.reduce_sum(tf.square(target), axis=-1) - tf.reduce_sum(tf.square(predicted), axis=-1)
    norm = tf.reduce_mean(tf.square(energy))
    divergence = 1 + log_variance - tf.square(mean) - tf.exp(log_variance)
    kl = tf.reduce_mean(-0.5 * tf.reduce_sum(divergence, axis=-1))
    return tf.stack([mse_weight * mse + norm + kl + l2, mse, norm, kl, l2])
