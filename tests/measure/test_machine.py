from __future__ import annotations

import getpass
import json
import re
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from diarbench.measure import machine
from diarbench.rttm import check_id


def test_the_fingerprint_is_plain_and_names_nobody():
    facts = machine.fingerprint()
    hardware = {"cpu", "cpu_generation", "cores", "logical_cores", "memory_bytes", "gpus"}
    assert set(facts) == {*hardware, "system", "architecture"}
    assert facts["logical_cores"] >= 1
    assert facts["memory_bytes"] > 1 << 28
    text = json.dumps(facts, allow_nan=False)
    for secret in (socket.gethostname(), getpass.getuser()):
        assert not re.search(rf"\b{re.escape(secret)}\b", text)


def test_the_name_is_a_folder_and_stays_the_same():
    facts = machine.fingerprint()
    name = machine.machine_name(facts)
    assert name == machine.machine_name(machine.fingerprint())
    assert check_id(name, "a name") == name
    assert re.fullmatch(r"[a-z0-9-]+", name)
    facts["system"] = "another kernel"
    assert machine.machine_name(facts) == name
    # The next kernel keeps some megabytes more for itself.
    usual = {"cpu": "x", "logical_cores": 2, "gpus": []}
    assert len({machine.machine_name({**usual, "memory_bytes": int(15.5e9) + n * 30_000_000}) for n in range(9)}) == 1
    assert machine.machine_name({**usual, "memory_bytes": 8 << 30}) != machine.machine_name(
        {**usual, "memory_bytes": 16 << 30}
    )


@pytest.mark.parametrize(
    ("cpu", "gpus", "name"),
    [
        ("AMD EPYC 7B13 64-Core Processor", ["NVIDIA H200"], r"amd-epyc-7b13-8c-32g-nvidia-h200-\w{6}"),
        ("Apple M2", [], r"apple-m2-8c-32g-\w{6}"),
        ("", [], r"8c-32g-\w{6}"),
        ("unknown", ["A", "A"], r"unknown-8c-32g-2x-a-\w{6}"),
        ("../../etc", ["/dev/x y"], r"etc-8c-32g-dev-x-y-\w{6}"),
    ],
)
def test_names_of_machines(cpu: str, gpus: list[str], name: str):
    facts = {"cpu": cpu, "logical_cores": 8, "memory_bytes": 32 << 30, "gpus": [{"name": gpu} for gpu in gpus]}
    assert re.fullmatch(name, machine.machine_name(facts))


@pytest.mark.parametrize(
    ("said", "cpu", "generation"),
    [
        (
            "cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n\ncpu family\t: 6\n",
            "AMD EPYC",
            "family 25, model 17",
        ),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "aarch64", "implementer 0x41, part 0xd0c"),
        ("processor\t: 0\n", "aarch64", None),
        (None, "aarch64", None),
    ],
)
def test_processors_that_hide_their_model(monkeypatch: pytest.MonkeyPatch, said, cpu, generation):
    def read(path: Path) -> str:
        if said is None:
            raise FileNotFoundError(path)
        return said

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "aarch64")
    facts = machine.fingerprint()
    assert (facts["cpu"], facts["cpu_generation"]) == (cpu, generation)


def test_generations_have_names_of_their_own():
    usual = {"cpu": "AMD EPYC", "logical_cores": 2, "memory_bytes": 24 << 30, "gpus": []}
    generations = ("family 25, model 1", "family 25, model 17", None)
    names = [machine.machine_name({**usual, "cpu_generation": generation}) for generation in generations]
    assert len(set(names)) == 3
    assert machine.machine_name(usual) == names[2]


def test_gpus_by_nvml(monkeypatch: pytest.MonkeyPatch):
    closed = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: closed.append(True),
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "NVIDIA H200",
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=150 << 30),
        nvmlSystemGetDriverVersion=lambda: "580.1",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert machine.gpus() == [{"name": "NVIDIA H200", "memory_bytes": 150 << 30, "driver": "580.1"}]
    assert closed == [True]

    def no_driver() -> None:
        raise RuntimeError("no driver")

    nvml.nvmlInit = no_driver
    assert machine.gpus() == []


def test_software_and_settings():
    found = machine.software(["numpy", "no-such-distribution"])
    assert set(found["distributions"]) == {"numpy"}
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", found["commit"])
    assert set(machine.settings()) <= {"environment", "torch"}
    json.dumps(machine.settings(), allow_nan=False)


def test_the_commit_is_none_without_git(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert machine.software([])["commit"] is None


def test_peak_memory_and_load():
    before = machine.peak_memory()
    assert before is not None
    taken = bytearray(100_000_000)
    taken[::4096] = b"1" * len(taken[::4096])
    after = machine.peak_memory()
    assert after is not None
    assert after >= max(before, 100_000_000)
    load = machine.load_average()
    assert load is None or (len(load) == 3 and min(load) >= 0)
