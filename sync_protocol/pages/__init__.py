"""What the centre's and the hub's pages share: templates, words in each language, numbers and dates, charts.

Pure: it renders the values that it is given, and knows no store, no request and no clock. Its files (templates,
catalogues, built assets) are those of the package.
"""
