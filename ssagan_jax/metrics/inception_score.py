"""Inception Score (Salimans et al. 2016, arXiv:1606.03498, section 4)."""

import numpy as np

SHUFFLE_SEED = 2020  # torch-fidelity's, so that its splits are ours


class InceptionScore:
    """Running sums of a known number of predictions, in splits.

    exp of the mean of KL(p(y|x) || p(y)) is, in a split of n, exp(sum of p log p / n - sum of
    q log q) with q the mean of p: so sums are enough, and no prediction is kept.
    """

    def __init__(self, num: int, splits: int = 10, seed: int = SHUFFLE_SEED) -> None:
        """Sets up for `num` predictions in `splits` parts of nearly equal size.

        Pictures are dealt out at random, since those of one class often follow each other.

        Raises:
          ValueError: there are more splits than predictions, or none.
        """
        if not 1 <= splits <= num:
            raise ValueError(f"splits={splits}: must be 1 to {num}, the number of pictures")
        self.splits = splits
        bounds = np.arange(splits + 1) * num // splits
        self._split = np.empty(num, np.int64)
        order = np.random.RandomState(seed).permutation(num)
        self._split[order] = np.repeat(np.arange(splits), np.diff(bounds))
        self._counts = np.diff(bounds)
        self._seen = 0
        self._predicted: np.ndarray | None = None
        self._negative_entropy = np.zeros(splits)

    def add(self, logits: np.ndarray) -> None:
        """Takes the next rows of logits [N, classes]."""
        logits = np.asarray(logits, np.float64)
        split = self._split[self._seen : self._seen + len(logits)]
        self._seen += len(logits)
        shifted = logits - logits.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        share = np.exp(logs)
        if self._predicted is None:
            self._predicted = np.zeros((len(self._counts), logits.shape[1]))
        np.add.at(self._predicted, split, share)
        # Logits far below the others' have no share, however far.
        np.add.at(self._negative_entropy, split, np.where(share > 0, share * logs, 0).sum(1))

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation over the splits.

        Raises:
          ValueError: not all predictions came.
        """
        if self._predicted is None or self._seen != len(self._split):
            raise ValueError(f"{self._seen} of {len(self._split)} predictions came")
        marginal = self._predicted / self._counts[:, None]
        logs = np.log(np.where(marginal > 0, marginal, 1))
        mean_kl = self._negative_entropy / self._counts - (marginal * logs).sum(1)
        scores = np.exp(mean_kl)
        return float(scores.mean()), float(scores.std())
