"""How this family's settings were chosen: grids on training data, printed as tables; nothing is written.

    python systems/silero-ge2e/tune.py --ami AMI_EXCERPTS --simulated FOLDER

--ami is a folder of FLAC files with train.rttm, train.uem, development.rttm and development.uem (its test part is
never read). --simulated is what this makes:

    diarbench data simulate --speech LIBRISPEECH_TRAIN --conversations 84 --out FOLDER

Both sets count the same, however long. What is chosen becomes the adapter's defaults by hand, so that a card's numbers
are taken with nothing but what the repository holds. Where the first lines of a table differ by less than chance, the
value in the middle of those that do as well was taken: onset 0.3 (0.2 is no better on exact references, and the
AMI excerpts' are cut loosely), a hop of 0.4 s, 10 neighbours. Windows of 0.8 s and 2.4 s keep the threshold of 1.6 s,
which their tables put first, too.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from adapter import SileroGe2e
from numpy.typing import NDArray

from diarbench.audio import decode, read_header
from diarbench.cards import SystemCard, read_card
from diarbench.fetch import wheel_member
from diarbench.nn import silero
from diarbench.pipelines import clustering
from diarbench.pipelines.vad import SpeechRules, speech_spans
from diarbench.pipelines.windows import Windows, turns_from_windows
from diarbench.rttm import read_rttm, read_uem
from diarbench.scoring import FULL, ErrorTimes, score_recording
from diarbench.types import Recording, Spans, Turns

Embedded = tuple[Windows, NDArray[np.float32]]


@dataclass
class Item:
    """One recording of a tuning set, and what has been computed of it."""

    samples: NDArray[np.float32]
    reference: Turns
    uem: Spans
    probabilities: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    spans: Spans = ()

    @property
    def duration(self) -> float:
        """Length of the recording (s)."""
        return len(self.samples) / silero.SAMPLE_RATE


Sets = dict[str, list[Item]]


def main() -> None:
    """Read the sets, run the grids in the order in which settings depend on each other, print each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ami", type=Path, required=True, metavar="DIR", help="AMI excerpts, train and development")
    parser.add_argument("--simulated", type=Path, required=True, metavar="DIR", help="made by diarbench data simulate")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads for the networks")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    ami = [item for part in ("train", "development") for item in _read(arguments.ami, arguments.ami, part)]
    sets = {"ami": ami, "simulated": _read(arguments.simulated, arguments.simulated / "audio", "")}
    card = read_card(Path(__file__).with_name("silero-ge2e.toml"), SystemCard)
    weights = {
        name: wheel_member(str(source.wheel), str(source.member), str(source.sha256))
        for name, source in card.weights.items()
    }
    system = SileroGe2e(weights=weights)
    _tune_speech(sets, silero.SileroVad.load(weights["vad"]), system.rules)
    for hop in (0.8, 0.4):
        embedded = _embed(sets, system, window=1.6, hop=hop)
        _tune_agglomerative(sets, embedded, hop)
    _tune_spectral(sets, embedded)
    for window in (0.8, 2.4):
        _show_thresholds(sets, _embed(sets, system, window=window, hop=0.4), system, window)


def _tune_speech(sets: Sets, network: silero.SileroVad, chosen: SpeechRules) -> None:
    """Missed and false speech, whoever speaks; leaves the spans by the adapter's own rules in the items."""
    for item in itertools.chain(*sets.values()):
        item.probabilities = network.probabilities(item.samples)
        item.spans = _spans(item, chosen)

    def score(rules: SpeechRules) -> dict[str, float]:
        return _score(sets, lambda item: _as_one([(*span, "") for span in _spans(item, rules)]), one_speaker=True)

    grid = itertools.product((0.2, 0.3, 0.4, 0.5), (0.1, 0.15, 0.25, 0.35), (0.1, 0.2, 0.3, 0.5), (0.0, 0.05, 0.1))
    rows = [
        (
            f"onset {onset} offset {offset} min_off {min_off} pad {pad}",
            score(SpeechRules(onset, offset, min_off, 0, pad)),
        )
        for onset, offset, min_off, pad in grid
        if offset <= onset
    ]
    _print("Speech: missed and false speech per reference speech", rows)


def _tune_agglomerative(sets: Sets, embedded: Sequence[Embedded], hop: float) -> None:
    """Every setting is judged by the mean over three neighbouring thresholds, so that a plateau beats a peak."""
    rows = []
    middles = {0.0: 0.35, 0.25: 0.5, 0.5: 0.7, 0.75: 0.95}  # what is taken off each makes distances larger
    for (share, middle), smallest in itertools.product(middles.items(), (0.0, 1.0, 2.0, 3.0, 4.0)):
        thresholds = [round(middle + 0.05 * step, 2) for step in (-3, -2, -1, 0, 1, 2, 3)]
        scores = [_score_ahc(sets, embedded, share, threshold, round(smallest / hop)) for threshold in thresholds]
        for index in range(1, len(scores) - 1):
            around = {name: float(np.mean([s[name] for s in scores[index - 1 : index + 2]])) for name in sets}
            name = f"centring {share} threshold {thresholds[index]:.2f} min_speaker {smallest} s"
            rows.append((f"{name} (there: {_mean(scores[index]):.1%})", around))
    _print(f"AHC, windows of 1.6 s every {hop} s: DER, mean over the threshold and the ones 0.05 beside it", rows)


def _tune_spectral(sets: Sets, embedded: Sequence[Embedded]) -> None:
    rows = []
    for share, fewest, min_share in itertools.product((0.0, 0.5), (2, 8, 10, 12, 16), (0.0, 0.1, 0.15, 0.2, 0.25)):

        def cluster(
            embeddings: NDArray[np.float32], share: float = share, fewest: int = fewest, min_share: float = min_share
        ) -> NDArray[np.int64]:
            centred = clustering.centre(embeddings, share=share)
            return clustering.spectral(centred, min_neighbours=fewest, min_share=min_share)

        name = f"centring {share} min_neighbours {fewest} min_share {min_share}"
        rows.append((name, _score_clusters(sets, embedded, cluster)))
    _print("Spectral, windows of 1.6 s every 0.4 s: DER", rows)


def _show_thresholds(sets: Sets, embedded: Sequence[Embedded], system: SileroGe2e, window: float) -> None:
    """Whether another window needs another threshold."""
    smallest = round(system.min_speaker / 0.4)
    rows = [
        (f"threshold {threshold:.2f}", _score_ahc(sets, embedded, system.centring, threshold, smallest))
        for threshold in np.arange(0.55, 0.86, 0.05).tolist()
    ]
    _print(f"AHC, windows of {window} s every 0.4 s, the rest as for 1.6 s: DER", rows)


def _embed(sets: Sets, system: SileroGe2e, *, window: float, hop: float) -> list[Embedded]:
    system.window, system.hop = window, hop
    return [system.embed(item.samples, item.spans) for item in itertools.chain(*sets.values())]


def _score_ahc(
    sets: Sets, embedded: Sequence[Embedded], share: float, threshold: float, smallest: int
) -> dict[str, float]:
    def cluster(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
        centred = clustering.centre(embeddings, share=share)
        labels = clustering.agglomerative(centred, threshold=threshold)
        return clustering.nearest_mean(centred, labels, smallest=smallest)

    return _score_clusters(sets, embedded, cluster)


def _score_clusters(
    sets: Sets, embedded: Sequence[Embedded], cluster: Callable[[NDArray[np.float32]], NDArray[np.int64]]
) -> dict[str, float]:
    remaining = iter(embedded)

    def hypothesis(item: Item) -> Turns:
        windows, embeddings = next(remaining)
        return turns_from_windows(item.spans, windows, cluster(embeddings))

    return _score(sets, hypothesis)


def _score(sets: Sets, hypothesis: Callable[[Item], Turns], *, one_speaker: bool = False) -> dict[str, float]:
    """DER of each set under the rule `full`; with `one_speaker`, of a reference that does not tell speakers apart."""
    scores = {}
    for name, items in sets.items():
        total = ErrorTimes.zero()
        for item in items:
            reference = _as_one(item.reference) if one_speaker else item.reference
            total += score_recording(reference, hypothesis(item), item.uem, [FULL])["full"]
        scores[name] = total.der or 0.0
    return scores


def _as_one(turns: Iterable[tuple[float, float, str]]) -> Turns:
    return Turns.of((start, end, "speech") for start, end, _ in turns)


def _spans(item: Item, rules: SpeechRules) -> Spans:
    return speech_spans(item.probabilities, rules, hop=silero.HOP, duration=item.duration)


def _mean(scores: dict[str, float]) -> float:
    return float(np.mean(list(scores.values())))


def _print(title: str, rows: list[tuple[str, dict[str, float]]], best: int = 12) -> None:
    print(f"\n{title} (best {min(best, len(rows))} of {len(rows)})", flush=True)
    for name, scores in sorted(rows, key=lambda row: _mean(row[1]))[:best]:
        print(
            f"{_mean(scores):7.1%}   "
            + "   ".join(f"{key} {value:6.1%}" for key, value in scores.items())
            + f"   {name}"
        )


def _read(folder: Path, audio: Path, part: str) -> list[Item]:
    references = read_rttm(folder / f"{part or 'reference'}.rttm")
    items = []
    for recording_id, uem in sorted(read_uem(folder / f"{part or 'evaluation'}.uem").items()):
        path = audio / f"{recording_id}.flac"
        recording = Recording(recording_id, path, read_header(path).duration, silero.SAMPLE_RATE)
        items.append(Item(decode(recording).mono(), references.get(recording_id, Turns.of([])), uem))
    return items


if __name__ == "__main__":
    main()
