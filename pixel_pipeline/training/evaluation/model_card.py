"""The model card of a checkpoint, as Markdown: origin, training data, results. Torch-free; contains no conversation text."""

from dataclasses import dataclass

from pixel_pipeline.registry.base_models import BaseManifest
from pixel_pipeline.tokens.shards import ShardManifest
from pixel_pipeline.training.checkpoints.run_state import RunState
from pixel_pipeline.training.evaluation.report import TEST, EvaluationReport
from pixel_pipeline.training.evaluation.safety.probes import NOTE, load_probes
from pixel_pipeline.training.evaluation.tables import (
    category_table,
    family_table,
    layer_table,
    markdown,
    routing_table,
    stage_table,
)


@dataclass(frozen=True)
class ModelCard:
    """The contents of a model card.

    Attributes:
        uri: URI of the checkpoint.
        state: None if the checkpoint does not record its training.
        base: None without a base model, or if it is not in the lake.
    """

    uri: str
    report: EvaluationReport
    shards: ShardManifest
    state: RunState | None
    base: BaseManifest | None

    def markdown(self) -> str:
        """`README.md`."""
        parts = [
            self._front_matter(),
            f"# {self.uri.rstrip('/').split('/')[-2]}",
            self._summary(),
            "## Base model",
            self._base(),
            "## Data",
            self._data(),
            *self._training(),
            *self._evaluation(),
            "## Safety: a smoke test, no safety assurance",
            NOTE,
            self.report.safety.rule_table(base=self.report.base_safety),
            self.report.safety.probe_table(load_probes()),
            "The answers themselves are in `samples.md` beside this file.",
            "## Use",
            self._use(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _front_matter(self) -> str:
        lines = ["library_name: transformers", "pipeline_tag: text-generation"]
        if self.base and self.base.licence != "unknown":
            lines.append(f"license: {self.base.licence.lower()}")
        return "\n".join(["---", *lines, "---"])

    def _summary(self) -> str:
        report = self.report
        kind = (
            f"Adapters on `{report.base}`" if report.base else "A Mixtral, all of whose weights were trained"
        )
        routed = (
            f"{report.experts} experts in {len(report.layers)} layers"
            if report.layers
            else "no router (plain LoRA)"
        )
        return markdown(
            ["", ""],
            [
                ["checkpoint", f"`{self.uri}`"],
                ["kind", f"{kind}; {routed}"],
                ["SHA-256 of the weights", f"`{report.model_sha256}`"],
                ["git revision", f"`{self.state.git_revision}`" if self.state else "not recorded"],
                ["test loss", f"{report.loss:.3f} nats for a token, perplexity {report.perplexity:.1f}"],
            ],
        ).replace("| --- | ---: |", "| --- | --- |")

    def _base(self) -> str:
        if self.report.base is None:
            return "None: trained from scratch on the data below."
        if self.base is None:
            return f"`{self.report.base}`: a local folder; its licence is not recorded. Find it out before you pass this model on."
        licence = self.base.licence
        return (
            f"`{self.base.name}` ({self.base.architecture}, {self.base.parameters:,} parameters), licence **{licence}**, from "
            f"{self.base.source}. Digest `{self.base.digest}`."
        )

    def _data(self) -> str:
        shards = self.shards
        rows = [
            [name, family.category, f"{family.conversations:,}", f"{family.tokens:,}"]
            for name, family in sorted(shards.families.items())
        ]
        total = [
            "**all**",
            "",
            f"{sum(family.conversations for family in shards.families.values()):,}",
            f"{sum(family.tokens for family in shards.families.values()):,}",
        ]
        splits = ", ".join(f"{name} {split.rows:,}" for name, split in sorted(shards.splits.items()))
        table = markdown(["family", "category", "conversations", "tokens"], [*rows, total])
        trained_on = self.state.identity["dataset_version"] if self.state else "not recorded"
        other = (
            ""
            if trained_on == shards.dataset_version
            else f" It was trained on version `{trained_on}`; below is what it was evaluated on."
        )
        return (
            f"Dataset version `{shards.dataset_version}`, rows of {shards.sequence_length:,} tokens: {splits}.{other}"
            f"\n\n{table}"
        )

    def _training(self) -> list[str]:
        if self.state is None:
            return []
        state, history = self.state, self.state.history
        config = state.identity["config"]
        initial = [state.identity["init_from"]] if "init_from" in state.identity else []
        figures = markdown(
            ["", ""],
            [
                ["steps", f"{state.step:,}"],
                ["tokens", f"{history.tokens:,}"],
                ["time", f"{history.seconds:,.0f} s, {history.tokens_per_second:,.0f} tokens/s"],
                ["skipped steps", f"{len(history.skipped):,}"],
                ["rewinds", f"{len(history.rewinds):,}"],
                [
                    "parameters",
                    f"{state.parameters[0]:,}, {state.parameters[1]:,} of them active for a token",
                ],
                *[["first weights", f"`{source['checkpoint']}`"] for source in initial],
                *[
                    [f"validation loss after step {validation.step:,}", f"{validation.loss:.3f}"]
                    for validation in history.validations
                ],
            ],
        ).replace("| --- | ---: |", "| --- | --- |")
        settings = "\n".join(f"{name}: {value}" for name, value in sorted(_flat(config).items()))
        return ["## Training", figures, "Configuration:", f"```yaml\n{settings}\n```"]

    def _evaluation(self) -> list[str]:
        report = self.report
        parts = ["## Evaluation"]
        about = [f"At most {report.row_limit:,} rows of each split; losses in nats for a target token."]
        if report.base:
            about.append("*base*: the same model with its adapters off.")
        if report.dense:
            about.append(f"*dense*: plain LoRA of as many parameters on the same data, `{report.dense}`.")
        parts.append(" ".join(about))
        for split in sorted(report.splits, key=lambda split: split.split != TEST):
            scored = sum(family.rows for family in split.families)
            parts.append(f"### {split.split.capitalize()} split ({scored:,} of {split.rows_there:,} rows)")
            if split.categorised:
                parts.append(category_table(split))
            parts.append(family_table(split))
        stages = stage_table(report)
        if stages:
            parts += ["### By stage of the curriculum", stages]
        layers = layer_table(report)
        if layers:
            parts += [
                "### Routing",
                f"Shares of assignments; even is {1 / report.experts:.1%}. Dead experts (less than a tenth of that): "
                f"{len(report.dead_experts)}. The last columns say how much a token's expert tells of its category and family: "
                "0 where routing ignores them.",
                layers,
                "Share of each expert, over all layers:",
                routing_table(report) or "",
            ]
        return parts

    def _use(self) -> str:
        if self.report.base:
            return (
                f"    pixel export {self.uri} --output out/model     # a native Mixtral: transformers, vLLM, llama.cpp\n"
                "    pixel verify-export out/model\n"
                "    pixel chat out/model"
            )
        return f"The checkpoint's folder loads in plain transformers as it is.\n\n    pixel chat {self.uri}"


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
