"""Whether generated images fit their captions, judged by other encoders than the run's own.

    python benchmarks/judge.py --workdir runs/quickstart-birds --judge=runs/judge.msgpack

The judge is a text and an image encoder of another seed and with another last layer than the run's,
trained by DAMSM on all images of the run's data, so that it knows the held-out ones too, whose
captions are painted. Prints Markdown: of the held-out images themselves, and of one image generated
for each of their captions, how many have their own caption ranked above 99 of other classes, and of
how many the class is that of most of the `--nearest` closest captions.
"""

import argparse
import copy
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import flax.serialization
import numpy as np
from ml_collections import ConfigDict

import ssagan_jax
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.images.crop_and_flip import central_crop
from ssagan_jax.data.pipeline import Record, training_batches
from ssagan_jax.data.tokenizer import Tokenizer
from ssagan_jax.evaluation.encoder_features import build_encode_fn, encoder_variables
from ssagan_jax.inference.sampler import sample_noise
from ssagan_jax.metrics.retrieval import r_precision, unit_rows
from ssagan_jax.steps.damsm_step import damsm_step
from ssagan_jax.steps.networks import build_networks
from ssagan_jax.steps.optimizers import build_optimizers
from ssagan_jax.steps.pmap import BATCH_AXIS, PmapStep, replicate, unreplicate
from ssagan_jax.steps.state import StepContext, initial_state
from ssagan_jax.workdir import Workdir

BATCH = 64


def judge_config(config: ConfigDict, seed: int) -> ConfigDict:
    """The config of a judge of a run with `config`."""
    config = copy.deepcopy(config)
    config.seed = seed
    flat = config.image_encoder.pooling == "flatten"
    config.image_encoder.pooling = "mean" if flat else "flatten"
    return config


def train_judge(
    config: ConfigDict, images: Sequence[Record], tokenizer: Tokenizer, steps: int
) -> dict:
    """The encoders' variables after `steps` of DAMSM on `images`."""
    optimizers = build_optimizers(config, steps)
    networks = build_networks(config, tokenizer.vocabulary, BATCH_AXIS)
    step = PmapStep(functools.partial(damsm_step, StepContext(config, networks, optimizers)))
    state = replicate(initial_state(config, tokenizer.vocabulary))
    batches = training_batches(
        images,
        tokenizer,
        image_size=config.data.image_size,
        max_words=config.data.max_words,
        random_flip=config.data.random_flip,
        batch_size=config.damsm.batch_size or config.train.batch_size,
        seed=config.seed,
    )
    for _, batch in zip(range(steps), batches, strict=False):
        state, _, _ = step(state, batch)
    return encoder_variables(unreplicate(state))


def majority_shares(
    codes: np.ndarray, class_ids: np.ndarray, sentences: np.ndarray, of: np.ndarray, nearest: int
) -> float:
    """Share of codes [N, E] whose class i[N] most of the nearest sentences [M, E] have, i[M]."""
    similarity = unit_rows(codes) @ unit_rows(sentences).T
    chosen = of[np.argsort(-similarity, 1)[:, :nearest]]
    # The first of equally many, in the order of similarity.
    found = [max(row, key=list(row).count) for row in chosen.tolist()]
    return float(np.mean(np.asarray(found) == class_ids))


def main() -> None:
    """Trains or reads the judge, generates and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    about = "of runs on one data set; WORKDIR@STEP is an earlier checkpoint"
    parser.add_argument("--workdir", required=True, nargs="+", help=about)
    parser.add_argument("--judge", type=Path, help="file that keeps the judge for other calls")
    parser.add_argument("--steps", type=int, default=3000, help="of the judge's training")
    parser.add_argument("--seed", type=int, default=1000, help="of the judge, and of the noise")
    parser.add_argument("--nearest", type=int, default=5, help="captions that choose the class")
    flags = parser.parse_args()
    first = Workdir(flags.workdir[0].partition("@")[0])
    tokenizer, config = first.tokenizer(), judge_config(first.config(), flags.seed)
    datasets = open_datasets(config)
    if flags.judge and flags.judge.exists():
        judge = flax.serialization.msgpack_restore(flags.judge.read_bytes())
    else:
        everything = [record for name in datasets for record in datasets[name]]
        judge = train_judge(config, everything, tokenizer, flags.steps)
        if flags.judge:
            flags.judge.write_bytes(flax.serialization.msgpack_serialize(judge))
    encode = build_encode_fn(build_networks(config, tokenizer.vocabulary), BATCH)
    judge = replicate(judge)

    pairs = [
        (record, caption) for record in datasets["validation"] for caption in record["captions"]
    ]
    captions = [caption for _, caption in pairs]
    class_ids = np.array([record["class_id"] for record, _ in pairs])
    tokens, mask = map(
        np.stack,
        zip(*(tokenizer.encode(each, config.data.max_words) for each in captions), strict=True),
    )

    def judged(images: np.ndarray) -> str:
        parts = [
            encode(judge, {"image": images[rows], "tokens": tokens[rows], "mask": mask[rows]})
            for rows in (slice(start, start + BATCH) for start in range(0, len(images), BATCH))
        ]
        codes, sentences = (
            np.concatenate([part[name] for part in parts]) for name in ("code", "sentence")
        )
        own = r_precision(codes, sentences, class_ids, sentences, class_ids)
        of_class = majority_shares(codes, class_ids, sentences, class_ids, flags.nearest)
        return f"{own:.3f} | {of_class:.3f}"

    print(f"| {len(captions)} held-out captions | step | own caption | class |")
    print("| --- " * 4 + "|")
    real = np.stack([central_crop(record["image"], config.data.image_size) for record, _ in pairs])
    print(f"| the images themselves | | {judged(real)} |", flush=True)
    for each in flags.workdir:
        workdir, _, step = each.partition("@")
        model = ssagan_jax.load_model(workdir, int(step) if step else None)
        noise = sample_noise(flags.seed, len(captions), model.config.generator.noise_dim)
        images = model.generate(captions, noise)
        print(f"| {workdir} | {model.step} | {judged(images)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
