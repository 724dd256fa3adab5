"""The exercises of notebook 7: which engine, which gain, which sizes to pad to, which max."""

import math
from typing import Any

import pandas as pd

from tutorial_lib.teach.checking import Feedback, NotYet, a_function, a_number, call, exercise
from tutorial_lib.teach.lessons.nb07 import made_up, total

MIX = {2: 350, 3: 200, 4: 150, 8: 120, 16: 80, 32: 40, 64: 30, 256: 20, 1024: 10}
OTHER = {2: 400, 8: 200, 64: 200, 256: 100, 1024: 10}
LARGEST, BYTES_EACH, ALWAYS, CARD = 1024, 197 * (768 + 2304) * 4, 8_192_000, 2_000_000_000


@exercise("07.dispatch", hint="The made-up lines meet where 0.08 + 0.016 n = 0.21 + 0.007 n.")
def send_each_to_an_engine(answer: Any) -> Feedback:
    """A function from tokens to the name of an engine, within 1 % of the best for `MIX`."""
    engine_of = a_function(answer, 'lambda tokens: "opt 2"')
    curves, rows = made_up(), []
    for n, count in MIX.items():
        name = call(engine_of, n)
        if name not in curves:
            raise NotYet(f"for {n} tokens your function gives {name!r}; give 'opt 2' or 'opt 1024'.")
        best = min(curves, key=lambda each: curves[each][n])
        wasted = count * (curves[name][n] - curves[best][n])
        rows.append({"tokens": n, "requests": count, "yours": name, "ms wasted": round(wasted, 2)})
    table = pd.DataFrame(rows)
    mine = total(engine_of, MIX, curves)
    best_ms = total(lambda n: min(curves, key=lambda each: curves[each][n]), MIX, curves)
    if mine > 1.01 * best_ms:
        raise NotYet(f"your way takes {mine:.1f} ms for 1000 requests; {best_ms:.1f} ms would do.", table=table)
    return Feedback(True, f"{mine:.1f} ms for 1000 requests, the least that these two engines can do.", table=table)


@exercise("07.gain", hint="Sum the time of each engine alone, and of the better of the two at each size; divide.")
def gain_of_a_second_engine(answer: Any) -> Feedback:
    """How many times as fast two engines are as the better one alone, for `OTHER`, to 1 %."""
    gain, curves = a_number(answer, "the gain"), made_up()
    alone = min(total(lambda n, name=name: name, OTHER, curves) for name in curves)  # type: ignore[misc]
    right = alone / total(lambda n: min(curves, key=lambda each: curves[each][n]), OTHER, curves)
    if abs(gain - right) > 0.01 * right:
        raise NotYet(f"{gain:g} is too {'much' if gain > right else 'little'}.")
    return Feedback(True, f"it is {right:.3f}. Would you run a second engine for that?")


@exercise("07.buckets", hint="A size may be at most twice the smallest request that is padded to it.")
def sizes_to_pad_to(answer: Any) -> Feedback:
    """A function from tokens to the size to pad to: at most twice as many rows, and as few sizes as possible."""
    size_of = a_function(answer, "lambda tokens: 1024")
    sizes: set[int] = set()
    for n in range(1, LARGEST + 1):
        size = a_number(call(size_of, n), f"the size for {n} tokens")
        if size != int(size) or size < n:
            raise NotYet(f"{n} tokens do not fit into {size:g}.")
        if size > 2 * n:
            raise NotYet(f"{n} tokens are padded to {size:g}, more than twice as many.")
        sizes.add(int(size))
    least = math.ceil(math.log2(LARGEST))
    table = pd.DataFrame({"sizes": [", ".join(map(str, sorted(sizes)))]}) if len(sizes) <= 20 else None
    if len(sizes) > least:
        raise NotYet(f"that makes {len(sizes)} engines; fewer will do.", table=table)
    return Feedback(True, f"{least} engines of fixed size, none computes more than twice its rows.", table=table)


@exercise("07.max", hint="Two results at max, and 8,192,000 bytes that are always the same.")
def largest_max(answer: Any) -> Feedback:
    """The largest max of `expand-reshape` whose activations take at most 2 GB."""
    most = a_number(answer, "max")
    if most != int(most) or most < 1:
        raise NotYet(f"max is a whole number of images; {most:g} is none.")
    here, above = ((size * BYTES_EACH + ALWAYS) / 1e9 for size in (most, most + 1))
    if here > CARD / 1e9:
        raise NotYet(f"TensorRT would want {here:.4g} GB for that.")
    if above <= CARD / 1e9:
        raise NotYet(f"{most + 1:g} fits as well, with {above:.3f} GB.")
    return Feedback(True, f"{here:.3f} GB; one more image would take {above:.4f} GB. Weights come on top.")
