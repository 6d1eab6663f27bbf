"""Tokens per second, share of the peak, and memory of training LoRA experts on random weights of the shapes of a 7B and a 12B.

    python -m benchmarks.h100                      # both, on the GPU; a table, or JSON lines with --json
    python -m benchmarks.h100 --shape tiny --device cpu --length 64 --steps 1

MFU is operations a second, as `training/model/cost.py` counts them (4 a frozen parameter, 6 a trained one), over an H100's 989e12, which
is the peak of bf16 with `--frozen fp8` too.
Memory is held to the model there. Material is random tokens, packed four conversations to a row.
"""

from argparse import ArgumentParser
from dataclasses import dataclass
from statistics import median
import time
from typing import Any

from benchmarks.harness import Figure, report
from pixel_pipeline.training.model.cost import FrozenPrecision

GIB = 1024**3


@dataclass(frozen=True)
class Shape:
    """A dense Mistral; `wanted` is the least rate of tokens on one H100, None where there is none."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    wanted: float | None


SHAPES = {
    "7b": Shape(4096, 14336, 32, 32, 8, 128, 32_000, wanted=12_000),
    "12b": Shape(5120, 14336, 40, 32, 8, 128, 131_072, wanted=6_500),
    "tiny": Shape(64, 96, 2, 4, 2, 16, 512, wanted=None),
}


@dataclass(frozen=True)
class Measured:
    """Of each measured step: seconds; and of all: the most memory (0 where the device does not tell)."""

    seconds: list[float]
    tokens: int
    peak_bytes: int
    loss: float


def build(
    shape: Shape, *, device: str, length: int, rank: int, frozen_precision: FrozenPrecision = "model"
) -> Any:
    """A mixture of random bf16 weights on the device."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    from pixel_pipeline.training.config.adapters import AdaptersConfig
    from pixel_pipeline.training.model.mixture import build_mixture

    config = MistralConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=length,
        sliding_window=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            base = MistralForCausalLM(config)
    finally:
        torch.set_default_dtype(torch.float32)
    config_of_adapters = AdaptersConfig(experts=4, experts_per_token=2, rank=rank)
    return build_mixture(base, config_of_adapters, seed=0, frozen_precision=frozen_precision).train()


def measure(mixture: Any, *, rows: int, length: int, steps: int) -> Measured:
    """Whole steps: forward, backward, clipping, AdamW. Two before them are not counted: they compile."""
    import torch

    from pixel_pipeline.training.data.batch import pack_batch
    from pixel_pipeline.training.model.adapter_state import adapter_parameters
    from pixel_pipeline.training.model.losses import linear_cross_entropy, load_balancing_loss

    device = mixture.model.device
    tokens = torch.randint(3, mixture.model.config.vocab_size, (rows, length), dtype=torch.int32)
    segments = (torch.arange(length) * 4 // length + 1).to(torch.int16).expand(rows, length)
    batch = pack_batch(tokens, loss_mask=torch.ones_like(segments, dtype=torch.uint8), segments=segments)
    batch = batch.to(device)
    parameters = [*adapter_parameters(mixture).values()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    on_gpu = device.type == "cuda"
    seconds = []
    for number in range(steps + 2):
        if on_gpu:
            torch.cuda.synchronize()
            if number == 2:
                torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        hidden, router_logits = mixture.hidden_and_routing(batch)
        loss = linear_cross_entropy(hidden, weight_VH=mixture.head_weight, targets_N=batch.targets)
        loss = loss / batch.targets.numel()
        balance = load_balancing_loss(router_logits, real=batch.real, top_k=mixture.config.experts_per_token)
        (loss + 0.01 * balance).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    return Measured(seconds[2:], rows * length, peak, float(loss.detach()))


def figures(name: str, mixture: Any, measured: Measured, *, length: int, checkpointing: bool) -> list[Figure]:
    """Rate, share of the peak and memory, each against what is wanted of it or foretold."""
    from pixel_pipeline.training.model.cost import H100_PEAK_FLOPS, MixtureCost
    from pixel_pipeline.training.model.losses import CHUNK_ROWS

    cost = MixtureCost(mixture.model.config, mixture.config, frozen_precision=mixture.frozen_precision)
    rates = sorted(measured.tokens / second for second in measured.seconds)
    wanted = SHAPES[name].wanted or median(rates)
    percent = 100 * cost.flops_per_token(length) / H100_PEAK_FLOPS
    ratio, spread = median(rates) / wanted, (rates[0] / wanted, rates[-1] / wanted)
    goal = 1.0 if SHAPES[name].wanted else None
    found = [
        Figure(f"{name}, training", median(rates), "tokens/s", "wanted", wanted, ratio, goal, spread),
        Figure(f"{name}, MFU", median(rates) * percent, "%", "wanted", wanted * percent, ratio, None, spread),
    ]
    if measured.peak_bytes:
        foretold = cost.peak_bytes(tokens=measured.tokens, checkpointing=checkpointing, chunk_rows=CHUNK_ROWS)
        ratio = foretold / measured.peak_bytes
        memory = (measured.peak_bytes / GIB, "GiB", "foretold", foretold / GIB, ratio, 1.0, (ratio, ratio))
        found.append(Figure(f"{name}, memory", *memory))
    return found


def main(arguments: list[str] | None = None) -> list[Figure]:
    parser = ArgumentParser(description="Training LoRA experts at the sizes of a 7B and a 12B.")
    parser.add_argument("--json", action="store_true", help="one JSON line a figure on stdout")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["7b", "12b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--length", type=int, default=4096, help="tokens of a row")
    parser.add_argument("--rows", type=int, default=1, help="rows of a batch")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument("--checkpointing", action="store_true", help="compute each layer a second time")
    parser.add_argument(
        "--frozen", choices=["model", "fp8"], default="model", help="precision of frozen products"
    )
    parser.add_argument("--eager", action="store_true", help="do not compile")
    asked = parser.parse_args(arguments)
    found: list[Figure] = []
    for name in asked.shape:
        mixture = build(
            SHAPES[name],
            device=asked.device,
            length=asked.length,
            rank=asked.rank,
            frozen_precision=asked.frozen,
        )
        mixture.checkpoint_activations(asked.checkpointing)
        if not asked.eager and asked.device.startswith("cuda"):
            mixture.compile_blocks()
        measured = measure(mixture, rows=asked.rows, length=asked.length, steps=asked.steps)
        found += figures(name, mixture, measured, length=asked.length, checkpointing=asked.checkpointing)
        del mixture
    report(found, as_json=asked.json)
    return found


if __name__ == "__main__":
    main()
