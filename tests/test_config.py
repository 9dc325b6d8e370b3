"""The config files, the paper's numbers, and what validation refuses."""

import copy
import importlib.util
import re
from pathlib import Path

import pytest

from configs import quickstart, small_data
from ssagan_jax.config import (
    ConfigError,
    default_config,
    flatten,
    incompatible_keys,
)
from ssagan_jax.config.schedule import Schedule, make_schedule
from ssagan_jax.config.validation import CONSTRAINTS, check_key, validate

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
VARIANTS = ("toy_cars", "birds", "my_cars")

PAPER = {
    "data.image_size": 256,
    "data.max_words": 18,
    "text_encoder.embedding_dim": 256,
    "generator.noise_dim": 100,
    "generator.ssacn_blocks": 7,
    "generator.learning_rate": 1e-4,
    "discriminator.learning_rate": 4e-4,
    "loss.damsm_weight": 0.1,
    "loss.magp_weight": 2.0,
    "loss.magp_power": 6.0,
    "loss.gamma1": 5.0,
    "loss.gamma2": 5.0,
    "loss.gamma3": 10.0,
    "train.batch_size": 16,
    "train.b1": 0.0,
    "train.b2": 0.9,
    "train.encoder_learning_rate": 4e-5,
    "train.encoders": "trained",
}
PAPER_LSTM = PAPER | {"text_encoder.name": "lstm", "tokenizer.kind": "words", "train.epochs": 150}
PAPER_BERT = PAPER | {
    "text_encoder.name": "bert",
    "text_encoder.hidden_size": 256,
    "text_encoder.num_heads": 8,
    "text_encoder.num_layers": 12,
    "tokenizer.kind": "wordpiece",
    "train.epochs": 50,
}

AT_LEAST_1 = """
text_encoder.word_dim text_encoder.hidden_size text_encoder.num_layers text_encoder.num_heads
text_encoder.intermediate_size text_encoder.type_vocab_size image_encoder.channels
generator.noise_dim generator.channels generator.mask_channels discriminator.channels
loss.num_mismatched loss.magp_every loss.contrastive_captions
train.epochs eval.splits eval.batch_size train.max_nonfinite_steps train.grad_accumulation_steps
log.scalars_every log.sample_grid_every log.sample_grid_rows log.checkpoint_every
log.keep_checkpoints
""".split()
AT_LEAST_0 = """
data.cache_mb data.cache_disk_mb text_encoder.vocab_size generator.ssacn_blocks damsm.epochs
damsm.steps damsm.batch_size damsm.warmup_steps loss.damsm_decay_steps eval.every_epochs eval.num
train.ema_half_life train.steps discriminator.projection_channels loss.sentence_queue
""".split()
ABOVE_0 = """
text_encoder.layer_norm_eps discriminator.learning_rate loss.gamma1 loss.gamma2 loss.gamma3
loss.contrastive_gamma damsm.learning_rate damsm.clip_norm train.encoder_learning_rate
""".split()
SHARES = """
text_encoder.dropout text_encoder.bert_dropout damsm.b1 damsm.b2 train.b1 train.b2
train.ema_decay
""".split()
# Just outside of what each constraint allows.
BAD = {
    **dict.fromkeys(AT_LEAST_1, [0]),
    **dict.fromkeys(AT_LEAST_0, [-1]),
    **dict.fromkeys(ABOVE_0, [0.0]),
    **dict.fromkeys(SHARES, [-0.1, 1.0]),
    "seed": [-1, 2**32],
    "data.name": ["my cars", "../cars", "-cars", ""],
    "data.image_size": [16, 48, 2048, 0, -64],
    "data.max_words": [0, 511],
    "data.bad_images": ["ignore"],
    "tokenizer.kind": ["bytes"],
    "tokenizer.vocab_size": [99],
    "text_encoder.name": ["gru"],
    "text_encoder.embedding_dim": [0, 255, -2],
    "text_encoder.max_positions": [2],
    "text_encoder.hidden_act": ["tanh"],
    "text_encoder.pooling": ["max"],
    "loss.magp_norm": ["max"],
    "image_encoder.name": ["vgg"],
    "image_encoder.pooling": ["max"],
    "image_encoder.statistics": ["none"],
    "generator.modulation": ["film"],
    "generator.upsampling": ["bicubic"],
    "generator.residual_gain": [-0.1],
    "generator.learning_rate": [0.0, -1e-4, float("nan")],
    "discriminator.residual_gain": [-0.1],
    "discriminator.updates": [0, 3],
    "loss.damsm_weight": [-0.1],
    "loss.damsm_weight_start": [-0.1],
    "loss.contrastive_weight": [-0.1],
    "loss.diversity_weight": [-0.1],
    "loss.kl_weight": [-0.1],
    "loss.lecam_weight": [-0.1],
    "loss.magp_weight": [-1.0],
    "loss.magp_power": [0.5],
    "loss.mismatched": ["random"],
    "augment.policy": ["colour", "color, cutout", "color,color", "color,"],
    "train.batch_size": [1, 0],
    "train.ema_rampup": [-0.01],
    "eval.inception_variant": ["timm"],
    "eval.best": ["diversity", "KID"],
    "data.device_cache_mb": [-2],
    "log.health_every": [-1],
    "train.encoders": ["absent"],
    "train.compute_dtype": ["float16"],
}
# Any text or either truth value may stand here; a wrong path is reported when it is opened.
UNRULED = {
    *("data.dir", "data.prepared_dir", "data.random_flip", "tokenizer.pretrained"),
    *("text_encoder.pretrained", "image_encoder.weights", "damsm.checkpoint", "log.profile"),
    *(
        "text_encoder.normalize",
        "loss.damsm_words",
        "discriminator.concat_sentence",
        "discriminator.minibatch_stddev",
        "generator.conditioning_augmentation",
        "train.compilation_cache",
    ),
    *("train.checkpoint", "train.remat", "eval.inception_weights", "eval.nearest"),
}


def changed(**values):
    """The default config with other values; keys have two underscores for a dot."""
    config = default_config()
    for name, value in values.items():
        section, _, key = name.rpartition("__")
        (config[section] if section else config)[key] = value
    return config


def load(path, *variant):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_file_is_valid_and_locked(path, variant):
    config = load(path, variant)
    validate(config)
    assert config.data.name == variant
    assert config.data.random_flip
    assert flatten(config).keys() == flatten(default_config()).keys()
    with pytest.raises((AttributeError, KeyError)):
        config.data.nonsense = 1
    with pytest.raises((AttributeError, KeyError)):
        config.nonsense = 1


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_file_defaults_to_the_toy_cars_and_refuses_an_invalid_name(path):
    assert not incompatible_keys(load(path), load(path, "toy_cars"))
    with pytest.raises(
        ConfigError,
        match=r"config\.data\.name='my cars': must be at most 64 letters, digits, _ and -, "
        r"beginning with a letter or digit, such as my_cars",
    ):
        validate(load(path, "my cars"))


@pytest.mark.parametrize(("name", "paper"), [("lstm", PAPER_LSTM), ("bert", PAPER_BERT)])
def test_the_papers_numbers(name, paper):
    config = load(next(path for path in CONFIGS if path.stem == name), "birds")
    assert {key: flatten(config)[key] for key in paper} == paper
    assert config.train.steps == 0 and not config.train.ema_decay


def test_every_key_has_a_rule_or_is_free():
    assert set(BAD) == set(CONSTRAINTS)
    assert set(BAD) | UNRULED == set(flatten(default_config()))
    assert not set(BAD) & UNRULED


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in BAD.items() for value in values]
)
def test_a_bad_value_is_refused_with_its_key_and_what_is_allowed(key, value):
    allowed = CONSTRAINTS[key][1]
    config = changed(**{key.replace(".", "__"): value})
    with pytest.raises(ConfigError) as caught:
        validate(config)
    assert str(caught.value) == f"config.{key}={value!r}: must be {allowed}"
    assert len(allowed) > 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            dict(text_encoder__name="bert", tokenizer__kind="wordpiece", text_encoder__num_heads=7),
            "config.text_encoder.num_heads=7: must divide config.text_encoder.hidden_size=256",
        ),
        (
            dict(text_encoder__name="bert"),
            "config.tokenizer.kind='words': must be 'wordpiece' if config.text_encoder.name='bert'",
        ),
        (
            dict(
                text_encoder__name="bert", tokenizer__kind="wordpiece", text_encoder__pretrained="b"
            ),
            "config.tokenizer.pretrained='': must equal config.text_encoder.pretrained='b'",
        ),
        (
            dict(
                text_encoder__name="bert",
                tokenizer__kind="wordpiece",
                text_encoder__max_positions=19,
            ),
            "config.data.max_words=18: must be at most 17",
        ),
        (
            dict(
                text_encoder__name="bert",
                tokenizer__kind="wordpiece",
                text_encoder__max_positions=19,
                text_encoder__pretrained="b",
                tokenizer__pretrained="b",
            ),
            "config.data.max_words=18: must be at most 17",
        ),
        (
            dict(damsm__batch_size=24),
            "config.damsm.batch_size=24: must be 0 or a multiple of config.train.batch_size=16",
        ),
        (
            dict(loss__contrastive_weight=0.5),
            "config.discriminator.projection_channels=0: must be 1 or more, such as 64, if "
            "config.loss.contrastive_weight=0.5 is above 0",
        ),
        (
            dict(discriminator__concat_sentence=False),
            "config.discriminator.projection_channels=0: must be 1 or more, such as 64, if "
            "config.discriminator.concat_sentence=False",
        ),
        (
            dict(image_encoder__name="inception_v3"),
            "config.image_encoder.weights='': must name torchvision's inception_v3 file",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(changed(**values))


def test_what_only_the_other_encoder_reads_is_not_held_against_it():
    validate(changed(text_encoder__num_heads=7, text_encoder__max_positions=3))


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("data.imagesize", "data.image_size"),
        ("train.batchsize", "train.batch_size"),
        ("generator.lr", "generator.learning_rate"),
        ("data", "data.dir"),
        ("zzz", "docs/training.md"),
    ],
)
def test_an_unknown_key_is_refused_with_those_near_it(key, near):
    with pytest.raises(ConfigError, match=rf"config\.{key}: there is no such key; .*{near}"):
        check_key(key)


def test_known_keys_pass():
    for key in flatten(default_config()):
        check_key(key)


def test_steps_replace_epochs():
    config = changed(train__epochs=3)
    assert make_schedule(config, 40 * 16) == Schedule(40, 8000, 8000 + 120)
    config.train.steps = 7
    assert make_schedule(config, 40 * 16) == Schedule(40, 8000, 8000 + 7)
    config.damsm.batch_size = 64
    schedule = make_schedule(config, 40 * 16)
    assert schedule == Schedule(40, 2000, 2000 + 7)
    schedule.check_can_resume(2007, Schedule(40, 2000, 9000))
    with pytest.raises(
        ConfigError,
        match="taken 8 steps of stage 2 already, but config.train.steps or .* only 7; raise them",
    ):
        schedule.check_can_resume(2008, schedule)
    for saved in (Schedule(39, 2000, 2007), Schedule(40, 1999, 2007)):
        with pytest.raises(ConfigError, match="an epoch of this run has .* former data"):
            schedule.check_can_resume(2000, saved)


def test_differences_name_key_and_both_values():
    saved, current = default_config(), changed(seed=1, loss__magp_norm="sum", train__b1=0.5)
    assert incompatible_keys(saved, copy.deepcopy(saved)) == []
    assert incompatible_keys(saved, current) == [
        "loss.magp_norm: 'joint' -> 'sum'",
        "seed: 0 -> 1",
        "train.b1: 0.0 -> 0.5",
    ]


@pytest.mark.parametrize(
    "values",
    [
        dict(train__epochs=1, train__steps=5, train__max_nonfinite_steps=1),
        dict(train__remat=True, train__compute_dtype="bfloat16", train__grad_accumulation_steps=2),
        dict(data__dir="elsewhere", data__prepared_dir="elsewhere"),
        dict(data__cache_mb=0, data__cache_disk_mb=0),
        dict(log__scalars_every=1, log__keep_checkpoints=9, log__profile=True),
    ],
)
def test_how_long_how_often_and_where_from_may_change_between_runs(values):
    assert incompatible_keys(default_config(), changed(**values)) == []


def test_any_other_key_may_not_change():
    free = re.compile(
        r"(eval|log)\..*|data\.(dir|prepared_dir|(device_)?cache_(disk_)?mb)"
        r"|train\.(epochs|steps|max_nonfinite_steps|remat|compute_dtype)"
        r"|train\.(grad_accumulation_steps|compilation_cache)"
    )
    for key, value in flatten(default_config()).items():
        other = BAD[key][0] if key in BAD else not value if isinstance(value, bool) else "other"
        found = incompatible_keys(default_config(), changed(**{key.replace(".", "__"): other}))
        wanted = [] if free.fullmatch(key) else [f"{key}: {value!r} -> {other!r}"]
        assert found == wanted


def test_the_quickstart_has_a_recipe_for_drawings_and_one_for_photos():
    drawings, photos = quickstart.get_config(), quickstart.get_config("my_photos")
    assert drawings.loss.mismatched == "nearest" and photos.loss.mismatched == "roll"
    assert photos.loss.damsm_weight_start < drawings.loss.damsm_weight_start
    assert photos.generator.learning_rate < photos.discriminator.learning_rate
    assert photos.augment.policy and not drawings.augment.policy
    for key in ("damsm", "loss", "augment", "generator", "discriminator"):
        same = small_data.get_config("my_photos")[key]
        sizes = {"channels", "mask_channels"}
        differing = {name for name in same if same[name] != photos[key][name]}
        assert differing <= sizes
