"""Tokens per second, MFU and memory of training LoRA experts on random weights with the shapes of a 7B and a 12B.

    python -m benchmarks.h100                      # both, on the GPU; a table, or JSON lines with --json
    python -m benchmarks.h100 --shape tiny --device cpu --length 64 --steps 1

MFU is operations per second, as `training/planning/cost.py` counts them (4 per frozen parameter, 6 per trained one), over an H100's
989e12, the bf16 peak, which `--frozen fp8` is compared with too.
Memory is compared with the prediction there. Inputs are random tokens, packed four conversations to a row.
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
    """A dense Mistral; `goal` is the required tokens per second on one H100, or None."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    vocabulary: int
    goal: float | None


SHAPES = {
    "7b": Shape(4096, 14336, 32, 32, 8, 128, 32_000, goal=12_000),
    "12b": Shape(5120, 14336, 40, 32, 8, 128, 131_072, goal=6_500),
    "tiny": Shape(64, 96, 2, 4, 2, 16, 512, goal=None),
}


@dataclass(frozen=True)
class Measurement:
    """Seconds of each measured step, tokens per step, peak memory (0 if unknown) and the last loss."""

    seconds: list[float]
    tokens: int
    peak_bytes: int
    loss: float


def build(
    shape: Shape, *, device: str, length: int, rank: int, frozen_precision: FrozenPrecision = "model"
) -> Any:
    """Build a mixture with random bf16 weights on the device."""
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
    adapters = AdaptersConfig(experts=4, experts_per_token=2, rank=rank)
    return build_mixture(base, adapters, seed=0, frozen_precision=frozen_precision).train()


def measure(mixture: Any, *, rows: int, length: int, steps: int) -> Measurement:
    """Measure whole steps: forward, backward, clipping, AdamW. Two warm-up steps, which compile, do not count."""
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
    return Measurement(seconds[2:], rows * length, peak, float(loss.detach()))


def figures(
    name: str, mixture: Any, measured: Measurement, *, length: int, checkpointing: bool
) -> list[Figure]:
    """Rate and MFU against the goal, and memory against the prediction."""
    from pixel_pipeline.training.model.cost import H100_PEAK_FLOPS, MixtureCost
    from pixel_pipeline.training.model.losses import CHUNK_ROWS

    cost = MixtureCost(mixture.model.config, mixture.config, frozen_precision=mixture.frozen_precision)
    rates = sorted(measured.tokens / second for second in measured.seconds)
    target = SHAPES[name].goal or median(rates)
    percent = 100 * cost.flops_per_token(length) / H100_PEAK_FLOPS
    ratio, spread = median(rates) / target, (rates[0] / target, rates[-1] / target)
    goal = 1.0 if SHAPES[name].goal else None
    result = [
        Figure(f"{name}, training", median(rates), "tokens/s", "goal", target, ratio, goal, spread),
        Figure(f"{name}, MFU", median(rates) * percent, "%", "goal", target * percent, ratio, None, spread),
    ]
    if measured.peak_bytes:
        predicted = cost.peak_bytes(
            tokens=measured.tokens, checkpointing=checkpointing, chunk_rows=CHUNK_ROWS
        )
        ratio = predicted / measured.peak_bytes
        memory = (measured.peak_bytes / GIB, "GiB", "predicted", predicted / GIB, ratio, 1.0, (ratio, ratio))
        result.append(Figure(f"{name}, memory", *memory))
    return result


def main(arguments: list[str] | None = None) -> list[Figure]:
    parser = ArgumentParser(description="Training LoRA experts at the sizes of a 7B and a 12B.")
    parser.add_argument("--json", action="store_true", help="print one JSON line per figure")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=["7b", "12b"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--length", type=int, default=4096, help="tokens per row")
    parser.add_argument("--rows", type=int, default=1, help="rows per batch")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=10, help="measured steps")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations in the backward pass"
    )
    parser.add_argument(
        "--frozen", choices=["model", "fp8"], default="model", help="precision of frozen matrix products"
    )
    parser.add_argument("--eager", action="store_true", help="do not compile")
    options = parser.parse_args(arguments)
    results: list[Figure] = []
    for name in options.shape:
        mixture = build(
            SHAPES[name],
            device=options.device,
            length=options.length,
            rank=options.rank,
            frozen_precision=options.frozen,
        )
        mixture.checkpoint_activations(options.checkpointing)
        if not options.eager and options.device.startswith("cuda"):
            mixture.compile_blocks()
        measured = measure(mixture, rows=options.rows, length=options.length, steps=options.steps)
        results += figures(
            name, mixture, measured, length=options.length, checkpointing=options.checkpointing
        )
        del mixture
    report(results, as_json=options.json)
    return results


if __name__ == "__main__":
    main()
