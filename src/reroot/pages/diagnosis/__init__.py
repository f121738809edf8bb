"""The page and the screen of a diagnosis."""
