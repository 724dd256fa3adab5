"""The questions of notebook 12."""

from tutorial_lib.teach.prediction import Question

QUESTIONS = {
    "cache": Question(
        "Keys and values of one more token, for one row: one block, 2 key heads of 16 numbers each, float32. How many "
        "bytes does the cache grow by?",
        answer=256,
        why="2 (keys and values) x 2 heads x 16 numbers x 4 bytes. With a key head for each of the 8 query heads it "
        "would be four times that: this is what grouped-query attention is for.",
        unit="bytes",
    ),
    "drift": Question(
        "Each step reads a cache that earlier steps wrote, rounding errors included. After 64 steps, how does the "
        "error of the compiled program compare with eager's?",
        choices=["it has grown to many times eager's", "it is still about eager's"],
        answer="it is still about eager's",
        why="Eager's own error feeds its own cache as well. Both grow alike, if they grow at all, and the rule "
        "compares the two. A fault, such as a mask that is off by one, shows in the first step.",
    ),
    "empty": Question(
        "Give the cache a range from 0 on, so that the prompt is a call with `past` = 0. What does torch make of it?",
        choices=["one program for 0 and all other sizes", "a program in which 0 is a constant"],
        answer="a program in which 0 is a constant",
        why="torch takes 0 and 1 for constants while it traces (notebook 4). The program for an empty cache serves an "
        "empty cache, and nothing else.",
    ),
    "one-range": Question(
        "One engine for 1 to 512 new tokens and a cache of 2 to 511 needs 140 MB of activation memory. How many MB "
        "does an engine for *one* new token need, with the same cache?",
        answer=8.5,
        why="Memory follows max. The scores of attention are batch x heads x new x (past + new) numbers: with one new "
        "token they are hardly anything, and the copies of the cache remain.",
        unit="MB",
        tolerance=0.5,
    ),
    "growing": Question(
        "Bare `torch.compile`, without a mark: a prompt of 8 tokens, then five steps with a growing cache. How many "
        "graphs are compiled?",
        answer=3,
        why="One for the prompt, one for the first step with its cache of 8, and one for the second step, where Dynamo "
        "sees another length and leaves it open from then on.",
    ),
}
