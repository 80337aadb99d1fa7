"""`python -m tests.simulate SEED`: one simulated world again, told line by line. `make simulate SEED=…` calls this.

Without a seed: many worlds with fresh seeds, in one process for each core; failing seeds are printed. The exit status
is 1 where a law does not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Final

from tests.simulated_disk import Fault
from tests.simulator import Verdict, simulate

PROCESSES: Final = 2
WORLDS_A_REPETITION: Final = 100  # one world of a hundred runs twice, and must come to the same
SEED_BYTES: Final = 5  # short enough to be typed again


def fresh_seed() -> int:
    """Where a run of many worlds begins: another one each time."""
    return int.from_bytes(os.urandom(SEED_BYTES), "big")


def many(seeds: Iterable[int], processes: int = PROCESSES) -> list[Verdict]:
    """The verdicts of these worlds, in order; their traces are left out."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_briefly, seeds, chunksize=20))


def _briefly(seed: int) -> Verdict:
    told = simulate(seed)
    problem = told.problem
    if seed % WORLDS_A_REPETITION == 0 and not problem:
        again = simulate(seed)
        if (again.trace, again.state) != (told.trace, told.state):
            problem = "the same seed gave another world"
    return Verdict(told.seed, problem, told.state, told.events, told.exchanges, ())


def _one(seed: int, fault: Fault | None) -> bool:
    told = simulate(seed, fault)
    lines = [*told.trace, f"seed {seed}: {told.problem or 'every law holds'}", f"state {told.state}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return not told.problem


def _fresh(worlds: int) -> bool:
    first = fresh_seed()
    began = time.perf_counter()
    verdicts = many(range(first, first + worlds))
    seconds = time.perf_counter() - began
    for told in verdicts:
        if told.problem:
            sys.stdout.write(f"make simulate SEED={told.seed}   # {told.problem}\n")
    exchanges = sum(told.exchanges for told in verdicts)
    rate = worlds / seconds * 60
    sys.stdout.write(f"{worlds} worlds from seed {first}, {exchanges} exchanges: {rate:.0f} worlds a minute\n")
    return not any(told.problem for told in verdicts)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description="Simulated worlds from their seeds.")
    parser.add_argument("seed", nargs="*", type=int, help="worlds to tell line by line; none: fresh ones")
    parser.add_argument("--worlds", type=int, default=500, help="how many fresh ones (500)")
    parser.add_argument("--fault", choices=[fault.name for fault in Fault], help="plant a mistake")
    chosen = parser.parse_args(arguments)
    fault = Fault[chosen.fault] if chosen.fault else None
    held = [_one(seed, fault) for seed in chosen.seed] or [_fresh(chosen.worlds)]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
