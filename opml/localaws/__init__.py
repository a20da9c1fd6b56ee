"""The local AWS: a moto server on loopback plus what moto does not do (jobs that run, endpoints that answer, functions that execute).

Nothing outside ``opml.aws`` and ``opml.cli`` imports this package. Its public names live in ``opml.localaws.lifecycle``:
``start``, ``find`` and the ``LocalAws`` handle they return.
"""
