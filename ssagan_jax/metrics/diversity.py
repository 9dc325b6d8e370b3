"""How different the pictures of one caption are."""

import numpy as np


def mean_pairwise_distance(features: np.ndarray) -> float:
    """Mean Euclidean distance of the pictures of a caption, and its mean over the captions.

    Args:
      features: [captions, pictures, D], pictures of a caption that differ in noise alone.

    Raises:
      ValueError: there is only one picture of a caption.
    """
    features = np.asarray(features, np.float64)
    if features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}; give 2 pictures or more a caption")
    first, second = np.triu_indices(features.shape[1], 1)
    return float(np.linalg.norm(features[:, first] - features[:, second], axis=-1).mean())
