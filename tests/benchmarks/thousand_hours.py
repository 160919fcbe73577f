"""What a corpus of 1,000 hours takes to list, verify, count and plan: `python tests/benchmarks/thousand_hours.py`.

12,000 sparse WAV files of five minutes with 75 turns each (900,000 in all) are made in a temporary folder, which takes
about 50 MB of disk. Each step runs in a process of its own, and prints its processor time and what its peak of resident
memory is above that of a process that did the same on a single recording, so that imports are not counted.
`--hours N` for another size, `--layout kaldi` or lhotse for another layout; `--where` prints the lines of code that the
memory of a loaded dataset is from, as tracemalloc sees it.
"""

from __future__ import annotations

import argparse
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

MINUTES, TURNS, RATE = 5, 75, 16000
HEAD = 'title = "Made up"\nlicence = "CC0"\nget = "it is made"\nuem = "all.uem"\n'
TABLES = {
    "folder": 'reference = "rttm"',
    "kaldi": "",
    "lhotse": 'recordings = "r.jsonl"\nsupervisions = "s.jsonl"',
}


def write_corpus(root: Path, recordings: int) -> None:
    """Silence in sparse files, with references that differ from file to file, and a card for each layout."""
    frames = RATE * 60 * MINUTES
    head = b"RIFF" + struct.pack("<I", 36 + 2 * frames) + b"WAVEfmt "
    head += struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16) + b"data" + struct.pack("<I", 2 * frames)
    audio = root / "c" / "audio"
    audio.mkdir(parents=True)
    with (
        (root / "c" / "rttm").open("w") as rttm,
        (root / "c" / "wav.scp").open("w") as scp,
        (root / "c" / "all.uem").open("w") as uem,
        (root / "c" / "r.jsonl").open("w") as recorded,
        (root / "c" / "s.jsonl").open("w") as supervised,
    ):
        for number in range(recordings):
            name = f"r{number:06d}"
            with (audio / f"{name}.wav").open("wb") as file:
                file.write(head)
                file.truncate(len(head) + 2 * frames)
            scp.write(f"{name} audio/{name}.wav\n")
            uem.write(f"{name} 1 0 {60 * MINUTES}\n")
            source = [{"type": "file", "channels": [0], "source": f"audio/{name}.wav"}]
            line = {"id": name, "sources": source, "sampling_rate": RATE, "duration": 60.0 * MINUTES}
            recorded.write(json.dumps(line) + "\n")
            for place in range(TURNS):
                start = 60 * MINUTES / TURNS * place + (number % 997) / 1000
                long, who = 1 + (place + number) % 4, f"n{number:05d}-{place % 4}"
                rttm.write(f"SPEAKER {name} 1 {start:.3f} {long:.3f} <NA> <NA> {who} <NA> <NA>\n")
                times = {"start": round(start, 3), "duration": float(long), "speaker": who}
                supervised.write(json.dumps({"id": f"{name}-{place}", "recording_id": name, **times}) + "\n")
    for name, keys in TABLES.items():
        expect = f"[expect]\nrecordings = {recordings}\nhours = {recordings * MINUTES / 60}\n"
        (root / f"{name}.toml").write_text(f'{HEAD}[{name}]\nroot = "c"\n{keys}\n{expect}')


BEGIN = """
import resource, time, tracemalloc
from pathlib import Path
from diarbench.cards import DatasetCard, read_card
path = Path({path!r})
card = read_card(path, DatasetCard)
"""
END = """
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
STEPS = {
    "list": "from diarbench.corpora.presence import presence\nassert presence('made', path, card).state == 'here'",
    "verify": "from diarbench.corpora.verifying import verify\nassert verify('made', path, card).holds",
    "stats": "from diarbench.corpora.verifying import recordings_of\nfrom diarbench.corpora.counting import summarise\n"
    "assert summarise('made', recordings_of('made', path, card)[0]).recordings",
    "plan": "from diarbench.loaders import load_dataset\nfrom diarbench.plan import plan\n"
    "from diarbench.registry import Registry, shipped\n"
    "dataset = load_dataset('made', path, card)\n"
    "systems = Registry((shipped(),)).choose_systems(['silence'])\n"
    "(job,) = plan(systems, [dataset], device='cpu', threads=1, limit=None)",
}
WHERE = """
from diarbench.loaders import load_dataset
import diarbench.plan
tracemalloc.start()
dataset = load_dataset('made', path, card)
kept = tracemalloc.take_snapshot()
for line in kept.statistics('lineno')[:12]:
    print(f"{line.size / 1e6:8.1f} MB {line.count:9,} objects  {line.traceback[0]}")
now, peak = tracemalloc.get_traced_memory()
print(f"{now / 1e6:8.1f} MB kept, {peak / 1e6:.1f} MB at most")
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def measured(step: str, path: Path) -> tuple[float, float]:
    """Processor time (s), and peak of resident memory (bytes)."""
    seconds, kibibytes = run(BEGIN.format(path=str(path)) + STEPS[step] + END).split()
    return float(seconds), 1024 * float(kibibytes)


def main() -> None:
    """Make the corpora, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=int, default=1000)
    parser.add_argument("--layout", choices=TABLES, default="folder")
    parser.add_argument("--where", action="store_true")
    asked = parser.parse_args()
    recordings = asked.hours * 60 // MINUTES
    with tempfile.TemporaryDirectory(prefix="diarbench-") as folder:
        whole, one = Path(folder, "whole"), Path(folder, "one")
        write_corpus(whole, recordings)
        write_corpus(one, 1)
        name = f"{asked.layout}.toml"
        if asked.where:
            print(run(BEGIN.format(path=str(whole / name)) + WHERE), end="")
            return
        print(f"{recordings:,} recordings, {asked.hours:,} hours, {recordings * TURNS:,} turns, {asked.layout}")
        print(f"{'step':8} {'s of CPU':>9} {'MB above one recording':>23} {'kB per hour':>12}")
        for step in STEPS:
            seconds, peak = measured(step, whole / name)
            _, base = measured(step, one / name)
            print(f"{step:8} {seconds:9.1f} {(peak - base) / 1e6:23.1f} {(peak - base) / 1e3 / asked.hours:12.1f}")


if __name__ == "__main__":
    main()
