"""Inception Score (Salimans et al. 2016, arXiv:1606.03498, section 4)."""

import numpy as np

_SHUFFLE_SEED = 2020  # as in torch-fidelity, for the same splits


class InceptionScore:
    """Running sums of a known number of predictions, in splits.

    For a split of n images, exp of the mean of KL(p(y|x) || p(y)) is exp(sum of p log p / n - sum
    of q log q) with q the mean of p. So sums are enough, and no prediction is kept.
    """

    def __init__(self, num: int, splits: int = 10) -> None:
        """Prepares `num` predictions in `splits` parts of nearly equal size.

        Images are assigned to splits at random, since images of a class often follow each other.

        Raises:
          ValueError: there are more splits than predictions, or none.
        """
        if not 1 <= splits <= num:
            raise ValueError(f"splits={splits}: must be 1 to {num}, the number of images")
        self.splits = splits
        bounds = np.arange(splits + 1) * num // splits
        self._split_sizes = np.diff(bounds)
        self._split = np.empty(num, np.int64)
        order = np.random.RandomState(_SHUFFLE_SEED).permutation(num)
        self._split[order] = np.repeat(np.arange(splits), self._split_sizes)
        self._count = 0
        self._sums: np.ndarray | None = None
        self._negative_entropy = np.zeros(splits)

    def add(self, logits: np.ndarray) -> None:
        """Adds the next rows of logits [N, classes]."""
        logits = np.asarray(logits, np.float64)
        split = self._split[self._count : self._count + len(logits)]
        self._count += len(logits)
        shifted = logits - logits.max(1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        probabilities = np.exp(logs)
        if self._sums is None:
            self._sums = np.zeros((self.splits, logits.shape[1]))
        np.add.at(self._sums, split, probabilities)
        # p log p is 0 where p underflows to 0.
        terms = np.where(probabilities > 0, probabilities * logs, 0)
        np.add.at(self._negative_entropy, split, terms.sum(1))

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation over the splits.

        Raises:
          ValueError: predictions are missing.
        """
        if self._sums is None or self._count != len(self._split):
            raise ValueError(f"{self._count} of {len(self._split)} predictions were added")
        marginal = self._sums / self._split_sizes[:, None]
        logs = np.log(np.where(marginal > 0, marginal, 1))
        mean_kl = self._negative_entropy / self._split_sizes - (marginal * logs).sum(1)
        scores = np.exp(mean_kl)
        return float(scores.mean()), float(scores.std())
