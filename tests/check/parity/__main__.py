"""How many planted mistakes are rejected, and how many causes named: `python -m tests.check.parity 4 [KIND ...]`."""

import sys
import time
from collections import defaultdict

from tests.check.parity.judged import Judged, judged
from tests.check.parity.kinds import KEPT_OUT, RULES
from tests.check.parity.rules import planted


def _share(several: list[Judged]) -> str:
    found, named = sum(one.found for one in several), sum(one.named for one in several)
    return f"{found} of {len(several)} rejected, cause named for {named} ({100 * named / max(len(several), 1):.1f} %)"


if __name__ == "__main__":
    start, kinds = time.perf_counter(), defaultdict(list)
    for kind in sys.argv[2:] or RULES:
        for mistake in planted(kind, RULES[kind], each=int(sys.argv[1])):
            began = time.perf_counter()
            one = judged(mistake)
            kinds[kind].append(one)
            if not one.named:
                print(one.told, f"({time.perf_counter() - began:.1f} s)", flush=True)
    for kind, several in kinds.items():
        print(f"{kind:32} {_share(several)}")
    for title, names in (("open", set(kinds) - set(KEPT_OUT)), ("kept out", set(kinds) & set(KEPT_OUT))):
        print(f"{title}: {_share([one for kind in names for one in kinds[kind]])}")
    print(f"{time.perf_counter() - start:.0f} s")
