"""The methods of files whose net no compression touched; every other method compresses."""

from __future__ import annotations

UNTOUCHED = "none"
"""The net that the recipe began with."""
SMALLER = "smaller net"
"""A smaller net of the same family, trained in the same way."""
