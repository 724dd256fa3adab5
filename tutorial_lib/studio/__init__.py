"""The shape studio: set min / opt / max, rebuild, and watch latency and agreement across batch sizes."""
