"""A language model with a cache: what it computes, and whether compiled programs stay right over 64 tokens."""

from dataclasses import replace

import pytest
import torch

from tutorial_lib import PATHS, Decoder, decoder, prefill, recompiles, status
from tutorial_lib.checks.decoding import _step, teacher_forced
from tutorial_lib.explain.recompiles import forget

SMALL = {"vocabulary": 64, "embed_dim": 32, "heads": 4, "kv_heads": 2}
STEPS = 64


@pytest.fixture(scope="module")
def case():
    return decoder(batch=(2, 2, 2), new=(1, 1, 1), past=(2, 16, 96), **SMALL)


@pytest.fixture(scope="module")
def first():
    return prefill(batch=(2, 2, 2), new=(2, 8, 16), **SMALL)


@pytest.fixture(scope="module")
def prompt():
    return torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_prefill_and_decode_steps_give_what_the_whole_text_gives(case):
    (ids, padding), model = prefill(new=(1, 12, 16), **SMALL).example(), case.model
    whole, keys, values = model(ids, padding)
    _, past_keys, past_values = model(ids[:, :9], padding)
    for place in range(9, 12):
        logits, past_keys, past_values = model(ids[:, place : place + 1], padding, past_keys, past_values)
        torch.testing.assert_close(logits[:, 0], whole[:, place], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((past_keys, past_values), (keys, values), rtol=1e-4, atol=1e-5)
    assert keys.shape == (2, 2, 2, 12, 8)


@torch.no_grad()
def test_padding_changes_nothing_and_without_the_mask_it_would(case):
    text = torch.randint(64, (1, 6))
    exact = case.model(text, torch.tensor([0]))[0]
    filled = torch.cat([torch.randint(64, (1, 5)), text], dim=1)
    padded = case.model(filled, torch.tensor([5]))[0]
    torch.testing.assert_close(padded[:, 5:], exact, rtol=1e-4, atol=1e-5)
    assert padded.isfinite().all()
    assert (case.model(filled, torch.tensor([0]))[0][:, 5:] - exact).abs().max() > 1e-2
    # one entry of padding stands for an empty cache
    empty = torch.randn(2, 1, 2, 1, 8)
    torch.testing.assert_close(case.model(text, torch.tensor([1]), empty, empty)[0], exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_low_precision_does_not_lose_the_positions(precision):
    low = prefill(**SMALL).in_precision(precision).model
    frequencies = low.frequencies.float()
    seen = []
    hook = low.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1][0]))
    low(torch.zeros(1, 500, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
    hook.remove()
    exact = (torch.arange(500)[:, None] * frequencies).cos()
    assert (seen[0][0, 0].float() - exact).abs().max() < 0.01


def test_a_wrong_decoder_is_not_right(case, first, prompt):
    def forgetful(ids, padding, keys, values):  # without the oldest token, as after an error of one in the padding
        return case.eager(ids, padding + 1, keys, values)

    seen = teacher_forced(case, case.eager, forgetful, prompt, 3)
    assert [step.right for step in seen] == [True, False, False, False]


def test_another_token_is_forgiven_where_two_are_tied_and_only_there():
    double = torch.tensor([[1.0, 0.0, 0.5], [1.0, 1.0 - 1e-7, 0.0]], dtype=torch.float64)
    eager = double.float() + torch.tensor([[0, 1e-7, 0], [0, 0, 1e-7]])
    other = eager.clone()
    other[1, 1] += 2e-7
    assert _step(eager, eager, double).same_token
    assert (_step(other, eager, double).same_token, _step(other, eager, double).tied) == (False, 1)
    assert not replace(_step(other, eager, double), tied=0).right


@pytest.mark.parametrize(("marked", "kinds"), [(False, ["size", "size"]), (True, ["size"])])
@torch.no_grad()
def test_a_growing_cache_compiles_twice_again_and_once_where_it_is_marked(prompt, marked, kinds):
    model = Decoder(**SMALL, depth=1)
    forget(model)
    bare = torch.compile(model, backend="eager")
    padding = torch.zeros(2, dtype=torch.int64)
    with recompiles() as seen:
        logits, *cache = bare(prompt, padding)
        for _ in range(4):
            for tensor in cache if marked else ():
                torch._dynamo.mark_dynamic(tensor, 3)
            logits, *cache = bare(logits[:, -1:].argmax(dim=-1), padding, *cache)
    assert [each.why for each in seen.recompiles] == kinds


def combinations():
    for backend in ("openvino", "inductor", "eager"):
        here = status(backend, "cpu").works
        marks = [] if here else [pytest.mark.skip(reason=f"{backend} does not work here")]
        for path in PATHS:  # Inductor's compiler takes its time, and one path shows it
            long = [pytest.mark.long] if backend == "inductor" and path != "export" else []
            yield pytest.param(backend, path, marks=marks + long)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "path"), list(combinations()))
def test_64_tokens_on_every_path_and_backend(case, first, prompt, built, backend, path):
    # Inductor's prompts are all read by one program: it is the steps that differ, and each build takes long.
    prefilled = built("export" if backend == "inductor" else path, backend, first)
    seen = teacher_forced(case, prefilled, built(path, backend, case), prompt, STEPS)
    assert len(seen) == STEPS + 1
    worst = max(seen, key=lambda step: step.agreement.ratio / step.agreement.tolerated)
    assert all(step.right for step in seen), str(worst.agreement)
    assert sum(not step.same_token for step in seen) <= sum(step.tied > 0 for step in seen)
