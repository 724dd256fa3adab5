"""The questions of notebook 7."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "nan": Question(
        "Three tokens are padded to 32 for an engine of fixed size, once with zeros and once with NaN. Are the three "
        "answers the same?",
        choices=("the same", "different", "NaN everywhere"),
        answer="the same",
        why="The rows of this model do not interact, so nothing in the padding matters, not even NaN. Statistics "
        "over the "
        "batch, attention over a padded length, a sum, a maximum: there padding is silently wrong, and needs a mask.",
    ),
    "memory": Question(
        "Between the layers of `expand-reshape` lie two results, [batch × 197, 768] and [batch × 197, 2304], in "
        "float32. How much activation memory will TensorRT want for an engine with a max of 256?",
        answer=628,
        unit="MB",
        tolerance=0.05,
        why="256 × 197 × (768 + 2304) × 4 bytes are 620 MB, and 8 MB are always the same. TensorRT says so when it "
        "builds the engine, before any call.",
    ),
    "opt": Question(
        "That engine was tuned for 4. What does one want that is tuned for 256, with the same max?",
        choices=("less", "the same", "more"),
        answer="the same",
        why="For this model opt does not occur in the number at all: memory is planned for max. (For `vit`, of many "
        "layers, opt moves it by 9 %.)",
    ),
    "vit": Question(
        "`vit` has many layers. How many times as much does an engine with a max of 128 want as one with 8?",
        answer=10,
        tolerance=0.15,
        why="16 times the max is 10 times the memory, since a part does not depend on the batch.",
    ),
}
