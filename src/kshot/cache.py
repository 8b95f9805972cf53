"""Where kshot keeps on a machine what it can make or fetch again."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """Returns the folder of one kind of things: `kshot/<kind>` in XDG_CACHE_HOME or `~/.cache`."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path("~/.cache").expanduser()) / "kshot" / kind
