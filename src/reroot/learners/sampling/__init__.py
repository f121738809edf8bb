"""Sampling and search methods of the field: one file each, under the weakest contract that it needs, and
certified against the law that its docstring states."""
