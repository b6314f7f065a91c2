"""Published numbers, exactly as published. Nothing is computed here; technology.py scales them to a node.

Energy: M. Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm, 0.9 V); N. Jouppi et al., "Ten lessons from three
generations shaped Google's TPUv4i", ISCA 2021, table 2 (7 nm). Area: our own synthesis, area-only and pre-layout, on
the open cell libraries sky130hd and Nangate45. Scaling: A. Stillmaker and B. Baas, Integration 58, 2017.
"""

from __future__ import annotations

HOROWITZ = "Horowitz, ISSCC 2014 (45 nm)"
JOUPPI = "Jouppi et al., ISCA 2021, table 2 (7 nm)"
STILLMAKER = "Stillmaker & Baas, Integration 2017"
SYNTHESIS = "own synthesis, area-only, pre-layout (sky130hd, Nangate45)"
CONSMAX_PAPER = "Liu et al., ConSmax, ICCAD 2024, table I (8-bit in, row length 256)"

# (operation, format) -> pJ at 45 nm, pJ at 7 nm. bf16 was not published at 45 nm.
OPERATION_PJ: dict[tuple[str, str], tuple[float | None, float]] = {
    ("add", "int8"): (0.03, 0.007),
    ("add", "int32"): (0.1, 0.03),
    ("add", "fp16"): (0.4, 0.16),
    ("add", "bf16"): (None, 0.11),
    ("add", "fp32"): (0.9, 0.38),
    ("multiply", "int8"): (0.2, 0.07),
    ("multiply", "int32"): (3.1, 1.48),
    ("multiply", "fp16"): (1.1, 0.34),
    ("multiply", "bf16"): (None, 0.21),
    ("multiply", "fp32"): (3.7, 1.31),
}

# capacity in bytes -> pJ of one 64-bit access at 45 nm, at 7 nm
SRAM_ACCESS_PJ: dict[int, tuple[float, float]] = {
    8 * 1024: (10.0, 7.5),
    32 * 1024: (20.0, 8.5),
    1024 * 1024: (100.0, 14.0),
}

# kind -> (low, high) pJ per bit as stated, source, verified
DRAM_PJ_PER_BIT: dict[str, tuple[float, float, str, bool]] = {
    "ddr4": (20.3, 20.3, "1300 pJ per 64-bit access: Horowitz 2014 and Jouppi et al. 2021", True),
    "lpddr4": (8.0, 8.0, "LPDDR4 device and interface, published estimates", True),
    "lpddr5": (4.0, 5.0, "LPDDR5, vendors' statements", False),
    "hbm2": (3.9, 7.0, "HBM2: 250-450 pJ per 64 bits, Jouppi et al. 2021", True),
    "hbm3": (4.05, 4.05, "HBM3, published estimate", True),
    "gddr6": (5.5, 7.5, "GDDR6: 350-480 pJ per 64 bits, Jouppi et al. 2021", True),
}

# Energy at V volts: a V^2 + b V + c, arbitrary units; node -> (a, b, c, nominal V). 45 is the high-performance process.
STILLMAKER_ENERGY: dict[float, tuple[float, float, float, float]] = {
    130: (7.171, -6.709, 2.904, 1.2),
    65: (3.755, -4.398, 1.975, 1.1),
    45: (1.018, -0.3107, 0.1539, 1.1),
    32: (0.8367, -0.4341, 0.1701, 0.97),
    20: (0.373, -0.1582, 0.04104, 0.9),
    16: (0.2958, -0.1241, 0.03024, 0.86),
    10: (0.2068, -0.09311, 0.02375, 0.83),
    7: (0.1776, -0.09097, 0.02447, 0.8),
}

AREA_FROM_45: dict[float, float] = {45: 1.0, 32: 0.46, 20: 0.21, 16: 0.19, 14: 0.17, 10: 0.10, 7: 0.059}
AREA_FROM_130: dict[float, float] = {130: 1.0, 65: 0.23, 45: 0.16, 16: 0.03, 7: 0.0092}

# block -> um2 on sky130hd, um2 on Nangate45
BLOCK_UM2: dict[str, tuple[float, float]] = {
    "add_int8": (195, 42),
    "add_int16": (445, 88),
    "add_int32": (973, 181),
    "multiply_int8": (2285, 447),
    "multiply_int16": (9828, 1956),
    "multiply_int32": (16685, 3317),
    "multiply_bf16": (2286, 434),
    "max_int8": (190, 33),
    "max_int32": (1028, 181),
    "relu_int8": (44, 9.3),
    "mac_int8": (5574, 1152),
    "flip_flop": (20.0, 4.5),
    "divide_int16": (4866, 922),
    "float_to_int": (1184, 211),
}

# fp16 at 45 nm only, from the ISSCC 2014 table: um2
FP16_UM2_45 = {"add": 1360.0, "multiply": 1640.0}

# A 16-bit table of an exponential as constants (ROM) and as memory that software can write (RAM), sky130hd.
LUT_ROM_UM2_130, LUT_RAM_UM2_130 = 4795.0, 23446.0

# node -> um2 per bit of a whole SRAM macro: low, value, high
SRAM_UM2_PER_BIT: dict[float, tuple[float, float, float]] = {
    130: (16.3, 16.75, 17.2),
    45: (0.40, 0.40, 0.40),
    28: (0.49, 0.49, 0.49),
    7: (0.17 / 0.7, 0.17 / 0.55, 0.17 / 0.4),
}
SRAM_SOURCE = "open memory macros (130), published arrays (45, 7), TPUv1 floor plan (28)"

# Columns of table I of the ConSmax paper: 16 nm proprietary flow, 16 nm open, 130 nm proprietary, 130 nm open.
CONSMAX_AREA_MM2 = {
    "consmax": (0.0008, 0.0009, 0.007, 0.015),
    "softermax": (0.0022, 0.0019, 0.029, 0.033),
    "softmax": (0.011, 0.011, 0.18, 0.2),
}
CONSMAX_POWER_MW = {
    "consmax": (0.2, 0.683, 2.69, 1.82),
    "softermax": (0.67, 2.82, 8.5, 10.5),
    "softmax": (1.5, 10.2, 51.0, 42.2),
}
CONSMAX_ENERGY_PJ = {
    "consmax": (0.2, 0.3, 4.0, 16.7),
    "softermax": (0.7, 1.4, 25.5, 73.5),
    "softmax": (1.5, 2.7, 178.5, 255.3),
}
