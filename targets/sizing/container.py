"""The bytes of a Deep Compression container: its tensors' payloads, and what is beside them."""

from __future__ import annotations

from compress.encoding import Encoded, Encoding
from targets.formats.dc_record import Record
from targets.formats.dc_tensor import TensorBytes
from targets.sizing.account import StoredWeights


def stored_in_container(
    record: Record, encoding: Encoding | None, nonzeros: int, measured: TensorBytes
) -> StoredWeights:
    """One tensor. A coded one has no bytes for a zero but in the coding of its positions."""
    if encoding is None or measured.codes is None:
        bits = 8 * record.dtype.itemsize
        return StoredWeights(record.size, record.size, bits, record.payload_bytes)
    if isinstance(encoding, Encoded):
        codes = record.payload_bytes - measured.value_bytes
        return StoredWeights(record.size, nonzeros, encoding.bits, codes, measured.value_bytes)
    return StoredWeights(record.size, nonzeros, 32, record.payload_bytes)
