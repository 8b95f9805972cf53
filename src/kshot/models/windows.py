"""The maximum over time of windows of tokens, computed from each distinct token once and from the winners alone.

    e_v        the vector of token v, (d)                        w_k        the filters at offset k of a window, (m, d)
    v(t)       the token at place t; before the first and after the last there is none, and it adds nothing
    y_{v,k}    w_k e_v, (m): what token v adds at offset k       s_t        sum_k y_{v(t+k), k} + b, (m)

    pooled = max(0, max_t s_t)      (Kim 2014, arXiv:1408.5882, section 2)

A convolution multiplies every token of a text by every offset of the filters; y does that once for a token however
often an episode has it. And the derivative of a maximum is that of its winner t*: the places of the winners are found
without a graph, and  pooled = max(0, sum_k y_{v(t*+k), k} + b)  is all that is differentiated, once or twice. In
float32 on a CPU where there is a C compiler, `kshot.models.winners` does that without ever making the derivative of y.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kshot.models.native import can_take
from kshot.models.products import linear
from kshot.models.winners import Values, Winners


def window_maxima(
    vectors: Tensor, tokens: Tensor, mask: Tensor, filters: Sequence[Tensor], biases: Sequence[Tensor]
) -> Tensor:
    """The rectified maximum over time of windows of several widths.

    Args:
        vectors: e, (n_vectors, d).
        tokens: v, the number of a vector at each place, (n, L).
        mask: True where there is a token, (n, L).
        filters: For each width the filters as `torch.nn.Conv1d` has them, (m, d, width).
        biases: For each width b, (m,).

    Returns:
        One row for each text, the widths side by side, (n, sum of m).
    """
    widths = [w.shape[2] for w in filters]
    columns = torch.cat([w.permute(2, 0, 1).flatten(0, 1) for w in filters])  # (n_offsets * m, d)
    if can_take(vectors, columns):
        with torch.no_grad():
            y = linear(vectors, columns).float()  # (n_vectors, n_offsets * m)
            winners, known = Winners.found(y, tokens.masked_fill(~mask, -1), widths)
        sums = Values.apply(winners, columns, vectors, known)  # type: ignore[no-untyped-call]
        return F.relu(sums + torch.cat(list(biases)))
    return F.relu(_by_pytorch(vectors, tokens, mask, columns, widths, biases))


def _by_pytorch(
    vectors: Tensor, tokens: Tensor, mask: Tensor, columns: Tensor, widths: list[int], biases: Sequence[Tensor]
) -> Tensor:
    """The maximum over time, in any precision, on any device."""
    nothing, n_filters = len(vectors), len(biases[0])
    vectors = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])  # of places without a token
    tokens = tokens.masked_fill(~mask, nothing)
    y = linear(vectors, columns).to(vectors.dtype).view(-1, n_filters)  # ((n_vectors + 1) * n_offsets, m)
    offsets = torch.arange(sum(widths), device=y.device)
    rows = []
    for width, own in zip(widths, torch.split(offsets, widths), strict=True):
        around = F.pad(tokens, ((width - 1) // 2, width // 2), value=nothing)  # (n, L + width - 1)
        windows = around.unfold(1, width, 1) * len(offsets) + own  # (n, L, width): rows of y
        winners = _winners(y.detach(), windows, mask).unsqueeze(-1)  # (n, m, 1)
        rows.append(windows.gather(1, winners.expand(-1, -1, width)))  # (n, m, width)
    places = torch.cat(rows, dim=-1) * n_filters + torch.arange(n_filters, device=y.device).unsqueeze(-1)
    parts = y.flatten().gather(0, places.flatten()).view(places.shape)  # (n, m, n_offsets)
    sums = [part.sum(dim=-1) + b for part, b in zip(torch.split(parts, widths, dim=-1), biases, strict=True)]
    return torch.cat(sums, dim=1)


def _winners(y: Tensor, windows: Tensor, mask: Tensor) -> Tensor:
    """The place of the largest window of each text and filter: (n_rows, m), (n, L, width), (n, L) -> (n, m)."""
    scores = F.embedding_bag(windows.flatten(0, 1), y, mode="sum").view(*mask.shape, -1)  # (n, L, m)
    return scores.masked_fill_(~mask.unsqueeze(-1), -math.inf).max(dim=1).indices  # faster than argmax
