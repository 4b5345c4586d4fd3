"""``paddle.dataset``: the data sets of the tutorials, from local files in their original formats, or made up.

Nothing is ever downloaded. Each module has Paddle 1.8.5's functions and gives samples as they do; where its files are
missing, small synthetic data goes through the same parsing, and that is announced.
"""
