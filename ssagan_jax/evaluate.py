"""Scores a trained model: `python -m ssagan_jax.evaluate --workdir=runs/quickstart`.

Computes the same scores as training does. Each is a line of WORKDIR/eval/metrics.jsonl with its
full recipe, and a scalar for TensorBoard. IS, FID, KID, precision and recall need the Inception v3
weights that define FID.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

from ssagan_jax.atomic_files import check_not_file
from ssagan_jax.checkpointing.best_checkpoint import CheckpointChoice, find_checkpoint, read_best
from ssagan_jax.checkpointing.checksums import CheckpointError
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.config.validation import check_seed, check_value
from ssagan_jax.data.datasets import open_datasets
from ssagan_jax.data.tensorflow_import import import_tensorflow
from ssagan_jax.errors import InputError, exit_on_user_error
from ssagan_jax.evaluation.eval_context import EvalRequest
from ssagan_jax.evaluation.evaluator import Evaluator
from ssagan_jax.evaluation.scores import Score, format_scores, write_scores
from ssagan_jax.inference.model_loading import load_state
from ssagan_jax.metrics.inception_weights import how_to_fetch
from ssagan_jax.workdir import Workdir


def evaluate(
    workdir: Workdir,
    config: ConfigDict,
    checkpoints: Sequence[CheckpointChoice],
    request: EvalRequest,
) -> None:
    """Scores checkpoints, writes the scores into the work folder and prints them.

    Of several checkpoints, those that a training deletes meanwhile are skipped. `config` is the
    run's with the `eval` section to use now; `request.folder` gets a subfolder for each checkpoint.

    Raises:
      InputError: weights, data, schedule or a checkpoint are missing.
    """
    datasets, tokenizer, schedule = open_datasets(config), workdir.tokenizer(), workdir.schedule()
    evaluator = Evaluator(config, datasets, tokenizer, schedule)
    evaluator.has_image_encoder = workdir.has_image_encoder()
    if not evaluator.has_image_encoder:
        print("the image encoder is untrained: scores that need it are skipped")
    if not evaluator.inception:
        print(
            "no Inception v3 weights: IS, FID, KID, precision and recall are skipped. "
            f"To get them, {how_to_fetch()}"
        )
    all_scores = []
    for checkpoint in checkpoints:
        try:
            state = load_state(workdir, checkpoint)
        except CheckpointError:
            if len(checkpoints) == 1 or checkpoint in workdir.checkpoint_steps():
                raise
            print(f"checkpoint {checkpoint} was deleted meanwhile", flush=True)
            continue
        step = int(state.step)
        folder = request.folder and request.folder / f"step_{step:07d}"
        scores = evaluator(state, dataclasses.replace(request, folder=folder))
        write_scores(workdir, scores)
        print(f"step {step}, {request.split}:\n{format_scores(scores)}", flush=True)
        all_scores += scores
    _write_scalars(workdir, all_scores)


def _write_scalars(workdir: Workdir, scores: Sequence[Score]) -> None:
    """Writes scalars for TensorBoard into the folder of metrics.jsonl."""
    import_tensorflow()
    from clu import metric_writers

    writer = metric_writers.SummaryWriter(str(workdir.metrics.parent))
    for score in scores:
        writer.write_scalars(score.step, {score.name: score.value})
    writer.close()


def _select_checkpoints(workdir: Workdir, wanted: str | None) -> list[CheckpointChoice]:
    """Those that --checkpoint selects: one, "all", "best", or the latest; raises InputError."""
    steps = workdir.checkpoint_steps()
    if not steps:
        raise InputError(f"{workdir.checkpoints}: no checkpoint here; train first")
    if wanted == "best":
        find_checkpoint(workdir, "best")
    choices = {None: [None], "best": ["best"], "all": steps}
    if best := read_best(workdir):
        steps = sorted({*steps, best.step})
    choices |= {str(step): [step] for step in steps}
    if wanted not in choices:
        raise InputError(f"--checkpoint={wanted}: must be all, best or one of {steps}")
    return choices[wanted]


def main() -> None:
    """The command."""
    parser = command_parser("evaluate", __doc__)
    parser.add_argument("--workdir", required=True, help="folder of a trained model")
    parser.add_argument("--checkpoint", help="a step, all or best (default: latest)")
    about = "whose captions and pictures are used (default: %(default)s)"
    parser.add_argument(
        "--split", default="validation", choices=("validation", "train"), help=about
    )
    about = "generated images; 0: as the config (default: %(default)s)"
    parser.add_argument("--num", type=int, default=0, help=about)
    about = "random seed of the noise (default: %(default)s)"
    parser.add_argument("--seed", type=int, default=0, help=about)
    about = "weight file, or: download (default: as the config)"
    parser.add_argument("--inception_weights", help=about)
    about = "layout of the file: fid or torchvision (default: as the config)"
    parser.add_argument("--inception_variant", help=about)
    about = "splits of the Inception Score (default: as the config)"
    parser.add_argument("--splits", type=int, help=about)
    about = "images per batch over all devices (default: as the config)"
    parser.add_argument("--batch_size", type=int, help=about)
    about = "folder for the generated images (default: none)"
    parser.add_argument("--save_pictures", help=about)
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        enable_compilation_cache()
        check_seed(flags.seed)
        if flags.num < 0:
            raise InputError(f"--num={flags.num}: must be 0 or more")
        workdir = Workdir(flags.workdir)
        config = workdir.config()
        workdir.check_generator()
        workdir.check_writable()  # Scores are written after minutes.
        for key in ("inception_weights", "inception_variant", "splits", "batch_size"):
            if getattr(flags, key) is not None:
                config.eval[key] = getattr(flags, key)
                check_value(f"eval.{key}", config.eval[key])
        folder = Path(flags.save_pictures) if flags.save_pictures else None
        if folder:
            check_not_file("--save_pictures", folder)
        request = EvalRequest(flags.split, flags.num, flags.seed, folder)
        evaluate(workdir, config, _select_checkpoints(workdir, flags.checkpoint), request)


if __name__ == "__main__":
    main()
