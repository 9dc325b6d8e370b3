"""Converts PyTorch weights of SSA-GAN, AttnGAN and DF-GAN to a work folder, and back.

python -m ssagan_jax.convert --workdir=runs/birds --generator=netG_550.pth \\
    --text_encoder=text_encoder_550.pth --captions=captions.pickle
python -m ssagan_jax.convert --workdir=runs/birds --output=FOLDER
"""

import argparse

import safetensors.numpy
from absl import logging
from ml_collections import ConfigDict

from ssagan_jax.atomic_files import atomic_folder, check_new_folder
from ssagan_jax.checkpointing.best_checkpoint import parse_checkpoint
from ssagan_jax.checkpointing.checkpoints import Checkpoints
from ssagan_jax.config.command_line import command_parser
from ssagan_jax.config.compilation_cache import enable_compilation_cache
from ssagan_jax.config.schedule import Schedule
from ssagan_jax.data.tokenizer import Tokenizer, fixed_vocab_tokenizer
from ssagan_jax.errors import InputError, exit_on_user_error
from ssagan_jax.inference.model_loading import load_state
from ssagan_jax.models.generator import num_blocks
from ssagan_jax.pytorch.captions_pickle import load_words, save_words
from ssagan_jax.pytorch.name_mapping import PYTORCH_NETWORKS, to_pytorch
from ssagan_jax.pytorch.pth_writer import write_pth
from ssagan_jax.pytorch.state_from_pytorch import (
    config_from_weights,
    read_weight_source,
    state_from_weights,
    without_prefix,
)
from ssagan_jax.steps.state import TrainState, network_variables, sampling_variables
from ssagan_jax.untrusted.safetensors_files import read_safetensors
from ssagan_jax.workdir import Workdir

# DataParallel wraps the two networks that the reference trains and loads with it.
_PREFIXES = dict.fromkeys(PYTORCH_NETWORKS, "")
_PREFIXES |= {"generator": "module.", "discriminator": "module."}


def convert_from_pytorch(flags: argparse.Namespace) -> None:
    """Makes a work folder from PyTorch files; writes nothing if that fails.

    Raises:
      InputError: a file cannot be used, with every problem of its tensors, or the folder exists.
    """
    if not flags.text_encoder or not flags.captions:
        raise InputError(
            "give --text_encoder=FILE and --captions=captions.pickle to make a work folder, or "
            "--output=FOLDER to write the networks of a work folder as PyTorch files"
        )
    target = check_new_folder("--workdir", flags.workdir)
    words = load_words(flags.captions)
    given = {network: getattr(flags, network) for network in PYTORCH_NETWORKS}
    sources = {name: read_weight_source(name, path) for name, path in given.items() if path}
    rows = sources["text_encoder"].sizes["vocab_size"]
    if rows != len(words):
        raise InputError(
            f"--captions={flags.captions}: has {len(words)} words, but {rows} have an embedding in "
            f"{sources['text_encoder'].flag}; give the captions.pickle that it was trained with"
        )
    config = config_from_weights(sources, flags.data, flags.data_dir)
    tokenizer = fixed_vocab_tokenizer(words)
    state, extras = state_from_weights(sources, config, tokenizer)
    with atomic_folder(target) as part:
        workdir = Workdir(part)
        workdir.write_config(config)
        workdir.write_tokenizer(tokenizer)
        workdir.write_schedule(Schedule(steps_per_epoch=1, damsm_steps=0, total_steps=0))
        prefixes = {network: source.prefix for network, source in sources.items()}
        # save_file would make a file that only its owner can read.
        workdir.pytorch_extras.write_bytes(safetensors.numpy.save(extras, prefixes))
        checkpoints = Checkpoints(workdir.checkpoints, 1, tokenizer.digest)
        checkpoints.save(state, None)
        checkpoints.close()
    for network, path in given.items():
        print(f"{network}: {path or f'untrained, since --{network} was not given'}")
    print(f"wrote {target}: {config.data.image_size} pixels, {len(words)} words")


def convert_to_pytorch(workdir: Workdir, state: TrainState, output: str, raw: bool) -> None:
    """Writes a model's networks as PyTorch files to a new folder; writes nothing if that fails.

    Args:
      workdir: of the model.
      state: of one of its checkpoints.
      output: the new folder.
      raw: write the generator's last weights instead of their moving average.

    Raises:
      InputError: the folder is not empty, or SSA-GAN's code can load none of the networks.
    """
    target = check_new_folder("--output", output)
    tokenizer, converted = workdir.tokenizer(), workdir.converted()
    extras = read_safetensors(workdir.pytorch_extras) if converted else {}
    variables = network_variables(state)
    if not raw:
        variables["generator"] = sampling_variables(state)
    skipped = _unsupported_networks(workdir.config(), tokenizer, converted)
    if skipped.keys() == PYTORCH_NETWORKS.keys():
        reasons = "; ".join(f"{network}: {reason}" for network, reason in skipped.items())
        raise InputError(
            f"{workdir.path}: SSA-GAN's code can load none of its networks: {reasons}. "
            "docs/pytorch.md names the values to train with"
        )
    with atomic_folder(target) as part:
        for network, name in PYTORCH_NETWORKS.items():
            if network in skipped:
                continue
            spare = without_prefix(extras, f"{network}/") if converted else None
            prefix = (_PREFIXES | converted)[network]
            tensors = to_pytorch(network, variables[network], spare)
            tensors = {f"{prefix}{key}": tensor for key, tensor in tensors.items()}
            write_pth(part / f"{name}_{int(state.step):03d}.pth", tensors)
        if "text_encoder" not in skipped:
            save_words(part / "captions.pickle", tokenizer.entries())
    for network, reason in skipped.items():
        print(f"skipped {network}: {reason}")
    print(f"wrote {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")


def _unsupported_networks(
    config: ConfigDict, tokenizer: Tokenizer, converted: dict[str, str]
) -> dict[str, str]:
    """Networks that SSA-GAN's code cannot load, each with the reason."""
    generator, reasons = config.generator, {}
    if generator.modulation != "reference" or generator.upsampling != "nearest":
        reasons["generator"] = (
            f"config.generator.modulation={generator.modulation!r} and "
            f"upsampling={generator.upsampling!r}, not 'reference' and 'nearest'"
        )
    elif generator.ssacn_blocks < num_blocks(config.data.image_size):
        reasons["generator"] = f"it has plain blocks (ssacn_blocks={generator.ssacn_blocks})"
    elif generator.conditioning_augmentation:
        reasons["generator"] = "config.generator.conditioning_augmentation=True, not False"
    if channels := config.discriminator.projection_channels:
        reasons["discriminator"] = f"config.discriminator.projection_channels={channels}, not 0"
    elif config.discriminator.minibatch_stddev:
        reasons["discriminator"] = "config.discriminator.minibatch_stddev=True, not False"
    if config.text_encoder.name != "lstm" or tokenizer.kind == "wordpiece":
        reasons["text_encoder"] = "not a bi-LSTM over words"
    elif config.text_encoder.normalize:
        reasons["text_encoder"] = "config.text_encoder.normalize=True, not False"
    if config.image_encoder.name != "inception_v3":
        reasons["image_encoder"] = "not Inception v3"
    for network in PYTORCH_NETWORKS if converted else ():
        if network not in converted:
            reasons[network] = "it was not converted and is untrained"
    return reasons


def main() -> None:
    """Runs the command."""
    parser = command_parser("convert", __doc__)
    add = parser.add_argument
    add("--workdir", required=True, help="work folder: a new one, or with --output a trained one")
    add("--generator", help="netG_*.pth")
    add("--discriminator", help="netD_*.pth")
    add("--text_encoder", help="text_encoder*.pth")
    add("--image_encoder", help="image_encoder*.pth")
    add("--captions", help="captions.pickle with the vocabulary")
    add(
        "--data", default="birds", help="config.data.name of the work folder (default: %(default)s)"
    )
    add("--data_dir", default="", help="config.data.dir of the work folder, to evaluate it")
    add("--output", help="new folder to write the networks to as PyTorch files")
    about = "with --output: step of the checkpoint, or best (default: latest)"
    add("--checkpoint", type=parse_checkpoint, help=about)
    add("--raw", action="store_true", help="with --output: last weights, not their average")
    with exit_on_user_error():
        flags = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    with exit_on_user_error():
        enable_compilation_cache()
        if flags.output and any(vars(flags)[name] for name in (*PYTORCH_NETWORKS, "captions")):
            raise InputError("--output: cannot be combined with PyTorch files to read")
        if flags.output:
            workdir = Workdir(flags.workdir)
            state = load_state(workdir, flags.checkpoint)
            convert_to_pytorch(workdir, state, flags.output, flags.raw)
        else:
            convert_from_pytorch(flags)


if __name__ == "__main__":
    main()
