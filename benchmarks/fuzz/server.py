"""A fork server: read inputs in children of a process that has imported everything already.

Each child reads a batch and reports after every input. When a child dies, the input that it was
at is read again, alone. If that child survives, the shortest run of inputs before it that makes it die is
found by bisecting.
"""

import faulthandler
import json
import os
import selectors
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.fuzz.judge import BUDGET, CRASH, TIME, Budget, Outcome, judge, limit_process
from benchmarks.fuzz.kind import Kind

__all__ = ["Batch", "Server", "batches"]

PATIENCE = 90.0
"""Seconds without a report after which a child hangs; enough for any processor time on a busy machine."""


@dataclass(frozen=True)
class Batch:
    """Inputs of one kind for one child."""

    name: str
    """Of the kind."""
    cases: Sequence[int]


def batches(counts: Mapping[str, int], size: int) -> Iterator[Batch]:
    """Yield batches of all kinds in turn, so that a run that is stopped has tried each kind.

    Args:
        counts: number of inputs of each kind.
        size: inputs per batch.
    """
    start = 0
    while any(start < count for count in counts.values()):
        for name, count in counts.items():
            if start < count:
                yield Batch(name, range(start, min(start + size, count)))
        start += size


@dataclass
class _Child:
    """A process at work on a batch."""

    pid: int
    reports: int
    """File descriptor of its reports."""
    batch: Batch
    done: int = 0
    """How many cases of the batch are done; it is at the next one."""
    heard: float = field(default_factory=time.monotonic)
    """When it last reported."""
    text: bytes = b""
    """Of a report that has not arrived completely."""
    hung: bool = False


class Server:
    """Reads inputs of several kinds in children of this process.

    Args:
        kinds: by name.
        seed: of the inputs.
        budget: what reading an input may cost.
        patience: seconds without a report after which a child is killed.
    """

    def __init__(
        self, kinds: Mapping[str, Kind], seed: int = 0, budget: Budget = BUDGET, patience: float = PATIENCE
    ) -> None:
        self._kinds, self._seed, self._budget, self._patience = kinds, seed, budget, patience

    def run(
        self,
        work: Iterable[Batch],
        workers: int,
        report: Callable[[str, Outcome], None],
        until: float = float("inf"),
    ) -> None:
        """Read all inputs.

        Args:
            work: the batches.
            workers: children at once.
            report: called with the kind's name and the outcome of each input.
            until: no batch is started after this time (`time.monotonic`).
        """
        waiting, later = iter(work), list[Batch]()
        children: dict[int, _Child] = {}
        with selectors.DefaultSelector() as selector, ExitStack() as stack:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(workers)]
            free = list(folders)
            folder_of: dict[int, Path] = {}
            try:
                while True:
                    while free and time.monotonic() < until:
                        batch = later.pop() if later else next(waiting, None)
                        if batch is None:
                            break
                        folder = free.pop()
                        child = self._start(batch, folder, [other.reports for other in children.values()])
                        children[child.reports], folder_of[child.reports] = child, folder
                        selector.register(child.reports, selectors.EVENT_READ)
                    if not children:
                        return
                    for key, _ in selector.select(timeout=1.0):
                        child = children[key.fd]
                        if self._listen(child, report):
                            continue
                        selector.unregister(child.reports)
                        free.append(folder_of.pop(child.reports))
                        del children[child.reports]
                        rest = self._buried(child, report)
                        if rest.cases:
                            later.append(rest)
                    for child in children.values():
                        if time.monotonic() - child.heard > self._patience:
                            child.hung = True
                            os.kill(child.pid, signal.SIGKILL)
            finally:
                for child in children.values():
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                    os.close(child.reports)

    def run_alone(self, name: str, cases: Sequence[int]) -> list[Outcome]:
        """Read inputs in one child; the last outcome is a crash or an overrun if the child dies."""
        outcomes: list[Outcome] = []
        with tempfile.TemporaryDirectory() as folder:
            child = self._start(Batch(name, cases), Path(folder), [])
            with selectors.DefaultSelector() as selector:
                selector.register(child.reports, selectors.EVENT_READ)
                while True:
                    if not selector.select(timeout=self._patience):
                        child.hung = True
                        os.kill(child.pid, signal.SIGKILL)
                    if not self._listen(child, lambda _, outcome: outcomes.append(outcome)):
                        break
        died = _death(child)
        if child.done < len(cases):
            outcomes.append(Outcome(cases[child.done], _verdict(child, died), died))
        return outcomes

    def _start(self, batch: Batch, folder: Path, others: Sequence[int]) -> _Child:
        receiving, sending = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for descriptor in (receiving, *others):
                    os.close(descriptor)
                self._work(batch, folder, sending)
                os._exit(0)
            except BaseException:
                os.write(sending, f"!{json.dumps(traceback.format_exc())}\n".encode())
            finally:
                os._exit(99)
        os.close(sending)
        return _Child(pid, receiving, batch)

    def _work(self, batch: Batch, folder: Path, sending: int) -> None:
        """In the child: read the inputs and report."""
        kind = self._kinds[batch.name]
        for path in folder.iterdir():  # of the batch before
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, content in {**kind.beside, kind.place: b""}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):  # libraries in C print what they think of damaged files
            os.dup2(nowhere, standard)
        faulthandler.disable()
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        limit_process(kind, self._budget)
        for case in batch.cases:
            content = kind.input(self._seed, batch.name, case)
            outcome = judge(kind, case, content, folder, self._budget)
            os.write(sending, json.dumps(asdict(outcome)).encode() + b"\n")

    def _listen(self, child: _Child, report: Callable[[str, Outcome], None]) -> bool:
        """Take a child's reports. False if there will be no more."""
        received = os.read(child.reports, 1 << 16)
        child.heard = time.monotonic()
        *lines, child.text = (child.text + received).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                report(child.batch.name, Outcome(**json.loads(line)))
                child.done += 1
            elif line:
                raise RuntimeError(f"The harness failed at {child.batch}:\n{json.loads(line[1:])}")
        return bool(received)

    def _buried(self, child: _Child, report: Callable[[str, Outcome], None]) -> Batch:
        """Report why a child died, if it did. Returns the cases that it has not done."""
        died = _death(child)
        rest = child.batch.cases[child.done :]
        if rest:
            report(child.batch.name, self._found_again(child, died))
        return Batch(child.batch.name, rest[1:])

    def _found_again(self, child: _Child, died: str) -> Outcome:
        """Read the input that a child died of alone, or after as few others as possible."""
        case, name = child.batch.cases[child.done], child.batch.name
        verdict = _verdict(child, died)
        if child.hung:  # to hang again would take as long
            return Outcome(case, verdict, f"no answer in {self._patience:.0f} s")
        alone = self.run_alone(name, [case])[-1]
        if alone.verdict == verdict:
            return Outcome(case, verdict, f"{alone.detail}, alone too")
        before = child.batch.cases[: child.done]
        least, most = 0, len(before)
        while most - least > 1:
            middle = (least + most) // 2
            again = self.run_alone(name, [*before[len(before) - middle :], case])
            least, most = (least, middle) if again[-1].verdict in (CRASH, TIME) else (middle, most)
        return Outcome(case, verdict, f"{died}; not alone, but after the {most} cases before it")


def _death(child: _Child) -> str:
    """Wait for a child and return how it ended."""
    os.close(child.reports)
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"


def _verdict(child: _Child, died: str) -> str:
    """Whether a dead child took too long or crashed."""
    return TIME if child.hung or died == "SIGPROF" else CRASH
