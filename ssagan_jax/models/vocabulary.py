"""What a text encoder needs to know about its tokenizer."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Size of a vocabulary and its special ids.

    Attributes:
      size: number of entries.
      pad_id: of padding, after the last token.
      cls_id: of BERT's first token, [CLS]; unused by the LSTM.
      sep_id: of BERT's last token, [SEP]; unused by the LSTM.
    """

    size: int
    pad_id: int = 0
    cls_id: int = 0
    sep_id: int = 0
