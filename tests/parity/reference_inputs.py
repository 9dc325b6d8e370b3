"""Inputs of both sides of the comparison with the reference."""

import numpy as np
from formula import integers, normal

BATCH, CHANNELS, EMBEDDING, VOCABULARY, WORDS = 4, 4, 256, 30, 7
IMAGE_ENCODER = "small_image_encoder"


def inputs() -> dict[str, np.ndarray]:
    """Arrays by name; two images have the same class, and captions get shorter."""
    lengths = np.array([WORDS, 5, 2, 1])
    valid = np.arange(WORDS) < lengths[:, None]
    return {
        "pixels": integers("pixels", 256, BATCH, 256, 256, 3).astype(np.uint8),
        "tokens": np.where(valid, 1 + integers("tokens", VOCABULARY - 1, BATCH, WORDS), 0),
        "lengths": lengths,
        "class_ids": np.array([3, 1, 3, 2]),
        "noise": normal("noise", BATCH, 100),
        "sentence": normal("sentence", BATCH, EMBEDDING),
        "words": normal("words", BATCH, WORDS, EMBEDDING) * valid[:, :, None],
        "regions": 0.1 * normal("regions", BATCH, 289, EMBEDDING),
        "codes": normal("codes", BATCH, EMBEDDING),
    }
