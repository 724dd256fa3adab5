"""Which min, opt and max for the sizes that requests bring, and how many engines.

``advise`` measures a few engines cheaply, predicts every policy for a ``Traffic``, and recommends one; what it
returns is an ``Advice``.

traffic        the sizes that requests bring               footprint  bytes of weights and activations
latency_model  latency over sizes, with its uncertainty    measuring  a few engines, timed cheaply
policies       which engines, and who gets which request   replay     predicted against measured
router         a policy as a callable; padding             advice     which engines to build for a traffic
figure         traffic against its cost; alone here, it imports matplotlib
"""

from tutorial_lib.advisor.advice import Advice, advise
from tutorial_lib.advisor.traffic import Traffic

__all__ = ["Advice", "Traffic", "advise"]
