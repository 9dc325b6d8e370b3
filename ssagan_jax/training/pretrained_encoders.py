"""Published weights for the encoders: BERT of Hugging Face, Inception v3 of torchvision."""

import contextlib
import copy
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from ssagan_jax.config import ConfigError
from ssagan_jax.config.validation import validate
from ssagan_jax.models.bert import BertConfig
from ssagan_jax.pytorch.huggingface_bert import load_hf_bert
from ssagan_jax.pytorch.torchvision_inception import load_inception
from ssagan_jax.steps.state import TrainState


def with_pretrained_sizes(config: ConfigDict) -> ConfigDict:
    """A copy of the config with the sizes of the BERT that `text_encoder.pretrained` names.

    A work folder then describes its networks without the files that their weights came from.

    Raises:
      ConfigError: a file that the config names is missing, or the BERT has an unsupported layout.
    """
    config = copy.deepcopy(config)
    text, image = config.text_encoder, config.image_encoder
    # Encoders of another run include its Inception.
    needed = image.name == "inception_v3" and not config.damsm.checkpoint
    if needed and not os.path.isfile(image.weights):
        raise ConfigError(
            f"config.image_encoder.weights={image.weights!r}: there is no such file; download "
            "https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth and give its path"
        )
    if text.pretrained:
        bert, _ = _load_bert(text)
        sizes = dataclasses.asdict(bert)
        sizes["bert_dropout"] = sizes.pop("dropout")
        text.update(sizes)
        validate(config)
    return config.lock()


def with_pretrained_weights(state: TrainState, config: ConfigDict) -> TrainState:
    """The state with the published weights that the config names.

    Raises:
      ConfigError: a file is missing, or a tensor is missing, unknown or of another shape.
    """
    text, image = config.text_encoder, config.image_encoder
    if text.pretrained:
        _, bert = _load_bert(text)
        encoders = state.encoders | {"text": state.encoders["text"] | {"bert": bert}}
        state = state.replace(encoders=encoders)
    if image.name == "inception_v3":
        with _naming_the_key("image_encoder.weights", image.weights):
            trunk = load_inception(image.weights)["trunk"]
        state = state.replace(trunk={"inception": trunk})
    return state


def _load_bert(text: ConfigDict) -> tuple[BertConfig, dict[str, Any]]:
    with _naming_the_key("text_encoder.pretrained", text.pretrained):
        return load_hf_bert(text.pretrained, pooler=text.pooling == "cls")


@contextlib.contextmanager
def _naming_the_key(key: str, value: str) -> Iterator[None]:
    """Turns errors of reading a file into a ConfigError with the key that named the file."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ConfigError(f"config.{key}={value!r}: {error}") from error
