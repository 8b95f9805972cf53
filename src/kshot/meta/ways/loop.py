"""One task after the other, so that memory is that of one; tasks that share the encoder's weights at once."""

from collections.abc import Sequence

from kshot.meta.learner import Pair, Rows
from kshot.meta.ways.base import Way


class Loop(Way):
    """Tasks one after the other."""

    title = "one after the other"

    def step(self, episodes: Sequence[Pair], progress: float, rows: Rows | None) -> float:
        groups = [episodes] if self.learner.shares_weights else [[episode] for episode in episodes]
        total = 0.0
        for group in groups:
            loss = self.learner(group, progress, rows) * (len(group) / len(episodes))
            loss.backward()
            total += float(loss.detach())
        return total
