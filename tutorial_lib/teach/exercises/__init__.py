"""The exercises, a module for each notebook: ``nb04`` has the judges of those with keys ``"04...."``."""
