"""The evaluator on a tiny untrained model and images of noise."""

import copy
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from trees import randomize_zeros

from ssagan_jax.config import ConfigError
from ssagan_jax.config.schedule import Schedule, make_schedule
from ssagan_jax.data.tokenizer import learn_tokenizer
from ssagan_jax.data.toy_cars import builder
from ssagan_jax.data.toy_cars.drawing import draw_car
from ssagan_jax.errors import InputError
from ssagan_jax.evaluation import eval_context
from ssagan_jax.evaluation.eval_context import EvalRequest
from ssagan_jax.evaluation.evaluator import Evaluator
from ssagan_jax.evaluation.generated_images import caption_batches
from ssagan_jax.evaluation.health_probe import HealthProbe
from ssagan_jax.evaluation.scores import Score, format_scores, read_scores, write_scores
from ssagan_jax.evaluation.toy_car_attributes import attribute_hits
from ssagan_jax.inference.sampler import generation_variables
from ssagan_jax.metrics.features import FeatureNetwork
from ssagan_jax.metrics.training_health import overfitting_signs, relative_variety, thumbnails
from ssagan_jax.steps.networks import build_networks, normalize_images
from ssagan_jax.steps.state import initial_state
from ssagan_jax.workdir import Workdir

WORDS = "red blue green small large bird car on in with wing roof".split()
INCEPTION = ["inception_score", "fid", "kid", "precision", "recall"]
ENCODERS = ["encoder_frechet", "r_precision", "diversity", "nearest_training_picture"]
RETRIEVAL = ["retrieval/r1", "retrieval/r5", "retrieval/mean_rank"]


class NoiseImages:
    """Images of noise with two captions each."""

    def __init__(self, count, seed):
        rng = np.random.default_rng(seed)
        self._records = [
            {
                "image": rng.integers(0, 256, (36, 36, 3), np.uint8),
                "captions": [" ".join(rng.choice(WORDS, 5)) for _ in range(2)],
                "class_id": index % 3,
                "name": f"{(7 * index) % count:03d}",  # Another order than that of the names.
            }
            for index in range(count)
        ]

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    def metadata(self, index):
        return self._records[index]


@pytest.fixture(scope="module")
def datasets():
    return {"train": NoiseImages(40, 0), "validation": NoiseImages(13, 1)}


@pytest.fixture(scope="module")
def tokenizer(datasets):
    captions = [text for record in datasets["train"] for text in record["captions"]]
    return learn_tokenizer("words", captions, 100)


@pytest.fixture(scope="module")
def config(tiny_config):
    config = copy.deepcopy(tiny_config)
    config.data.name = "birds"
    config.damsm.steps, config.train.steps = 4, 20
    config.eval.splits, config.eval.batch_size = 3, 8
    return config


@pytest.fixture(scope="module")
def state(config, tokenizer):
    state = jax.jit(lambda: initial_state(config, tokenizer.vocabulary))()
    return jax.device_get(state.replace(step=jnp.int32(9)))


@pytest.fixture
def colors(monkeypatch, tmp_path):
    """In place of Inception: a network of mean colors, with a weight file of any content."""
    mixing = np.random.default_rng(0).normal(size=(12, 6)).astype(np.float32)

    def apply(variables, images):
        quarters = images.astype(jnp.float32).reshape(-1, 2, 16, 2, 16, 3).mean((2, 4)) / 255
        pooled = quarters.reshape(-1, 12)
        return {"pooled": pooled, "logits": 30 * pooled @ variables["mixing"]}

    def build(path, variant):
        recipe = {"features": f"colors_{variant}", "weights_sha256": "abc"}
        recipe |= {"resize": {"filter": "none", "size": 32}, "value_range": "0..255"}
        outputs = {"pooled": "pooled", "logits": "logits"}
        return FeatureNetwork(apply, {"mixing": mixing}, recipe, outputs)

    file = tmp_path / "weights"
    file.touch()
    monkeypatch.setattr(eval_context, "inception_features", build)
    monkeypatch.setenv("SSAGAN_CACHE", str(tmp_path / "cache"))
    return str(file)


@pytest.fixture
def make_evaluator(config, datasets, tokenizer):
    """(values of `config.eval`) to an evaluator."""

    def make(**values):
        chosen = copy.deepcopy(config)
        chosen.eval.update(values)
        schedule = make_schedule(chosen, len(datasets["train"]))
        return Evaluator(chosen, datasets, tokenizer, schedule)

    return make


def by_name(scores):
    return {score.name: score for score in scores}


def test_scores_do_not_depend_on_batch_size_or_devices(make_evaluator, state, colors, monkeypatch):
    devices = jax.local_devices()
    found = []
    for count, size in ((4, 8), (1, 5)):
        monkeypatch.setattr(jax, "devices", lambda count=count: devices[:count])
        found.append(by_name(make_evaluator(inception_weights=colors, batch_size=size)(state)))
    first, second = found
    assert list(first) == list(second) == INCEPTION + ENCODERS + RETRIEVAL
    for name in first:
        assert first[name].value == pytest.approx(second[name].value, rel=1e-3, abs=1e-6), name
        assert np.isfinite(first[name].value)
    assert first["inception_score"].recipe["splits"] == 3 and first["inception_score"].std > 0
    assert first["kid"].recipe["subset_size"] == 6 and first["kid"].std > 0
    # The real images are noise, the generated ones nearly gray.
    assert first["fid"].value > 0 and first["precision"].value < 0.5
    assert first["fid"].recipe["features"] == "colors_fid/pooled"
    assert first["fid"].recipe["weights_sha256"] == "abc"


def test_an_untrained_image_encoder_gives_no_scores(make_evaluator, state, colors):
    evaluator = make_evaluator(inception_weights=colors)
    evaluator.has_image_encoder = False
    assert list(by_name(evaluator(state))) == [*INCEPTION, "diversity"]
    evaluator = make_evaluator()
    evaluator.has_image_encoder = False
    assert evaluator(state) == []


def test_scores_depend_on_seed_split_and_number_alone(make_evaluator, state):
    evaluator = make_evaluator()
    one, again, other = (
        by_name(evaluator(state, EvalRequest(seed=seed, num=20))) for seed in (1, 1, 2)
    )
    assert list(one) == ENCODERS + RETRIEVAL
    assert one == again
    assert one["encoder_frechet"].value != other["encoder_frechet"].value
    recipe = one["encoder_frechet"].recipe
    assert (recipe["num_real"], recipe["num_generated"], recipe["seed"]) == (13, 20, 1)
    assert recipe["checkpoint"] == 9 and recipe["weights"] == "raw"
    # 40 images in batches of 8 are 5 steps per epoch, and stage 1 took 4 steps.
    assert (one["diversity"].step, one["diversity"].epoch) == (9, 1.0)
    on_train = by_name(evaluator(state, EvalRequest(split="train", num=5)))
    assert on_train["encoder_frechet"].recipe["num_real"] == 40
    data = {scores["diversity"].recipe["real_statistics"] for scores in (one, other, on_train)}
    assert len(data) == 2
    # Training takes over no scores of other images than its own.
    by_training = evaluator(state)
    assert evaluator.are_of_training(by_training) and not evaluator.are_of_training([])
    others = (one, by_name(evaluator(state, EvalRequest(num=20))))
    assert not any(evaluator.are_of_training(scores.values()) for scores in others)
    # That of diversity is its own.
    evaluator.config = copy.deepcopy(evaluator.config)
    with evaluator.config.unlocked():
        evaluator.config.eval.num = by_name(by_training)["diversity"].recipe["num_generated"]
    assert not evaluator.are_of_training(by_training)


def test_encoders_alone_are_scored_before_the_gan(make_evaluator, state):
    scores = make_evaluator()(state.replace(step=jnp.int32(4)))
    assert [score.name for score in scores] == RETRIEVAL
    assert {(score.stage, score.epoch) for score in scores} == {("encoders", 0.0)}


def test_scores_are_due_after_full_epochs_of_the_gan(make_evaluator):
    def due(every):
        evaluator = make_evaluator(every_epochs=every)
        return [step for step in range(30) if evaluator.is_due(step)]

    # Stage 1 takes 4 steps, an epoch 5, and the last step, 24, is scored in any case.
    assert (due(0), due(1), due(2)) == ([], [9, 14, 19], [14])


def test_generated_images_are_written_to_a_folder(make_evaluator, datasets, state, tmp_path):
    folder = tmp_path / "images"
    scores = make_evaluator(nearest=False)(state, EvalRequest(num=3, folder=folder))
    assert "nearest_training_picture" not in by_name(scores)
    files = sorted(path.name for path in folder.iterdir())
    assert files == [f"00000{n}.{end}" for n in range(3) for end in ("png", "txt")]
    with Image.open(folder / "000001.png") as image:
        assert image.size == (32, 32) and len(image.getcolors(2000)) > 10
    # The second of three captions, spread evenly over 13 images in the order of their names.
    names = {record["name"]: record for record in datasets["validation"]}
    assert (folder / "000001.txt").read_text() == names["004"]["captions"][0] + "\n"


def test_more_generated_images_than_real_ones_use_every_caption_in_turn(datasets, tokenizer):
    batches = list(caption_batches(datasets["validation"], tokenizer, 30, 6, 8))
    assert [len(records) for _, records in batches] == [8, 8, 8, 6]
    records = [record for _, part in batches for record in part]
    assert [int(record["name"]) for record in records] == [n % 13 for n in range(30)]
    chosen = [record["captions"].index(record["caption"]) for record in records]
    assert chosen == [0] * 13 + [1] * 13 + [0] * 4
    numbers = np.concatenate([batch["number"] for batch, _ in batches])
    np.testing.assert_array_equal(numbers, np.arange(30))


def test_health_is_measured_on_fixed_images(make_evaluator, config, datasets, tokenizer, state):
    # Captions change new images once zeros do not scale their branches.
    generator, discriminator = map(randomize_zeros, (state.generator, state.discriminator), (1, 2))
    state = state.replace(generator=generator, discriminator=discriminator)
    found = HealthProbe(make_evaluator())(state)
    networks = build_networks(config, tokenizer.vocabulary)

    def embed(records):
        encoded = [tokenizer.encode(each["captions"][0], config.data.max_words) for each in records]
        tokens, mask = map(np.stack, zip(*encoded, strict=True))
        text = {"params": state.encoders["text"]}
        return networks.text_encoder.apply(text, tokens, mask, False)[1]

    def judge(images, sentences):
        params, images = {"params": state.discriminator}, normalize_images(jnp.asarray(images))
        return np.asarray(networks.discriminator.apply(params, images, sentences)[0])

    # All images of both splits, which have fewer than the 64 that are chosen of larger ones.
    real = {}
    for split, dataset in datasets.items():
        records = sorted((dataset[index] for index in range(len(dataset))), key=itemgetter("name"))
        images = np.stack([record["image"][2:34, 2:34] for record in records])
        real[split] = (images, judge(images, embed(records)), records)
    # 16 of the 40 training captions, in even steps, with the same 4 noises.
    records = [real["train"][2][caption * 40 // 16] for caption in range(16) for _ in range(4)]
    key = jax.random.key(config.seed)
    noise = [jax.random.normal(jax.random.fold_in(key, n), (8,)) for n in range(4)]
    sentences, variables = embed(records), generation_variables(state)["generator"]
    images, _ = networks.generator.apply(variables, jnp.stack(noise * 16), sentences, False)
    images = np.asarray(jnp.round((images + 1) * 127.5).astype(jnp.uint8))
    wanted = overfitting_signs(real["train"][1], real["validation"][1], judge(images, sentences))
    small = thumbnails(images).reshape(16, 4, -1)
    wanted |= relative_variety(small, thumbnails(real["train"][0]))
    wanted = {f"health/{name}": value for name, value in wanted.items()}
    # Pixels may be rounded the other way.
    assert found == pytest.approx(wanted, rel=1e-2, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize(
    ("best", "values", "reason"),
    [
        ("kid", {}, r"needs Inception v3 weights; fetch https"),
        ("attributes/color", {}, r"only toy cars have attributes, but config\.data\.name='birds'"),
        (
            "encoder_frechet",
            {"num": 3},
            r"needs 4 images, .* 13 in validation and .*num=3;",
        ),
    ],
)
def test_a_best_score_that_cannot_be_computed_is_refused(make_evaluator, best, values, reason):
    make_evaluator(best="r_precision").check_best()
    make_evaluator().check_best()
    with pytest.raises(ConfigError, match=f"config.eval.best='{best}': {reason}"):
        make_evaluator(best=best, **values).check_best()


def score(name, value=1.0, std=None, count=4000, step=8, split="validation"):
    recipe = {"num_real": count, "num_generated": 5000, "weights_sha256": "6726825d" + 56 * "0"}
    return Score(step, 0.5, "gan", split, name, value, std, recipe)


def test_the_last_score_of_each_step_and_name_is_read(tmp_path):
    workdir = Workdir(tmp_path)
    assert read_scores(workdir, "validation") == {}
    older, newer = score("fid", 3.0), score("fid", 2.0)
    others = [score("kid", 0.1, 0.01), score("fid", 9.0, step=4), score("fid", 8.0, split="train")]
    write_scores(workdir, [older])
    write_scores(workdir, [newer, *others])
    assert read_scores(workdir, "validation") == {
        8: {"fid": newer, "kid": others[0]},
        4: {"fid": others[1]},
    }
    assert read_scores(workdir, "train") == {8: {"fid": others[2]}}
    rows = list(map(json.loads, workdir.metrics.read_text().splitlines()))
    assert rows[1] == dataclasses.asdict(newer) and len(rows) == 5
    assert list(rows[0]) == ["step", "epoch", "stage", "split", "name", "value", "std", "recipe"]
    # An equal score moves to the end.
    write_scores(workdir, [older])
    assert read_scores(workdir, "validation")[8]["fid"] == older
    assert list(map(json.loads, workdir.metrics.read_text().splitlines())) == [*rows[1:], rows[0]]
    assert [file.name for file in workdir.metrics.parent.iterdir()] == ["metrics.jsonl"]


def test_scores_that_are_written_at_once_are_all_kept(tmp_path):
    workdir = Workdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: write_scores(workdir, [score("kid", step=step)]), range(40)))
    assert sorted(read_scores(workdir, "validation")) == list(range(40))


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 8',
        "[8]",
        '{"step": 8, "split": "validation", "attributes/color": 0.5}',
        json.dumps(dataclasses.asdict(score("fid")) | {"value": None}),
        json.dumps(dataclasses.asdict(score("fid")) | {"unit": "px"}),
    ],
)
def test_a_line_that_is_not_a_score_is_refused(line, tmp_path):
    workdir = Workdir(tmp_path)
    write_scores(workdir, [score("kid")])
    with workdir.metrics.open("a") as lines:
        lines.write(line + "\n")
    with pytest.raises(InputError, match=r"metrics\.jsonl:2: not a score \("):
        read_scores(workdir, "validation")


def test_scores_of_few_images_start_with_a_warning_and_kid():
    scores = [score("inception_score", 5, 0.1), score("fid", 40), score("kid", 0.01, 0.002)]
    lines = format_scores(scores).splitlines()
    assert [line.split()[0] for line in lines] == ["inception_score", "fid", "kid"]
    assert lines[2].split()[1:] == ["0.01", "+-", "0.002"]
    few = format_scores(
        [dataclasses.replace(one, recipe=score("", count=2047).recipe) for one in scores]
    )
    assert few.splitlines()[0].startswith("FID from only 2047 images: below 2048 it is biased")
    assert [line.split()[0] for line in few.splitlines()[1:]] == ["kid", "inception_score", "fid"]
    unknown = dataclasses.replace(scores[1], recipe=scores[1].recipe | {"weights_sha256": "abc"})
    assert format_scores([unknown]).startswith("the Inception weights are not the published file")


def test_attributes_are_counted_if_captions_name_them_and_rules_can_read_them():
    cars = builder.cars("validation")[:32]
    images = np.stack([np.asarray(draw_car(car, 76))[6:70, 6:70] for car in cars])
    records = [
        {"attributes": dataclasses.asdict(car), "caption": text}
        for car, text in zip(cars, (builder.sentences(car)[0] for car in cars), strict=True)
    ]
    hits = attribute_hits(images, records)
    assert len(hits["color"]) == 32 and np.mean(hits["color"]) > 0.95
    assert 3 < len(hits["facing"]) < 32
    assert 3 < len(hits["body"]) < len([car for car in cars if car.color not in ("white", "black")])
    assert np.mean(hits["body"]) > 0.9
    assert attribute_hits(images[:, ::2, ::2], records).keys() == {"color", "facing"}


def test_a_converted_generator_exists_from_step_0_on():
    schedule = Schedule(5, 10, 30)
    trained = [schedule.is_generator_trained(step) for step in (0, 10, 11)]
    assert trained == [False, False, True]
    assert Schedule(5, 0, 20).is_generator_trained(0)
