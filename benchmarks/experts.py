"""A training step with LoRA experts, against other ways to train them and plain LoRA. `make bench AREA=experts`; see
docs/benchmarks.md."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
import sys

from benchmarks.area import count_per_cpu_second, memory
from benchmarks.harness import Figure, Options, Run, Worker, against_peer, alternate, run_area

# OpenMP's threads sleep at barriers, as in this project's training, so that other busy processes cost both sides little.
ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True)
class Sizes:
    """Sizes of both sides: layers as wide as SmolLM2-135M's, fp32, batches of 1,024 tokens."""

    steps: int
    hidden: int = 576
    intermediate: int = 1536
    layers: int = 4
    heads: int = 9
    key_value_heads: int = 3
    vocabulary: int = 4096
    rows: int = 2
    length: int = 512
    experts: int = 4
    experts_per_token: int = 2
    rank: int = 16


@dataclass(frozen=True)
class Bench:
    """Workers and sizes of both sides."""

    options: Options
    sizes: Sizes

    def ours(self) -> Worker:
        return Worker(
            Path(sys.executable), "benchmarks.experts_ours", "mixture", asdict(self.sizes), ENVIRONMENT
        )

    def peer(self, job: str) -> Worker:
        return Worker(
            self.options.peers_python, "benchmarks.experts_peers", job, asdict(self.sizes), ENVIRONMENT
        )


@contextmanager
def prepare(options: Options) -> Iterator[Bench]:
    yield Bench(options, Sizes(steps=options.scaled(4)))


def tokens_per_second(run: Run) -> float:
    return run.count / run.wall


def compare(bench: Bench, job: str, *, name: str, library: str, goal: float | None) -> Iterator[Figure]:
    """Speed and memory of a step against a peer. CPU time has less noise, but ignores how well cores are used."""
    pairs = alternate(bench.ours().run, bench.peer(job).run, repeats=bench.options.repeats)
    yield against_peer(
        f"training step, {name}",
        pairs,
        unit="tokens/s",
        measure=tokens_per_second,
        library=library,
        goal=goal,
    )
    yield against_peer(
        f"the same by CPU time, {name}",
        pairs,
        unit="tokens/CPU-s",
        measure=count_per_cpu_second,
        library=library,
    )
    yield against_peer(f"memory, {name}", pairs, unit="MB", measure=memory, library=library)


def upcycled(bench: Bench) -> Iterator[Figure]:
    """A Mixtral with a copy of the FFN for each expert, and LoRA on the stacked experts."""
    yield from compare(
        bench, "upcycled_mixtral", name="upcycled Mixtral", library="peft target_parameters", goal=1.6
    )


def loop(bench: Bench) -> Iterator[Figure]:
    """A loop over the experts."""
    yield from compare(bench, "expert_loop", name="expert after expert", library="loop of MoE-PEFT", goal=3.0)
    yield from compare(
        bench,
        "shared_expert_loop",
        name="expert after expert, shared products",
        library="loop of MoE-PEFT for Llama",
        goal=None,
    )


def dense(bench: Bench) -> Iterator[Figure]:
    """Plain LoRA of the same rank, without experts."""
    yield from compare(bench, "dense_lora", name="dense LoRA", library="peft", goal=0.85)


if __name__ == "__main__":
    run_area(
        "A training step with LoRA experts, against peers.",
        prepare,
        {"upcycled": upcycled, "loop": loop, "dense": dense},
    )
