"""opml: take a trained image classifier to production on AWS, for free on your own machine first.

The rooms of this package and who may call whom are drawn in ``docs/architecture.md`` and guarded by ``tests/unit/test_fences.py``.
Importing ``opml`` imports nothing else: ``opml.core`` must travel alone into a container.
"""

__version__ = "0.1.0"
