"""How well codes of pictures and captions find each other.

Ties count as their expected value under a random order, so that an encoder which gives every pair
the same similarity is at chance, not perfect. Of codes that are not finite all is NaN.
"""

import numpy as np

MISMATCHED = 99
_BLOCK = 1000


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-8)


def _hits(above: np.ndarray, ties: np.ndarray, k: int) -> np.ndarray:
    """Chance in [0, 1] to be among the first k, below `above` others and level with `ties`."""
    return np.clip((k - above) / (ties + 1), 0, 1)


def _finite(*parts: np.ndarray) -> bool:
    return all(np.isfinite(rows).all() for rows in parts)


def r_precision(
    codes: np.ndarray,
    sentences: np.ndarray,
    class_ids: np.ndarray,
    pool: np.ndarray,
    pool_class_ids: np.ndarray,
    mismatched: int = MISMATCHED,
    seed: int = 0,
) -> float:
    """Share of pictures nearer to their own caption than to all of 99 mismatched ones.

    The protocol of AttnGAN (Xu et al. 2018, arXiv:1711.10485, section 4), with cosines. The
    mismatched captions are drawn for every picture from those of other classes, since one of the
    same class may well fit.

    Args:
      codes: of pictures, [N, E].
      sentences: of the captions that they were painted from, [N, E].
      class_ids: i[N].
      pool: sentences to draw from, [M, E].
      pool_class_ids: i[M].
      mismatched: how many; fewer where other classes have fewer.
      seed: of the choice.

    Raises:
      ValueError: a picture's class is the only one.
    """
    if not _finite(codes, sentences, pool):
        return float("nan")
    codes, sentences, pool = map(_unit, (codes, sentences, pool))
    hits = []
    for index, (code, sentence, class_id) in enumerate(
        zip(codes, sentences, class_ids, strict=True)
    ):
        others = np.flatnonzero(pool_class_ids != class_id)
        if not len(others):
            raise ValueError(f"class {class_id} is the only one; mismatched captions need another")
        random = np.random.default_rng((seed, index))
        chosen = random.choice(others, min(mismatched, len(others)), replace=False)
        own, wrong = code @ sentence, pool[chosen] @ code
        hits.append(_hits((wrong > own).sum(), (wrong == own).sum(), 1))
    return float(np.mean(hits))


def retrieval(codes: np.ndarray, sentences: np.ndarray) -> dict[str, float]:
    """How each caption ranks its own picture among all pictures, by cosine.

    Args:
      codes: of pictures, [N, E].
      sentences: of their captions, [N, E].

    Returns:
      "retrieval/r1" and "retrieval/r5", shares in [0, 1] of captions whose picture is the first or
      among the first five, and "retrieval/mean_rank", 1 at best, (N + 1) / 2 by chance.
    """
    if not _finite(codes, sentences):
        return dict.fromkeys(("retrieval/r1", "retrieval/r5", "retrieval/mean_rank"), float("nan"))
    codes, sentences = _unit(codes), _unit(sentences)
    above, ties = [], []
    for start in range(0, len(sentences), _BLOCK):
        block = slice(start, start + _BLOCK)
        similarity = sentences[block] @ codes.T
        own = similarity[np.arange(len(similarity)), start + np.arange(len(similarity))]
        above.append((similarity > own[:, None]).sum(1))
        ties.append((similarity == own[:, None]).sum(1) - 1)
    above, ties = np.concatenate(above), np.concatenate(ties)
    return {
        "retrieval/r1": float(_hits(above, ties, 1).mean()),
        "retrieval/r5": float(_hits(above, ties, 5).mean()),
        "retrieval/mean_rank": float((1 + above + ties / 2).mean()),
    }
