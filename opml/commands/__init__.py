"""The small sub-commands of ``python -m opml``: one module each, with ``add_arguments(parser)`` and ``run(args) -> int``."""
