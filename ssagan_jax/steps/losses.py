"""Loss functions: DAMSM (eq. 1, 2), hinge loss and MA-GP (eq. 6), contrast, LeCam and diversity.

Functions of arrays only. DAMSM is that of AttnGAN (Xu et al. 2018, arXiv:1711.10485, eq. 7 to 13).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssagan_jax.models.collectives import all_gather_rows


class ImageFeatures(NamedTuple):
    """Region features f32[B, R, E] and codes f32[B, E] of images."""

    regions: jax.Array
    codes: jax.Array


class TextFeatures(NamedTuple):
    """Word embeddings f32[B, T, E] and sentence embeddings f32[B, E] of captions."""

    words: jax.Array
    sentence: jax.Array


def _safe_norm(values: jax.Array) -> jax.Array:
    """Euclidean norm over the last axis, with gradient zero, not NaN, at zero."""
    squares = (values**2).sum(-1)
    # Not > 0, which is false for NaN and would replace it by 0.
    positive = squares != 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


def cosine(first: jax.Array, second: jax.Array) -> jax.Array:
    """Cosine similarities over the last axis, 0 where a vector is zero."""
    norms = _safe_norm(first) * _safe_norm(second)
    return (first * second).sum(-1) / jnp.maximum(norms, 1e-8)


def word_attention(
    regions: jax.Array, words: jax.Array, mask: jax.Array, gamma1: float
) -> tuple[jax.Array, jax.Array]:
    """Attention of every caption's words over every image's regions (AttnGAN eq. 7 to 9).

    Args:
      regions: f32[I, R, E].
      words: f32[J, T, E].
      mask: bool[J, T], True on words.
      gamma1: inverse temperature of the attention.

    Returns:
      Region contexts f32[I, J, T, E] and attention f32[I, J, T, R], summing to 1 over R.
    """
    scores = jnp.einsum("ire,jte->ijtr", regions, words)
    over_words = jax.nn.softmax(jnp.where(mask[None, :, :, None], scores, -jnp.inf), axis=2)
    attention = jax.nn.softmax(gamma1 * over_words, axis=3)
    return jnp.einsum("ijtr,ire->ijte", attention, regions), attention


def word_similarity(
    regions: jax.Array, words: jax.Array, mask: jax.Array, gamma1: float, gamma2: float
) -> jax.Array:
    """R(Q, D) of every image and caption, f32[I, J] (AttnGAN eq. 10 times gamma2, as its code)."""
    contexts, _ = word_attention(regions, words, mask, gamma1)
    scores = gamma2 * cosine(contexts, words[None])
    return jax.nn.logsumexp(jnp.where(mask[None], scores, -jnp.inf), axis=2)


def sentence_similarity(codes: jax.Array, sentences: jax.Array) -> jax.Array:
    """Cosine similarities f32[I, J] of image codes f32[I, E] and sentences f32[J, E]."""
    return cosine(codes[:, None, :], sentences[None, :, :])


def contrastive_loss(similarity: jax.Array, class_ids: jax.Array, gamma3: float) -> jax.Array:
    """Mean of -log P(D_i|Q_i) plus mean of -log P(Q_i|D_i), f32[] (eq. 1, 2).

    As AttnGAN and SSA-GAN's code do; the paper's eq. 2 has the sum of the second term alone.

    Args:
      similarity: f32[B, B], images by captions.
      class_ids: i32[B]; other examples of the same class are not used as negatives, since their
        captions may match.
      gamma3: inverse temperature of the softmax.
    """
    same_class = class_ids[:, None] == class_ids[None, :]
    diagonal = jnp.eye(len(class_ids), dtype=bool)
    logits = jnp.where(same_class & ~diagonal, -jnp.inf, gamma3 * similarity)
    matched = jnp.diagonal(logits)
    to_captions = jax.nn.logsumexp(logits, axis=1) - matched
    to_images = jax.nn.logsumexp(logits, axis=0) - matched
    return to_captions.mean() + to_images.mean()


def different_sentences(own: jax.Array, others: jax.Array) -> jax.Array:
    """Which of f32[N, E] are neither zeros nor copies of one of f32[B, K, E]: bool[B, N]."""
    similarity = cosine(own[:, :, None], others[None, None])
    return (similarity <= 0.9999).all(1) & others.any(-1)[None]


def image_to_sentence_loss(
    own: jax.Array, others: jax.Array, different: jax.Array, gamma: float
) -> jax.Array:
    """Mean of -log P(own sentence | image), f32[] (XMC-GAN, Zhang et al. 2021, arXiv:2101.04702).

    Each of an image's own sentences is compared with the others, not with the image's further ones.

    Args:
      own: f32[B, K], similarities of images with their own sentences.
      others: f32[B, N], with others.
      different: bool[B, N], which of the others count.
      gamma: inverse temperature of the softmax.
    """
    rivals = jnp.where(different, gamma * others, -jnp.inf)[:, None]
    rivals = jnp.broadcast_to(rivals, (*own.shape, others.shape[1]))
    logits = jnp.concatenate([gamma * own[:, :, None], rivals], 2)
    return (jax.nn.logsumexp(logits, 2) - logits[:, :, 0]).mean()


def damsm_losses(
    image_features: ImageFeatures,
    text_features: TextFeatures,
    mask: jax.Array,
    class_ids: jax.Array,
    gammas: tuple[float, float, float],
    axis_name: str | None = None,
    compare_words: bool = True,
) -> dict[str, jax.Array]:
    """The DAMSM loss of the global batch (eq. 2 over words and over sentences).

    Args:
      image_features: of this device's b images.
      text_features: of this device's b captions.
      mask: bool[b, T], True on words.
      class_ids: i32[b].
      gammas: gamma 1, 2 and 3.
      axis_name: mapped axis over which the global batch is split, or None.
      compare_words: whether words are compared with regions, besides sentences with images.

    Returns:
      Scalars "words", if they are compared, and "sentences", equal on all devices.
    """
    regions, codes = image_features
    words, sentences, mask, class_ids = (
        all_gather_rows(rows, axis_name) for rows in (*text_features, mask, class_ids)
    )
    similarities = {"sentences": sentence_similarity(codes, sentences)}
    if compare_words:
        by_words = word_similarity(regions, words, mask, gammas[0], gammas[1])
        similarities = {"words": by_words} | similarities
    return {
        name: contrastive_loss(all_gather_rows(rows, axis_name), class_ids, gammas[2])
        for name, rows in similarities.items()
    }


def pair_diversity(codes: jax.Array, similarities: jax.Array) -> jax.Array:
    """Mean distance between the codes of two images of a caption, up to what it leaves open, f32[].

    Diversity-sensitive GANs (Yang et al. 2019, arXiv:1901.09024) reward the distance between images
    of two noises up to a constant bound. Here it is 1 minus the cosine of their codes, and the
    bound is each caption's own: twice the distance from its sentence to its real image. Two images
    that are as far from the sentence, in directions of their own, are about as far apart.

    Args:
      codes: f32[B, E], of generated images; rows 2 i and 2 i + 1 are of one caption.
      similarities: f32[B], cosines of each row's sentence and the code of its real image.
    """
    distance = 1 - cosine(codes[::2], codes[1::2])
    return jnp.minimum(distance, 2 * (1 - similarities[::2])).mean()


def damsm_weight(start: float, end: float, decay_steps: int, step: jax.Array) -> jax.Array | float:
    """lambda_DA of eq. 5 in a step of stage 2: a cosine from `start` to `end`.

    Args:
      start: value at step 0; unused if `decay_steps` is 0.
      end: value from step `decay_steps` on.
      decay_steps: length of the decay; 0: the value is `end`, and a constant of the trace.
      step: i32[], steps of stage 2 before this one.
    """
    if not decay_steps:
        return end
    progress = jnp.minimum(step / decay_steps, 1)
    return end + (start - end) * (1 + jnp.cos(jnp.pi * progress)) / 2


def hinge_real(logits: jax.Array) -> jax.Array:
    """Mean of max(0, 1 - D(x, s)) over matched real pairs f32[B] (eq. 6)."""
    return jax.nn.relu(1 - logits).mean()


def hinge_fake(logits: jax.Array, weights: jax.Array | float = 1.0) -> jax.Array:
    """Mean of max(0, 1 + D(x, s)) over generated or mismatched pairs f32[B] (eq. 6).

    Args:
      logits: D(x, s), f32[B].
      weights: of the pairs, f32[B].
    """
    return (weights * jax.nn.relu(1 + logits)).mean()


def lecam_penalty(real: jax.Array, generated: jax.Array, averages: jax.Array) -> jax.Array:
    """LeCam's regularization f32[] (Tseng et al. 2021, arXiv:2104.03310), as in its code.

    The squares of how far logits of real images are above the average of generated ones, and those
    of generated images below that of real ones.

    Args:
      real: logits f32[B] of real images.
      generated: logits f32[B] of generated images.
      averages: f32[2], moving averages of both.
    """
    above, below = jax.nn.relu(real - averages[1]), jax.nn.relu(averages[0] - generated)
    return (above**2).mean() + (below**2).mean()


def matching_aware_penalty(
    image_gradient: jax.Array, sentence_gradient: jax.Array, power: float, norm: str
) -> jax.Array:
    """MA-GP without its weight, f32[]: the mean of a norm of D's gradients, to a power (eq. 6).

    Args:
      image_gradient: f32[B, S, S, 3], of D(x, s) in x.
      sentence_gradient: f32[B, E], of D(x, s) in s.
      power: p.
      norm: "joint", the norm of the concatenated gradients, as in the reference; or "sum", the sum
        of their norms, as in eq. 6.
    """
    image_gradient = image_gradient.reshape(len(image_gradient), -1)
    if norm == "sum":
        length = _safe_norm(image_gradient) + _safe_norm(sentence_gradient)
    else:
        length = _safe_norm(jnp.concatenate([image_gradient, sentence_gradient], -1))
    return (length**power).mean()
