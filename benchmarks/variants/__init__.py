"""Every variant beside the simplest correct PyTorch writing of the same maths."""
