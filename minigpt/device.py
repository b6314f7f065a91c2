"""The machine under a run: device, number format, threads, random generators, memory."""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from minigpt.errors import UserError, unknown

Format = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[Format, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

BF16_PAYS_FROM = 256
"""d_model from which bf16 autocast shortens a training step on a CPU with AVX512-BF16.

Measured on two cores of an AMD EPYC with avx512_bf16, torch 2.13, by ``python -m benchmarks.precision_cpu``: ms per
step in fp32 -> bf16 are 42 -> 47 at 4 layers of 128, 173 -> 131 at 4 layers of 256, 481 -> 291 at 6 layers of 384.
"""


def choose_device(wanted: str) -> torch.device:
    """The device named: auto (the best one there is), cpu, cuda, cuda:<index>, mps.

    Raises UserError for a name nobody knows, or a device this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu")
    kind, _, index = wanted.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in wanted and not (kind == "cuda" and index.isdigit())):
        raise unknown("device", wanted, "there is no device", ("auto", "cpu", "cuda", "cuda:0", "mps"))
    if kind == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: {wanted} wanted, but torch {torch.__version__} sees no CUDA device. Take device=auto")
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise UserError(f"device: {wanted} wanted, but there are {torch.cuda.device_count()} CUDA devices, from cuda:0")
    if kind == "mps" and not _has_mps():
        raise UserError(f"device: mps wanted, but torch {torch.__version__} sees none. Take device=auto")
    return torch.device(wanted)


@dataclass(frozen=True)
class Precision:
    """The number format of a training's matrix products. Parameters, gradients and optimizer state stay fp32."""

    name: Format
    device: torch.device

    @property
    def bits(self) -> int:
        return _DTYPES[self.name].itemsize * 8

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context of a forward pass."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps fp16 gradients from vanishing; does nothing in the wider formats."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def choose_precision(wanted: Literal["auto", "fp32", "bf16", "fp16"], device: torch.device, d_model: int) -> Precision:
    """The format asked for, or with ``auto`` bf16 where it pays: GPUs that have it, CPUs from BF16_PAYS_FROM on."""
    if wanted != "auto":
        return Precision(wanted, device)
    if device.type == "cuda":
        return Precision("bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16", device)
    pays = device.type == "cpu" and d_model >= BF16_PAYS_FROM and multiplies_bf16(device)
    return Precision("bf16" if pays else "fp32", device)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 products are the faster ones: everywhere but on CPUs without units for them."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def set_up(device: torch.device, threads: int | None) -> None:
    """Settings of the whole process: torch's CPU threads (None: as they are), TF32 for what stays fp32 on a GPU."""
    if threads is not None:
        torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")


def seed_everything(seed: int) -> None:
    """Start every global random generator from ``seed``."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """Where every global random generator stands, as tensors and plain values."""
    _, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # type: ignore[misc]
    numpy_state = {"keys": torch.from_numpy(np.asarray(keys).astype(np.int64)), "rest": (place, has_gauss, gauss)}
    state: dict[str, Any] = {"python": random.getstate(), "numpy": numpy_state, "torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put every generator back to where :func:`random_state` found it; a device's own only on that kind of device."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    numpy_state = state["numpy"]
    np.random.set_state(("MT19937", numpy_state["keys"].numpy().astype(np.uint32), *numpy_state["rest"]))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def peak_memory(device: torch.device) -> int | None:
    """Bytes this process held at most: of the GPU's memory there, of main memory on a CPU; None where nobody counts."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024  # macOS counts bytes, Linux KiB


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
