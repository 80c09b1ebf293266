"""Read mutated files of every kind and print a table of the verdicts.

    python -m benchmarks.fuzz [--kinds png,weights,...] [--count N] [--seconds S] [--workers N] [--seed N]
    python -m benchmarks.fuzz --kinds png --seed N --case K      one input again, with its file

Inputs depend only on the seed, the kind and the case. Failing inputs are written to a folder, with a
line for each in failures.jsonl. The exit code is 1 if there are any.
"""

import argparse
import gc
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from benchmarks.fuzz.judge import GOOD, VERDICTS, Budget, Outcome
from benchmarks.fuzz.kind import Kind
from benchmarks.fuzz.kinds import GROUPS, KINDS, chosen
from benchmarks.fuzz.server import Server, batches

COUNTS = {"images": 200_000, "files": 50_000}
"""Inputs of each group, shared by its kinds."""
KEPT = 20
"""Failing inputs of one kind that are written to the folder."""
BATCH = 100


@dataclass
class Tally:
    """Outcomes of one kind."""

    verdicts: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    seconds: float = 0.0
    causes: dict[str, list[Outcome]] = field(default_factory=lambda: defaultdict(list))
    """Failures by verdict, error and place."""

    def add(self, outcome: Outcome) -> None:
        """Count an outcome."""
        self.verdicts[outcome.verdict] += 1
        self.memory, self.seconds = max(self.memory, outcome.memory), max(self.seconds, outcome.seconds)
        if outcome.verdict not in GOOD:
            cause = outcome.detail.split(": ")[0] if outcome.verdict in ("foreign", "unnamed") else ""
            self.causes[f"{outcome.verdict} {cause}".strip()].append(outcome)

    @property
    def failed(self) -> int:
        """Number of failures."""
        return sum(count for verdict, count in self.verdicts.items() if verdict not in GOOD)


def table(tallies: Mapping[str, Tally]) -> str:
    """Format the tallies as one Markdown table."""
    lines = [
        f"| kind | inputs | {' | '.join(VERDICTS)} | most MB | most s |",
        f"|{'---|' * (len(VERDICTS) + 4)}",
    ]
    whole = Tally()
    for tally in tallies.values():
        whole.verdicts.update(tally.verdicts)
        whole.memory, whole.seconds = max(whole.memory, tally.memory), max(whole.seconds, tally.seconds)
    for name, tally in {**tallies, "all": whole}.items():
        counts = " | ".join(str(tally.verdicts[verdict]) for verdict in VERDICTS)
        cost = f"{tally.memory / 1e6:.0f} | {tally.seconds:.2f}"
        lines.append(f"| {name} | {tally.verdicts.total()} | {counts} | {cost} |")
    return "\n".join(lines)


def causes(tallies: Mapping[str, Tally], kinds: Mapping[str, Kind], seed: int) -> str:
    """List the failures by cause, each with its smallest input."""
    lines = []
    for name, tally in tallies.items():
        for cause, outcomes in sorted(tally.causes.items(), key=lambda item: -len(item[1])):
            sizes = {
                outcome.case: len(kinds[name].input(seed, name, outcome.case)) for outcome in outcomes[:50]
            }
            least = min(outcomes[:50], key=lambda outcome: sizes[outcome.case])
            lines.append(
                f"{name}: {len(outcomes)} x {cause}; case {least.case}, {sizes[least.case]} bytes: "
                f"{' '.join(least.detail.split())[:200]}"
            )
    return "\n".join(lines)


def _one(kind: Kind, name: str, options: argparse.Namespace) -> int:
    """Read one input again, and keep its file."""
    server = Server({name: kind}, options.seed)
    outcome = server.run_alone(name, [options.case])[-1]
    file = _keep(kind, name, outcome, options)
    sys.stdout.write(f"{name} {outcome.case}: {outcome.verdict}\n{outcome.detail}\n")
    sys.stdout.write(f"{outcome.memory / 1e6:.0f} MB, {outcome.seconds:.2f} s of processor time\n{file}\n")
    return int(outcome.verdict not in GOOD)


def _keep(kind: Kind, name: str, outcome: Outcome, options: argparse.Namespace) -> Path:
    options.out.mkdir(parents=True, exist_ok=True)
    file: Path = (
        options.out / f"{name}-{options.seed}-{outcome.case}-{outcome.verdict}{Path(kind.place).suffix}"
    )
    file.write_bytes(kind.input(options.seed, name, outcome.case))
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description="Mutated files to every reader"
    )
    parser.add_argument("--kinds", default="images,files", help=f"of {', '.join((*GROUPS, *KINDS))}")
    parser.add_argument("--count", type=int, help="inputs of each kind; default: 250,000 in all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start nothing after these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="only this input, of one kind")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder of failing inputs")
    return parser


def main() -> int:
    """Run; return the exit code."""
    parser = _parser()
    options = parser.parse_args()
    try:
        names = chosen(options.kinds.split(","))
    except KeyError as error:
        parser.error(f"unknown kind {error}. Give {', '.join((*GROUPS, *KINDS))}.")
    if options.case is not None and len(names) != 1:
        parser.error("--case needs one kind, as in --kinds png --case 7.")
    torch.set_num_threads(1)  # a process with threads must not be forked
    kinds = {name: KINDS[name]() for name in names}
    if options.case is not None:
        return _one(kinds[names[0]], names[0], options)
    counts = {
        name: options.count or COUNTS[group] // len(GROUPS[group])
        for group, members in GROUPS.items()
        for name in members
        if name in kinds
    }
    tallies = {name: Tally() for name in counts}
    options.out.mkdir(parents=True, exist_ok=True)
    gc.collect()
    gc.freeze()  # children would copy the memory of every object that their collectors visit
    start = time.monotonic()
    with (options.out / "failures.jsonl").open("w", encoding="utf-8") as log:

        def report(name: str, outcome: Outcome) -> None:
            tally = tallies[name]
            tally.add(outcome)
            if outcome.verdict not in GOOD:
                if tally.failed <= KEPT:
                    _keep(kinds[name], name, outcome, options)
                log.write(json.dumps({"kind": name, "seed": options.seed, **asdict(outcome)}) + "\n")
                log.flush()

        server = Server(kinds, options.seed, Budget())
        server.run(batches(counts, BATCH), options.workers, report, start + options.seconds)
    sys.stdout.write(f"{table(tallies)}\n\nSeed {options.seed}, {time.monotonic() - start:.0f} s.\n")
    if any(tally.failed for tally in tallies.values()):
        sys.stdout.write(f"\n{causes(tallies, kinds, options.seed)}\n\nFailing inputs: {options.out}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
