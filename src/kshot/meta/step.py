"""A meta-step: the gradient of the outer loss of some episodes, added up task by task.

Tasks that share the encoder's weights are encoded together. The others go one by one, so that memory is that of one
task; what they have in common is their start, and of the token table, the largest tensor of a small encoder, only the
rows that the episodes use are differentiated. How encoders multiply and differentiate is decided in
`kshot.models.products`.
"""

from collections.abc import Sequence

import torch

from kshot.meta.learner import Learner, Pair


def meta_step(learner: Learner, episodes: Sequence[Pair], progress: float = 1.0) -> float:
    """Adds the gradient of the mean outer loss to the `grad` of the learner's parameters.

    Args:
        learner: What learns.
        episodes: Support and query of each.
        progress: How much of the training is done, 0 to 1.

    Returns:
        The mean outer loss.
    """
    groups = [episodes] if learner.shares_weights else [[episode] for episode in episodes]
    rows = learner.rows_of(episodes)
    total = 0.0
    for group in groups:
        loss = learner(group, progress, rows) * (len(group) / len(episodes))
        loss.backward()
        total += float(loss.detach())
    if rows is not None and rows.values.grad is not None:
        table = learner.encoder.get_parameter(learner.encoder.token_table)
        if table.grad is None:
            table.grad = torch.zeros_like(table)
        table.grad.index_add_(0, rows.ids, rows.values.grad)
    return total
