"""After one call above max, what was marked 2 to 32 has a second graph without any upper bound."""

import torch

largest = []


def backend(graph, inputs):
    size = next(each for each in inputs if isinstance(each, torch.SymInt))
    largest.append(str(size.node.shape_env.bound_sympy(size.node.expr).upper))
    return graph


x = torch.randn(4, 3)
torch._dynamo.mark_dynamic(x, 0, min=2, max=32)
doubled = torch.compile(lambda x: 2 * x, backend=backend)
doubled(x)
doubled(torch.randn(33, 3))
if largest == ["32", "int_oo"]:
    raise SystemExit("still there: the first graph is for at most 32, the second for any size")
print("not there")
