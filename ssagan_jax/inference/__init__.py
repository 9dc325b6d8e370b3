"""From a work folder to images: the trained model, the sampler, sample grids."""
