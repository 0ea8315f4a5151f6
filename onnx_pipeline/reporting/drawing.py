"""From a Vega-Lite specification to the SVG element of a page.

References
----------
Okabe, Ito, *Color Universal Design*, 2008: the palette that the page's style takes its colours from.
"""

from __future__ import annotations

import re
from typing import Any

#: Of Vega-Lite, among those that vl-convert brings.
_VERSION = "6.1"
_FONT = "system-ui, sans-serif"
_CONFIG: dict[str, Any] = {
    "background": None,
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
    },
    "legend": {
        "labelColor": "var(--ink)",
        "labelFontSize": 12,
        "title": None,
        "orient": "top",
        "symbolType": "square",
        "columns": 0,
        "offset": 24,
    },
    "text": {"color": "var(--ink)", "fontSize": 12, "font": _FONT},
    "rule": {"color": "var(--ink)"},
}


def svg(spec: dict[str, Any], label: str) -> str:
    """Draw a specification as the SVG element of a labelled picture; its texts come out escaped."""
    import vl_convert

    text = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG}, vl_version=_VERSION)
    # One picture for screen readers, who have the table; what a mark says is for the page's own tooltips.
    text = text.replace(' aria-label="', ' data-tip="')
    text = re.sub(r' (?:aria-roledescription|role|aria-hidden|pointer-events)="[^"]*"', "", text)
    return re.sub(r"^<svg ", f'<svg role="img" aria-label="{label}" ', text)
