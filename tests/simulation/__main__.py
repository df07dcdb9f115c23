"""Simulate: `python tests/simulation --seeds 0:1000`, or one seed with its log: `--seed 17`."""

from __future__ import annotations

import argparse
import os
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(prog="make simulate ARGS=…", description=__doc__)
    parser.add_argument("--seeds", default="0:1000", help="from:to, the end left out")
    parser.add_argument("--seed", type=int, help="one seed, with its log")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no more after so long")
    given = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets would differ from run to run
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"PYTHONHASHSEED": "0"})
    from world import simulate  # noqa: PLC0415 - not before the exec

    if given.seed is not None:
        verdict = simulate(given.seed)
        print("\n".join(verdict.log))
        print(summary([verdict], 0))
        return verdict.broken is not None
    first, _, last = given.seeds.partition(":")
    begun = time.monotonic()
    verdicts, broken = [], 0
    for seed in range(int(first), int(last)):
        if time.monotonic() - begun > given.seconds:
            break
        verdict = simulate(seed)
        verdict.log.clear()
        verdicts.append(verdict)
        if verdict.broken is not None:
            broken += 1
            print(f"seed {seed}: {verdict.broken}")
            print(f"  replay: make simulate ARGS='--seed {seed}'", flush=True)
    print(summary(verdicts, time.monotonic() - begun))
    return broken > 0


def summary(verdicts, seconds):
    total = {
        name: sum(getattr(one, name) for one in verdicts)
        for name in ("tasks", "claims", "lapses", "steps", "seconds")
    }
    broken = sum(one.broken is not None for one in verdicts)
    return (
        f"{len(verdicts)} seeds: {total['tasks']} tasks, {total['claims']} claims, {total['lapses']} leases "
        f"ran out, {total['steps']} steps in {total['seconds']:.0f} s of virtual time; {broken} broken"
        + (f" ({seconds:.1f} s)" if seconds else "")
    )


if __name__ == "__main__":
    sys.exit(main())
