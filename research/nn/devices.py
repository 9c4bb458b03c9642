"""The axis of devices a layer runs under, where there is one."""

import jax

DEVICE_AXIS = "devices"
"""The axis name of `jax.pmap` over devices, and of nothing else."""


def device_axis() -> str | None:
    """`"devices"` where the current trace binds that axis (inside pmap), else None.

    Under `jit` over a mesh there is no named axis: reductions are global by themselves.
    """
    try:
        jax.lax.axis_index(DEVICE_AXIS)
    except NameError:
        return None
    return DEVICE_AXIS
