"""Retrieval between images and captions by the similarity of their codes.

Ties count with their expected value under a random order, so that an encoder which gives every pair
the same similarity scores at chance level, not perfectly. Codes that are not finite give NaN.
"""

import numpy as np

MISMATCHED = 99
_BLOCK = 1000


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-8)


def _hits(above: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """Probability of being in the top k, with `above` others ranked higher and `ties` tied."""
    return np.clip((k - above) / (ties + 1), 0, 1)


def _finite(*arrays: np.ndarray) -> bool:
    return all(np.isfinite(rows).all() for rows in arrays)


def r_precision(
    codes: np.ndarray,
    sentences: np.ndarray,
    class_ids: np.ndarray,
    pool: np.ndarray,
    pool_class_ids: np.ndarray,
    mismatched: int = MISMATCHED,
    seed: int = 0,
) -> float:
    """Share of images closer to their own caption than to each of 99 mismatched ones.

    The protocol of AttnGAN (Xu et al. 2018, arXiv:1711.10485, section 4), with cosines. The
    mismatched captions are drawn for every image from other classes, since a caption of the same
    class may well fit.

    Args:
      codes: of images, [N, E].
      sentences: of the captions that they were generated from, [N, E].
      class_ids: i[N].
      pool: sentence embeddings to draw from, [M, E].
      pool_class_ids: i[M].
      mismatched: captions per image; fewer if the other classes have fewer.
      seed: of the random draw.

    Raises:
      ValueError: there is only one class.
    """
    if not _finite(codes, sentences, pool):
        return float("nan")
    codes, sentences, pool = map(_unit, (codes, sentences, pool))
    hits = []
    for index, (code, sentence, class_id) in enumerate(
        zip(codes, sentences, class_ids, strict=True)
    ):
        candidates = np.flatnonzero(pool_class_ids != class_id)
        if not len(candidates):
            raise ValueError(f"class {class_id} is the only one; mismatched captions need another")
        random = np.random.default_rng((seed, index))
        chosen = random.choice(candidates, min(mismatched, len(candidates)), replace=False)
        matched, others = code @ sentence, pool[chosen] @ code
        hits.append(_hits((others > matched).sum(), (others == matched).sum(), 1))
    return float(np.mean(hits))


def retrieval(codes: np.ndarray, sentences: np.ndarray) -> dict[str, float]:
    """How each caption ranks its own image among all images, by cosine.

    Args:
      codes: of images, [N, E].
      sentences: of their captions, [N, E].

    Returns:
      "retrieval/r1" and "retrieval/r5", shares in [0, 1] of captions whose image is ranked first or
      in the top five, and "retrieval/mean_rank", 1 at best and (N + 1) / 2 at chance level.
    """
    if not _finite(codes, sentences):
        return dict.fromkeys(("retrieval/r1", "retrieval/r5", "retrieval/mean_rank"), float("nan"))
    codes, sentences = _unit(codes), _unit(sentences)
    above, ties = [], []
    for start in range(0, len(sentences), _BLOCK):
        block = slice(start, start + _BLOCK)
        similarity = sentences[block] @ codes.T
        matched = similarity[np.arange(len(similarity)), start + np.arange(len(similarity))]
        above.append((similarity > matched[:, None]).sum(1))
        ties.append((similarity == matched[:, None]).sum(1) - 1)
    above, ties = np.concatenate(above), np.concatenate(ties)
    return {
        "retrieval/r1": float(_hits(above, ties, 1).mean()),
        "retrieval/r5": float(_hits(above, ties, 5).mean()),
        "retrieval/mean_rank": float((1 + above + ties / 2).mean()),
    }
