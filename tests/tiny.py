"""The sizes of networks so small that they only compile, by their config keys."""

SIZES = {
    "data.image_size": 32,
    "data.max_words": 6,
    "text_encoder.embedding_dim": 16,
    "text_encoder.word_dim": 8,
    "image_encoder.channels": 4,
    "generator.noise_dim": 8,
    "generator.channels": 4,
    "generator.mask_channels": 4,
    "discriminator.channels": 4,
}
