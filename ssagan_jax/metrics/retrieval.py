"""Retrieval between images and captions by the similarity of their codes.

Ties count with their expected value under a random order, so that an encoder which gives every pair
the same similarity scores at chance level, not perfectly. Codes that are not finite give NaN.
"""

import numpy as np

MISMATCHED = 99
_BLOCK = 1000


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Rows [N, E] scaled to length 1, in float64."""
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
) -> float:
    """Share of images closer to their own caption than to each of 99 mismatched ones.

    The protocol of AttnGAN (Xu et al. 2018, arXiv:1711.10485, section 4), with cosines. The
    mismatched captions are drawn for every image from other classes, since a caption of the same
    class may well fit; there are fewer if the other classes have fewer.

    Args:
      codes: of images, [N, E].
      sentences: of the captions that they were generated from, [N, E].
      class_ids: i[N].
      pool: sentence embeddings to draw from, [M, E].
      pool_class_ids: i[M].

    Raises:
      ValueError: there is only one class.
    """
    if not _finite(codes, sentences, pool):
        return float("nan")
    codes, sentences, pool = map(unit_rows, (codes, sentences, pool))
    hits = []
    for index, (code, sentence) in enumerate(zip(codes, sentences, strict=True)):
        candidates = np.flatnonzero(pool_class_ids != class_ids[index])
        if not len(candidates):
            raise ValueError(
                f"class {class_ids[index]} is the only one; mismatched captions need another"
            )
        random = np.random.default_rng((0, index))
        chosen = random.choice(candidates, min(MISMATCHED, len(candidates)), replace=False)
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
    codes, sentences = unit_rows(codes), unit_rows(sentences)
    above, ties = [], []
    for start in range(0, len(sentences), _BLOCK):
        block = slice(start, start + _BLOCK)
        similarity = sentences[block] @ codes.T
        matched = similarity.diagonal(start)[:, None]
        above.append((similarity > matched).sum(1))
        ties.append((similarity == matched).sum(1) - 1)
    above, ties = np.concatenate(above), np.concatenate(ties)
    return {
        "retrieval/r1": float(_hits(above, ties, 1).mean()),
        "retrieval/r5": float(_hits(above, ties, 5).mean()),
        "retrieval/mean_rank": float((1 + above + ties / 2).mean()),
    }
