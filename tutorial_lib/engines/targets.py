"""Placeholder until the branch with targets is merged."""
class TargetError(ValueError):
    """."""
def check_target(target): pass
def apply(trt, config, target):
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), 0)
def refusal_after_build(target, is_dynamic): return None
