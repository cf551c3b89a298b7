"""The bytes of a file by cause in words: the steps of its waterfall, the columns of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from targets.sizing.account import SizeAccount

START = "fp32 weights"
_CAUSES = (
    ("Structure", "structure_bytes"),
    ("Zeros", "zeros_bytes"),
    ("Levels", "levels_bytes"),
    ("Coding", "coding_bytes"),
    ("Codebooks", "codebook_bytes"),
    ("Graph", "graph_bytes"),
    ("Metadata", "metadata_bytes"),
)
_NOTE = (
    "Each cause in turn, on what the one before left. {structure}Zeros: weights that are zero "
    "and have no value of their own in the file, 4 bytes each. Levels: the others as codes of "
    "fewer bits than 32. Coding: what the codes and the positions of the zeros take in the file, "
    "against those bits. Codebooks (with scales and zero points), graph and metadata come on top. "
    "The causes add up to the file, to the byte."
)
_STRUCTURE_NOTE = "Structure: weights folded away, factorized or added. "


class Change(NamedTuple):
    """One step of the waterfall: its bytes, and the size so far."""

    cause: str
    bytes: int
    total: int


def changes(account: SizeAccount) -> list[Change]:
    """The causes that changed something, in order; the last total is the file's bytes."""
    found: list[Change] = []
    total = account.fp32_bytes
    for cause, name in _CAUSES:
        size: int = getattr(account, name)
        total += size
        if size:
            found.append(Change(cause, size, total))
    return found


def is_smaller(account: SizeAccount) -> bool:
    """True where anything was done to the weights."""
    return account.weight_bytes != account.fp32_bytes


def causes_note(accounts: Sequence[SizeAccount]) -> str:
    """How to read the table."""
    changed = any(account.structure_bytes for account in accounts)
    return _NOTE.format(structure=_STRUCTURE_NOTE if changed else "")


def cause_columns(accounts: Sequence[SizeAccount]) -> tuple[str, ...]:
    """The columns after the file's name; the structure's only where it changed."""
    shown = _shown(accounts)
    return (START, *(cause for cause, _ in shown), "File")


def cause_rows(accounts: Sequence[SizeAccount]) -> list[tuple[str, ...]]:
    """A row for each file: its name, and the bytes in the order of `cause_columns`."""
    shown = _shown(accounts)
    return [
        (
            account.path,
            f"{account.fp32_bytes:,}",
            *(signed(getattr(account, name)) for _, name in shown),
            f"{account.file_bytes:,}",
        )
        for account in accounts
    ]


def signed(size: int) -> str:
    """'+1,024', '−2,512,908' with a true minus sign, '0'."""
    return f"{size:+,}".replace("-", "−") if size else "0"


def _shown(accounts: Sequence[SizeAccount]) -> tuple[tuple[str, str], ...]:
    changed = any(account.structure_bytes for account in accounts)
    return _CAUSES if changed else _CAUSES[1:]
