"""The page of attempts: search, filter and sort them, read them, walk the trees of prefixes."""
