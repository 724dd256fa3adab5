"""What is checked of a model, of a build, and of every call.

range_check  before every call: rank, dtype, device, strides, sizes    agreement  after it: eager, float64, the rule
corners      a new program at min, opt and max of its range            float64    the model in float64
state        models that write into their own buffers                  results    results taken apart
sizes_taken  the sizes that a model itself takes                without_numbers  a model on fake tensors
float64_results  what the model gave in float64 before
"""

from tutorial_lib.checks.agreement import Agreement, Reference
from tutorial_lib.checks.range_check import Guard, OutOfRange

__all__ = ["Agreement", "Guard", "OutOfRange", "Reference"]
