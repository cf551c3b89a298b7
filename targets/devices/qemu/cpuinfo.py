"""/proc/cpuinfo of an emulated CPU, which QEMU leaves to be the host's.

onnxruntime reads it to choose kernels and dies of one that is not ARM's, or of one that promises
what the CPU lacks. So it is made of what the emulated CPU itself says of its features.
"""

from __future__ import annotations

import json

from compress.errors import DeviceError

PROCESSORS = 4
"""Shown, whatever the host has: a runtime's choices must not depend on the host."""

# AT_HWCAP, AT_HWCAP2 and the register MIDR_EL1, which Linux lets programs read; by the machine
# code of `mrs x0, midr_el1; ret`, for want of a compiler there.
PROBE = """
import ctypes, json, mmap
value = ctypes.CDLL(None).getauxval
value.restype = ctypes.c_ulong
value.argtypes = [ctypes.c_ulong]
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("000038d5c0035fd6"))
midr = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
print(json.dumps([value(16), value(26), midr()]))
"""
"""A script for the emulated Python; what it prints is for `cpuinfo`."""

# Linux, Documentation/arch/arm64/elf_hwcaps.rst: bits 0, 1, 2, ..., as cpuinfo names them.
_HWCAP = """
    fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma
    lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca pacg
"""
_HWCAP2 = """
    dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm svef64mm
    svebf16 i8mm bf16 dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 smei8i32
    smef16f32 smeb16f32 smef32f32 smefa64
"""


def cpuinfo(probed: str) -> str:
    """The file for what PROBE printed; DeviceError where that is something else."""
    try:
        numbers = json.loads(probed.strip().splitlines()[-1])
    except (IndexError, ValueError):
        numbers = None
    if not isinstance(numbers, list) or [type(n) for n in numbers] != [int] * 3:
        raise DeviceError(f"the emulated CPU does not tell its features, but {probed[-200:]!r}")
    hwcap, hwcap2, midr = numbers
    known = [(hwcap, _HWCAP.split()), (hwcap2, _HWCAP2.split())]
    features = [name for word, names in known for i, name in enumerate(names) if word >> i & 1]
    # Arm Architecture Reference Manual (DDI 0487), D24.2 "MIDR_EL1": the fields' places.
    return "".join(
        f"processor\t: {i}\nBogoMIPS\t: 100.00\nFeatures\t: {' '.join(features)}\n"
        f"CPU implementer\t: 0x{midr >> 24 & 0xFF:02x}\nCPU architecture: 8\n"
        f"CPU variant\t: 0x{midr >> 20 & 0xF:x}\nCPU part\t: 0x{midr >> 4 & 0xFFF:03x}\n"
        f"CPU revision\t: {midr & 0xF}\n\n"
        for i in range(PROCESSORS)
    )
