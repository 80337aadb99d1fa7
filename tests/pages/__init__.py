"""Tests of what the centre's and the hub's pages share, and of what their assets are built from."""
