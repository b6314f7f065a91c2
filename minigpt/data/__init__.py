"""From text to batches: tokenizers, preparation into binary files, and the dataset a training run reads.

``prepare`` writes what ``dataset.open_dataset`` opens; ``tokenizers`` is shared by both and travels inside every
checkpoint. Only ``dataset`` imports torch.
"""
