"""Which engines to try on a machine, best first. Pure."""

from __future__ import annotations

NAMES = ("auto", "torch", "onnx", "openvino", "tensorrt")
"""What ENGINE may be."""


def candidates(setting: str, *, device: str) -> tuple[str, ...]:
    """Kinds to convert to for a device ("cpu", "cuda:0", …), in the order to try them; torch is what remains.

    On a GPU, torch in half precision is what `auto` stays with: TensorRT takes minutes to convert and serves only the
    GPU it was made on, so it is for those who ask for it."""
    if setting == "torch":
        return ()
    if device == "cpu":
        return {"auto": ("openvino", "onnx"), "openvino": ("openvino",), "onnx": ("onnx",)}.get(setting, ())
    return ("tensorrt",) if setting == "tensorrt" and device.startswith("cuda") else ()


def unfit(setting: str, *, device: str) -> str:
    """Why an engine that was asked for by name cannot be had on a device; "" when it can."""
    if setting in ("auto", "torch") or candidates(setting, device=device):
        return ""
    return f"{setting} does not run on {device}"
