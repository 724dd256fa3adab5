"""The questions of notebook 11. All answers are of the recording of the H100."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "full": Question(
        "`expand-reshape` on an H100, fp32: batch 256 is 256 times the work of batch 1. How many times as long "
        "does it take?",
        answer=28,
        tolerance=0.2,
        why="Up to a border a larger batch is free: the GPU was not full, and eight samples take about the time of "
        "one. Beyond it, twice the batch takes twice the time.",
    ),
    "host": Question(
        "A model with one operator that matters, and a transformer with dozens. For which does a compiled "
        "program help the host?",
        choices=("the one operator", "the transformer", "both", "neither"),
        answer="the transformer",
        why="With one product to launch there is nothing to save, and `jit` pays for looking up its guards in "
        "Python at each call. "
        "With dozens, each costs eager a trip through Python; a compiled program launches fewer kernels, from C++.",
    ),
    "precision": Question(
        "The H100's tensor cores multiply in bf16 an order of magnitude faster than its other cores in fp32. For how "
        "many of the five models is bf16 more than 5 times as fast at 256 samples?",
        answer=1,
        why="The more of the time is products, the more of it arrives: `expand-reshape` is one large product and "
        "gains 10.7; `vit` "
        "gains 3.8. `perceptron` and `text-encoder` are too small for this GPU even at 256: the host decides.",
    ),
    "memory": Question(
        "A call of `vit` with 256 samples takes 620 MB in eager. What share of that does it take compiled with "
        "`export`?",
        answer=44,
        unit="%",
        tolerance=0.25,
        why="What is fused is never written. `expand-reshape`, one product, takes the same as before.",
    ),
    "machines": Question(
        "The H200 is the same processor with a memory that is 1.43 times as fast. Among pairs without a warning, what "
        "is the largest factor between the two?",
        answer=1.15,
        tolerance=0.05,
        why="These models are made of large products, and there the two GPUs are alike. Pairs with a warning say 0.62 "
        "to 2.17: there two hosts are compared.",
    ),
}
