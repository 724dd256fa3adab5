"""The questions to predict, a module for each notebook: ``QUESTIONS`` in ``nb04`` has those with keys ``"04...."``."""
