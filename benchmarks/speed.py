"""How fast a meta-step is: kshot, the other libraries and a plain loop, on the same weights and texts, side by side.

    python benchmarks/speed.py                            the cases of docs/figures.md, one thread
    python benchmarks/speed.py lstm/second/4/1            single cases by name: encoder/order/tasks/steps
    python benchmarks/speed.py --all --threads 2          the whole grid
    python benchmarks/speed.py --device cuda              on a GPU, where tasks go together, and compiled, too

A meta-step: the loss of some tasks, each of 5 classes with 5 support and 5 query texts of 24 tokens, is differentiated
with respect to all shared weights. Encoders: a CNN (3, 4, 5 x 100, embedding 300), an LSTM (128 -> 256) and a
Transformer of 6 layers (384). Tokens follow Zipf's law over 8,000 words; 0.55 of the tokens of 25 such texts are
distinct, and 0.54 of those of 25 reviews of amazon_sentiment.

Every system runs in a process of its own. First each gives its gradient, which is compared with that of the plain loop
in float64 (the run stops if one that is not in reduced precision differs by more than 1e-4 of its length); then they
take turns, one meta-step each, so that they share whatever else the machine does; with several threads two, of which
the second counts. GFLOP are those of the matrix products that the mathematics needs; the peak is the best product of
two 1024 x 1024 matrices in float32, PyTorch's or kshot's. Cases are added to the JSON file, in which other cases stay;
with matplotlib there is a picture of all of them.
"""

import argparse
import ctypes
import gc
import json
import logging
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from threading import Event, Thread
from time import perf_counter, process_time
from typing import Any

import numpy as np
import peers
import torch
from torch import Tensor

from kshot.meta.algorithms import build_learner
from kshot.meta.learner import AlgorithmSettings, Learner, Pair
from kshot.meta.step import MetaStep
from kshot.models.build import build_encoder
from kshot.models.products import kernels, multiplier
from kshot.models.scratch import CNNSettings, LSTMSettings, TransformerSettings
from kshot.run.memory import keep_freed_memory
from kshot.tasks.base import Batch, group_of
from kshot.tasks.classification import Classification, ClassificationSettings

WAY, SHOT, QUERY, LENGTH, N_TOKENS = 5, 5, 5, 24, 8000
RATE = 0.1
_SHARED: dict[str, Any] = {"tokens": "word", "vocabulary_size": N_TOKENS, "max_length": LENGTH, "dropout": 0.0}
ENCODERS: dict[str, Any] = {
    "cnn": CNNSettings(embedding_dim=300, **_SHARED),
    "lstm": LSTMSettings(embedding_dim=128, hidden_dim=256, **_SHARED),
    "transformer": TransformerSettings(embedding_dim=384, model_dim=384, n_layers=6, n_heads=6, **_SHARED),
}
ORDERS = {"second": 2, "first": 1, "anil": 0}
KSHOT: dict[str, dict[str, Any]] = {  # what differs from the usual way of a learner
    "kshot": {},
    "kshot, bfloat16": {"precision": torch.bfloat16},
    "kshot, plain kernels": {"kernels": "plain"},
    "kshot, loop": {"tasks": "loop"},
    "kshot, vmap": {"tasks": "vmap"},
    "kshot, compiled": {"tasks": "compiled"},
}
SYSTEMS = (*KSHOT, *peers.LOOPS)
EXACT = 1e-4
AHEAD = 10_000  # updates of a training of which a meta-step is one: on a GPU kshot measures whether compiling pays
SETTLING = 16  # meta-steps after which it has been chosen
LOG = logging.getLogger("speed")
STATM = Path("/proc/self/statm")
USUAL = (
    *(f"{encoder}/{order}/4/1" for encoder in ENCODERS for order in ORDERS),
    *(f"{encoder}/second/{size}" for encoder in ("cnn", "lstm") for size in ("16/1", "4/5", "16/5")),
)


@dataclass(frozen=True)
class Case:
    """An encoder, an order, a number of tasks and of inner steps."""

    encoder: str
    order: str
    tasks: int
    steps: int

    @classmethod
    def named(cls, name: str) -> "Case":
        encoder, order, tasks, steps = name.split("/")
        if encoder not in ENCODERS or order not in ORDERS:
            raise SystemExit(f"There is no case {name}; write encoder/order/tasks/steps, such as lstm/second/4/1.")
        return cls(encoder, order, int(tasks), int(steps))

    def __str__(self) -> str:
        return f"{self.encoder}/{self.order}/{self.tasks}/{self.steps}"


# -- the work ----------------------------------------------------------------------------------------------------------


def texts_of(case: Case) -> list[list[np.ndarray]]:
    """The token numbers of each text of each task: the support, then the query, class by class."""
    rng = np.random.default_rng(case.tasks)
    chance = 1 / np.arange(1, N_TOKENS - 9)
    chance /= chance.sum()
    n_texts = WAY * (SHOT + QUERY)
    return [list(10 + rng.choice(len(chance), (n_texts, LENGTH), p=chance).astype(np.int32)) for _ in range(case.tasks)]


def labels() -> list[int]:
    return [number for number in range(WAY) for _ in range(SHOT)]


def learner_of(case: Case) -> Learner:
    """The learner, its weights the same in every process."""
    encoder = build_encoder(ENCODERS[case.encoder], [" ".join(f"w{n}" for n in range(N_TOKENS))], seed=0)
    settings = AlgorithmSettings(
        name="anil" if case.order == "anil" else "maml",
        head={"rows": WAY},
        inner={"steps": case.steps, "rate": RATE, "order": max(1, ORDERS[case.order]) if case.order != "anil" else 2},
    )
    return build_learner(settings, encoder, Classification(ClassificationSettings(class_names=False)), seed=0).train()


def pairs_of(case: Case) -> list[Pair]:
    def batch(texts: Sequence[np.ndarray]) -> Batch:
        group = group_of(labels(), range(len(texts)), WAY, [1.0] * len(texts))
        return Batch(tuple(texts), {"label": group})

    n_support = WAY * SHOT
    return [(batch(texts[:n_support]), batch(texts[n_support:])) for texts in texts_of(case)]


def tensors_of(case: Case, device: str) -> list[peers.TaskTensors]:
    y, n_support = torch.tensor(labels(), device=device), WAY * SHOT
    made = []
    for texts in texts_of(case):
        ids = torch.from_numpy(np.stack(texts)).long().to(device)
        made.append(peers.TaskTensors(ids[:n_support], y, ids[n_support:], y))
    return made


def plain_model(case: Case, learner: Learner) -> tuple[peers.Model, dict[str, str]]:
    """The same network of PyTorch's own modules, and for each parameter of the learner the name of its counterpart."""
    own, settings, n_tokens = learner.encoder, ENCODERS[case.encoder], learner.encoder.embedding.num_embeddings
    names = {"embedding.weight": "embedding.weight"}
    if case.encoder == "cnn":
        encoder: Any = peers.PlainCNN(n_tokens, settings.embedding_dim, settings.widths, settings.n_filters)
        names = {name: name for name, _ in own.named_parameters()}
    elif case.encoder == "lstm":
        encoder = peers.PlainLSTM(n_tokens, settings.embedding_dim, settings.hidden_dim)
        names |= {"recurrences.0.weight": "lstm.weight_hh_l0", JOINED[0]: "lstm.weight_ih_l0"}
    else:
        encoder = peers.PlainTransformer(n_tokens, settings.model_dim, settings.n_layers, settings.n_heads, LENGTH)
        of_layer = {
            "query_key_value.": "self_attn.in_proj_",
            "output.": "self_attn.out_proj.",
            "widen.": "linear1.",
            "narrow.": "linear2.",
            "attention_norm.": "norm1.",
            "feed_forward_norm.": "norm2.",
        }
        names |= {name: name for name in ("position.weight", "norm.weight", "norm.bias")}
        for layer, (ours, theirs), kind in product(range(settings.n_layers), of_layer.items(), ("weight", "bias")):
            names[f"layers.{layer}.{ours}{kind}"] = f"layers.{layer}.{theirs}{kind}"
    names = {f"encoder.{ours}": f"encoder.{theirs}" for ours, theirs in names.items()}
    names |= {f"heads.label.{kind}": f"head.{kind}" for kind in ("weight", "bias")}
    model = peers.Model(encoder, own.dim, WAY)
    weights = joined({name: tensor.detach() for name, tensor in learner.named_parameters()})
    model.load_state_dict({theirs: weights[ours] for ours, theirs in names.items()})
    return model, names


JOINED = "input_projections.0.weight", "input_projections.0.bias"


def joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The learner's tensors; the LSTM's bias is the last column of its input weights, as in the plain network."""
    weight, bias = (f"encoder.{name}" for name in JOINED)
    if bias not in tensors:
        return tensors
    rest = {name: tensor for name, tensor in tensors.items() if name != bias}
    return rest | {weight: torch.cat([tensors[weight], tensors[bias].unsqueeze(1)], dim=1)}


def prepare(case: Case, system: str, device: str) -> tuple[Callable[[], None], Callable[[], dict[str, Tensor]]]:
    """A function that takes one meta-step, and one that gives the gradient that it left."""
    learner = learner_of(case)
    if system in KSHOT:
        keep_freed_memory()  # as `kshot train` does
        learner.to(device)
        changed = dict(KSHOT[system])
        take = MetaStep(learner, changed.pop("tasks", "auto"), ahead=AHEAD, say=LOG.info)
        for name, value in changed.items():
            setattr(learner, name, value)
        pairs = pairs_of(case)

        def step() -> None:
            learner.zero_grad()
            take(pairs)

        return step, lambda: joined({name: gradient_of(tensor) for name, tensor in learner.named_parameters()})
    model, names = plain_model(case, learner)
    model.to(device, torch.float64 if system == "reference" else torch.float32)
    loop, tasks = peers.LOOPS.get(system, peers.plain_loop), tensors_of(case, device)

    def step() -> None:
        model.zero_grad()
        with peers.attention(ORDERS[case.order]):
            loop(model, tasks, rate=RATE, steps=case.steps, order=ORDERS[case.order])

    return step, lambda: {ours: gradient_of(model.get_parameter(theirs)) for ours, theirs in names.items()}


def gradient_of(tensor: Tensor) -> Tensor:
    return (torch.zeros_like(tensor) if tensor.grad is None else tensor.grad).double().cpu()


def necessary_flop(case: Case) -> float:
    """Operations of the matrix products that the encoder needs, in GFLOP.

    In passes: a pass multiplies the vectors of one set of texts by the weights. Forward is one, the gradients of input
    and weights one each, and to differentiate an inner step's gradient takes six more: the change of the output (two),
    of the gradient of the input (two) and of that of the weights (two). In the CNN all but forward is for the windows
    that win the maximum alone.
    """
    passes = {"anil": 2 * 3, "first": 3 * case.steps + 3, "second": 9 * case.steps + 3}[case.order]
    forward = 2 if case.order == "anil" else case.steps + 1
    n_texts = WAY * SHOT
    tokens = n_texts * LENGTH
    if case.encoder == "cnn":
        settings = ENCODERS["cnn"]
        columns = sum(settings.widths) * settings.n_filters
        distinct = float(np.mean([len(np.unique(np.concatenate(texts[:n_texts]))) for texts in texts_of(case)]))
        one = 2 * distinct * settings.embedding_dim * columns
        winners = 2 * n_texts * settings.embedding_dim * columns
        return case.tasks * (forward * one + (passes - forward) * winners) / 1e9
    if case.encoder == "lstm":
        settings = ENCODERS["lstm"]
        one = 2 * tokens * 4 * settings.hidden_dim * (settings.embedding_dim + settings.hidden_dim)
    else:
        settings = ENCODERS["transformer"]
        d = settings.model_dim
        one = tokens * settings.n_layers * (2 * 12 * d * d + 4 * LENGTH * d)
    return case.tasks * passes * one / 1e9


def peak(device: str, threads: int) -> float:
    """GFLOP/s of the best product of two square matrices in float32."""
    torch.set_num_threads(threads)
    a, b = (torch.randn(1024, 1024, device=device) for _ in range(2))
    with torch.no_grad(), kernels("fast"):
        ways: list[Callable[[], Tensor]] = [lambda: a @ b, lambda: multiplier(torch.float32)(a, b)]
        return max(2 * 1024**3 / seconds(way, device, threads) / 1e9 for way in ways for _ in range(10))


def seconds(work: Callable[[], Any], device: str, threads: int) -> float:
    """How long something takes; with one thread the processor's time, of which other programs take nothing."""
    clock = process_time if device == "cpu" and threads == 1 else perf_counter
    if device == "cuda":
        torch.cuda.synchronize()
    begin = clock()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


# -- a process of each system ------------------------------------------------------------------------------------------


def work(case: Case, system: str, arguments: argparse.Namespace) -> None:
    """Writes the gradient into a file, then takes a meta-step for each line of the input and prints its seconds."""
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    step, gradient = prepare(case, system, arguments.device)
    used = memory_of(step, arguments.device)
    torch.save(gradient(), arguments.gradient)
    for _ in range(SETTLING if arguments.device == "cuda" else 0):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        if arguments.threads > 1:
            step()  # as in a training, where threads do not sleep for seconds before each step
        print(seconds(step, arguments.device, arguments.threads), flush=True)
    print(used, flush=True)


def memory_of(step: Callable[[], None], device: str) -> float:
    """How much memory a step takes beyond what is in use before it, in MB."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    if not STATM.exists():
        step()
        return math.nan
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the preparations have freed would be used again, unseen
    sizes, done = [resident()], Event()

    def watch() -> None:
        while not done.wait(0.001):
            sizes.append(resident())

    watcher = Thread(target=watch)
    watcher.start()
    step()
    done.set()
    watcher.join()
    return (max(sizes) - sizes[0]) / 1e6


def resident() -> float:
    """The memory of this process, in bytes."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize()


class Worker:
    """A process that takes meta-steps when it is told to."""

    def __init__(self, case: Case, system: str, arguments: argparse.Namespace, gradient: Path) -> None:
        options = ["--threads", str(arguments.threads), "--device", arguments.device, "--gradient", str(gradient)]
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, str(case), "--work", system, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if self._read() != "ready":
            raise SystemExit(f"{case}, {system}: {self.process.communicate()[1].strip().splitlines()[-1]}")
        self.gradient: dict[str, Tensor] = torch.load(gradient)
        gradient.unlink()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, word: str) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return float(self._read())

    def end(self) -> tuple[float, str]:
        """The memory that it took in MB, and what it logged."""
        used = self.tell("end")
        return used, self.process.communicate()[1].strip()


# -- the comparison ----------------------------------------------------------------------------------------------------


def compare(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs every system on a case; a row of figures for each."""
    rows: dict[str, dict[str, Any]] = {}
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as folder:
        reference = Worker(case, "reference", arguments, Path(folder) / "reference")
        reference.end()
        for system in arguments.systems:
            missing = why_not(system, case)
            if missing:
                print(f"  {missing}")
                continue
            worker = Worker(case, system, arguments, Path(folder) / "gradient")
            error = distance(worker.gradient, reference.gradient)
            if error > EXACT and "bfloat16" not in system:
                raise SystemExit(f"{case}: the gradient of {system} differs by {error:.1e} from that in float64.")
            workers[system], rows[system] = worker, {"error": error}
    times: dict[str, list[float]] = {system: [] for system in workers}
    begin = perf_counter()
    while (done := len(next(iter(times.values())))) < 3 or (done < 40 and perf_counter() - begin < arguments.seconds):
        for system, worker in workers.items():
            times[system].append(worker.tell("step"))
    flop, best_peak = necessary_flop(case), peak(arguments.device, arguments.threads)
    for system, worker in workers.items():
        rows[system]["memory_mb"], rows[system]["log"] = worker.end()
        low, middle, high = np.quantile(times[system], [0.25, 0.5, 0.75])
        rows[system] |= {
            "seconds": middle,
            "quartiles": [low, high],
            "rounds": len(times[system]),
            "gflop_per_second": flop / middle,
            "share_of_peak": flop / middle / best_peak,
        }
    best = min((rows[system]["seconds"] for system in peers.LOOPS if system in rows), default=float("nan"))
    for row in rows.values():
        row["times_best_peer"] = best / row["seconds"]
    return {"gflop": flop, "peak": best_peak, "floor": flop / best_peak, "systems": rows}


def why_not(system: str, case: Case) -> str | None:
    return None if system in KSHOT else peers.why_not(system, ORDERS[case.order])


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The length of the difference over the length of the second, all tensors together."""
    difference = sum(float((one[name] - other[name]).square().sum()) for name in other)
    return (difference / sum(float(tensor.square().sum()) for tensor in other.values())) ** 0.5


def show(case: Case, figures: dict[str, Any]) -> None:
    print(
        f"{case}: {figures['gflop']:.1f} GFLOP, peak {figures['peak']:.0f} GFLOP/s, "
        f"so {1e3 * figures['floor']:.0f} ms at least"
    )
    for system, row in figures["systems"].items():
        low, high = (1e3 * each for each in row["quartiles"])
        print(
            f"  {system:22s} {1e3 * row['seconds']:6.0f} ms ({low:.0f} to {high:.0f}), "
            f"{case.tasks / row['seconds']:.0f} tasks/s  "
            f"{row['times_best_peer']:5.2f} x best peer  {row['memory_mb']:5.0f} MB  "
            f"{row['gflop_per_second']:4.0f} GFLOP/s, {100 * row['share_of_peak']:3.0f}% of peak  "
            f"error {row['error']:.0e}",
            flush=True,
        )


def main() -> None:
    arguments = parse()
    cases = [Case.named(name) for name in arguments.cases]
    if arguments.work:
        work(cases[0], arguments.work, arguments)
        return
    path = arguments.out / f"speed-{arguments.name}.json"
    figures = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else {}
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    arguments.out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        figures[str(case)] = compare(case, arguments)
        show(case, figures[str(case)])
        whole = {"device": device, "threads": arguments.threads, "torch": torch.__version__, "cases": figures}
        path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    if find_spec("matplotlib") is None:
        print('No picture without matplotlib: pip install "kshot[report]".')
    else:
        draw(figures, path.with_suffix(".svg"))


def draw(figures: dict[str, Any], path: Path) -> None:
    """How many times as fast as the best peer each system is, case by case."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.75 * len(figures)))
    shown = [system for system in SYSTEMS if any(system in each["systems"] for each in figures.values())]
    height = 0.8 / len(shown)
    for number, system in enumerate(shown):
        here = [
            (row, each["systems"][system]) for row, each in enumerate(figures.values()) if system in each["systems"]
        ]
        axes.barh(
            [place + number * height for place, _ in here],
            [row["times_best_peer"] for _, row in here],
            height,
            label=system,
            color="0.75" if system in peers.LOOPS else None,
            edgecolor="white",
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([row + 0.4 for row in range(len(figures))], list(figures))
    axes.invert_yaxis()
    axes.set_xlabel("meta-steps per second, times those of the best peer (grey: the peers)")
    own = [(bars, name) for bars, name in zip(*axes.get_legend_handles_labels(), strict=True) if name in KSHOT]
    axes.legend(*zip(*own, strict=True), frameon=False, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def usual_systems(device: str, threads: int) -> list[str]:
    """Those in which something differs there."""
    left_out = {"kshot, vmap", "kshot, compiled"} if device == "cpu" else set()
    left_out |= {"kshot, loop"} if device == "cpu" and threads == 1 else set()
    return [system for system in SYSTEMS if system not in left_out]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="encoder/order/tasks/steps", default=None)
    parser.add_argument("--all", action="store_true", help="the whole grid")
    parser.add_argument("--systems", nargs="*", default=None, choices=SYSTEMS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--seconds", type=float, default=10, help="how long a case takes turns")
    parser.add_argument("--name", default=None, help="of the files; device and threads if not given")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--gradient", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    grid = [f"{e}/{o}/{n}/{s}" for e, o, n, s in product(ENCODERS, ORDERS, (4, 16), (1, 5))]
    arguments.cases = arguments.cases or (grid if arguments.all else list(USUAL))
    arguments.systems = arguments.systems or usual_systems(arguments.device, arguments.threads)
    arguments.name = arguments.name or f"{arguments.device}-{arguments.threads}"
    return arguments


if __name__ == "__main__":
    main()
