"""Pictures of a run and of an evaluation, as PNG bytes. Imports matplotlib, not torch."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.training.history import History

WIDTH_INCHES, DPI = 9.0, 100
INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e8ec"
BLUE, PALE_BLUE, ORANGE = "#2563eb", "#bfd3f7", "#d9480f"


def loss_curve(history: History) -> bytes:
    """Training loss by step (raw and smoothed) and validation loss."""
    figure, axes = _canvas(height=4.2)
    losses = np.array(history.losses)
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=PALE_BLUE, linewidth=1, label="training, each step")
    axes.plot(steps, _smoothed(losses), color=BLUE, linewidth=2, label="training, smoothed")
    points = [(validation.step, validation.loss) for validation in history.validations]
    axes.plot(
        *zip(*points, strict=True), color=ORANGE, marker="o", markersize=5, linewidth=1.5, label="validation"
    )
    for place, (step, loss) in enumerate(points):
        if place in (0, len(points) - 1):
            axes.annotate(
                f"{loss:.2f}",
                (step, loss),
                xytext=(8 if place == 0 else -8, 8),
                textcoords="offset points",
                ha="left" if place == 0 else "right",
                color=ORANGE,
                fontweight="bold",
            )
    axes.set(xlabel="step", ylabel="loss (nats per target token)")
    _title(axes, "Loss")
    axes.set_xlim(0, len(losses))
    axes.set_ylim(0, 1.1 * max(losses.max(), *(loss for _, loss in points)))
    axes.legend(frameon=False, loc="upper right", labelcolor=INK)
    return _png(figure)


def perplexity_bars(perplexities: dict[str, float]) -> bytes:
    """Perplexity by family, worst at the top, with its number."""
    ranked = sorted(perplexities.items(), key=lambda item: item[1])
    figure, axes = _canvas(height=1.4 + 0.34 * len(ranked))
    bars = axes.barh([name for name, _ in ranked], [value for _, value in ranked], color=BLUE, height=0.66)
    axes.bar_label(bars, fmt="%.1f", padding=4, color=INK)
    axes.set(xlabel="perplexity (lower is better)")
    _title(axes, "Held-out perplexity by family")
    axes.margins(x=0.1)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return _png(figure)


def expert_load_map(load: Sequence[Sequence[float]]) -> bytes:
    """Heat map of [layers, experts] shares of assignments; an even load is white, too little blue, too much orange."""
    shares = np.array(load)
    layers, experts = shares.shape
    figure, axes = _canvas(height=1.7 + 0.42 * layers)
    # Beyond twice an even share (or nothing at all) is as bad as it gets.
    even = 1 / experts
    axes.imshow(shares - even, cmap=_diverging(), vmin=-even, vmax=even, aspect="auto")
    for layer in range(layers):
        for expert in range(experts):
            axes.text(expert, layer, f"{shares[layer, expert]:.1%}", ha="center", va="center", color=INK)
    axes.set_xticks(range(experts), [f"expert {number}" for number in range(experts)])
    axes.set_yticks(range(layers), [f"layer {number}" for number in range(layers)])
    _title(axes, f"Expert load (share of assignments; even is {even:.1%})")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return _png(figure)


def markdown_image(png: bytes, *, title: str) -> str:
    """A markdown image that carries its bytes."""
    return f"![{title}](data:image/png;base64,{b64encode(png).decode()})"


def _canvas(*, height: float) -> tuple[Figure, Axes]:
    # Opaque white: the pictures are shown on light and on dark pages.
    figure = Figure(
        figsize=(WIDTH_INCHES, height),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12),
    )
    axes = figure.add_subplot(facecolor="white")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return figure, axes


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", color=INK, fontweight="bold", pad=10)


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over a centred window of a twentieth of the run, narrower towards both ends; it does not lag."""
    reach = len(values) // 40
    return np.array(
        [
            values[at - side : at + side + 1].mean()
            for at in range(len(values))
            for side in [min(reach, at, len(values) - 1 - at)]
        ]
    )


def _diverging() -> Colormap:
    return LinearSegmentedColormap.from_list("load", ["#8fb4f8", "#ffffff", "#f6ab84"])


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    # Without the metadata that names the library's version: equal figures are equal bytes.
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
