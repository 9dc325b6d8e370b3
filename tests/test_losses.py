"""The losses against numpy loops over the equations of the papers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssagan_jax.steps import losses

GAMMA1, GAMMA2, GAMMA3 = 4.0, 5.0, 10.0
GAMMAS = (GAMMA1, GAMMA2, GAMMA3)
BATCH, REGIONS, WORDS, SIZE = 4, 6, 5, 3
LENGTHS = [5, 1, 3, 2]
MASK = np.arange(WORDS) < np.array(LENGTHS)[:, None]
CLASS_IDS = np.array([7, 2, 7, 3])


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


REGION_FEATURES, CODES = normal(0, BATCH, REGIONS, SIZE), normal(1, BATCH, SIZE)
WORD_FEATURES, SENTENCES = normal(2, BATCH, WORDS, SIZE), normal(3, BATCH, SIZE)


def cosine(first, second):
    return first @ second / np.linalg.norm(first) / np.linalg.norm(second)


def attend(regions, words):
    """AttnGAN eq. 7 to 9 for one image [R, E] and one caption [T, E] without padding."""
    scores = words @ regions.T
    over_words = np.exp(scores) / np.exp(scores).sum(0, keepdims=True)
    weights = np.exp(GAMMA1 * over_words)
    attention = weights / weights.sum(1, keepdims=True)
    return attention @ regions, attention


def word_similarities():
    """Eq. 10 without its outer power 1 / gamma 2, as in AttnGAN's code."""
    table = np.zeros((BATCH, BATCH))
    for image in range(BATCH):
        for caption, length in enumerate(LENGTHS):
            words = WORD_FEATURES[caption, :length]
            contexts, _ = attend(REGION_FEATURES[image], words)
            terms = [np.exp(GAMMA2 * cosine(c, w)) for c, w in zip(contexts, words, strict=True)]
            table[image, caption] = np.log(np.sum(terms))
    return table


def sentence_similarities():
    return np.array([[cosine(code, sentence) for sentence in SENTENCES] for code in CODES])


def contrasts(similarity, class_ids):
    """Eq. 11 to 13, without negatives of the same class."""
    total = 0.0
    for own in range(BATCH):
        rivals = [j for j in range(BATCH) if j == own or class_ids[j] != class_ids[own]]
        matched = np.exp(GAMMA3 * similarity[own, own])
        captions = sum(np.exp(GAMMA3 * similarity[own, j]) for j in rivals)
        images = sum(np.exp(GAMMA3 * similarity[j, own]) for j in rivals)
        total -= np.log(matched / captions) + np.log(matched / images)
    return total / BATCH


def test_word_attention():
    contexts, attention = losses.word_attention(REGION_FEATURES, WORD_FEATURES, MASK, GAMMA1)
    assert contexts.shape == (BATCH, BATCH, WORDS, SIZE)
    np.testing.assert_allclose(attention.sum(-1), 1, rtol=1e-5)
    for image in range(BATCH):
        for caption, length in enumerate(LENGTHS):
            wanted = attend(REGION_FEATURES[image], WORD_FEATURES[caption, :length])
            found = contexts[image, caption, :length], attention[image, caption, :length]
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5)


def test_similarities():
    found = losses.word_similarity(REGION_FEATURES, WORD_FEATURES, MASK, GAMMA1, GAMMA2)
    np.testing.assert_allclose(found, word_similarities(), rtol=1e-4)
    found = losses.sentence_similarity(CODES, SENTENCES)
    np.testing.assert_allclose(found, sentence_similarities(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("class_ids", [CLASS_IDS, np.arange(BATCH)])
def test_contrast(class_ids):
    similarity = normal(5, BATCH, BATCH)
    found = losses.contrastive_loss(similarity, class_ids, GAMMA3)
    assert found == pytest.approx(contrasts(similarity, class_ids), rel=1e-5)


def test_contrast_skips_captions_of_the_same_class():
    similarity = normal(5, BATCH, BATCH)
    changed = similarity.copy()
    changed[0, 2], changed[2, 0] = 50, 50
    one = losses.contrastive_loss(similarity, CLASS_IDS, GAMMA3)
    assert losses.contrastive_loss(changed, CLASS_IDS, GAMMA3) == one
    assert losses.contrastive_loss(changed, np.arange(BATCH), GAMMA3) > one + 10
    assert losses.contrastive_loss(similarity, np.zeros(BATCH, int), GAMMA3) == pytest.approx(
        0, abs=1e-5
    )


def test_a_sentence_among_others():
    own, others = normal(6, 2, 2), normal(7, 2, 3)
    different = np.array([[True, False, True], [False, False, False]])
    # The second image has nothing to compare with, so only the sentences of the first one count.
    wanted = 0.0
    for each in own[0]:
        rivals = np.exp(2.5 * np.array([each, others[0, 0], others[0, 2]]))
        wanted -= np.log(np.exp(2.5 * each) / rivals.sum()) / 4
    found = losses.image_to_sentence_loss(own, others, different, 2.5)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_copies_and_zeros_are_no_different_sentences():
    others = np.concatenate([3 * SENTENCES[:1], np.zeros((1, SIZE)), SENTENCES[1:] + 0.1])
    own = SENTENCES[:2, None]
    found = losses.different_sentences(own, others.astype(np.float32))
    np.testing.assert_array_equal(found, [[False, False, *[True] * 3], [True, False, *[True] * 3]])
    # Copies of any of an image's sentences.
    own = np.concatenate([own, np.stack([others[2:3], 2 * others[4:5]])], 1)
    found = losses.different_sentences(own.astype(np.float32), others.astype(np.float32))
    wanted = [[False, False, False, True, True], [True, False, True, True, False]]
    np.testing.assert_array_equal(found, wanted)


@jax.jit
def damsm(regions, codes, words, sentences):
    return losses.damsm_losses((regions, codes), (words, sentences), MASK, CLASS_IDS, GAMMAS)


def test_damsm():
    found = damsm(REGION_FEATURES, CODES, WORD_FEATURES, SENTENCES)
    assert found["words"] == pytest.approx(contrasts(word_similarities(), CLASS_IDS), rel=1e-4)
    wanted = contrasts(sentence_similarities(), CLASS_IDS)
    assert found["sentences"] == pytest.approx(wanted, rel=1e-4)


def test_damsm_of_sentences_alone():
    features, text = (REGION_FEATURES, CODES), (WORD_FEATURES, SENTENCES)
    found = losses.damsm_losses(features, text, MASK, CLASS_IDS, GAMMAS, compare_words=False)
    wanted = contrasts(sentence_similarities(), CLASS_IDS)
    assert found == {"sentences": pytest.approx(wanted, rel=1e-4)}


def test_damsm_on_four_devices_is_one_contrast():
    def part(regions, codes, words, sentences, mask, class_ids):
        text = (words, sentences)
        return losses.damsm_losses((regions, codes), text, mask, class_ids, GAMMAS, "batch")

    rows = REGION_FEATURES, CODES, WORD_FEATURES, SENTENCES, MASK, CLASS_IDS
    found = jax.pmap(part, axis_name="batch")(*(array[:, None] for array in rows))
    for name, wanted in damsm(*rows[:4]).items():
        np.testing.assert_allclose(found[name], np.full(4, wanted), rtol=1e-5)


def test_padding_never_matters():
    noisy = np.where(MASK[..., None], WORD_FEATURES, 30 * normal(9, *WORD_FEATURES.shape))

    @jax.jit
    def words_loss(words):
        return damsm(REGION_FEATURES, CODES, words, SENTENCES)["words"]

    assert words_loss(noisy) == words_loss(WORD_FEATURES)
    gradient = jax.grad(words_loss)(noisy)
    np.testing.assert_array_equal(gradient[~MASK], 0)
    assert (np.abs(gradient[MASK]).max(-1) > 0).all()


@pytest.mark.parametrize("zeroed", range(4))
def test_damsm_gradient_is_finite_at_zero_norms(zeroed):
    features = [REGION_FEATURES, CODES, WORD_FEATURES, SENTENCES]
    features[zeroed] = np.zeros_like(features[zeroed])

    def total(*features):
        terms = damsm(*features)
        return terms["words"] + terms["sentences"]

    value, gradients = jax.value_and_grad(total, (0, 1, 2, 3))(*features)
    assert np.isfinite(value)
    for gradient in gradients:
        assert np.isfinite(gradient).all()


def test_hinge_terms():
    logits = jnp.array([-3.0, -1.0, 0.5, 1.0, 2.0])
    assert losses.hinge_real(logits) == pytest.approx((4 + 2 + 0.5 + 0 + 0) / 5)
    assert losses.hinge_fake(logits) == pytest.approx((0 + 0 + 1.5 + 2 + 3) / 5)


def test_penalty_by_hand():
    image = np.zeros((2, 1, 2, 3), np.float32)
    image[0, 0, 0, 1], image[0, 0, 1, 2], image[1, 0, 0, 0] = 3, 4, 1
    sentence = np.array([[12, 0], [0, 2]], np.float32)
    joint = losses.matching_aware_penalty(image, sentence, 2.0, "joint")
    assert joint == pytest.approx((13**2 + 5) / 2)
    apart = losses.matching_aware_penalty(image, sentence, 2.0, "sum")
    assert apart == pytest.approx((17**2 + 3**2) / 2)
    cubed = losses.matching_aware_penalty(image, sentence, 3.0, "sum")
    assert cubed == pytest.approx((17**3 + 3**3) / 2)


@pytest.mark.parametrize("norm", ["joint", "sum"])
@pytest.mark.parametrize("power", [1.0, 2.0, 6.0])
def test_penalty_gradient_is_finite_at_zero(norm, power):
    gradients = np.zeros((2, 2, 2, 3), np.float32), np.zeros((2, 5), np.float32)
    penalty = jax.grad(losses.matching_aware_penalty, (0, 1))(*gradients, power, norm)
    for gradient in penalty:
        np.testing.assert_array_equal(gradient, 0)
