"""The questions of notebook 5."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "allclose": Question(
        "The same layer as PyTorch computes it, summed in eight parts, and exact. Which of the three pairs does "
        "`torch.allclose` call equal?",
        choices=("all of them", "plain and parts", "parts and exact", "none"),
        answer="none",
        why="About one element in a hundred fails, in programs without a mistake. allclose asks for an error of 1e-5 "
        "of the result, and a result near zero is a sum of large terms that cancel: its error is that of the terms.",
    ),
    "bf16": Question(
        "By what factor is the error of bf16 larger than that of fp16?",
        answer=8,
        tolerance=0.15,
        why="fp16 has 10 bits of fraction and bf16 has 7: three bits are a factor of 8. Neither error grows with the "
        "batch, because rows do not take part in each other's sums.",
    ),
    "cosine": Question(
        "Four bugs are planted. For how many of them is the cosine similarity with the exact result below 0.99?",
        answer=1,
        why="Only the wrong order of a reshape. The class token is one token of 197, so a mean over everything hardly "
        "sees that it is gone; and near 1, a relative error e changes the cosine by e²/2 only.",
    ),
    "one-off": Question(
        "One of 453,888 results is off by 0.0001, hundreds of times its rounding error. What does the rule say?",
        choices=("agrees", "DIFFERS"),
        answer="agrees",
        why="A root mean square is a mean as well. The largest error gives it away: that is why every comparison also "
        "holds max_abs and worst_index.",
    ),
    "finite": Question(
        "Weights times 1000 and inputs times 100 give results around 50,000. Which 16-bit format is still finite?",
        choices=("fp16", "bf16", "both", "neither"),
        answer="bf16",
        why="fp16 ends at 65504, bf16 only where float32 does. fp16 rounds 8 times finer, bf16 does not overflow.",
    ),
}
