"""Which atlas data may be in, from what their files say of regions: a hint for the user, never a decision."""

import re

from graphssl.atlases.download import FETCHED
from graphssl.atlases.shipped import SHIPPED
from graphssl.data import Atlas


def guess_atlases(regions: Atlas) -> tuple[str, ...]:
    """Atlases that regions may belong to, the likeliest first, judged by names, label ids and number.

    Args:
        regions: Regions as the files have them; places are not looked at.

    Returns:
        Names, with how to get the atlas where graphssl knows it; empty where nothing is known of that size.
    """
    n_regions, labels = len(regions), set(regions.labels.tolist())
    found = []
    if any(_SCHAEFER.search(name) for name in (*regions.names, regions.name)):
        found.append(f"schaefer{n_regions}")
    if {2001, 9170} <= labels or any(_AAL.fullmatch(name) for name in regions.names):
        found.append("aal116" if n_regions >= _WITH_CEREBELLUM else "aal90")
    found += _BY_SIZE.get(n_regions, ())
    return tuple(_with_source(name) for name in dict.fromkeys(found))


def _with_source(name: str) -> str:
    if name in SHIPPED:
        return f"{name} (--atlas {name})"
    return f"{name} (graphssl.atlases.fetch_atlas({name!r}))" if name in FETCHED else name


_SCHAEFER = re.compile(r"(?:^|networks_)[LR]H_(?:Vis|SomMot|DorsAttn|SalVentAttn|Limbic|Cont|Default)|Schaefer", re.IGNORECASE)
_AAL = re.compile(r"Precentral_[LR]")
_WITH_CEREBELLUM = 110
# Sizes that are common in the field. CC200 and CC400 lose regions in a resampling, and Harvard-Oxford comes with and without a stray label.
_BY_SIZE: dict[int, tuple[str, ...]] = {
    68: ("Desikan-Killiany (68 cortical regions)",),
    82: ("Desikan-Killiany with 14 subcortical regions",),
    84: ("Desikan-Killiany with 16 subcortical regions",),
    90: ("AAL without cerebellum (90 regions)",),
    97: ("tt97 of the Preprocessed Connectomes Project",),
    110: ("Harvard-Oxford (110 regions)",),
    111: ("ho111 of the Preprocessed Connectomes Project",),
    112: ("Harvard-Oxford (112 regions)",),
    116: ("aal116", "ez116 of the Preprocessed Connectomes Project"),
    148: ("Destrieux (148 cortical regions)",),
    160: ("dosenbach160",),
    161: ("dosenbach160 of the Preprocessed Connectomes Project, with a stray label",),
    190: ("cc200 of ADHD-200 (190 regions)",),
    200: ("cc200 of the Preprocessed Connectomes Project", "schaefer200"),
    246: ("Brainnetome (246 regions)",),
    264: ("power264",),
    268: ("Shen (268 regions)",),
    300: ("seitzman300", "schaefer300"),
    333: ("Gordon (333 cortical regions)",),
    360: ("Glasser (360 cortical regions)",),
    379: ("Glasser with 19 subcortical regions",),
    392: ("cc400 of the Preprocessed Connectomes Project",),
    **{n: (f"schaefer{n}",) for n in (100, 400, 500, 600, 700, 800, 900, 1000)},
    **{n: (f"4S{n}Parcels (Schaefer {n - 56} and 56 subcortical regions)",) for n in range(156, 1057, 100) if n != 256},
    256: ("4S256Parcels (Schaefer 200 and 56 subcortical regions)", "Brainnetome with cerebellum (256 regions)"),
}
