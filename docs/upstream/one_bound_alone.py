"""mark_dynamic with a min and no max fails; it takes both or neither."""

import torch

x = torch.randn(4, 3)
torch._dynamo.mark_dynamic(x, 0, min=2)
try:
    torch.compile(lambda x: 2 * x, backend="eager")(x)
except (AssertionError, torch._dynamo.exc.InternalTorchDynamoError) as error:
    raise SystemExit(f"still there: {str(error).splitlines()[0]}") from None
print("not there")
