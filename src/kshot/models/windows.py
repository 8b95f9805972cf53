"""The maximum over time of windows of tokens, computed from each distinct token once and from the winners alone.

    e_v        the vector of token v, (d)                        w_k        the filters at offset k of a window, (m, d)
    v(t)       the token at place t; before the first and after the last there is none, and it adds nothing
    y_{v,k}    w_k e_v, (m): what token v adds at offset k       s_t        sum_k y_{v(t+k), k} + b, (m)

    pooled = max(0, max_t s_t)      (Kim 2014, arXiv:1408.5882, section 2)

A convolution multiplies every token of a text by every offset of the filters; y does that once for a token however
often an episode has it. And the derivative of a maximum is that of its winner t*: the places of the winners are found
without a graph, and  pooled = max(0, sum_k y_{v(t*+k), k} + b)  is all that is differentiated, once or twice.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


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
    nothing = len(vectors)
    vectors = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])  # of places without a token
    tokens = tokens.masked_fill(~mask, nothing)
    n_filters, _, _ = filters[0].shape
    offsets = [w[:, :, k] for w in filters for k in range(w.shape[2])]
    y = F.linear(vectors, torch.cat(offsets)).to(vectors.dtype)  # (n_vectors + 1, n_offsets * m)
    n_columns = y.shape[1]
    flat, column = y.reshape(-1), torch.arange(n_filters, device=y.device)
    pooled, first = [], 0
    for w, bias in zip(filters, biases, strict=True):
        width = w.shape[2]
        around = F.pad(tokens, ((width - 1) // 2, width // 2), value=nothing)  # (n, L + width - 1)
        with torch.no_grad():
            winners = _winners(y, around, mask, first, n_filters, width)  # (n, m)
        places = [
            around.gather(1, winners + k) * n_columns + (first + k) * n_filters + column for k in range(width)
        ]
        parts = flat.gather(0, torch.stack(places).reshape(-1)).view(width, len(tokens), n_filters)
        pooled.append(F.relu(parts.sum(dim=0) + bias))
        first += width
    return torch.cat(pooled, dim=1)


def _winners(y: Tensor, around: Tensor, mask: Tensor, first: int, n_filters: int, width: int) -> Tensor:
    """The place of the largest window of each text and filter, (n, m)."""
    scores: Tensor | None = None
    for k in range(width):
        column = (first + k) * n_filters
        part = F.embedding(around[:, k : k + mask.shape[1]], y[:, column : column + n_filters])  # (n, L, m)
        scores = part if scores is None else scores.add_(part)
    assert scores is not None
    return scores.masked_fill_(~mask.unsqueeze(-1), -math.inf).argmax(dim=1)
