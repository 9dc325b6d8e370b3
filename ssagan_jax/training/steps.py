"""One training step of each stage: pure functions of state and batch.

A batch is a dict of this device's rows: image u8[b, S, S, 3], tokens i32[b, T], mask bool[b, T]
and class_id i32[b]. Gradients and metrics are means over the devices of a mapped axis; what a
device computes is either the mean over its rows or a value of the whole global batch, and for both
the mean of the gradients is the gradient of the global loss.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from ml_collections import ConfigDict

from ssagan_jax.models.layers import all_rows, axis_size, own_rows
from ssagan_jax.training import losses
from ssagan_jax.training.state import Networks, Optimizers, TrainState

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
PyTree = Any


def to_unit_range(pixels: jax.Array) -> jax.Array:
    """Pixels u8 in [0, 255] to f32 in [-1, 1]."""
    return pixels.astype(jnp.float32) / 127.5 - 1


@dataclasses.dataclass(frozen=True)
class Steps:
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
        images = to_unit_range(batch["image"])
        dropout_key, _ = self._keys(state)
        gradient, (_, trunk, metrics) = self._damsm_real(state, images, batch, dropout_key, True)
        state = self._update_encoders(state, gradient, self.optimizers.damsm)
        return state.replace(step=state.step + 1, trunk=trunk), self._mean(metrics)

    def gan(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        """Stage 2: encoders, then the discriminator, then the generator, as in the reference.

        The generator paints once: its pictures train the discriminator, and its pullback is kept
        for its own update, which the updated discriminator judges.
        """
        images = to_unit_range(batch["image"])
        dropout_key, noise_key = self._keys(state)
        # A frozen encoder gives the embeddings that it gives in evaluation.
        trained = self.config.train.encoders == "trained"
        gradient, (text, trunk, metrics) = self._damsm_real(
            state, images, batch, dropout_key, trained
        )
        state, text = state.replace(trunk=trunk), lax.stop_gradient(text)
        if trained:
            state = self._update_encoders(state, gradient, self.optimizers.encoders)

        noise = self._noise(noise_key, len(images))
        paint = self._painter(state.batch_stats, noise, text[1])
        fakes, pullback, batch_stats = jax.vjp(paint, state.generator, has_aux=True)

        state, judged = self._update_discriminator(state, images, fakes, text[1])
        gradient, (trunk, painted) = jax.grad(self._generator_loss, has_aux=True)(
            fakes, state, batch, text
        )
        state = self._update_generator(state, *pullback(gradient), batch_stats)
        state = state.replace(step=state.step + 1, trunk=trunk)
        return state, self._mean(metrics | judged | painted)

    def _keys(self, state: TrainState) -> jax.Array:
        return jax.random.split(jax.random.fold_in(jax.random.wrap_key_data(state.key), state.step))

    def _noise(self, key: jax.Array, rows: int) -> jax.Array:
        """Noise of the global batch, of which each device takes its rows."""
        shape = (rows * axis_size(self.axis_name), self.config.generator.noise_dim)
        return own_rows(jax.random.normal(key, shape), self.axis_name)

    def _mean(self, tree: PyTree) -> PyTree:
        return tree if self.axis_name is None else lax.pmean(tree, self.axis_name)

    def _look(
        self, encoders: PyTree, trunk: PyTree, images: jax.Array, train: bool
    ) -> tuple[tuple[jax.Array, jax.Array], PyTree]:
        """(regions, codes) of pictures, and the trunk with the statistics that it then has."""
        variables = {"params": encoders["image"], "trunk": trunk}
        if not train or not trunk or self.config.image_encoder.statistics == "kept":
            return self.networks.image_encoder.apply(variables, images), trunk
        seen, updates = self.networks.image_encoder.apply(variables, images, mutable=["trunk"])
        return seen, updates["trunk"]

    def _damsm(self, seen: PyTree, text: PyTree, batch: Batch) -> Metrics:
        loss = self.config.loss
        gammas = (loss.gamma1, loss.gamma2, loss.gamma3)
        return losses.damsm(seen, text, batch["mask"], batch["class_id"], gammas, self.axis_name)

    def _damsm_real(
        self, state: TrainState, images: jax.Array, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[PyTree, tuple[PyTree, PyTree, Metrics]]:
        """Gradient of DAMSM in the encoders; (words, sentence) of the captions; trunk; metrics."""

        def loss(encoders: PyTree) -> tuple[jax.Array, tuple[PyTree, PyTree, Metrics]]:
            text = self.networks.text_encoder.apply(
                {"params": encoders["text"]},
                batch["tokens"],
                batch["mask"],
                train,
                rngs={"dropout": key},
            )
            seen, trunk = self._look(encoders, state.trunk, images, train)
            terms = self._damsm(seen, text, batch)
            total = terms["words"] + terms["sentences"]
            metrics = {"damsm/words": terms["words"], "damsm/sentences": terms["sentences"]}
            return total, (text, trunk, metrics)

        return jax.grad(loss, has_aux=True)(state.encoders)

    def _painter(self, batch_stats: PyTree, noise: jax.Array, sentence: jax.Array) -> Callable:
        def paint(params: PyTree) -> tuple[jax.Array, PyTree]:
            (images, _), updates = self.networks.generator.apply(
                {"params": params, "batch_stats": batch_stats},
                noise,
                sentence,
                True,
                mutable=["batch_stats"],
            )
            return images, updates["batch_stats"]

        return paint

    def _discriminator_losses(
        self, params: PyTree, images: jax.Array, fakes: jax.Array, sentence: jax.Array
    ) -> tuple[jax.Array, jax.Array, Metrics]:
        """Adversarial loss and weighted MA-GP of eq. 6, from one pass over the real pictures."""
        net, config = self.networks.discriminator, self.config.loss

        def judge(images: jax.Array, sentence: jax.Array) -> tuple[jax.Array, PyTree]:
            logits, features = net.apply({"params": params}, images, sentence)
            return logits.sum(), (logits, features)

        gradients, (matched, features) = jax.grad(judge, (0, 1), has_aux=True)(images, sentence)
        shifted, weights = self._mismatch(sentence)
        mismatched = net.apply({"params": params}, features, shifted, method="logits")
        generated, _ = net.apply({"params": params}, fakes, sentence)
        real, fake = losses.hinge_real(matched), losses.hinge_fake(generated)
        wrong = losses.hinge_fake(mismatched, weights)
        penalty = losses.matching_aware_penalty(*gradients, config.magp_power, config.magp_norm)
        adversarial = real + (fake + wrong) / 2
        metrics = {
            "discriminator/adversarial": adversarial,
            "discriminator/magp": penalty,
            "discriminator/real": matched.mean(),
            "discriminator/mismatched": (weights * mismatched).mean(),
            "discriminator/generated": generated.mean(),
        }
        return adversarial, config.magp_weight * penalty, metrics

    def _mismatch(self, sentence: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Every picture's wrong caption, the next one of the global batch, and its weight.

        "roll": the last picture gets the first caption. "shift": it gets none, as in the reference.
        """
        size = len(sentence) * axis_size(self.axis_name)
        shifted = jnp.roll(all_rows(sentence, self.axis_name), -1, 0)
        weights = jnp.ones(size, sentence.dtype)
        if self.config.loss.mismatched == "shift":
            weights = weights.at[-1].set(0) * size / (size - 1)
        return own_rows(shifted, self.axis_name), own_rows(weights, self.axis_name)

    def _update_discriminator(
        self, state: TrainState, images: jax.Array, fakes: jax.Array, sentence: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One update of the whole of eq. 6, or the reference's two: adversarial, then MA-GP."""

        def update(state: TrainState, parts: slice) -> tuple[TrainState, Metrics]:
            def loss(params: PyTree) -> tuple[jax.Array, Metrics]:
                *terms, metrics = self._discriminator_losses(params, images, fakes, sentence)
                return sum(terms[parts]), metrics

            gradient, metrics = jax.grad(loss, has_aux=True)(state.discriminator)
            updates, opt = self.optimizers.discriminator.update(
                self._mean(gradient), state.discriminator_opt
            )
            params = optax.apply_updates(state.discriminator, updates)
            return state.replace(discriminator=params, discriminator_opt=opt), metrics

        if self.config.discriminator.updates == 1:
            return update(state, slice(None))
        state, metrics = update(state, slice(0, 1))
        state, penalized = update(state, slice(1, 2))
        return state, metrics | {"discriminator/magp": penalized["discriminator/magp"]}

    def _generator_loss(
        self, fakes: jax.Array, state: TrainState, batch: Batch, text: PyTree
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        """Eq. 4 and 5, as a function of the generated pictures f32[b, S, S, 3]; trunk, metrics."""
        logits, _ = self.networks.discriminator.apply(
            {"params": state.discriminator}, fakes, text[1]
        )
        adversarial = -logits.mean()
        trained = self.config.train.encoders == "trained"
        seen, trunk = self._look(state.encoders, state.trunk, fakes, trained)
        terms = self._damsm(seen, text, batch)
        damsm = terms["words"] + terms["sentences"]
        metrics = {"generator/adversarial": adversarial, "generator/damsm": damsm}
        return adversarial + self.config.loss.damsm_weight * damsm, (trunk, metrics)

    def _update_encoders(
        self, state: TrainState, gradient: PyTree, optimizer: optax.GradientTransformation
    ) -> TrainState:
        updates, opt = optimizer.update(self._mean(gradient), state.encoders_opt)
        return state.replace(
            encoders=optax.apply_updates(state.encoders, updates), encoders_opt=opt
        )

    def _update_generator(
        self, state: TrainState, gradient: PyTree, batch_stats: PyTree
    ) -> TrainState:
        updates, opt = self.optimizers.generator.update(self._mean(gradient), state.generator_opt)
        params = optax.apply_updates(state.generator, updates)
        average = state.average
        if average is not None:
            # Young averages forget the initial weights faster.
            count = state.generator_opt[0].count
            decay = jnp.minimum(self.config.train.ema_decay, (1 + count) / (10 + count))
            fresh = {"params": params, "batch_stats": batch_stats}
            average = optax.incremental_update(fresh, average, 1 - decay)
        return state.replace(
            generator=params, generator_opt=opt, batch_stats=batch_stats, average=average
        )
