"""Which renderers this machine has, and how Cycles is brought on a GPU."""

from __future__ import annotations

import bpy

from blender_scripts.errors import InputError

#: Cycles' ways to use a GPU, the fastest first where a machine has several (Blender manual, GPU rendering).
GPU_KINDS = ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI")


def gpu_kind() -> str:
    """The first of ``GPU_KINDS`` by which Cycles finds a GPU here; empty if by none."""
    preferences = bpy.context.preferences.addons["cycles"].preferences
    for kind in GPU_KINDS:
        try:
            preferences.compute_device_type = kind
        except TypeError:  # not built into this Blender
            continue
        preferences.refresh_devices()
        if any(device.type == kind for device in preferences.devices):
            return kind
    return ""


def use_gpu(scene: bpy.types.Scene) -> str:
    """Let Cycles render on this machine's GPU; returns by which of ``GPU_KINDS``.

    Raises:
        InputError: there is none.
    """
    kind = gpu_kind()
    if not kind:
        raise InputError(
            'engine cycles_gpu: Cycles finds no GPU here by OptiX, CUDA, HIP, Metal or oneAPI; set engine = "auto" or "cycles"'
        )
    for device in bpy.context.preferences.addons["cycles"].preferences.devices:
        device.use = device.type == kind
    scene.cycles.device = "GPU"
    return kind
