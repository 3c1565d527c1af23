"""Peak speeds of accelerators, from their data sheets."""

PEAK_BF16 = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "TPU v5 lite": 197e12, "TPU v4": 275e12}
"""Dense bf16 operations per second, by a substring of the device kind."""


def peak_share(flops_per_second: float, device_kind: str, devices: int) -> float | None:
    """Share of the devices' bf16 peak; None if the device is not listed."""
    for name, peak in PEAK_BF16.items():
        if name in device_kind:
            return flops_per_second / (peak * devices)
    return None
