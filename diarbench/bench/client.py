"""A measuring process as the session sees it: asked for one thing at a time."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from diarbench.errors import DiarbenchError
from diarbench.execute.messages import Order
from diarbench.execute.process import WorkerProcess
from diarbench.types import Seconds

if TYPE_CHECKING:
    from diarbench.plan import Prepared


class SystemFailedError(DiarbenchError):
    """A system can't be measured; the others go on."""


class Client:
    """A system in a process of its own, which only works while it is asked to."""

    def __init__(
        self, prepared: Prepared, *, device: str, threads: int, machine: Mapping[str, Any], mark: Path | None
    ) -> None:
        self.name = prepared.spec.name
        session = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"
        order = Order.of(
            prepared, (), device=device, threads=threads, session=session, machine=machine, mark=mark
        )  # fmt: skip
        # Neither end is inherited by another process: each server has its own, and sees its end when we close ours.
        requests, self._requests = os.pipe()
        try:
            self._process = WorkerProcess(order, "diarbench.bench.server", (requests,))
        except BaseException:
            os.close(self._requests)
            raise
        finally:
            os.close(requests)
        self._open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Only the first call does: later, the numbers of its pipe and process may be others'."""
        if self._open:
            self._open = False
            os.close(self._requests)
            self._process.__exit__(None, None, None)

    def ask(self, do: str, limit: Seconds, **arguments: Any) -> dict[str, Any]:
        """What it answers. Raises SystemFailedError where it fails, dies, or takes longer than `limit` (s)."""
        try:
            os.write(self._requests, json.dumps({"do": do, "with": arguments}).encode() + b"\n")
            answer = self._process.next(limit)
        except TimeoutError:
            self._process.kill()
            raise SystemFailedError(f"no answer within {limit:g} s; the process was ended") from None
        except OSError:
            answer = None
        if answer is None:
            raise SystemFailedError(self._process.reason())
        if answer.pop("event") == "failed":
            raise SystemFailedError(answer["error"])
        return answer
