"""Does a mixture learn more than plain LoRA with as many parameters, and do its routers find the domains?

    python -m benchmarks.learning                       # five seeds, 7 minutes of CPU time; a table, or JSON lines with --json
    python -m benchmarks.learning --seeds 1 --learning-rates 1e-2

Imports torch. A tiny Llama learns one language; then a mixture and plain LoRA learn two contradictory ones (`languages.py`) from the
same texts in the same order, each with the best of the same learning rates, chosen on separate texts. Losses are relative to the
entropy of the languages, which no model can beat.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import log
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.harness import Figure, report
from benchmarks.languages import LENGTH, TOPICS, WORDS, Languages, Texts
from pixel_pipeline.training.config.adapters import AdaptersConfig, ExpertDomains
from pixel_pipeline.training.config.config import TrainingConfig
from pixel_pipeline.training.data.batch import PackedBatch
from pixel_pipeline.training.loop.module import ADAM_BETAS, learning_rate_factor
from pixel_pipeline.training.model.adapter_state import adapter_parameters
from pixel_pipeline.training.model.losses import linear_cross_entropy, load_balancing_loss
from pixel_pipeline.training.model.mixture import Mixture, build_mixture, dense_baseline
from pixel_pipeline.training.model.router import domain_pull
from pixel_pipeline.training.model.router_health import mutual_information

# Plain LoRA with as many parameters has rank 18 on FFN and attention, more than the two active experts of a token.
ADAPTERS = AdaptersConfig(experts=4, experts_per_token=2, rank=8, alpha=16)
BASE_STEPS = 400
STEPS = 300
ROWS = 16
HELD_OUT_ROWS = 256
LEARNING_RATES = (5e-3, 1e-2, 2e-2)
TOPIC_NAMES = tuple(str(topic) for topic in range(TOPICS))

Forward = Callable[[PackedBatch, Tensor | None], tuple[Tensor, tuple[Tensor, ...]]]


@dataclass(frozen=True)
class Learned:
    """Result of a training.

    Attributes:
        validation_excess: Loss above entropy on the texts that select the learning rate, in nats.
        excess: Loss above entropy on the test texts, in nats.
        information: Mutual information of topic and expert in each layer with a router, in nats; at most ln 2.
    """

    learning_rate: float
    validation_excess: float
    excess: float
    information: tuple[float, ...]


def base_model(seed: int) -> tuple[LlamaForCausalLM, Languages]:
    """Train a tiny Llama on a language shared by all topics; return it with the topics' own languages."""
    generator = torch.Generator().manual_seed(seed)
    shared, separate = (Languages.random(count, generator) for count in (1, TOPICS))
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": WORDS + TOPICS,
        "hidden_size": 64,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    base = LlamaForCausalLM(LlamaConfig(**sizes, tie_word_embeddings=True, max_position_embeddings=LENGTH))

    def forward(batch: PackedBatch, pull_TE: Tensor | None) -> tuple[Tensor, tuple[Tensor, ...]]:
        hidden = base.model(
            input_ids=batch.tokens,
            attention_mask=batch.attention,
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        return hidden.flatten(0, 1).index_select(0, batch.target_index), ()

    config = _config(3e-3, steps=BASE_STEPS)
    fit(forward, [*base.parameters()], base.lm_head.weight, shared, config, generator, prior=None)
    return base, separate


def learn(
    base: LlamaForCausalLM,
    languages: Languages,
    *,
    build: Callable[..., Mixture],
    seed: int,
    learning_rate: float,
    prior: bool = False,
) -> Learned:
    """Train adapters on a copy of the base.

    Args:
        build: `build_mixture` or `dense_baseline`.
        prior: Whether to route each topic's texts to an expert in the first half of the steps.
    """
    mixture = build(deepcopy(base), ADAPTERS, seed=seed).train()
    parameters = [*adapter_parameters(mixture).values()]
    domains = ExpertDomains(domains=TOPIC_NAMES, steps=STEPS // 2) if prior else None
    fit(
        lambda batch, pull_TE: mixture.hidden_and_routing(batch, pull_TE=pull_TE),
        parameters,
        mixture.head_weight,
        languages,
        _config(learning_rate, steps=STEPS),
        torch.Generator().manual_seed(1000 + seed),
        prior=domains,
    )
    validation, _ = held_out(mixture, languages.texts(HELD_OUT_ROWS, torch.Generator().manual_seed(1)))
    excess, information = held_out(mixture, languages.texts(HELD_OUT_ROWS, torch.Generator().manual_seed(2)))
    return Learned(learning_rate, validation, excess, information)


def _config(learning_rate: float, *, steps: int) -> TrainingConfig:
    """A run's configuration, with the default weight decay, clipping and balancing loss."""
    return TrainingConfig(steps=steps, rows_per_step=ROWS, learning_rate=learning_rate, warmup_steps=20)


def fit(
    forward: Forward,
    parameters: Sequence[nn.Parameter],
    head: Tensor,
    languages: Languages,
    config: TrainingConfig,
    generator: torch.Generator,
    *,
    prior: ExpertDomains | None,
) -> None:
    """Train with AdamW as in `training/loop/module.py`, on new texts in each step."""
    optimizer = torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=ADAM_BETAS, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate_factor(config))
    for step in range(config.steps):
        texts = languages.texts(config.rows_per_step, generator)
        pull_TE = None
        if prior is not None:
            pull_TE = domain_pull(
                [TOPIC_NAMES[topic] for topic in texts.topic_B.tolist()],
                config=prior,
                step=step,
                experts=ADAPTERS.experts,
                row_length=LENGTH,
                device=head.device,
            )
        hidden, router_logits = forward(texts.batch, pull_TE)
        loss = linear_cross_entropy(hidden, weight_VH=head, targets_N=texts.batch.targets)
        loss = loss / texts.batch.targets.numel()
        if router_logits:
            balance = load_balancing_loss(
                router_logits, real=texts.batch.real, top_k=ADAPTERS.experts_per_token
            )
            loss = loss + config.router_aux_loss_coefficient * balance
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, config.gradient_clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


@torch.no_grad()
def held_out(mixture: Mixture, texts: Texts) -> tuple[float, tuple[float, ...]]:
    """Return loss above entropy, and mutual information of topic and expert by layer, both in nats."""
    hidden, router_logits = mixture.eval().hidden_and_routing(texts.batch)
    total = linear_cross_entropy(hidden, weight_VH=mixture.head_weight, targets_N=texts.batch.targets)
    information = []
    for logits in router_logits:
        expert_TK = logits.topk(ADAPTERS.experts_per_token, dim=-1).indices
        pair_TK = texts.topic_T.unsqueeze(1) * ADAPTERS.experts + expert_TK
        counts = torch.bincount(pair_TK.flatten(), minlength=TOPICS * ADAPTERS.experts)
        information.append(mutual_information(counts.view(TOPICS, ADAPTERS.experts)))
    return float(total) / texts.batch.targets.numel() - texts.entropy, tuple(information)


def measure(seed: int, learning_rates: Sequence[float]) -> dict[str, Learned]:
    """Train each kind with every learning rate; return the best of each kind."""
    base, languages = base_model(seed)
    kinds: dict[str, dict[str, Any]] = {
        "dense": {"build": dense_baseline},
        "mixture": {"build": build_mixture},
        "mixture with prior": {"build": build_mixture, "prior": True},
    }
    return {
        name: min(
            (learn(base, languages, seed=seed, learning_rate=rate, **options) for rate in learning_rates),
            key=lambda learned: learned.validation_excess,
        )
        for name, options in kinds.items()
    }


def figures(results: dict[int, dict[str, Learned]]) -> list[Figure]:
    """Make the figures of all seeds."""
    rows = []
    for kind in ("mixture", "mixture with prior"):
        ratios = []
        for seed, learned in results.items():
            ours, dense = learned[kind], learned["dense"]
            ratios.append(dense.excess / ours.excess)
            title = f"{kind}, seed {seed}: loss above entropy"
            peer = f"dense LoRA ({ours.learning_rate:g}, {dense.learning_rate:g})"
            spread = (ratios[-1], ratios[-1])
            rows.append(Figure(title, ours.excess, "nats", peer, dense.excess, ratios[-1], None, spread))
            shares = [information / log(TOPICS) for information in ours.information]
            title = f"{kind}, seed {seed}: information, best layer"
            spread = (min(shares), max(shares))
            rows.append(
                Figure(title, max(ours.information), "nats", "ln 2", log(TOPICS), max(shares), None, spread)
            )
        values = [median(learned[name].excess for learned in results.values()) for name in (kind, "dense")]
        spread = (min(ratios), max(ratios))
        title = f"{kind}, all seeds: loss above entropy"
        rows.append(Figure(title, values[0], "nats", "dense LoRA", values[1], median(ratios), 1.0, spread))
    return rows


def main(arguments: list[str] | None = None) -> list[Figure]:
    parser = ArgumentParser(
        description="A mixture against plain LoRA with as many parameters, on two synthetic domains."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line per figure")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[*LEARNING_RATES])
    options = parser.parse_args(arguments)
    result = figures({seed: measure(seed, options.learning_rates) for seed in options.seeds})
    report(result, as_json=options.json)
    return result


if __name__ == "__main__":
    main()
