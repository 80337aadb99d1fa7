"""The hub: receives what the centres send, shows it to doctors, and sends their answers back.

``config`` settings and paths, ``postgres`` the engine, ``vault`` the keys, ``feed`` the positions, ``nodes`` and
``intake`` keep and admit, ``store`` the one door to patients' records, ``consults`` the doctor's verbs, ``sync_api``
the exchange, ``app`` puts the parts together, ``cli`` is the command ``hub``. Beside the records the hub knows things of
its own that travel nowhere: ``claim_locks``, ``duty``, ``drafts``, ``glass``. It never imports ``hwc_node``.
"""
