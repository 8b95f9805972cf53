"""Ways to run the tasks of a meta-step. All add the same gradient, up to rounding; `kshot.meta.step` chooses one."""

from kshot.meta.ways.base import Way
from kshot.meta.ways.compiled import Compiled
from kshot.meta.ways.fastest import Fastest
from kshot.meta.ways.loop import Loop
from kshot.meta.ways.threads import Threads
from kshot.meta.ways.vmap import Vmap

__all__ = ["Compiled", "Fastest", "Loop", "Threads", "Vmap", "Way"]
