"""Signs of overfitting and of collapse, from the discriminator's logits and from small images."""

import numpy as np

from ssagan_jax.metrics.diversity import mean_pairwise_distance

_THUMBNAIL_SIZE = 16
# Least difference of mean logits, of the hinge loss's 2, that others are divided by.
_MIN_GAP = 0.1


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Images u8[B, S, S, 3], averaged over areas to 16 x 16 pixels in [-1, 1]: f32[B, 768]."""
    count, size, _, channels = images.shape
    area, edge = size // _THUMBNAIL_SIZE, _THUMBNAIL_SIZE
    areas = images.reshape(count, edge, area, edge, area, channels)
    return (areas.mean((2, 4), dtype=np.float32) / 127.5 - 1).reshape(count, -1)


def overfitting_signs(
    training: np.ndarray, held_out: np.ndarray, generated: np.ndarray
) -> dict[str, float]:
    """How far the discriminator tells training images from held-out ones.

    Args:
      training, held_out, generated: logits f32[N] of images with their captions.

    Returns:
      The means of the logits; "sign", r_t, and "overfitting", r_v, of "Training Generative
      Adversarial Networks with Limited Data" (Karras et al., 2020), eq. 1: 0 without overfitting,
      1 if held-out images are judged like generated ones, NaN while the mean logits of training
      and generated images differ by less than 0.1; and "separation": the share of pairs of a
      training and a held-out image of which the first has the higher logit (1/2 for ties), 0.5 if
      they are alike.
    """
    means = [float(logits.mean(dtype=np.float64)) for logits in (training, held_out, generated)]
    gap = means[0] - means[2]
    higher = np.sign(training[:, None] - held_out)
    return {
        **dict(zip(("training_logit", "held_out_logit", "generated_logit"), means, strict=True)),
        "sign": float(np.sign(training).mean()),
        "overfitting": (means[0] - means[1]) / gap if gap >= _MIN_GAP else float("nan"),
        "separation": float((1 + higher).mean() / 2),
    }


def relative_variety(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Mean distances between generated images, relative to that between real ones.

    Args:
      generated: [captions, noises, D], thumbnails of images that share captions and noises.
      real: [N, D], thumbnails of real images; N is 2 or more.

    Returns:
      "noise_variety", between images of one caption; and "caption_variety", between images of one
      noise. NaN if the real images are all the same.
    """
    unit = mean_pairwise_distance(real[None]) or float("nan")
    return {
        "noise_variety": mean_pairwise_distance(generated) / unit,
        "caption_variety": mean_pairwise_distance(generated.swapaxes(0, 1)) / unit,
    }
