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

from kshot.models.products import linear


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
    n_filters = len(biases[0])
    columns = torch.cat([w.permute(2, 0, 1).flatten(0, 1) for w in filters])  # (n_offsets * m, d)
    y = linear(vectors, columns).to(vectors.dtype)  # (n_vectors + 1, n_offsets * m)
    places, first = [], 0
    for w in filters:
        width = w.shape[2]
        around = F.pad(tokens, ((width - 1) // 2, width // 2), value=nothing)  # (n, L + width - 1)
        parts = torch.split(y.detach()[:, first : first + width * n_filters], n_filters, dim=1)
        places.append(_winning_places(parts, around, mask) * y.shape[1] + first + _columns(width, n_filters, y.device))
        first += width * n_filters
    chosen = y.flatten().gather(0, torch.cat(places).flatten()).view(-1, len(tokens), n_filters)
    widths = [w.shape[2] for w in filters]
    sums = [part.sum(dim=0) + b for part, b in zip(torch.split(chosen, widths), biases, strict=True)]
    return F.relu(torch.cat(sums, dim=1))


def _winning_places(parts: Sequence[Tensor], around: Tensor, mask: Tensor) -> Tensor:
    """The numbers of the tokens in the largest window of each text and filter, (width, n, m).

    Args:
        parts: What each token adds at each offset, width times (n_vectors + 1, m).
        around: The number of the token at each place, with those before and after the text, (n, L + width - 1).
        mask: True where there is a token, (n, L).
    """
    length = mask.shape[1]
    scores = F.embedding(around[:, :length], parts[0])  # (n, L, m)
    for k, part in enumerate(parts[1:], 1):
        scores += F.embedding(around[:, k : k + length], part)
    winners = scores.masked_fill_(~mask.unsqueeze(-1), -math.inf).max(dim=1).indices  # faster than argmax
    return torch.stack([around.gather(1, winners + k) for k in range(len(parts))])


def _columns(width: int, n_filters: int, device: torch.device) -> Tensor:
    """The column of y of each offset and filter of a width, from its first on: (width, 1, m)."""
    return torch.arange(width * n_filters, device=device).view(width, 1, n_filters)
