"""Galaxies around a position: a box that row-group statistics can check, and the angle itself."""

import numpy as np
import pyarrow.compute as pc
import pyarrow.dataset as ds


def box(ra: float, dec: float, radius: float) -> ds.Expression:
    """Positions in the smallest box of ra and dec that holds a cone."""
    low, high = dec - radius, dec + radius
    inside = (pc.field("dec") >= low) & (pc.field("dec") <= high)
    if low <= -90 or high >= 90:
        return inside
    reach = np.degrees(np.arcsin(min(np.sin(np.radians(radius)) / np.cos(np.radians(dec)), 1.0)))
    west, east = (ra - reach) % 360, (ra + reach) % 360
    after, before = pc.field("ra") >= west, pc.field("ra") <= east
    return inside & ((after & before) if west <= east else (after | before))


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Angles in degrees by the haversine formula, which keeps small ones."""
    # astropy has one, but its import takes longer than a cone
    ra, dec, ra0, dec0 = (np.radians(value) for value in (ra, dec, ra0, dec0))
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1))))
