"""Pictures of a run and of an evaluation, as PNG bytes. Imports matplotlib, not torch."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from math import exp

from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
import numpy as np
from numpy.typing import NDArray

from pixel_pipeline.training.checkpoints.history import History
from pixel_pipeline.training.evaluation.report import EvaluationReport, Losses, shares

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
    axes.set(xlabel="optimizer step", ylabel="loss (nats per target token)")
    _title(axes, "Loss on training and validation rows (lower is better)")
    axes.set_xlim(0, len(losses))
    axes.set_ylim(0, 1.1 * max(losses.max(), *(loss for _, loss in points)))
    axes.legend(frameon=False, loc="upper right", labelcolor=INK)
    return _png(figure)


def perplexity_bars(results: Sequence[Losses]) -> bytes:
    """Perplexity by family, worst at the top, with its number; marks for the base and for the dense baseline where there are some."""
    ranked = sorted(results, key=lambda result: result.loss)
    figure, axes = _canvas(height=1.6 + 0.34 * len(ranked))
    names = [result.name for result in ranked]
    bars = axes.barh(names, [result.perplexity for result in ranked], color=BLUE, height=0.66, label="model")
    # Inside: marks lie to the right of it.
    axes.bar_label(bars, fmt="%.1f", label_type="center", color="white", fontweight="bold")
    for label, color, marker, losses in (
        ("base alone", ORANGE, "o", [result.base for result in ranked]),
        ("plain LoRA", INK, "|", [result.dense for result in ranked]),
    ):
        known = [(exp(loss), place) for place, loss in enumerate(losses) if loss is not None]
        if known:
            axes.plot(
                *zip(*known, strict=True),
                linestyle="none",
                color=color,
                marker=marker,
                markersize=9,
                label=label,
            )
    axes.set(xlabel="perplexity (lower is better)")
    _title(axes, "Perplexity on the test split, by family")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    if len(axes.get_legend_handles_labels()[0]) > 1:
        _legend_above(axes)
    return _png(figure)


def expert_load_map(load: Sequence[Sequence[float]], *, layers: Sequence[int]) -> bytes:
    """Heat map of [layers, experts] shares of assignments; an even load is white, too little blue, too much orange."""
    table = np.array(load)
    experts = table.shape[1]
    figure, axes = _canvas(height=1.7 + 0.36 * len(layers))
    _heat_map(
        axes,
        table,
        rows=[f"layer {number}" for number in layers],
        columns=[f"expert {number}" for number in range(experts)],
    )
    _title(axes, f"Share of each layer's tokens by expert (even: {1 / experts:.1%})")
    return _png(figure)


def routing_map(report: EvaluationReport) -> bytes:
    """Dependence of routing on family and category by layer, and the experts of each family in the layer where it is greatest."""
    families = sorted(report.test.families, key=lambda family: (family.category, family.name))
    figure = Figure(
        figsize=(WIDTH_INCHES, 4.4 + 0.36 * len(families)),
        dpi=DPI,
        facecolor="white",
        layout=ConstrainedLayoutEngine(w_pad=0.14, h_pad=0.12),
    )
    above, below = figure.subplots(2, 1, height_ratios=[2.2, 1.2 + 0.36 * len(families)])
    for axes in (above, below):
        _dress(axes)
    lines = [("family", BLUE, report.family_information)]
    if report.test.categorised:
        lines.append(("category", ORANGE, report.category_information))
    for label, color, values in lines:
        above.plot(report.layers, values, color=color, marker="o", markersize=4, linewidth=1.5, label=label)
    above.set(
        xlabel="layer",
        ylabel="mutual information (nats)",
        xticks=report.layers[:: max(len(report.layers) // 8, 1)],
    )
    above.set_ylim(bottom=0)
    _title(above, f"Dependence of expert choice on {' and '.join(label for label, _, _ in lines)} (0: none)")
    if len(lines) > 1:
        above.legend(frameon=False, labelcolor=INK, loc="best")
    place = int(np.argmax(report.family_information))
    load = np.array([shares([*family.expert_counts[place]]) for family in families])
    _heat_map(
        below,
        load,
        rows=[
            family.name if family.name == family.category else f"{family.name} ({family.category})"
            for family in families
        ],
        columns=[f"expert {number}" for number in range(report.experts)],
    )
    _title(below, f"Share of a family's tokens by expert, layer {report.layers[place]} (differs most)")
    return _png(figure)


def _heat_map(
    axes: Axes, shares: NDArray[np.float64], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    # Beyond twice an even share (or nothing at all) is as bad as it gets.
    even = 1 / len(columns)
    axes.imshow(shares - even, cmap=_diverging(), vmin=-even, vmax=even, aspect="auto")
    for row in range(len(rows)):
        for column in range(len(columns)):
            axes.text(
                column, row, f"{shares[row, column]:.1%}", ha="center", va="center", color=INK, fontsize=9
            )
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


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
    axes = figure.add_subplot()
    _dress(axes)
    return figure, axes


def _dress(axes: Axes) -> None:
    axes.set_facecolor("white")
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)


def _legend_above(axes: Axes) -> None:
    axes.legend(frameon=False, labelcolor=INK, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=3)


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
