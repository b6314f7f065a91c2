"""Training: from a checked configuration to a run's folder.

``fit.fit`` is the whole of it, read from top to bottom; ``record`` is what other rooms read afterwards, without torch.
"""
