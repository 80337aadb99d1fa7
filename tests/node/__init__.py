"""Tests of the node, one file a module, against a real SQLCipher."""
