"""One training step of each stage: pure functions of state and batch.

A batch is a dict of this device's rows: image u8[b, S, S, 3], tokens i32[b, T], mask bool[b, T]
and class_id i32[b]. Gradients and metrics are means over the devices of a mapped axis.

A network whose loss, gradients or new values hold NaN or infinity stays as it was: parameters,
optimizer, running statistics and averages. The metrics bad/encoders, bad/discriminator and
bad/generator are 1 then, else 0.

With `config.train.grad_accumulation_steps` above 1 each device's rows are worked off in so
many parts, one after the other, and every network still takes its updates once
a step, by the mean of the parts' gradients. Noise and mismatched captions are those of the whole
global batch, whatever the number of
parts. Part by part, over all devices, are dropout masks, DAMSM's contrast, and batch norm, whose
running statistics move once a part, as PyTorch's would.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from ml_collections import ConfigDict

from ssagan_jax.models.collectives import axis_size, local_shard
from ssagan_jax.steps.gradient_accumulation import accumulate_microbatches
from ssagan_jax.steps.network_losses import Batch, Metrics, NetworkLosses, PyTree
from ssagan_jax.steps.networks import Networks
from ssagan_jax.steps.optimizers import Optimizers
from ssagan_jax.steps.skip_nonfinite import apply_optimizer, replace_if_finite
from ssagan_jax.steps.state import TrainState


def normalize_images(pixels: jax.Array) -> jax.Array:
    """Pixels u8 in [0, 255] to f32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1


@dataclasses.dataclass(frozen=True)
class TrainSteps:
    """The two training steps of a run.

    Attributes:
      config: the run's configuration.
      networks: built with the same axis name.
      optimizers: of the run.
      axis_name: mapped axis of the global batch, or None outside of one.
    """

    config: ConfigDict
    networks: Networks
    optimizers: Optimizers
    axis_name: str | None = None

    def encoders(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Stage 1: one update of both encoders by DAMSM on real pairs (eq. 2)."""
        batch = batch | {"image": normalize_images(batch["image"])}
        dropout_key, _ = self._keys(state)
        state, _, metrics = self._update_encoders(state, batch, dropout_key, self.optimizers.damsm)
        return state.replace(step=state.step + 1), self._mean(metrics)

    def gan(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Stage 2: encoders, then the discriminator, then the generator, as in the reference.

        The generator paints once: its pictures train the discriminator, and its pullback is kept
        for its own update, which the updated discriminator judges. Of several parts it is not
        kept, and each part is painted again.
        """
        batch = batch | {"image": normalize_images(batch["image"])}
        dropout_key, noise_key = self._keys(state)
        if self.config.train.encoders == "trained":
            state, text, matched = self._update_encoders(
                state, batch, dropout_key, self.optimizers.encoders
            )
        else:
            # A frozen encoder gives the embeddings that it gives in evaluation.
            _, (_, _, matched), text = self._match(state, batch, dropout_key, False)
        text = lax.stop_gradient(text)
        noise = self._noise(noise_key, len(batch["image"]))
        fakes, pullback, batch_stats = self._paint(state, noise, text[1])
        state, judged = self._update_discriminator(state, batch["image"], fakes, text[1])
        rows = (fakes, batch, text, noise)
        state, painted = self._update_generator(state, rows, pullback, batch_stats)
        metrics = matched | judged | painted
        return state.replace(step=state.step + 1), self._mean(metrics)

    @property
    def _parts(self) -> int:
        return self.config.train.grad_accumulation_steps

    @property
    def _objectives(self) -> NetworkLosses:
        return NetworkLosses(self.config, self.networks, self.axis_name)

    def _keys(self, state: TrainState) -> jax.Array:
        return jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step))

    def _noise(self, key: jax.Array, rows: int) -> jax.Array:
        """Noise of the global batch, of which each device takes its rows."""
        shape = (rows * axis_size(self.axis_name), self.config.generator.noise_dim)
        return local_shard(jax.random.normal(key, shape), self.axis_name)

    def _mean(self, tree: PyTree) -> PyTree:
        return tree if self.axis_name is None else lax.pmean(tree, self.axis_name)

    def _match(
        self, state: TrainState, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[PyTree, tuple[jax.Array, PyTree, Metrics], PyTree]:
        """Trunk; loss, gradient (none unless `train`) and metrics; (words, sentence)."""

        def work(trunk: PyTree, batch: Batch, part: Any) -> tuple[PyTree, PyTree, PyTree]:
            dropout_key = key if self._parts == 1 else jax.random.fold_in(key, part)
            arguments = state.encoders, trunk, batch, dropout_key, train
            if not train:
                loss, (text, trunk, metrics) = self._objectives.matching(*arguments)
                return trunk, (loss, (), metrics), text
            (loss, (text, trunk, metrics)), gradient = jax.value_and_grad(
                self._objectives.matching, has_aux=True
            )(*arguments)
            return trunk, (loss, gradient, metrics), text

        return accumulate_microbatches(work, self._parts, state.trunk, batch)

    def _update_encoders(
        self,
        state: TrainState,
        batch: Batch,
        key: jax.Array,
        optimizer: optax.GradientTransformation,
    ) -> tuple[TrainState, PyTree, Metrics]:
        """One update by DAMSM; (words, sentence) of the captions; metrics."""
        trunk, (*evidence, metrics), text = self._match(state, batch, key, True)
        loss, gradient = self._mean(evidence)
        params, opt = apply_optimizer(optimizer, gradient, state.encoders_opt, state.encoders)
        fresh = {"encoders": params, "encoders_opt": opt, "trunk": trunk}
        state, bad = replace_if_finite(state, fresh, (loss, gradient))
        return state, text, metrics | {"bad/encoders": bad}

    def _painter(
        self, state: TrainState, noise: jax.Array, sentence: jax.Array
    ) -> tuple[jax.Array, Callable, PyTree]:
        """Pictures, the pullback of their gradients, and the running statistics that follow."""

        def paint(params: PyTree) -> tuple[jax.Array, PyTree]:
            return self._objectives.paint(params, state.batch_stats, noise, sentence)

        return jax.vjp(paint, state.generator, has_aux=True)

    def _paint(
        self, state: TrainState, noise: jax.Array, sentence: jax.Array
    ) -> tuple[jax.Array, Callable | None, PyTree]:
        """What `_painter` gives of all rows; of several parts no pullback."""
        if self._parts == 1:
            return self._painter(state, noise, sentence)

        def work(batch_stats: PyTree, rows: PyTree, _: Any) -> tuple[PyTree, PyTree, PyTree]:
            fakes, batch_stats = self._objectives.paint(state.generator, batch_stats, *rows)
            return batch_stats, (), fakes

        rows = (noise, sentence)
        batch_stats, _, fakes = accumulate_microbatches(work, self._parts, state.batch_stats, rows)
        return fakes, None, batch_stats

    def _update_discriminator(
        self, state: TrainState, images: jax.Array, fakes: jax.Array, sentence: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One update of the whole of eq. 6, or the reference's two: adversarial, then MA-GP.

        If one of the two is not finite, both are left out.
        """
        rows = (images, fakes, sentence, self._objectives.mismatched(sentence))
        whole = self.config.discriminator.updates == 1
        params, opt = state.discriminator, state.discriminator_opt
        evidence, metrics = [], {}
        for terms in [slice(None)] if whole else [slice(0, 1), slice(1, 2)]:
            value, gradient, found = self._judge(params, rows, terms)
            value, gradient = self._mean((value, gradient))
            params, opt = apply_optimizer(self.optimizers.discriminator, gradient, opt, params)
            evidence.append((value, gradient))
            metrics = found | metrics | {"discriminator/magp": found["discriminator/magp"]}
        fresh = {"discriminator": params, "discriminator_opt": opt}
        state, bad = replace_if_finite(state, fresh, evidence)
        return state, metrics | {"bad/discriminator": bad}

    def _judge(
        self, params: PyTree, rows: PyTree, terms: slice
    ) -> tuple[jax.Array, PyTree, Metrics]:
        """The sum of some of the discriminator's two terms, its gradient, and metrics."""

        def loss(params: PyTree, rows: PyTree) -> tuple[jax.Array, Metrics]:
            *values, metrics = self._objectives.judging(params, *rows)
            return sum(values[terms]), metrics

        def work(_: PyTree, rows: PyTree, __: Any) -> tuple[PyTree, PyTree, PyTree]:
            (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(params, rows)
            return (), (value, gradient, metrics), ()

        return accumulate_microbatches(work, self._parts, (), rows)[1]

    def _update_generator(
        self, state: TrainState, rows: PyTree, pullback: Callable | None, batch_stats: PyTree
    ) -> tuple[TrainState, Metrics]:
        """One update by what the discriminator and the encoders say of the pictures.

        Rows are (pictures, batch, (words, sentence), noise).
        """

        def work(trunk: PyTree, rows: PyTree, _: Any) -> tuple[PyTree, PyTree, PyTree]:
            fakes, batch, text, noise = rows
            (loss, (trunk, metrics)), gradient = jax.value_and_grad(
                self._objectives.painting, has_aux=True
            )(fakes, state.discriminator, state.encoders, trunk, batch, text)
            pull = pullback or self._painter(state, noise, text[1])[1]
            return trunk, (loss, *pull(gradient), metrics), ()

        trunk, (*evidence, metrics), _ = accumulate_microbatches(
            work, self._parts, state.trunk, rows
        )
        loss, gradient = self._mean(evidence)
        params, opt = apply_optimizer(
            self.optimizers.generator, gradient, state.generator_opt, state.generator
        )
        average = state.average
        if average is not None:
            # Young averages forget the initial weights faster.
            count = state.generator_opt[0].count
            decay = jnp.minimum(self.config.train.ema_decay, (1 + count) / (10 + count))
            fresh = {"params": params, "batch_stats": batch_stats}
            average = optax.incremental_update(fresh, average, 1 - decay)
        fresh = {
            "generator": params,
            "generator_opt": opt,
            "batch_stats": batch_stats,
            "average": average,
            "trunk": trunk,
        }
        state, bad = replace_if_finite(state, fresh, (loss, gradient))
        return state, metrics | {"bad/generator": bad}
