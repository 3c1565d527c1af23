"""What accelerators can do by their data sheets."""

PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "TPU v5 lite": 197e12, "TPU v4": 275e12}
"""Dense bf16 operations a second, by a part of the device's name (vendors' data sheets)."""


def peak_share(flops_per_second: float, device_kind: str, devices: int) -> float | None:
    """Share of the devices' bf16 peak; None for a device whose peak is not listed."""
    for name, peak in PEAK_BF16.items():
        if name in device_kind:
            return flops_per_second / (peak * devices)
    return None
