"""Which min, opt and max for the sizes that requests bring, and how many engines.

``advise`` measures a few engines cheaply, predicts every policy for a ``Traffic``, and recommends one: an ``Advice``.

traffic        the sizes that requests bring               footprint  bytes of weights and activations
latency_model  latency over sizes, with its uncertainty    measuring  a few engines, timed cheaply
policies       which engines, and who is served by which   replay     predicted against measured
router         a policy as a callable; padding             advice     the recommendation
layouts        TensorRT's memory for one engine, several profiles, several engines and padding
figure         traffic against its cost; the only module here that imports matplotlib
"""

from tutorial_lib.advisor.advice import Advice, advise
from tutorial_lib.advisor.traffic import Traffic

__all__ = ["Advice", "Traffic", "advise"]
