"""The evaluation room: what a trained model can do, measured by lm-evaluation-harness on its tasks and on our own."""
