"""Parses names of car classes, such as "Audi TT Hatchback 2011", and writes captions from them."""

import dataclasses
import re

import numpy as np

from ssagan_jax.errors import DataError

# The other 46 makes of Cars196 are one word.
_MAKES_OF_TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")
_CAB = " pickup truck"
# From the body in a class name to its noun in a sentence.
_NOUNS = {
    "SUV": "SUV",
    "Sedan": "sedan",
    "Coupe": "coupe",
    "Convertible": "convertible",
    "Hatchback": "hatchback",
    "Wagon": "station wagon",
    "Minivan": "minivan",
    "Van": "van",
    "Extended Cab": "extended cab" + _CAB,
    "Crew Cab": "crew cab" + _CAB,
    "SuperCab": "super cab" + _CAB,
    "Quad Cab": "quad cab" + _CAB,
    "Regular Cab": "regular cab" + _CAB,
    "Club Cab": "club cab" + _CAB,
    "": "car",
}
_BODY = re.compile(rf"(?<=\s)({'|'.join(body for body in _NOUNS if body)})(?=\s|$)")
# A picture gets one sentence of each group, so its sentences are all different.
_TEMPLATES = (
    (
        "this is a {year} {make} {model}.",
        "the picture shows a {year} {make} {model}.",
        "here we see the {make} {model} of {year}.",
        "{a_make} {model} from {year} can be seen here.",
    ),
    (
        "a photo of {a_make} {noun}.",
        "the vehicle in this photo is {a_make} {noun}.",
        "in this photo there is {a_make} {noun}.",
        "somebody has photographed {a_make} {noun}.",
    ),
    (
        "the {model} is {a_noun} made by {make}.",
        "this {noun} is the {model} by {make}.",
        "{make} builds the {model} as {a_noun}.",
        "this {make} {noun} is called the {model}.",
    ),
    (
        "this {noun} is of model year {year}.",
        "a {year} {noun} with the {make} badge.",
        "{make} sold this {noun} in {year}.",
        "the {noun} in the picture dates from {year}.",
    ),
    (
        "the car is a {year} model made by {make}.",
        "{a_noun} by {make}, the {model}, is the subject of this photo.",
        "one recognises the {make} {model}, {a_noun}.",
        "among cars of {year}, this one is the {make} {model}.",
    ),
)


@dataclasses.dataclass(frozen=True)
class CarClass:
    """A class of cars.

    Attributes:
      name: in Cars196, "Ram C/V Cargo Van Minivan 2012".
      make: "Ram".
      model: "C/V Cargo Van".
      body: one of 14 kinds, "Minivan"; "" if the name has none.
      year: "2012".
    """

    name: str
    make: str
    model: str
    body: str
    year: str


def parse_class(folder: str) -> CarClass:
    """Parses "<Make> <Model> [<Body>] <Year>"; "C-V" in a folder's name is "C/V".

    The body is the last one in the name: a "Phantom Drophead Coupe Convertible" is a
    convertible, and a "G Coupe IPL" is the coupe of the model "G IPL".

    Raises:
      DataError: there is no make, no model or no year.
    """
    name = re.sub(r"\bC\WV\b", "C/V", " ".join(folder.split()))
    rest, _, year = name.rpartition(" ")
    two_words = (make for make in _MAKES_OF_TWO_WORDS if rest.startswith(f"{make} "))
    make = next(two_words, rest.partition(" ")[0])
    model, body = _model_and_body(rest[len(make) :])
    if not re.fullmatch(r"(19|20)\d\d", year) or not make or not model:
        raise DataError(
            f"{folder!r} is not a class of cars; it must be <Make> <Model> <Body> <Year>, such "
            "as 'Audi TT Hatchback 2011'. Rename the folder or move it away"
        )
    return CarClass(name, make, model, body, year)


def _model_and_body(text: str) -> tuple[str, str]:
    found = list(_BODY.finditer(text))
    if not found:
        return text.strip(), ""
    start, end = found[-1].span()
    # "Conv." repeats the body.
    model = f"{text[:start].strip().removesuffix(' Conv.')} {text[end:].strip()}"
    return model.strip(), found[-1].group()


def sentences(car: CarClass, rng: np.random.Generator) -> list[str]:
    """Five different English sentences on make, model, body and year, in random order."""
    words = dataclasses.asdict(car) | {
        "noun": _NOUNS[car.body],
        "a_noun": _with_article(_NOUNS[car.body]),
        "a_make": _with_article(car.make),
    }
    written = []
    for group in rng.permutation(len(_TEMPLATES)):
        sentence = _TEMPLATES[group][rng.integers(len(_TEMPLATES[group]))].format(**words)
        written.append(sentence[0].upper() + sentence[1:])
    return written


def _with_article(words: str) -> str:
    return ("an " if words[0] in "AEIOaeio" or words.startswith("SUV") else "a ") + words
