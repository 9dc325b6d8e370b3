"""Strategies that damage files: bytes, JSON documents, and pickles made of random instructions."""

import copy
import json
import pickletools
import struct

from hypothesis import strategies as st

# Values that readers tend to trust.
NUMBERS = [0, 1, -1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, 1e308, float("inf"), float("nan")]
TEXTS = [
    "",
    "a",
    "../../etc/passwd",
    "/dev/zero",
    "\x1b[2J",
    "\x00",
    "\ud800",
    "é" * 300,
    "9" * 5000,
]
PLAIN = [None, True, False, *NUMBERS, *TEXTS]
values = st.recursive(
    st.sampled_from(PLAIN),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(TEXTS), inner),
    max_leaves=8,
)
_WORDS = [
    b"\x00",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\n",
    b"(",
    b".",
    b'"',
    b"{",
    b"[",
    b"\x1b",
    b"]" * 300,
]
_WORDS += [struct.pack("<Q", 2**62), struct.pack("<I", 2**31), b"1e999", b"9" * 400]


@st.composite
def damaged_bytes(draw, corpus):
    """A file of the corpus with a few bytes changed, cut, repeated or inserted."""
    content = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["byte", "word", "cut", "repeat", "splice", "end"]))
        if kind == "byte" and at < len(content):
            content[at] = draw(st.integers(0, 255))
        elif kind == "word":
            word = draw(st.sampled_from(_WORDS))
            content[at : at + draw(st.sampled_from([0, len(word)]))] = word
        elif kind == "cut":
            del content[at : at + draw(st.integers(1, 40))]
        elif kind == "repeat":
            content[at:at] = content[at : at + 30] * draw(st.integers(1, 20))
        elif kind == "splice":
            other = draw(st.sampled_from(corpus))
            start = draw(st.integers(0, len(other)))
            content[at:at] = other[start : start + 60]
        elif kind == "end":
            del content[at:]
    return bytes(content)


def _places(content, path=()):
    yield path
    if isinstance(content, dict | list):
        items = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in items:
            yield from _places(value, (*path, key))


@st.composite
def damaged_json(draw, corpus):
    """A JSON document of the corpus in which values are replaced, removed or added."""
    content = copy.deepcopy(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_places(content))))
        if not place:
            content = draw(values) if draw(st.integers(0, 9)) == 0 else content
            continue
        parent = content
        for key in place[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "replace", "remove", "nest"]))
        if kind == "remove":
            del parent[place[-1]]
        elif kind == "nest":
            parent[place[-1]] = [[parent[place[-1]]]]
        else:
            parent[place[-1]] = draw(values)
    return json.dumps(content).encode()


_NAMES = ["collections OrderedDict", "numpy dtype", "numpy ndarray", "builtins set", "os system"]
_NAMES += ["numpy.core.multiarray _reconstruct", "numpy.core.multiarray scalar", "builtins eval"]
_NAMES += ["torch._utils _rebuild_tensor_v2", "torch FloatStorage", "_codecs encode", "io open"]
_NAMES += ["numpy._core.numeric _frombuffer", "builtins complex", "torch._utils _rebuild_parameter"]
_CODES = [op for op in pickletools.opcodes if op.code not in "."]


@st.composite
def _instruction(draw):
    op = draw(st.sampled_from(_CODES))
    code, argument = op.code.encode("latin1"), op.arg
    if argument is None:
        return code
    if op.name in ("GLOBAL", "INST"):
        return code + draw(st.sampled_from(_NAMES)).replace(" ", "\n").encode() + b"\n"
    raw = draw(
        st.sampled_from([b"", b"a", b"<", b"i4", b"f4", b"O", b"latin1", b"storage", b"x" * 40])
    )
    if argument.n == pickletools.UP_TO_NEWLINE:
        text = draw(st.sampled_from([b"1", b"0", b"-1", b"00", b"9" * 1001, b"'a'", b"1.5", raw]))
        return code + text + b"\n"
    if argument.n >= 0:
        number = draw(st.sampled_from([0, 1, 2, 3, 255, 2**31 - 1]))
        return code + (number % 256**argument.n).to_bytes(argument.n, "little")
    size = {-2: 1, -3: 4, -4: 4, -5: 8}[argument.n]
    length = draw(st.sampled_from([len(raw), len(raw), len(raw), 2 ** (8 * size - 1)]))
    return code + length.to_bytes(size, "little") + raw


pickles = st.lists(_instruction(), max_size=60).map(lambda parts: b"".join(parts) + b".")
