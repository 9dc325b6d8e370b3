"""Files of the PyTorch and Hugging Face world: readers, writers, tensor names."""
