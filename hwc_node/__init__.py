"""The node: what a health centre works with, with or without a network, and what brings it in step with the hub.

``config`` settings and paths, ``keystore`` who may open the database, ``engine`` the encrypted SQLite, ``tables`` its
rows, ``store`` the one door to records, ``clinic`` and ``visiting`` the health worker's verbs, ``finding`` who is meant by
what is typed, ``overview`` what lists and lines show, ``printing`` and ``reporting`` what goes on paper, ``sync`` the
exchange over HTTP, ``scheduler`` repeats it, ``web`` the local pages, ``cli`` is the command ``hwc``. It never imports
``hub_server``.
"""
