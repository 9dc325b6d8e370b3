"""How different the images of one caption are."""

import numpy as np


def mean_pairwise_distance(features: np.ndarray) -> float:
    """Euclidean distance between images of the same caption: mean over pairs and captions.

    Args:
      features: [captions, images, D]; the images of a caption differ in their noise alone.

    Raises:
      ValueError: there is only one image per caption.
    """
    features = np.asarray(features, np.float64)
    if features.shape[1] < 2:
        raise ValueError(f"features have shape {features.shape}; give 2 or more images per caption")
    first, second = np.triu_indices(features.shape[1], 1)
    return float(np.linalg.norm(features[:, first] - features[:, second], axis=-1).mean())
