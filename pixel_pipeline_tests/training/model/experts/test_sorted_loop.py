"""The fast experts against transformers' plain loop."""

import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralExperts

from pixel_pipeline.training.model.experts.sorted_loop import IMPLEMENTATION

EXPERTS, HIDDEN, TOKENS, TOP_K = 4, 16, 40, 2


def experts() -> MixtralExperts:
    config = MixtralConfig(num_local_experts=EXPERTS, hidden_size=HIDDEN, intermediate_size=24)
    layer = MixtralExperts(config)
    generator = torch.Generator().manual_seed(3)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return layer


@pytest.mark.parametrize("used", [EXPERTS, 2])
def test_outputs_and_gradients_equal_the_plain_loop(used: int) -> None:
    """`used` experts get tokens; the others none."""
    generator = torch.Generator().manual_seed(4)
    chosen = torch.rand(TOKENS, used, generator=generator).argsort(1)[:, :TOP_K]
    results = []
    for implementation in ("eager", IMPLEMENTATION):
        layer = experts()
        layer.config._experts_implementation = implementation
        hidden = torch.randn(TOKENS, HIDDEN, generator=torch.Generator().manual_seed(5), requires_grad=True)
        weights = torch.rand(TOKENS, TOP_K, generator=torch.Generator().manual_seed(6), requires_grad=True)
        output = layer(hidden, chosen, weights)
        output.square().sum().backward()
        results.append([output, hidden.grad, weights.grad, *(weight.grad for weight in layer.parameters())])
    for fast, plain in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)
