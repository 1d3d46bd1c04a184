"""The long tables: what exports, run row by row on every backend and kept as JSON in ``tools/tables``.

``kinds/`` has one file a table; a new table is a new file. ``shards`` runs rows in processes of their own,
``tables`` keeps them, ``report`` writes them down for people.
"""
