"""The emulated CPUs: which instructions each has, and so which kernels a runtime chooses."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from compress.errors import DeviceError


class Profile(NamedTuple):
    """model: QEMU's -cpu. shown: what a report calls it."""

    model: str
    shown: str


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "cortex-a53": Profile("cortex-a53", "Cortex-A53, Armv8.0 without dot products"),
        "cortex-a72": Profile("cortex-a72", "Cortex-A72, Armv8.0 without dot products"),
        "cortex-a76": Profile("cortex-a76", "Cortex-A76, Armv8.2 with SDOT and UDOT"),
        # No QEMU of today has a named core with i8mm and without SVE, as phones have them.
        "i8mm": Profile("max,sve=off,sme=off", "an Armv8.6 core with SMMLA and bf16, no SVE"),
    }
)
"""By the name in a target, `qemu:cortex-a76`."""


def profile_named(name: str) -> Profile:
    """DeviceError for a CPU that there is not."""
    found = PROFILES.get(name)
    if found is None:
        raise DeviceError(f"no emulated CPU {name!r}; there are: {', '.join(PROFILES)}")
    return found
