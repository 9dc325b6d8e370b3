"""What each network is trained for: its loss on a batch, as a function of its parameters.

Rows are one device's part of the global batch. A loss is either the mean over them or a value of
the whole global batch, and for both the mean of the gradients over the devices is the gradient of
the global loss.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from ssagan_jax.models.collectives import all_gather_rows, axis_size, local_shard
from ssagan_jax.steps import losses
from ssagan_jax.steps.networks import Networks

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
PyTree = Any


@dataclasses.dataclass(frozen=True)
class NetworkLosses:
    """The losses of a run's networks.

    Attributes:
      config: the run's configuration.
      networks: built with the same axis name.
      axis_name: mapped axis of the global batch, or None outside of one.
    """

    config: ConfigDict
    networks: Networks
    axis_name: str | None = None

    def matching(
        self, encoders: PyTree, trunk: PyTree, batch: Batch, key: jax.Array, train: bool
    ) -> tuple[jax.Array, tuple[PyTree, PyTree, Metrics]]:
        """DAMSM of real pairs (eq. 2); (words, sentence) of the captions; trunk; metrics.

        The batch's pictures are f32[b, S, S, 3] in [-1, 1].
        """
        text = self.networks.text_encoder.apply(
            {"params": encoders["text"]},
            batch["tokens"],
            batch["mask"],
            train,
            rngs={"dropout": key},
        )
        seen, trunk = self._look(encoders, trunk, batch["image"], train)
        terms = self._damsm(seen, text, batch)
        metrics = {f"damsm/{name}": term for name, term in terms.items()}
        return terms["words"] + terms["sentences"], (text, trunk, metrics)

    def paint(
        self, params: PyTree, batch_stats: PyTree, noise: jax.Array, sentence: jax.Array
    ) -> tuple[jax.Array, PyTree]:
        """Pictures f32[b, S, S, 3] in (-1, 1), and the running statistics that follow."""
        (images, _), updates = self.networks.generator.apply(
            {"params": params, "batch_stats": batch_stats},
            noise,
            sentence,
            True,
            mutable=["batch_stats"],
        )
        return images, updates["batch_stats"]

    def mismatched(self, sentence: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Every picture's wrong caption, the next one of the global batch, and its weight.

        "roll": the last picture gets the first caption. "shift": it gets none, as in the reference.
        """
        size = len(sentence) * axis_size(self.axis_name)
        shifted = jnp.roll(all_gather_rows(sentence, self.axis_name), -1, 0)
        weights = jnp.ones(size, sentence.dtype)
        if self.config.loss.mismatched == "shift":
            weights = weights.at[-1].set(0) * size / (size - 1)
        return local_shard(shifted, self.axis_name), local_shard(weights, self.axis_name)

    def judging(
        self,
        params: PyTree,
        images: jax.Array,
        fakes: jax.Array,
        sentence: jax.Array,
        mismatched: tuple[jax.Array, jax.Array],
    ) -> tuple[jax.Array, jax.Array, Metrics]:
        """Adversarial loss and weighted MA-GP of eq. 6, from one pass over the real pictures."""
        net, config = self.networks.discriminator, self.config.loss

        def judge(images: jax.Array, sentence: jax.Array) -> tuple[jax.Array, PyTree]:
            logits, features = net.apply({"params": params}, images, sentence)
            return logits.sum(), (logits, features)

        gradients, (matched, features) = jax.grad(judge, (0, 1), has_aux=True)(images, sentence)
        shifted, weights = mismatched
        wrongly = net.apply({"params": params}, features, shifted, method="logits")
        generated, _ = net.apply({"params": params}, fakes, sentence)
        real, fake = losses.hinge_real(matched), losses.hinge_fake(generated)
        wrong = losses.hinge_fake(wrongly, weights)
        penalty = losses.matching_aware_penalty(*gradients, config.magp_power, config.magp_norm)
        adversarial = real + (fake + wrong) / 2
        metrics = {
            "discriminator/adversarial": adversarial,
            "discriminator/magp": penalty,
            "discriminator/real": matched.mean(),
            "discriminator/mismatched": (weights * wrongly).mean(),
            "discriminator/generated": generated.mean(),
        }
        return adversarial, config.magp_weight * penalty, metrics

    def painting(
        self,
        fakes: jax.Array,
        discriminator: PyTree,
        encoders: PyTree,
        trunk: PyTree,
        batch: Batch,
        text: PyTree,
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        """Eq. 4 and 5, as a function of the generated pictures f32[b, S, S, 3]; trunk, metrics."""
        logits, _ = self.networks.discriminator.apply({"params": discriminator}, fakes, text[1])
        adversarial = -logits.mean()
        trained = self.config.train.encoders == "trained"
        seen, trunk = self._look(encoders, trunk, fakes, trained)
        terms = self._damsm(seen, text, batch)
        damsm = terms["words"] + terms["sentences"]
        metrics = {"generator/adversarial": adversarial, "generator/damsm": damsm}
        return adversarial + self.config.loss.damsm_weight * damsm, (trunk, metrics)

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
        return losses.damsm_losses(
            seen, text, batch["mask"], batch["class_id"], gammas, self.axis_name
        )
