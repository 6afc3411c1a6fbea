"""How many planted mistakes are found, and how many of their causes: `python -m tests.check.planted 24`, from the root.

The number is how many mistakes of each kind are planted.
"""

import sys
import time
from collections import defaultdict

from qkv.check import gradients
from tests.check.planted.cases import every, right
from tests.check.planted.judged import Judged, judged
from tests.check.planted.kinds import KEPT_OUT, KINDS
from tests.check.planted.rules import planted


def _found(several: list[Judged]) -> int:
    return sum(bool(one.report.wrong) and not one.missed and not one.misnamed for one in several)


def _read(several: list[Judged]) -> int:
    return sum(bool(one.report.wrong) and not one.misread for one in several)


if __name__ == "__main__":
    alarms = [case.name for case in right() if not gradients(case.function, case.parameters).ok]
    print(f"false alarms on {len(right())} right ones: {len(alarms)}", *alarms, sep="\n  ")
    kinds: dict[str, list[Judged]] = defaultdict(list)
    start = time.perf_counter()
    for mistake in planted(KINDS, every(), each=int(sys.argv[1])):
        found = judged(mistake)
        kinds[mistake.kind].append(found)
        if found.missed or found.misnamed or found.misread:
            print(
                f"missed {found.missed}, misnamed {found.misnamed}, misread {found.misread}: {found.told}", flush=True
            )
    print(f"{'kind':32} planted  found  cause right")
    for kind, all_of_it in kinds.items():
        print(f"{kind:32} {len(all_of_it):7} {_found(all_of_it):6} {_read(all_of_it):12}")
    for title, names in (("open", set(KINDS) - set(KEPT_OUT)), ("kept out", set(KEPT_OUT))):
        of_these = [one for kind in names for one in kinds[kind]]
        if of_these:
            share = f"{_read(of_these)} ({100 * _read(of_these) / len(of_these):.1f} %)"
            print(f"{title}: {_found(of_these)} of {len(of_these)} found, cause right for {share}")
    print(f"{time.perf_counter() - start:.0f} s")
