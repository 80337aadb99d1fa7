"""Tests of pages in a real browser: any Chrome or Chromium of this machine (`chromium`)."""
