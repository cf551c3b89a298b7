"""The int8 scan in words and cells, the same for both renderings."""

from __future__ import annotations

from targets.int8_scan import Int8Layer, Int8Scan
from targets.words import MISSING, shown

TITLE = "Who hurts in int8"
# So many are drawn and stand in the first table.
WORST = 16
COLUMNS = (
    *("Layer", "Loss alone", "By its weights", "By its output"),
    *("Weights SQNR", "Output SQNR", "Output in the net", "What mends it"),
)
WAY_COLUMNS = ("Whole net", "Loss", "SQNR")


def int8_note(scan: Int8Scan) -> str:
    """What the figures are."""
    return (
        f"Each layer quantized alone by {scan.quantize}, all others float: how far the answers "
        f"move (divergence from the float net's, in thousandths of a nat a picture, over "
        f"{scan.pictures} pictures). All layers together: {nats(scan.int8_kl)}, SQNR of the "
        f"answers {decibels(scan.int8_db)}."
    )


def nats(value: float) -> str:
    """In thousandths: '4.26', '0.031', '0'."""
    return f"{1000 * value:.3g}"


def decibels(value: float | None) -> str:
    return shown(value, lambda v: f"{v:.1f} dB")


def layer_cells(row: Int8Layer) -> tuple[str, ...]:
    """A row of COLUMNS."""
    weights = nats(row.weights_kl) if row.weights else MISSING
    losses = (nats(row.alone_kl), weights, nats(row.output_kl))
    levels = (decibels(row.weight_db), decibels(row.output_db), decibels(row.net_db))
    return (row.layer, *losses, *levels, mend_text(row))


def mend_text(row: Int8Layer) -> str:
    """'CorrectBias: 0.25 left'; 'none of 4 tried' where none saved, a dash where none was."""
    if row.mended_kl is not None:
        return f"{row.mend}: {nats(row.mended_kl)} left"
    return f"none of {row.tried} tried" if row.tried else MISSING


def way_rows(scan: Int8Scan) -> list[tuple[str, str, str]]:
    """Rows of WAY_COLUMNS: as it is, then every way that was tried."""
    rows = [("as it is", nats(scan.int8_kl), decibels(scan.int8_db))]
    for way in scan.ways:
        name = f"{way.way} (cannot be tried: {way.reason})" if way.reason else way.way
        rows.append((name, shown(way.int8_kl, nats), decibels(way.int8_db)))
    return rows
