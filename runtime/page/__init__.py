"""The report of a run as one web page that needs no other file, no script and no network."""
