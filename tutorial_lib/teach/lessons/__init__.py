"""What the cells of a notebook call beside the library: its models, its tables and its figures, a module for each."""
