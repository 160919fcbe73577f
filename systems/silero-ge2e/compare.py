"""What compression costs this family: DER of its systems, beside the cosine of their embeddings with the baseline's.

    python systems/silero-ge2e/compare.py silero-ge2e-pruned-70 CARD.toml ... -d librispeech-simulated

Speech is found once for all, so all systems embed the same windows, and embeddings are compared one by one: the systems
have to have the baseline's windows. DER is that of the whole system under the rule `full`, as `diarbench run` has it.
Nothing is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import torch
from adapter import SileroGe2e
from numpy.typing import NDArray

from diarbench.audio import decode
from diarbench.cards import SystemSpec
from diarbench.loaders import Dataset, load_dataset
from diarbench.pipelines.windows import turns_from_windows
from diarbench.registry import Registry
from diarbench.scoring import FULL, ErrorTimes, score_recording
from diarbench.weights import find_weights

BASELINE = "silero-ge2e"


def main() -> None:
    """One line for each system and dataset."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="names, patterns or card files of this family")
    parser.add_argument("-d", "--dataset", action="append", required=True, help="repeatable")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads for the networks")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    registry = Registry.standard()
    systems = {spec.name: _build(spec) for spec in registry.choose_systems([BASELINE, *arguments.systems])}
    width = max(map(len, systems))
    for name, (path, card) in registry.choose_datasets(arguments.dataset).items():
        for system, (times, cosines) in _compare(systems, load_dataset(name, path, card)).items():
            rates = [100 * part / times.scored for part in (times.missed, times.false_alarm, times.confusion)]
            parts = "missed {:.1f}, false alarm {:.1f}, confusion {:.1f}".format(*rates)
            cosine = f"cosine {np.mean(cosines):.3f}, 5 % below {np.quantile(cosines, 0.05):.3f}"
            print(f"{name}  {system:<{width}}  DER {sum(rates):5.1f} % ({parts})  {cosine}", flush=True)


def _build(spec: SystemSpec) -> SileroGe2e:
    weights = {name: find_weights(spec, name, source).path for name, source in spec.card.weights.items()}
    return SileroGe2e(weights=weights, **spec.options)


def _compare(systems: Mapping[str, SileroGe2e], dataset: Dataset) -> dict[str, tuple[ErrorTimes, NDArray[np.float32]]]:
    """Errors of each system, summed over the dataset, and the cosine of each window with the baseline's."""
    times = dict.fromkeys(systems, ErrorTimes.zero())
    cosines: dict[str, list[NDArray[np.float32]]] = {name: [] for name in systems}
    for labelled in dataset.recordings:
        samples = decode(labelled.recording).mono()
        spans = systems[BASELINE].speech(samples)
        wanted = systems[BASELINE].embed(samples, spans)[1]
        for name, system in systems.items():
            windows, embeddings = system.embed(samples, spans)
            turns = turns_from_windows(spans, windows, system.cluster(embeddings))
            scores = score_recording(labelled.reference, turns, labelled.uem, [FULL])
            times[name] += scores["full"]
            cosines[name].append((embeddings * wanted).sum(axis=1))
    return {name: (times[name], np.concatenate(cosines[name])) for name in systems}


if __name__ == "__main__":
    main()
