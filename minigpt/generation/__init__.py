"""The generation room: decoding with a cache, sampling, and what ``sample.py`` prints.

``decoding`` and ``sampling`` need torch and a model; ``config`` needs neither, so that a typo is answered at once.
"""
