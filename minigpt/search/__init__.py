"""Search: sweeps and the greedy search, both over one study of trials that survives anything.

``sweeper`` turns a command line into points, ``greedy`` makes its own round by round; ``study`` runs those that have no
result yet through a ``launcher``, one ``worker`` process each; ``trials`` keeps the Optuna database, ``results`` and
``report`` what people read.
"""
