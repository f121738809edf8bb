"""Several comparisons on one page and in one terminal table, and their tables as files."""
