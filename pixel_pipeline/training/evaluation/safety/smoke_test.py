"""Results of the smoke test as counts. Torch-free. Contains no answers, because a model may recite its training data."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pixel_pipeline.training.evaluation.safety.probes import Probe
from pixel_pipeline.training.evaluation.safety.rules import MEANINGS, RULES, check_answer, counts

VIOLATIONS = tuple(name for name in MEANINGS if name not in {r.id for r in RULES if r.kind == "caring"})


@dataclass(frozen=True)
class ProbeResult:
    """Ids of the rules that one answer breaks, and of the desirable ones it meets."""

    probe: str
    violations: tuple[str, ...]
    caring: tuple[str, ...]


@dataclass(frozen=True)
class SmokeTest:
    """Results of all probes. No safety assurance."""

    probes: tuple[ProbeResult, ...]

    @classmethod
    def of(cls, answers: Mapping[str, str]) -> Self:
        """Check answers, given by probe id."""
        results = []
        for probe, text in answers.items():
            found = check_answer(text)
            results.append(ProbeResult(probe=probe, violations=found.violations, caring=found.caring))
        return cls(probes=tuple(results))

    @property
    def violations(self) -> int:
        """Number of (probe, broken rule) pairs."""
        return sum(len(result.violations) for result in self.probes)

    @property
    def by_rule(self) -> dict[str, int]:
        """Number of probes that break each broken rule."""
        return counts(name for result in self.probes for name in result.violations)

    @property
    def caring(self) -> int:
        """Number of answers that show care or point to help."""
        return sum(bool(result.caring) for result in self.probes)

    def to_json(self) -> dict[str, Any]:
        """Plain types, sums included."""
        sums = {"violations": self.violations, "by_rule": self.by_rule, "caring": self.caring}
        return {**sums, "probes": [asdict(result) for result in self.probes]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(
            probes=tuple(
                ProbeResult(
                    probe=item["probe"], violations=tuple(item["violations"]), caring=tuple(item["caring"])
                )
                for item in content["probes"]
            )
        )

    def summary(self) -> str:
        """`24 probes, 2 rules broken (blame 1, minimising 1), 20 answers with care or help`."""
        rules = ", ".join(f"{name} {count}" for name, count in self.by_rule.items())
        return (
            f"{len(self.probes)} probes, {self.violations} rules broken{f' ({rules})' if rules else ''}, "
            f"{self.caring} answers with care or help"
        )

    def rule_table(self, *, base: "SmokeTest | None" = None) -> str:
        """Markdown: probes that break each rule, of this model and of its base."""
        header = ["rule", "an answer that …", "model", *(["base"] if base else [])]
        lines = [f"| {' | '.join(header)} |", f"|---|---|{'---:|' * (len(header) - 2)}"]
        for name in VIOLATIONS:
            cells = [name, MEANINGS[name], str(self.by_rule.get(name, 0))]
            lines.append(f"| {' | '.join(cells + ([str(base.by_rule.get(name, 0))] if base else []))} |")
        cells = ["**care or help**", "*(good)* shows care or points to help", str(self.caring)]
        lines.append(f"| {' | '.join(cells + ([str(base.caring)] if base else []))} |")
        return "\n".join(lines)

    def count_table(self, *, base: "SmokeTest | None" = None) -> str:
        """Markdown: the counts of `rule_table` without the meanings of the rules."""
        counts = [(name, self.by_rule.get(name, 0)) for name in VIOLATIONS] + [
            ("*care or help (good)*", self.caring)
        ]
        of_base = {} if base is None else {**base.by_rule, "*care or help (good)*": base.caring}
        lines = [
            "| broken rule | model |" + (" base |" if base else ""),
            "|---|---:|" + ("---:|" if base else ""),
        ]
        lines += [
            f"| {name.replace('_', ' ')} | {count} |" + (f" {of_base.get(name, 0)} |" if base else "")
            for name, count in counts
        ]
        return "\n".join(lines)

    def probe_table(self, probes: Sequence[Probe]) -> str:
        """Markdown: what was found, by probe."""
        about = {probe.id: probe for probe in probes}
        lines = ["| probe | topic | broken rules | care or help |", "|---|---|---|---|"]
        lines += [
            f"| {result.probe} | {about[result.probe].topic} | {', '.join(result.violations) or '–'} | {', '.join(result.caring) or '–'} |"
            for result in self.probes
        ]
        return "\n".join(lines)
