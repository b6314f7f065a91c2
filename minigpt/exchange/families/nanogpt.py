"""nanoGPT and minGPT: their files have no config.json, sizes stand in the checkpoint or follow from its tensors."""

import dataclasses

from minigpt.exchange.families import gpt2
from minigpt.exchange.family import HARMLESS, Family, Fused, Only, Rule, flag, size

_KEYS: dict[str, Rule] = {
    "vocab_size": size("vocab_size", None),
    "block_size": size("block_size", None),
    "n_embd": size("d_model", None),
    "n_layer": size("n_layer", None),
    "n_head": size("n_head", None),
    "bias": flag("bias", default=True),
    "tie_word_embeddings": flag("tie_embeddings", default=True),
}
_ROWS = {
    theirs: Fused(ours.ours) if isinstance(ours, Fused) else ours  # linear maps are (out, in) here
    for theirs, ours in gpt2.TENSORS.items()
}

NANOGPT = Family(
    model_type="nanogpt",
    architecture="nanoGPT's GPT",
    source="Karpathy, github.com/karpathy/nanoGPT, model.py",
    fixed=gpt2.FIXED | {"activation.name": "gelu", "norm.eps": 1e-5, "mlp.expansion": 4.0},
    keys=_KEYS,
    tensors=_ROWS,
    buffers=("transformer.h.{}.attn.bias",),
)
MINGPT = dataclasses.replace(
    NANOGPT,
    model_type="mingpt",
    architecture="minGPT's GPT",
    source="Karpathy, github.com/karpathy/minGPT, mingpt/model.py",
    fixed={**NANOGPT.fixed, "activation.name": "gelu_tanh"},
    keys=_KEYS | {"bias": Only(True, "its maps all have one", absent=True)},
)

_TRAINING = """
    dropout out_dir eval_interval log_interval eval_iters eval_only always_save_checkpoint init_from wandb_log
    wandb_project wandb_run_name dataset gradient_accumulation_steps batch_size learning_rate max_iters weight_decay
    beta1 beta2 grad_clip decay_lr warmup_iters lr_decay_iters min_lr backend device compile seed betas num_workers
    grad_norm_clip work_dir
"""
TRAINING_ALONE = dict.fromkeys(_TRAINING.split(), "training alone") | {
    key: HARMLESS[key] for key in ("embd_pdrop", "resid_pdrop", "attn_pdrop", "model_type", "dtype")
}
"""Keys of their configurations that do not change what the trained model computes."""
