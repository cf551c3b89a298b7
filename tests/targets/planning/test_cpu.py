"""Which kernels an engine takes, by what the kernel says of the processor."""

from __future__ import annotations

import pytest

from targets.planning.cpu import cpu_of, local_cpu

X86 = "processor : 0\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n"
ARM = "processor : 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.mark.parametrize(
    ("machine", "text", "family", "features"),
    [
        ("x86_64", X86, "x86", {"avx", "avx2", "avx512", "vnni"}),
        ("AMD64", "flags: fpu avx avx2 avx_vnni\n", "x86", {"avx", "avx2", "vnni"}),
        ("x86_64", "flags: fpu sse2\n", "x86", set()),
        ("aarch64", ARM, "arm", {"dotprod", "i8mm"}),
        ("aarch64", "Features : fp asimd\n", "arm", set()),
        ("riscv64", "isa : rv64\n", "other", set()),
    ],
)
def test_flags_of_a_processor(machine: str, text: str, family: str, features: set[str]) -> None:
    found = cpu_of(machine, text)
    assert (found.family, found.features) == (family, features)


def test_only_what_all_cores_have_counts() -> None:
    """A phone has big and little cores, and a thread may run on either."""
    found = cpu_of("aarch64", f"{ARM}\nprocessor : 1\nFeatures : fp asimd asimddp\n")
    assert found.features == {"dotprod"}


def test_what_is_not_told_is_not_known() -> None:
    found = cpu_of("arm64", "")
    assert not found.known
    assert "not told" in found.words()
    assert cpu_of("x86_64", X86).known


def test_this_machine() -> None:
    assert local_cpu().words()
