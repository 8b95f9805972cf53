"""How encoders work: the place that decides, and says why."""

from contextvars import ContextVar
from typing import Literal

import torch

from kshot.models import libraries, tiles
from kshot.models.native import has_wide_vectors, library

Kernels = Literal["auto", "fast", "plain"]
"""How encoders work: with derivatives written out (in C where there is a compiler) and the fastest library, by what the
processor has and a measurement; with them and the one that is expected to be, without a measurement; or as anyone would
write them, by autograd and the default library."""

CHOICE: ContextVar[Kernels] = ContextVar("kernels", default="auto")


def written_out() -> bool:
    """Whether encoders take the derivatives that are written out."""
    return CHOICE.get() != "plain"


def chosen_library() -> libraries.Name:
    """What multiplies matrices of float32 on a CPU here."""
    return _library_for(CHOICE.get())


def halves_by_onednn() -> bool:
    """Whether linear layers of bfloat16 take their own way to oneDNN, where PyTorch sends them, too."""
    return written_out() and libraries.has_onednn()


def tiles_of(dtype: torch.dtype) -> int:
    """The kind of tiles that products in a precision are to take here, 0 for none; see `tiles.kind_of`."""
    wanted = written_out() if dtype == torch.bfloat16 else chosen_library() == "tiles"
    return tiles.kind_of(dtype) if wanted else 0


def layout_in_c(dtype: torch.dtype) -> int | None:
    """How weights are laid out for functions in C that multiply in a precision: a kind of tiles, or `tiles.PANELS`.

    None if they had better not be taken here: products of bfloat16 without a unit for tiles are oneDNN's.
    """
    if libraries.has_tiles() and (kind := tiles_of(dtype)):
        return kind
    return tiles.PANELS if dtype == torch.float32 and written_out() and has_wide_vectors() else None


def explain(choice: Kernels, device: torch.device) -> str:
    """One line for people on how encoders will work, and why."""
    if choice == "plain":
        return "Encoders work by autograd and PyTorch's default library (kernels: plain)."
    written = "Encoders work with derivatives that are written out"
    if device.type == "cpu":
        native = library()
        if native.functions is None:
            in_c = f" (LSTMs, CNNs and frozen BERTs not in C: {native.how})"
        else:
            ours = "LSTMs, CNNs and frozen BERTs" if has_wide_vectors() else "LSTMs and CNNs"
            in_c = f", {ours} in C (by {native.how})"
        written = f"{written}{in_c}"
    if device.type != "cpu" or libraries.available() == ["default"]:
        return f"{written} (kernels: {choice})."
    chosen = _library_for(choice)
    return (
        f"{written}; {libraries.TITLES[chosen]} multiplies float32 matrices: {_reason(choice, chosen)} "
        f"(kernels: {choice})."
    )


def _library_for(choice: Kernels) -> libraries.Name:
    match choice:
        case "plain":
            return "default"
        case "fast":
            return libraries.available()[0]
        case "auto":
            return libraries.fastest()


def _reason(choice: Kernels, chosen: libraries.Name) -> str:
    if choice == "fast":
        return "as told"
    if chosen == "tiles":
        return "there is one"
    return f"oneDNN is {libraries.advantage():.1f} times as fast as the default here"
