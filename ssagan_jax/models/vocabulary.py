"""What a text encoder must know of its tokenizer."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Size of a vocabulary and its special ids (the LSTM needs none but the padding).

    Attributes:
      size: number of entries.
      pad_id: stands behind the last token.
      cls_id: BERT's first token.
      sep_id: BERT's last token.
    """

    size: int
    pad_id: int = 0
    cls_id: int = 0
    sep_id: int = 0
