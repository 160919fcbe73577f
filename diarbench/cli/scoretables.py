"""Scores as tables, to read or to paste: text, Markdown, LaTeX, CSV; and as JSON with documented keys. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tabulate import SEPARATING_LINE, tabulate

from diarbench.api import Scores, Total, describe
from diarbench.report.text import NOTHING, plain

if TYPE_CHECKING:
    from diarbench.scoring import FileScore, ScoringRule, SpeakerScore

_MARKDOWN = re.compile(r"([\\`*_\[\]|~])")
_FORMULA = re.compile(r"\s*[=+\-@\t\r＝＋－＠]")

_HEADS = ["DER %", "missed %", "false alarm %", "confusion %", "JER %", "scored s"]


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first `texts` columns hold names, the others numbers."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    total: Sequence[str] | None = None  # a last row, set apart


def recording_tables(scores: Scores) -> Iterator[Table]:
    """For each rule, every recording and all together."""
    for rule in scores.rules:
        total = scores.overall[rule.name]
        yield Table(
            f"{rule.name}: {describe(rule)}; {scores.region_in_words}",
            ["recording", *_HEADS, "speakers"],
            [
                [name, *_cells(score[rule.name]), _speaker_counts(score[rule.name])]
                for name, score in scores.recordings.items()
            ],
            total=["OVERALL", *_cells(total), _count_error(total)],
        )


def speaker_tables(systems: Mapping[str, Scores]) -> Iterator[Table]:
    """For each system and rule, every reference speaker; a system may have no name ("")."""
    for system, scores in systems.items():
        for rule in scores.rules:
            of = f" of {system}" if system else ""
            yield Table(
                f"speakers{of}, {rule.name}: {describe(rule)}",
                ["recording", "speaker", "mapped to", "Jaccard error %", "scored s", "by hypothesis s", "correct s"],
                [
                    [
                        name,
                        speaker.speaker,
                        speaker.mapped if speaker.mapped is not None else NOTHING,
                        f"{100 * speaker.jaccard_error:.2f}",
                        f"{speaker.scored:.2f}",
                        f"{speaker.spoken_by_hypothesis:.2f}",
                        f"{speaker.correct:.2f}",
                    ]
                    for name, score in scores.recordings.items()
                    for speaker in score[rule.name].speakers
                ],
                texts=3,
            )


def leaderboard(systems: Mapping[str, Scores]) -> Table:
    """Systems ranked by DER under the first rule; one that lacks recordings, or has no DER, has no rank."""
    some = next(iter(systems.values()))
    first, *others = some.rules
    return Table(
        f"Ranked by {first.name}: {describe(first)}"
        + "".join(f"; {rule.name}: {describe(rule)}" for rule in others)
        + f"; {some.region_in_words}",
        ["rank", "system", *_HEADS, "speakers", *(f"{rule.name} DER %" for rule in others)],
        [
            [
                str(rank) if rank is not None else NOTHING,
                name,
                *_cells(systems[name].overall[first.name]),
                _count_error(systems[name].overall[first.name]),
                *(_percent(systems[name].overall[rule.name].times.der) for rule in others),
            ]
            for name, rank in ranked(systems).items()
        ],
        texts=2,
    )


def ranked(systems: Mapping[str, Scores]) -> dict[str, int | None]:
    """The rank of each system, best first; equal ones share a rank."""
    ders = {}
    for name, scores in systems.items():
        der = scores.overall[scores.rules[0].name].times.der
        ders[name] = None if scores.absent or der is None else round(der, 12)  # sums in another order differ by less
    order = sorted(ders, key=lambda name: (ders[name] is None, ders[name] or 0.0))
    values = [der for der in ders.values() if der is not None]
    return {
        name: None if (der := ders[name]) is None else 1 + sum(value < der for value in values) for name in order
    }  # fmt: skip


def render_text(table: Table) -> str:
    """A table for the terminal."""
    rows: list[Any] = [list(map(plain, row)) for row in table.rows]
    if table.total is not None:
        rows += [SEPARATING_LINE, list(map(plain, table.total))]
    return f"{plain(table.title)}\n{_tabulate(table, rows, table.heads, 'rounded_outline')}\n"


def render_markdown(table: Table) -> str:
    """A table for GitHub and the like; names are escaped, so that they show as they are."""
    rows = [list(map(_markdown, row)) for row in table.rows]
    if table.total is not None:
        rows.append([f"**{_markdown(cell)}**" for cell in table.total])
    return f"**{_markdown(table.title)}**\n\n{_tabulate(table, rows, list(map(_markdown, table.heads)), 'pipe')}\n"


def render_latex(table: Table) -> str:
    r"""A `table` environment with booktabs rules (`\usepackage{booktabs}`)."""
    rows: list[Any] = [list(map(plain, row)) for row in table.rows]
    if table.total is not None:
        rows.append(list(table.total))
    text = _tabulate(table, rows, table.heads, "latex_booktabs").replace(NOTHING, "--").replace("±", r"$\pm$")
    # A row that begins with a bracket would be read as an option of the line break before it.
    body = [f"{{}}{line}" if line.lstrip().startswith("[") else line for line in text.splitlines()]
    if table.total is not None:
        body.insert(-3, r"\midrule")
    caption = "".join(_LATEX.get(character, character) for character in plain(table.title))
    lines = [r"\centering", rf"\caption{{{caption}}}", *body]
    return "\n".join([r"\begin{table}", *(f"  {line}" for line in lines), r"\end{table}", ""])


def render_csv(systems: Mapping[str, Scores], *, per_speaker: bool) -> str:
    """One line for each system, rule and recording, and one without a recording for all; or for each speaker.

    Nothing is rounded: rates are fractions, times seconds; a cell without a value is empty. Text that a spreadsheet
    would take for a formula gets an apostrophe in front. A lone system without a name has no column for it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    named = list(systems) != [""]
    heads = ["system"] if named else []
    heads += ["rule", "recording"]
    heads += list(_speaker_json(None) if per_speaker else _recording_json(None))
    writer.writerow(heads)
    for system, scores in systems.items():
        for rule in scores.rules:
            start = [_csv(system), _csv(rule.name)] if named else [_csv(rule.name)]
            for name, score in scores.recordings.items():
                values = [_recording_json(score[rule.name])]
                if per_speaker:
                    values = [_speaker_json(speaker) for speaker in score[rule.name].speakers]
                for value in values:
                    writer.writerow([*start, _csv(name), *map(_csv, value.values())])
            if not per_speaker:
                total = {**_recording_json(None), **_rates_json(scores.overall[rule.name])}
                writer.writerow([*start, "", *map(_csv, total.values())])
    return out.getvalue()


def as_json(scores: Scores, *, per_speaker: bool) -> dict[str, Any]:
    """The JSON of one system; its keys are documented in docs/scoring.md."""
    return {
        "region": scores.region,
        "absent": list(scores.absent),
        "left_out": list(scores.left_out),
        "beyond": list(scores.beyond),
        "unreferenced": list(scores.unreferenced),
        "excluded": {name: [list(span) for span in spans] for name, spans in scores.excluded.items()},
        "rules": {rule.name: _rule_json(scores, rule, per_speaker) for rule in scores.rules},
    }


def _rule_json(scores: Scores, rule: ScoringRule, per_speaker: bool) -> dict[str, Any]:
    total = scores.overall[rule.name]
    recordings = {}
    for name, score in scores.recordings.items():
        found = score[rule.name]
        recordings[name] = {
            **_recording_json(found),
            "by_concurrency": [times.as_json() for times in found.by_concurrency],
        }
        if per_speaker:
            recordings[name]["speakers"] = [_speaker_json(speaker) for speaker in found.speakers]
    return {
        "label": describe(rule),
        "collar": rule.collar,
        "overlap": rule.overlap,
        "mapping": rule.mapping,
        "overall": {
            **_rates_json(total),
            "speaker_count_error": total.speaker_count_error,
            "speaker_counts": [
                {"reference": reference, "hypothesis": hypothesis, "recordings": many}
                for (reference, hypothesis), many in sorted(total.speaker_counts.items())
            ],
            "by_concurrency": [times.as_json() for times in total.by_concurrency],
        },
        "recordings": recordings,
    }


def _rates_json(score: FileScore | Total) -> dict[str, Any]:
    return {**score.times.as_json(), "jer": score.jaccard.jer}


def _recording_json(score: FileScore | None) -> dict[str, Any]:
    """The keys of a recording, all None without a score."""
    if score is None:
        keys = ("der", "missed", "false_alarm", "confusion", "scored", "jer")
        return dict.fromkeys((*keys, "reference_speakers", "hypothesis_speakers"))
    return {
        **_rates_json(score),
        "reference_speakers": score.reference_speakers,
        "hypothesis_speakers": score.hypothesis_speakers,
    }


def _speaker_json(score: SpeakerScore | None) -> dict[str, Any]:
    keys = ("speaker", "mapped", "jaccard_error", "scored", "spoken_by_hypothesis", "correct")
    return {key: getattr(score, key) if score is not None else None for key in keys}


def _cells(score: FileScore | Total) -> list[str]:
    times = score.times
    parts = (times.errors, times.missed, times.false_alarm, times.confusion)
    shares = [part / times.scored if times.scored > 0 else None for part in parts]
    return [*map(_percent, shares), _percent(score.jaccard.jer), f"{times.scored:.2f}"]


def _percent(fraction: float | None) -> str:
    return f"{100 * fraction:.2f}" if fraction is not None else NOTHING


def _speaker_counts(score: FileScore) -> str:
    """How many are found, of how many there are."""
    return f"{score.hypothesis_speakers}/{score.reference_speakers}"


def _count_error(total: Total) -> str:
    return f"±{total.speaker_count_error:.2f}" if total.speaker_count_error is not None else NOTHING


def _tabulate(table: Table, rows: Iterable[Any], heads: Sequence[str], style: str) -> str:
    aligned = ["left" if column < table.texts else "right" for column in range(len(heads))]
    text: str = tabulate(list(rows), headers=list(heads), tablefmt=style, disable_numparse=True, colalign=aligned)
    return text


def _markdown(value: str) -> str:
    escaped = plain(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", escaped)


# What a title can hold: a rule's name and label, and the name of a system.
_LATEX = {
    "±": r"$\pm$", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\\": r"\textbackslash{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
}  # fmt: skip


def _csv(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return repr(value)
    cleaned = plain(value)
    return f"'{cleaned}" if _FORMULA.match(cleaned) else cleaned
