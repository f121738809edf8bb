"""Tasks from data: files and data sets, their layouts, and labelled steps."""
